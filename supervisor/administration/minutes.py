"""How many executions ended in each of the last sixty minutes. The clock comes in."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

MINUTES: Final = 60


class Minutes:
    """Counts by minute. ``clock``: any steady one, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: deque[int] = deque([0] * MINUTES, maxlen=MINUTES)
        self._minute = int(clock() // 60)

    def note(self) -> None:
        """Count one."""
        self._turn()
        self._counts[-1] += 1

    def counts(self) -> list[int]:
        """Give the counts, the oldest first; the last minute has not ended yet."""
        self._turn()
        return list(self._counts)

    def _turn(self) -> None:
        now = int(self._clock() // 60)
        self._counts.extend([0] * min(MINUTES, now - self._minute))
        self._minute = now
