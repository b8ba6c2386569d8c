"""What callers have used, in Redis: one hash for each day, which goes by itself when it is old.

=====================  =================================================================
``usage:DAY``          hash: tenant, credential and user as JSON, and the counts as JSON
``usage_days``         sorted set of the days that there are, all of score 0
=====================  =================================================================
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import msgspec

from supervisor.execution.values import new_id
from supervisor.redis_link.faults import reading
from supervisor.redis_link.link import RedisLink, Script
from supervisor.store.redis_scripts import COMMON
from supervisor.store.usage import COUNTS, Used

_ADD: Final = Script(
    COMMON
    + """
return once(function()
    local count = tonumber(take())
    for _ = 1, count do
        local day, who, added = take(), take(), cjson.decode(take())
        local before = redis.call('HGET', key('usage', day), who)
        if before then
            for at, each in ipairs(cjson.decode(before)) do added[at] = added[at] + each end
        end
        for at, each in ipairs(added) do added[at] = string.format('%.17g', each) end
        redis.call('HSET', key('usage', day), who, '[' .. table.concat(added, ',') .. ']')
        redis.call('ZADD', base .. 'usage_days', 0, day)
    end
    return 'ok'
end)
"""
)
_FORGET: Final = Script(
    COMMON
    + """
return once(function()
    local before = '(' .. take()
    for _, day in ipairs(redis.call('ZRANGEBYLEX', base .. 'usage_days', '-', before)) do
        redis.call('UNLINK', key('usage', day))
    end
    redis.call('ZREMRANGEBYLEX', base .. 'usage_days', '-', before)
    return 'ok'
end)
"""
)
_DAYS: Final = Script(
    "return redis.call('ZREVRANGEBYLEX', KEYS[1] .. 'usage_days', '[' .. ARGV[2], '[' .. ARGV[1], 'LIMIT', 0, 4000)"
)


class RedisUsage:
    """A :class:`supervisor.store.usage.UsageStore`. ``retry_seconds``: of the link."""

    def __init__(self, link: RedisLink, retry_seconds: float) -> None:
        self._link = link
        self._base = link.key("")
        self._remembered_seconds = int(2 * retry_seconds) + 60

    async def add(self, used: Sequence[Used]) -> None:
        """See :class:`supervisor.store.usage.UsageStore`; not one transaction, but one for every few hundred."""
        for start in range(0, len(used), 500):
            part = used[start : start + 500]
            arguments: list[str | bytes | int] = [new_id(), self._remembered_seconds, len(part)]
            for each in part:
                counts = [getattr(each, name) for name in COUNTS]
                arguments += [each.day, _who(each), json.dumps(counts)]
            await self._link.run(_ADD, [self._base], arguments, lasting=True)

    async def between(self, first: str, last: str, tenant: str | None, limit: int) -> list[Used]:
        """See :class:`supervisor.store.usage.UsageStore`."""
        found: list[Used] = []
        for day in await self._link.run(_DAYS, [self._base], [first, last]):
            rows = await self._of_day(day.decode())
            found += sorted(each for each in rows if tenant is None or each.tenant == tenant)
            if len(found) >= limit:
                break
        return found[:limit]

    async def _of_day(self, day: str) -> list[Used]:
        name = self._link.key("usage", day)
        kept = await self._link.call(lambda client: client.hgetall(name))
        with reading():
            rows = msgspec.convert(kept, dict[bytes, bytes])
            return [_used(day, who, counts) for who, counts in rows.items()]

    async def forget(self, before: str) -> None:
        """See :class:`supervisor.store.usage.UsageStore`."""
        await self._link.run(_FORGET, [self._base], [new_id(), self._remembered_seconds, before], lasting=True)


def _who(used: Used) -> str:
    return json.dumps([used.tenant, used.credential, used.user], ensure_ascii=False, separators=(",", ":"))


def _used(day: str, who: bytes, counts: bytes) -> Used:
    tenant, credential, user = msgspec.json.decode(who, type=tuple[str, str, str])
    kept = dict(zip(COUNTS, msgspec.json.decode(counts, type=list[int | float]), strict=True))
    return msgspec.convert({"day": day, "tenant": tenant, "credential": credential, "user": user, **kept}, Used)
