"""What is counted where nobody else keeps a figure: refused calls and credentials, and how late the loop is."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

import trio

from supervisor.errors import Busy
from supervisor.execution.protocols import Rates
from supervisor.execution.values import Principal
from supervisor.metrics.text import Buckets

LAG_SECONDS: Final = 0.25
"""How often the loop is asked how late it is."""
LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Counts:
    """Of one process since its start."""

    def __init__(self) -> None:
        self.rate_refusals: Counter[str] = Counter()
        self.authentication_failures = 0
        self._lag = [0] * (len(LAG_BOUNDS) + 1)
        self._lag_seconds = 0.0

    @property
    def lag(self) -> Buckets:
        """How late timers were."""
        return Buckets(LAG_BOUNDS, tuple(self._lag), self._lag_seconds)

    def note_refused_credential(self) -> None:
        """Count a request whose credential does not hold."""
        self.authentication_failures += 1

    def note_lag(self, seconds: float) -> None:
        """Count how late one timer was."""
        self._lag[bisect_left(LAG_BOUNDS, seconds)] += 1
        self._lag_seconds += seconds

    async def watch_loop(self) -> None:
        """Look how late the loop is, until cancelled."""
        while True:
            due = trio.current_time() + LAG_SECONDS
            await trio.sleep_until(due)
            self.note_lag(max(0.0, trio.current_time() - due))


class CountedRates:
    """What counts calls, with its refusals counted."""

    def __init__(self, inner: Rates, counts: Counts) -> None:
        self._inner = inner
        self._counts = counts

    async def check(self, principal: Principal, kind: str) -> None:
        """Count a call of this kind.

        Raises:
            Busy: it is one too many.
            StoreUnavailable: as the inner one.
        """
        try:
            await self._inner.check(principal, kind)
        except Busy:
            self._counts.rate_refusals[kind] += 1
            raise
