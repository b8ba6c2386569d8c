"""What a task that lives on through an outage of Redis has to expect: it does not answer, or it takes nothing more."""

from __future__ import annotations

from typing import Final

from supervisor.errors import StorageFull, StoreUnavailable

OUTAGE: Final = (StoreUnavailable, StorageFull)
