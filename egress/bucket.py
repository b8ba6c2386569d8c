"""So many a second."""

from __future__ import annotations

import math

import trio


class Bucket:
    """So many a second, and a few more at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, 4 * rate)
        self._level = self._burst
        self._at = -math.inf

    def take(self) -> bool:
        """Say whether there is room for one more now, and take it."""
        now = trio.current_time()
        if self._at > -math.inf:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True

    async def wait(self) -> None:
        """Wait until there is room for one, and take it."""
        while not self.take():  # noqa: ASYNC110 - it is time that makes room, nobody tells
            await trio.sleep(max(0.001, (1 - self._level) / self._rate))
