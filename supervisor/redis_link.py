"""The way to Redis: one pool of connections, used in threads; and lines of their own for calls that wait.

redis-py is blocking, and its asyncio half has no place beside Trio, so every call is a function that is given the
client in a thread (about 0.15 ms a call). A call is bounded by ``redis.socket_seconds`` and not abandoned when it is
cancelled: it happened whole or not at all.

All keys of one daemon share one hash tag, ``{prefix}``, so that scripts over several keys hold in a Redis cluster too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import redis
import trio

from supervisor.dialling import Dial
from supervisor.errors import StoreUnavailable
from supervisor.settings_fleet import RedisSettings

_T = TypeVar("_T")
Work = Callable[["redis.Redis"], _T]

_LOST: Final = (redis.ConnectionError, redis.TimeoutError, OSError)


class Script:
    """A Lua script, sent once and then named by its hash. ``text`` uses KEYS and ARGV; values are bytes."""

    def __init__(self, text: str) -> None:
        self.text = text


class RedisLink:
    """Use :func:`open_redis`."""

    def __init__(self, client: redis.Redis, settings: RedisSettings) -> None:
        self._client = client
        self._settings = settings
        self._limiter = trio.CapacityLimiter(settings.connections)

    def key(self, *parts: str) -> str:
        """Give the name of a key: ``{prefix}:part:part``."""
        return ":".join((f"{{{self._settings.prefix}}}", *parts))

    async def call(self, work: Work[_T]) -> _T:
        """Have ``work`` done with the client, in a thread; answers are bytes.

        While no server answers it is tried again, for ``redis.retry_seconds``: ``work`` has to be fit to be done twice,
        because an answer may have been lost on its way.

        Raises:
            StoreUnavailable: no server answered in time.
        """
        deadline = trio.current_time() + self._settings.retry_seconds
        pause = 0.02
        while True:
            try:
                return await trio.to_thread.run_sync(work, self._client, limiter=self._limiter)
            except _LOST:
                if trio.current_time() + pause > deadline:
                    raise StoreUnavailable("the server's Redis does not answer") from None
            await trio.sleep(pause)
            pause = min(1.0, pause * 2)

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int | float] = ()
    ) -> Any:
        """Run a script, as :meth:`call`."""
        return await self.call(lambda client: client.eval(script.text, len(keys), *keys, *arguments))

    async def time(self) -> float:
        """Give the server's clock, in seconds since the epoch: the one clock that a fleet shares."""
        seconds, microseconds = await self.call(lambda client: client.time())
        return float(seconds) + float(microseconds) / 1e6

    @asynccontextmanager
    async def open_line(self) -> AsyncIterator[Line]:
        """Have a connection of one's own for the block, for calls that wait."""
        yield Line(self._client)


class Line:
    """A connection of its own, for one task that makes calls that wait (XREADGROUP with BLOCK, say).

    Cancelling a call ends it at once, by closing the connection; the next call has a new one.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    async def call(self, work: Work[_T]) -> _T:
        """Have ``work`` done, in a thread; it may wait at the server as long as it likes. Not tried again.

        Raises:
            StoreUnavailable: the server is gone.
        """
        try:
            return await trio.to_thread.run_sync(work, self._client, abandon_on_cancel=True)
        except _LOST:
            raise StoreUnavailable("the server's Redis does not answer") from None


@asynccontextmanager
async def open_redis(settings: RedisSettings, dial: Dial) -> AsyncIterator[RedisLink]:  # noqa: ARG001
    """Connect for the block.

    Raises:
        ConfigurationError: the settings are wrong.
        StoreUnavailable: no server answers.
    """
    client = redis.Redis.from_url(settings.url)
    try:
        yield RedisLink(client, settings)
    finally:
        client.close()
