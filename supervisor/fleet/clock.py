"""Redis' clock, as seen from here: what was heard of it last, and how long ago by a clock that only runs."""

from __future__ import annotations

import time
from collections.abc import Callable


class FleetClock:
    """Tells Redis' time without asking for it. The host's own time of day plays no part."""

    def __init__(self, running: Callable[[], float] = time.monotonic) -> None:
        self._running = running
        self._offset: float | None = None

    def hear(self, asked_at: float, told: float) -> None:
        """Note what Redis said: asked at ``asked_at`` (:meth:`running`), answered now."""
        self._offset = told - (asked_at + self._running()) / 2

    def running(self) -> float:
        """Give the clock that only runs."""
        return self._running()

    def now(self) -> float:
        """Give Redis' time in seconds since the epoch; it was heard of before."""
        assert self._offset is not None, "nobody has asked Redis for its time yet"
        return self._running() + self._offset
