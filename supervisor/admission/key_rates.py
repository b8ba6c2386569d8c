"""How often a key may be used that has rates of its own: instead of those of the settings.

All who show such a key are counted together, whomever they name: a key is given to somebody with a limit, and naming
other users would be a way around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from supervisor.admission.rates import Rate
from supervisor.execution.values import Principal
from supervisor.identity.keys import KeyRates


class Counter(Protocol):
    """Counts calls, in memory or in Redis."""

    async def check(self, principal: Principal, kind: str) -> None:
        """Count a call by the rates of the settings."""

    async def count(self, rate: Rate, key: tuple[str, str, str]) -> None:
        """Count a call by this rate."""


class RatesByKey:
    """Counts calls. ``own``: the rates that a credential of this name has of its own."""

    def __init__(self, inner: Counter, own: Callable[[str], KeyRates | None]) -> None:
        self._inner = inner
        self._own = own

    async def check(self, principal: Principal, kind: str) -> None:
        """Count a call.

        Raises:
            Busy: it is one too many; it was not counted.
        """
        own = self._own(principal.credential)
        text = None if own is None else getattr(own, kind, None)
        if text is None:
            await self._inner.check(principal, kind)
            return
        rate = Rate.parse(text)
        if rate is not None:
            await self._inner.count(rate, (kind, principal.tenant, f"key:{principal.credential}"))
