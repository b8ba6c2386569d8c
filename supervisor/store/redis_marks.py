"""Marks of blobs in Redis: who uses one again and who removes it, among many daemons."""

from __future__ import annotations

from typing import Final

import trio

from supervisor.execution.values import new_id
from supervisor.files.service import GRACE_SECONDS
from supervisor.redis_link.link import RedisLink, Script

REMOVAL_SECONDS: Final = 60
"""A removal that has begun is over by then, or whoever began it is gone: it has to be given up before."""
_LOOK_SECONDS: Final = 0.05

_USE: Final = Script("""
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return redis.call('EXISTS', KEYS[2])
""")
_BEGIN_REMOVAL: Final = Script("""
if redis.call('EXISTS', KEYS[1], KEYS[3]) > 0 then return 0 end
-- Sent again, because the answer was lost: it has it already.
if redis.call('GET', KEYS[2]) == ARGV[1] then return 1 end
return redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', ARGV[2]) and 1 or 0
""")


_END_REMOVAL: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
""")


class RedisMarks:
    """A :class:`supervisor.store.BlobMarks`, beside :class:`supervisor.store.redis_sessions.RedisSessions`."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._removals: dict[str, str] = {}

    async def use(self, digest: str) -> None:
        """See :class:`supervisor.store.BlobMarks`."""
        keys = [self._link.key("mark", digest), self._link.key("removal", digest)]
        # The removal's key ends by itself, so this does too. The mark is first: no other removal begins meanwhile.
        while await self._link.run(_USE, keys, [round(GRACE_SECONDS * 1000)], lasting=True):  # noqa: ASYNC110 - others' events
            await trio.sleep(_LOOK_SECONDS)

    async def begin_removal(self, digest: str) -> bool:
        """See :class:`supervisor.store.BlobMarks`; at most :data:`REMOVAL_SECONDS` may go by until it has ended."""
        keys = [self._link.key(kind, digest) for kind in ("mark", "removal", "ref")]
        removal = new_id()
        if not await self._link.run(_BEGIN_REMOVAL, keys, [removal, REMOVAL_SECONDS], lasting=True):
            return False
        self._removals[digest] = removal
        return True

    async def end_removal(self, digest: str) -> None:
        """See :class:`supervisor.store.BlobMarks`; one that somebody else has begun goes on."""
        removal = self._removals.pop(digest, "")
        await self._link.run(_END_REMOVAL, [self._link.key("removal", digest)], [removal])
