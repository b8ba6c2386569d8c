"""Refusals of callers who call too often are security events: the first of each caller, then their number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from supervisor.admission.rates import MAX_CALLERS, caller_key
from supervisor.errors import Busy
from supervisor.execution.protocols import Rates
from supervisor.execution.values import Principal
from supervisor.logs.security_log import tell

TOLD_SECONDS: Final = 60.0
"""Of one caller and kind there is one event in so long."""


class ToldRates:
    """Counts as ``rates`` does. ``clock``: any steady one, in seconds."""

    def __init__(self, rates: Rates, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = rates
        self._clock = clock
        self._told: OrderedDict[tuple[str, str, str], tuple[float, int]] = OrderedDict()
        """When the last event of a caller was, and how many refusals there were since."""

    async def check(self, principal: Principal, kind: str) -> None:
        """Count a call.

        Raises:
            Busy: it is one too many.
        """
        try:
            await self._rates.check(principal, kind)
        except Busy:
            self._tell(principal, kind)
            raise

    def _tell(self, principal: Principal, kind: str) -> None:
        key, now = caller_key(principal, kind), self._clock()
        at, more = self._told.get(key, (-TOLD_SECONDS, 0))
        if now - at < TOLD_SECONDS:
            self._told[key] = (at, more + 1)
            return
        self._told[key] = (now, 0)
        self._told.move_to_end(key)
        if len(self._told) > MAX_CALLERS:
            self._told.popitem(last=False)
        tell(
            "rate_limited",
            kind=kind,
            tenant=principal.tenant,
            credential=principal.credential,
            user=principal.user or "-",
            count=more + 1,
        )
