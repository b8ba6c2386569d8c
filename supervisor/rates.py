"""How often a caller may call: sliding windows by principal and kind of call. The clock comes in."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from supervisor.errors import Busy
from supervisor.execution import Principal

MAX_CALLERS: Final = 50_000
"""Windows that are remembered; beyond it the longest unused is forgotten."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls in so many seconds."""

    calls: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Rate | None:
        """Read ``CALLS/SECONDS``; ``off`` is no limit."""
        if text == "off":
            return None
        calls, _, seconds = text.partition("/")
        return cls(int(calls), float(seconds))

    def calls_of(self, principal: Principal, shared_factor: int) -> int:
        """Give how many calls this principal has: who names no user speaks for many."""
        return self.calls * (1 if principal.user is not None else shared_factor)


def caller_key(principal: Principal, kind: str) -> tuple[str, str, str]:
    """Name whose calls are counted together."""
    who = ("user", principal.user) if principal.user is not None else ("credential", principal.credential)
    return kind, principal.tenant, ":".join(who)


def too_often(kind: str, calls: int, seconds: float, wait_seconds: float) -> Busy:
    """Make the refusal."""
    return Busy(f"at most {calls} calls of {kind} in {seconds:g} s", retry_after_seconds=max(1.0, wait_seconds))


@dataclass(slots=True)
class RateLimiter:
    """Counts calls. ``shared_factor``: a caller who names no user speaks for many, and may call so much more often."""

    rates: Mapping[str, Rate | None]
    shared_factor: int = 1
    clock: Callable[[], float] = time.monotonic
    """Any steady one, in seconds."""
    _windows: OrderedDict[tuple[str, str, str], deque[float]] = field(default_factory=OrderedDict)

    async def check(self, principal: Principal, kind: str) -> None:
        """Count a call of this kind.

        Raises:
            Busy: it is one too many; it was not counted.
        """
        rate = self.rates.get(kind)
        if rate is None:
            return
        calls, key, now = rate.calls_of(principal, self.shared_factor), caller_key(principal, kind), self.clock()
        window = self._windows.setdefault(key, deque())
        self._windows.move_to_end(key)
        while window and window[0] <= now - rate.seconds:
            window.popleft()
        if len(window) >= calls:
            wait = window[0] + rate.seconds - now
            raise too_often(kind, calls, rate.seconds, wait)
        window.append(now)
        if len(self._windows) > MAX_CALLERS:
            self._windows.popitem(last=False)
