"""How often a caller may call: sliding windows by principal and kind of call. The clock comes in.

Users whom a key names are its owner's word: who may name one user may name a thousand. So all of them together are
counted for the key too, as one who speaks for many. A token's user is proven, and counted alone.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from supervisor.errors import Busy
from supervisor.execution.values import Principal
from supervisor.identity.credentials import PROVEN

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


def caller_key(principal: Principal, kind: str) -> tuple[str, str, str]:
    """Name whose calls are counted together."""
    who = ("user", principal.user) if principal.user is not None else ("credential", principal.credential)
    return kind, principal.tenant, ":".join(who)


def windows_of(principal: Principal, kind: str, rate: Rate, shared_factor: int) -> list[tuple[tuple[str, ...], int]]:
    """Give the windows in which a call is counted, each with how many it holds. Who names no user speaks for many."""
    own = caller_key(principal, kind)
    if principal.user is None:
        return [(own, rate.calls * shared_factor)]
    if principal.credential in PROVEN:
        return [(own, rate.calls)]
    every = (kind, principal.tenant, f"users of:{principal.credential}")
    return [(own, rate.calls), (every, rate.calls * shared_factor)]


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
    _windows: OrderedDict[tuple[str, ...], deque[float]] = field(default_factory=OrderedDict)

    async def check(self, principal: Principal, kind: str) -> None:
        """Count a call of this kind.

        Raises:
            Busy: it is one too many; it was not counted.
        """
        rate = self.rates.get(kind)
        if rate is not None:
            self._count(kind, rate.seconds, windows_of(principal, kind, rate, self.shared_factor))

    async def count(self, rate: Rate, key: tuple[str, str, str]) -> None:
        """Count a call of those that are counted together under ``key``, whose first part is the kind.

        Raises:
            Busy: it is one too many; it was not counted.
        """
        self._count(key[0], rate.seconds, [(key, rate.calls)])

    def _count(self, kind: str, seconds: float, counted: Sequence[tuple[tuple[str, ...], int]]) -> None:
        now, windows = self.clock(), []
        for key, calls in counted:
            window = self._windows.setdefault(key, deque())
            self._windows.move_to_end(key)
            while window and window[0] <= now - seconds:
                window.popleft()
            if len(window) >= calls:
                raise too_often(kind, calls, seconds, window[0] + seconds - now)
            windows.append(window)
        for window in windows:
            window.append(now)
        while len(self._windows) > MAX_CALLERS:
            self._windows.popitem(last=False)
