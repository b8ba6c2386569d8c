"""How many cells should wait. Pure: demand and clock come in, a number comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

CALM_SECONDS: Final = 30.0
"""So long without a miss, and a cell that nobody needed is let go."""


@dataclass(slots=True)
class PoolSize:
    """Grows at once when somebody finds the pool empty, shrinks one by one when it is calm, between two bounds."""

    floor: int
    ceiling: int
    target: int = field(init=False)
    _lowest: int = field(init=False)
    _calm_since: float = field(init=False)

    def __post_init__(self) -> None:
        self.target = self._lowest = min(self.floor, self.ceiling)
        self._calm_since = 0.0

    def claimed(self, left: int, now: float) -> None:
        """Note a claim after which ``left`` cells wait."""
        self._lowest = min(self._lowest, left)
        if now - self._calm_since >= CALM_SECONDS:
            self._new_period(now)

    def missed(self, now: float) -> None:
        """Note a claim that found nothing waiting."""
        # By half, not by one: a burst is over before one by one helps.
        self.target = min(self.ceiling, max(self.target + 1, self.target * 3 // 2))
        self._lowest = 0
        self._calm_since = now

    def idle(self, now: float) -> None:
        """Note that time has passed."""
        if now - self._calm_since >= CALM_SECONDS:
            self._new_period(now)

    def _new_period(self, now: float) -> None:
        """What was never needed in the period that ends is half given back."""
        if self._lowest > 1:
            self.target = max(min(self.floor, self.ceiling), self.target - self._lowest // 2)
        self._lowest = self.target
        self._calm_since = now
