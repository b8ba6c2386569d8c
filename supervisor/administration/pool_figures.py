"""How the pools of cells stand. The jailer is asked, but not more often than once a second, however many look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from supervisor.administration.overview import Pool
from supervisor.jailer.cells import PoolPlan
from supervisor.jailer.protocol import Pools

FRESH_SECONDS: Final = 1.0


class Jailer(Protocol):
    """Knows how the pools stand."""

    async def pools(self) -> Pools | None:
        """Ask; ``None``: no jailer answers."""


class PoolFigures:
    """Remembers the last answer. ``plans``: what is wanted, which is told also while no jailer answers."""

    def __init__(self, jailer: Jailer, plans: Sequence[PoolPlan]) -> None:
        self._jailer = jailer
        self._plans = plans
        self._asking = trio.Lock()
        self._found: Sequence[Pool] = ()
        self._at = -math.inf

    async def pools(self) -> Sequence[Pool]:
        """Say which cells wait."""
        async with self._asking:
            if trio.current_time() - self._at >= FRESH_SECONDS:
                self._found, self._at = self._merged(await self._jailer.pools()), trio.current_time()
            return self._found

    def _merged(self, told: Pools | None) -> list[Pool]:
        known = {} if told is None else {(each.policy, each.profile): each for each in told.pools}
        rows = []
        for plan in self._plans:
            each = known.pop((plan.policy, plan.profile), None)
            rows.append(Pool(plan.policy, plan.profile, None if each is None else each.ready, plan.floor, plan.ceiling))
        return [
            *rows,
            *(Pool(each.policy, each.profile, each.ready, each.floor, each.ceiling) for each in known.values()),
        ]
