"""API keys of a fleet: kept in Redis as hashes, so that one command holds for all gateways, a heartbeat later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import trio

from supervisor.connector.dialling import dial_directly
from supervisor.errors import Busy, ConfigurationError
from supervisor.fleet.outage import OUTAGE
from supervisor.identity.keys import ApiKey, decode_keys, encode_keys
from supervisor.redis_link.link import RedisLink, Script, open_redis
from supervisor.settings.tree import Settings

log: Final = logging.getLogger("gaoler.keys")
_T = TypeVar("_T")

_ATTEMPTS: Final = 10
# ARGV: what was read, what is to be instead. Others may have changed it meanwhile.
_REPLACE: Final = Script("""
local now = redis.call('GET', KEYS[1]) or ''
if now == ARGV[2] then return 1 end
if now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
""")


class SharedKeys:
    """The keys of a fleet. Called, it gives those of the last look."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._key = link.key("keys")
        self._seen: tuple[ApiKey, ...] = ()

    def __call__(self) -> Sequence[ApiKey]:
        """Give the keys that hold."""
        return self._seen

    async def look(self) -> None:
        """Look now.

        Raises:
            StoreUnavailable: Redis does not answer.
            ConfigurationError: what is there are no keys.
        """
        self._seen = decode_keys(written) if (written := await self._read()) else ()

    async def follow(self, seconds: float) -> None:
        """Look every so many seconds until cancelled. While Redis is away those that held go on holding."""
        while True:
            await trio.sleep(seconds)
            try:
                await self.look()
            except OUTAGE as error:
                log.debug("keys not looked at: %s", error)
            except ConfigurationError as error:
                # Somebody who may write to Redis has spoilt them: better none than any.
                self._seen = ()
                log.error("%s", error)

    async def change(self, work: Callable[[Sequence[ApiKey]], tuple[list[ApiKey], _T]]) -> _T:
        """Replace the keys by what ``work`` makes of them, and give its other result.

        Raises:
            ConfigurationError: as ``work``; what is there are no keys.
            StoreUnavailable: Redis does not answer.
        """
        for _ in range(_ATTEMPTS):
            before = await self._read()
            keys, result = work(decode_keys(before) if before else ())
            if await self._link.run(_REPLACE, [self._key], [before, encode_keys(keys)], lasting=True):
                return result
        raise Busy("others change the keys all the time", retry_after_seconds=1.0)

    async def change_and_look(self, work: Callable[[Sequence[ApiKey]], tuple[list[ApiKey], _T]]) -> _T:
        """Change them, as :meth:`change`; here it holds when this returns, elsewhere a heartbeat later."""
        result = await self.change(work)
        await self.look()
        return result

    async def _read(self) -> bytes:
        found = await self._link.call(lambda client: client.get(self._key))
        return b"" if found is None else bytes(found)  # type: ignore[arg-type]


def change_keys(settings: Settings, work: Callable[[Sequence[ApiKey]], tuple[list[ApiKey], _T]]) -> _T:
    """Change the keys of the fleet that these settings name, for a command of its operator.

    Raises:
        ConfigurationError, StoreUnavailable: as :meth:`SharedKeys.change`.
    """

    async def run() -> _T:
        async with open_redis(settings.redis, dial_directly) as link:
            return await SharedKeys(link).change(work)

    return trio.run(run)
