"""TODO."""

from __future__ import annotations

from typing import Final

from supervisor.attack.case import Collection

COLLECTION: Final = Collection()
