"""What calls of a server elsewhere have met: counted by whoever makes them, told by :mod:`supervisor.metrics`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Troubles:
    """Of Redis, or of S3, since the start."""

    faults: Counter[str] = field(default_factory=Counter)
    """Errors by what they mean for the call, where that is known."""
    retries: int = 0
    given_up: int = 0
