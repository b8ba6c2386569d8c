"""One change of a session's files at a time, whichever gateway it comes through."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from supervisor.errors import Busy
from supervisor.execution.values import SessionId
from supervisor.redis_link.link import RedisLink, Script

HELD_SECONDS: Final = 30.0
"""A change that takes longer may meet another one: both look before they write, and the later is then the one kept."""
WAIT_SECONDS: Final = 20.0
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1

_RELEASE: Final = Script(
    """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""",
    brief=True,
)


class FleetTurns:
    """Locks by session, in Redis: a :data:`supervisor.files.tools.Turns`."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    @asynccontextmanager
    async def __call__(self, session_id: SessionId) -> AsyncIterator[None]:
        """Hold the lock for the block.

        Raises:
            Busy: others go on holding it.
            StoreUnavailable: Redis does not answer.
        """
        key, mine = self._link.key("turn", session_id), secrets.token_hex(16).encode()
        await self._take(key, mine)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self._link.run(_RELEASE, [key], [mine])

    async def _take(self, key: str, mine: bytes) -> None:
        pause = _FIRST_PAUSE
        milliseconds = int(HELD_SECONDS * 1000)
        with trio.move_on_after(WAIT_SECONDS):
            while True:
                taken = await self._link.call(lambda client: client.set(key, mine, nx=True, px=milliseconds, get=True))
                # Ours: nobody had it, or an answer to ourselves was lost.
                if taken is None or taken == mine:
                    return
                await trio.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
        raise Busy("another change of this session's files goes on", retry_after_seconds=2.0)
