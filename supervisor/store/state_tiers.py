"""Saved states of interpreters: those in use in Redis, long and unused ones where other bytes are.

A state in Redis is a hash of pieces, so that neither side ever holds it whole and a piece that is sent twice is there
once. It is written under a name of its own and renamed when it is whole. A sorted set says when each was last used, by
Redis' clock.

With ``state.archive`` a state leaves Redis only when it is in the other store: it is moved when it was not used for so
long, and kept in Redis for as long as states are kept at all if nobody comes to move it. Without, it goes
``state.hot_seconds`` after its last use.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Final

import trio

from supervisor.errors import GaolerError, StoreUnavailable
from supervisor.redis_link.link import RedisLink, Script
from supervisor.settings.fleet import StateSettings
from supervisor.store import BlobMarks, BlobStore, BlobWriter

log: Final = logging.getLogger("gaoler.store")

PIECE_BYTES: Final = 512 * 1024
NEW_SECONDS: Final = 600
"""What is being written is forgotten when nothing came for so long."""
LOCK_SECONDS: Final = 600
"""A state is moved within this time, or another daemon begins anew."""
CLOSE_SECONDS: Final = 5.0
CHECK_STATES: Final = 100
"""So many are looked for at once."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "

_PIECE: Final = Script(
    """
-- KEYS: new; ARGV: number, piece, seconds
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
)
"""Write a piece; in one step with its end, which a writer that is killed in between would not have said."""

_KEEP: Final = Script(
    _NOW
    + """
-- KEYS: new, state, index; ARGV: digest, number of pieces, milliseconds
if redis.call('HLEN', KEYS[1]) == tonumber(ARGV[2]) then
  redis.call('RENAME', KEYS[1], KEYS[2])
elseif redis.call('HLEN', KEYS[2]) ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[3], now, ARGV[1])
return 1
"""
)
"""Give what is written its name; done twice, it is done."""

_USE: Final = Script(
    _NOW
    + """
-- KEYS: state, index; ARGV: digest, milliseconds
local pieces = redis.call('HLEN', KEYS[1])
if pieces == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
return pieces
"""
)
"""Say how many pieces it has, and that it is used."""

_UNUSED: Final = Script(
    _NOW
    + """
-- KEYS: index; ARGV: milliseconds, at most so many (-1: all)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - tonumber(ARGV[1])), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
"""
)

_DROP: Final = Script(
    """
-- KEYS: state, index; ARGV: digest, score: when it was used last, as the caller knows; empty: whenever it was
if ARGV[2] ~= '' and redis.call('ZSCORE', KEYS[2], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('UNLINK', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""
)
"""Remove it, unless it was used meanwhile."""


class StateWriter:
    """A :class:`supervisor.store.BlobWriter`. Made by :meth:`StateTiers.writer`."""

    def __init__(self, tiers: StateTiers, stack: AsyncExitStack) -> None:
        self._tiers = tiers
        self._stack = stack
        self._key = tiers.link.key("state-new", secrets.token_hex(16))
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._size = 0
        self._pieces = 0
        self._cold: BlobWriter | None = None

    async def write(self, data: bytes) -> None:
        """See :class:`supervisor.store.BlobWriter`."""
        self._size += len(data)
        if self._cold is None and self._size > self._tiers.settings.hot_bytes:
            await self._go_cold()
        if self._cold is not None:
            await self._cold.write(data)
            return
        self._hash.update(data)
        self._pending += data
        while len(self._pending) >= PIECE_BYTES:
            await self._send(PIECE_BYTES)

    async def commit(self) -> tuple[str, int]:
        """See :class:`supervisor.store.BlobWriter`."""
        if self._cold is None and self._tiers.settings.hot_bytes == 0:
            await self._go_cold()
        if self._cold is not None:
            return await self._cold.commit()
        if self._pending or not self._pieces:
            await self._send(len(self._pending))
        digest = self._hash.hexdigest()
        await self._tiers.keep(digest, self._key, self._pieces)
        return digest, self._size

    async def _send(self, length: int) -> None:
        piece, number, key = bytes(self._pending[:length]), self._pieces, self._key
        await self._tiers.link.run(_PIECE, [key], [number, piece, NEW_SECONDS])
        del self._pending[:length]
        self._pieces += 1

    async def _go_cold(self) -> None:
        """Go on in the other store, with what there is."""
        cold = await self._stack.enter_async_context(self._tiers.cold.writer())
        for number in range(self._pieces):
            piece = await self._tiers.piece(self._key, number)
            if piece is None:
                raise StoreUnavailable("the server's Redis has lost a part of what it was given")
            await cold.write(piece)
        await cold.write(bytes(self._pending))
        self._pending.clear()
        await self.aclose()
        self._cold = cold

    async def aclose(self) -> None:
        """Leave nothing of what was not committed in Redis. Shielded and bounded; what is left expires."""
        if not self._pieces:
            return
        key, self._pieces = self._key, 0
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            try:
                await self._tiers.link.call(lambda client: client.unlink(key))
            except GaolerError:
                pass  # it expires


class StateTiers:
    """A :class:`supervisor.store.BlobStore` of two: Redis, and ``cold``, which somebody else owns and sweeps.

    ``keep_seconds`` is how long states are kept in all; ``clock`` the one that :meth:`old` is asked by.
    """

    def __init__(
        self,
        link: RedisLink,
        cold: BlobStore,
        marks: BlobMarks,
        settings: StateSettings,
        *,
        keep_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.link = link
        self.cold = cold
        self.settings = settings
        self._marks = marks
        self._clock = clock
        seconds = max(settings.hot_seconds, keep_seconds) if settings.archive else settings.hot_seconds
        self._expire_ms = int(seconds * 1000)
        self._index = link.key("states")

    def name(self, digest: str) -> str:
        """Give the key of a state in Redis; anything but a SHA-256 in hex is refused."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256 digest: {digest!a}")
        return self.link.key("state", digest)

    async def piece(self, key: str, number: int) -> bytes | None:
        """Read a piece."""
        return await self.link.call(lambda client: client.hget(key, str(number)))  # type: ignore[arg-type, return-value]

    async def keep(self, digest: str, written: str, pieces: int) -> None:
        """Have what was written at the key ``written`` there as this state.

        Raises:
            StoreUnavailable: Redis has lost some of it.
        """
        await self._marks.use(digest)
        keys = [written, self.name(digest), self._index]
        if not await self.link.run(_KEEP, keys, [digest, pieces, self._expire_ms], lasting=True):
            raise StoreUnavailable("the server's Redis has lost a part of what it was given")

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[StateWriter]:
        """See :class:`supervisor.store.BlobStore`."""
        async with AsyncExitStack() as stack:
            writer = StateWriter(self, stack)
            try:
                yield writer
            finally:
                await writer.aclose()

    @asynccontextmanager
    async def open(self, digest: str, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """See :class:`supervisor.store.BlobStore`."""
        pieces = await self.link.run(_USE, [self.name(digest), self._index], [digest, self._expire_ms])
        if not pieces:
            async with self.cold.open(digest, start) as chunks:
                yield chunks
            return
        async with aclosing(self._chunks(digest, start, int(pieces))) as chunks:
            yield chunks

    async def _chunks(self, digest: str, start: int, pieces: int) -> AsyncGenerator[bytes, None]:
        seen, position = hashlib.sha256(), start
        for number in range(start // PIECE_BYTES, pieces):
            piece = await self.piece(self.name(digest), number)
            if piece is None:
                # It was moved meanwhile.
                async with self.cold.open(digest, position) as rest:
                    async for chunk in rest:
                        yield chunk
                return
            seen.update(piece)
            if start == 0 and number == pieces - 1 and seen.hexdigest() != digest:
                log.error("a state in Redis is damaged: %s", digest)
                raise StoreUnavailable("the saved variables are damaged in the server's storage")
            piece = piece[position - number * PIECE_BYTES :]
            position += len(piece)
            if piece:
                yield piece

    async def old(self, before: float) -> list[str]:
        """See :class:`supervisor.store.BlobStore`; those in Redis: the other store's are its owner's to ask for."""
        unused_ms = max(0, int((self._clock() - before) * 1000))
        found = await self.link.run(_UNUSED, [self._index], [unused_ms, -1])
        return [digest.decode() for digest in found[::2] if await self._is_ours(digest)]

    async def remove(self, digest: str, before: float) -> None:  # noqa: ARG002
        """See :class:`supervisor.store.BlobStore`; as :meth:`old`. The marks know whether it was used again."""
        key = self.name(digest)
        if not await self._marks.begin_removal(digest):
            return
        await self.link.run(_DROP, [key, self._index], [digest, ""])
        with trio.CancelScope(shield=True):
            await self._marks.end_removal(digest)

    async def archive(self) -> int:
        """Move the states that were not used for ``state.archive_after_seconds``; give how many there were.

        Several daemons may do it at once. A fault leaves a state where it was.

        Raises:
            GaolerError: the last fault, when all others have been tried.
        """
        settings, moved = self.settings, 0
        after_ms = int(min(settings.archive_after_seconds, settings.hot_seconds) * 1000)
        found = await self.link.run(_UNUSED, [self._index], [after_ms, CHECK_STATES])
        fault: GaolerError | None = None
        for digest, score in zip(found[::2], found[1::2], strict=True):
            if not await self._is_ours(digest):
                continue
            try:
                moved += await self._move(digest.decode(), score)
            except GaolerError as error:
                fault = error
        if fault is not None:
            raise fault
        return moved

    async def _is_ours(self, digest: bytes) -> bool:
        """Say whether the index names a state there, and forget what does not."""
        if _DIGEST.fullmatch(digest.decode("ascii", "replace")):
            return True
        log.error("the index of saved states in Redis names what is none: it is forgotten")
        await self.link.call(lambda client: client.zrem(self._index, digest))
        return False

    async def _move(self, digest: str, score: bytes) -> bool:
        lock, mine = self.link.key("state-lock", digest), secrets.token_hex(16)
        if not await self.link.call(lambda client: client.set(lock, mine, nx=True, ex=LOCK_SECONDS)):
            return False
        try:
            with trio.move_on_after(LOCK_SECONDS / 2):
                return await self._copy(digest, score)
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                try:
                    await self.link.call(lambda client: client.delete(lock))
                except GaolerError:
                    pass  # it expires
        return False

    async def _copy(self, digest: str, score: bytes) -> bool:
        key = self.name(digest)
        pieces = int(await self.link.call(lambda client: client.hlen(key)))
        if pieces:
            async with self.cold.writer() as writer:
                async with aclosing(self._chunks(digest, 0, pieces)) as chunks:
                    async for chunk in chunks:
                        await writer.write(chunk)
                await writer.commit()
        await self.link.run(_DROP, [key, self._index], [digest, score])
        return bool(pieces)


async def run_archiver(tiers: StateTiers) -> None:
    """Move unused states every ``state.archive_check_seconds`` until cancelled; a fault is logged and tried again."""
    while True:
        await trio.sleep(tiers.settings.archive_check_seconds)
        try:
            moved = 0
            while count := await tiers.archive():
                moved += count
            if moved:
                log.info("saved states moved from Redis: %d", moved)
        except GaolerError as error:
            log.error("saved states could not be moved from Redis: %s", error)
