"""How often a caller may call, counted in Redis: for all daemons together, by its clock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from supervisor.admission.rates import Rate, too_often, windows_of
from supervisor.execution.values import Principal
from supervisor.redis_link.link import RedisLink, Script

_CHECK: Final = Script(
    """
local time, seconds = redis.call('TIME'), tonumber(ARGV[1])
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
for number, key in ipairs(KEYS) do
    local first = redis.call('LINDEX', key, 0)
    while first and tonumber(first) <= now - seconds do
        redis.call('LPOP', key)
        first = redis.call('LINDEX', key, 0)
    end
    if redis.call('LLEN', key) >= tonumber(ARGV[number + 1]) then
        return string.format('%d %.6f', number, (first and tonumber(first) or now) + seconds - now)
    end
end
for _, key in ipairs(KEYS) do
    redis.call('RPUSH', key, string.format('%.6f', now))
    redis.call('PEXPIRE', key, math.ceil(seconds * 1000))
end
return ''
""",
    brief=True,
)


class RedisRates:
    """Counts calls as :class:`supervisor.admission.rates.RateLimiter` does. A caller's window goes when it is over."""

    def __init__(self, link: RedisLink, rates: Mapping[str, Rate | None], shared_factor: int = 1) -> None:
        self._link = link
        self._rates = rates
        self._shared_factor = shared_factor

    async def check(self, principal: Principal, kind: str) -> None:
        """Count a call of this kind. One whose answer was lost may be counted twice.

        Raises:
            Busy: it is one too many; it was not counted.
            StoreUnavailable: as :meth:`supervisor.redis_link.link.RedisLink.call`.
        """
        rate = self._rates.get(kind)
        if rate is not None:
            await self._count(kind, rate.seconds, windows_of(principal, kind, rate, self._shared_factor))

    async def count(self, rate: Rate, key: tuple[str, str, str]) -> None:
        """Count a call of those that are counted together under ``key``, whose first part is the kind.

        Raises:
            Busy, StoreUnavailable: as :meth:`check`.
        """
        await self._count(key[0], rate.seconds, [(key, rate.calls)])

    async def _count(self, kind: str, seconds: float, windows: Sequence[tuple[tuple[str, ...], int]]) -> None:
        keys = [self._link.key("rate", json.dumps(key, separators=(",", ":"))) for key, _ in windows]
        limits = [calls for _, calls in windows]
        answer: bytes = await self._link.run(_CHECK, keys, [repr(seconds), *limits])
        if answer:
            number, wait = answer.split()
            raise too_often(kind, limits[int(number) - 1], seconds, float(wait))
