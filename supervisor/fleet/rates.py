"""How often a caller may call, counted in Redis: for all daemons together, by its clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from supervisor.execution import Principal
from supervisor.rates import Rate, caller_key, too_often
from supervisor.redis_link.link import RedisLink, Script

_CHECK: Final = Script(
    """
local time, calls, seconds = redis.call('TIME'), tonumber(ARGV[1]), tonumber(ARGV[2])
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local first = redis.call('LINDEX', KEYS[1], 0)
while first and tonumber(first) <= now - seconds do
    redis.call('LPOP', KEYS[1])
    first = redis.call('LINDEX', KEYS[1], 0)
end
if redis.call('LLEN', KEYS[1]) >= calls then
    return string.format('%.6f', (first and tonumber(first) or now) + seconds - now)
end
redis.call('RPUSH', KEYS[1], string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(seconds * 1000))
return ''
""",
    brief=True,
)


class RedisRates:
    """Counts calls as :class:`supervisor.rates.RateLimiter` does. A caller's window goes when it is over."""

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
        if rate is None:
            return
        calls = rate.calls_of(principal, self._shared_factor)
        key = self._link.key("rate", json.dumps(caller_key(principal, kind), separators=(",", ":")))
        answer: bytes = await self._link.run(_CHECK, [key], [calls, repr(rate.seconds)])
        if answer:
            raise too_often(kind, calls, rate.seconds, float(answer))
