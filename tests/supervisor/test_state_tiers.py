"""Saved states between Redis and S3: the promises of a blob store, and what moves when."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from supervisor.admission.pressure import HostLimits, Pressure
from supervisor.connector.dialling import dial_directly
from supervisor.errors import NotFound, StoreUnavailable, TooLarge
from supervisor.execution.values import Owner, SessionId, new_id
from supervisor.files.service import FileLimits, FileService
from supervisor.identity.derived import DerivedIds
from supervisor.redis_link.link import RedisLink, open_redis
from supervisor.settings.fleet import RedisSettings, StateSettings
from supervisor.store.marks import LocalMarks
from supervisor.store.s3 import S3Blobs, open_s3
from supervisor.store.sqlite import open_sqlite
from supervisor.store.state_tiers import PIECE_BYTES, StateTiers, run_archiver
from tests.redis_server import redis_server, redis_url
from tests.s3_server import FaultProxy, S3Server, open_fault_proxy

__all__ = ["redis_server", "redis_url"]

HOT = 3 * PIECE_BYTES
_prefixes = itertools.count(1)


async def nothing_is_named(digests: Sequence[str]) -> list[str]:
    return list(digests)


@dataclass
class World:
    link: RedisLink
    cold: S3Blobs
    proxy: FaultProxy
    marks: LocalMarks

    def tiers(self, **settings: Any) -> StateTiers:
        given = replace(StateSettings(hot_bytes=HOT), **settings)
        return StateTiers(self.link, self.cold, self.marks, given, keep_seconds=86_400.0)

    async def keys(self) -> set[str]:
        found: Any = await self.link.call(lambda client: client.keys(self.link.key("*")))
        return {key.decode().partition(":")[2].split(":")[0] for key in found}

    async def in_redis(self, digest: str) -> bool:
        return bool(await self.link.call(lambda client: client.exists(self.link.key("state", digest))))

    async def in_s3(self, digest: str) -> bool:
        return digest in await self.cold.old(time.time() + 100)


@pytest.fixture
async def world(redis_url: str, s3_server: S3Server) -> AsyncIterator[World]:
    prefix = f"tiers-{os.getpid()}-{next(_prefixes)}"
    marks = LocalMarks(nothing_is_named, 0.0)
    async with open_fault_proxy(s3_server.port) as proxy:
        settings = s3_server.settings(s3_server.new_bucket(), proxy.port, attempts=1)
        async with (
            open_redis(RedisSettings(url=redis_url, prefix=prefix), dial_directly) as link,
            open_s3(settings, dial_directly, marks) as cold,
        ):
            yield World(link, cold, proxy, marks)


async def store(tiers: StateTiers, content: bytes) -> str:
    async with tiers.writer() as writer:
        for start in range(0, len(content), 300_000):
            await writer.write(content[start : start + 300_000])
        digest, written = await writer.commit()
    assert (digest, written) == (hashlib.sha256(content).hexdigest(), len(content))
    return digest


async def read(tiers: StateTiers, digest: str, start: int = 0) -> bytes:
    async with tiers.open(digest, start) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, HOT, HOT + 1, HOT + 700_000])
async def test_a_state_comes_back_as_it_was_and_a_long_one_is_not_in_redis(world: World, size: int) -> None:
    tiers, content = world.tiers(), os.urandom(size)
    digest = await store(tiers, content)
    assert await store(tiers, content) == digest
    for start in {0, 1, size // 2, max(0, size - 1), size, size + 7}:
        assert await read(tiers, digest, start) == content[start:]
    assert (await world.in_redis(digest), await world.in_s3(digest)) == (size <= HOT, size > HOT)
    assert "state-new" not in await world.keys()


async def test_without_a_place_in_redis_all_states_go_to_s3(world: World) -> None:
    for content in (b"", b"x"):
        digest = await store(world.tiers(hot_bytes=0), content)
        assert (await world.in_redis(digest), await world.in_s3(digest)) == (False, True)


async def test_a_piece_ends_by_itself_from_the_moment_at_which_it_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    # Who is killed there asks nothing more of Redis.
    monkeypatch.setattr("redis.Redis.expire", killed)
    async with world.tiers().writer() as writer:
        with suppress(Killed):
            await writer.write(bytes(PIECE_BYTES))
        [name] = await world.link.call(lambda client: client.keys(world.link.key("state-new", "*")))
        assert await world.link.call(lambda client: client.ttl(name)) > 0


@pytest.mark.parametrize("size", [10, PIECE_BYTES + 10, HOT + 10])
async def test_an_uncommitted_or_cancelled_state_leaves_nothing(world: World, size: int) -> None:
    tiers = world.tiers()
    with trio.CancelScope() as scope:
        async with tiers.writer() as writer:
            await writer.write(bytes(size // 2))
            await writer.write(bytes(size - size // 2))
            scope.cancel()
            await trio.lowlevel.checkpoint()
    async with tiers.writer() as writer:
        await writer.write(bytes(size))
    assert await world.keys() == set()
    assert await world.cold.old(time.time() + 100) == []


async def test_a_state_that_is_nowhere_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await read(world.tiers(), "a" * 64)
    with pytest.raises(ValueError, match="digest"):
        await read(world.tiers(), "../../etc/passwd")


async def test_unused_states_move_to_s3_and_are_read_from_there(world: World) -> None:
    tiers = world.tiers(archive_after_seconds=0.000_001)
    contents = [os.urandom(size) for size in (0, 10, PIECE_BYTES * 2 + 3)]
    digests = [await store(tiers, content) for content in contents]
    assert await world.tiers().archive() == 0
    await _until_unused(tiers, 3)
    assert await tiers.archive() == 3
    assert await world.keys() == set()
    for digest, content in zip(digests, contents, strict=True):
        assert await world.in_s3(digest)
        assert await read(tiers, digest) == content


async def _until_unused(tiers: StateTiers, count: int) -> None:
    """Wait for Redis' clock to go on by a millisecond."""
    with trio.fail_after(10):
        while len(await tiers.old(time.time())) < count:
            await trio.lowlevel.checkpoint()


async def test_several_daemons_move_each_state_once(world: World) -> None:
    tiers = [world.tiers(archive_after_seconds=0.000_001) for _ in range(3)]
    digests = [await store(tiers[0], bytes([number])) for number in range(9)]
    await _until_unused(tiers[0], 9)
    moved: list[int] = []

    async def archive(each: StateTiers) -> None:
        moved.append(await each.archive())

    async with trio.open_nursery() as nursery:
        for each in tiers:
            nursery.start_soon(archive, each)
    while count := await tiers[0].archive():
        moved.append(count)
    assert sum(moved) >= 9
    assert await world.keys() == set()
    assert set(await world.cold.old(time.time() + 100)) == set(digests)


async def test_a_state_that_is_used_while_it_is_moved_stays_where_it_is_too(world: World) -> None:
    tiers = world.tiers(archive_after_seconds=0.000_001)
    digest = await store(tiers, b"in use")
    await _until_unused(tiers, 1)
    world.proxy.stall = "answer"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tiers.archive)
        await world.proxy.stalled.wait()
        assert await read(tiers, digest) == b"in use"
        world.proxy.stall = ""
        world.proxy.release.set()
    assert await world.in_redis(digest)
    assert await read(tiers, digest) == b"in use"


async def test_a_state_that_goes_while_it_is_read_is_read_on_from_s3(world: World) -> None:
    tiers = world.tiers(archive_after_seconds=0.000_001)
    content = os.urandom(3 * PIECE_BYTES)
    digest = await store(tiers, content)
    async with tiers.open(digest) as chunks:
        got = await anext(aiter(chunks))
        await _until_unused(tiers, 1)
        assert await tiers.archive() == 1
        async for chunk in chunks:
            got += chunk
    assert got == content


async def test_while_s3_is_gone_states_stay_in_redis_for_as_long_as_states_are_kept(world: World) -> None:
    tiers = world.tiers(archive_after_seconds=0.000_001)
    digest = await store(tiers, b"x")
    await _until_unused(tiers, 1)
    await world.proxy.go_away()
    with pytest.raises(StoreUnavailable):
        await tiers.archive()
    left_ms = await world.link.call(lambda client: client.pttl(world.link.key("state", digest)))
    assert left_ms > 86_000_000
    await world.proxy.come_back()
    assert await tiers.archive() == 1
    assert await read(tiers, digest) == b"x"


async def test_without_an_archive_states_go_after_their_time_and_use_begins_it_anew(world: World) -> None:
    tiers = world.tiers(archive=False, hot_seconds=100.0)
    digest = await store(tiers, b"x")
    key = world.link.key("state", digest)
    await world.link.call(lambda client: client.pexpire(key, 50_000))
    assert await read(tiers, digest) == b"x"
    assert 90_000 < await world.link.call(lambda client: client.pttl(key)) <= 100_000
    await world.link.call(lambda client: client.unlink(key))
    with pytest.raises(NotFound):
        await read(tiers, digest)
    assert await tiers.old(time.time() + 100) == []


async def test_what_redis_lost_or_damaged_is_not_taken_for_a_state(world: World) -> None:
    tiers = world.tiers()
    digest = await store(tiers, os.urandom(PIECE_BYTES * 2))
    await world.link.call(lambda client: client.hset(world.link.key("state", digest), "0", b"evil"))
    with pytest.raises(StoreUnavailable, match="damaged"):
        await read(tiers, digest)
    with pytest.raises(StoreUnavailable, match="lost"):
        async with tiers.writer() as writer:
            await writer.write(bytes(PIECE_BYTES))
            for key in await world.link.call(lambda client: client.keys(world.link.key("state-new", "*"))):
                await world.link.call(lambda client, key=key: client.unlink(key))  # type: ignore[misc]
            await writer.commit()


async def test_old_states_are_found_and_removed_unless_they_are_wanted(world: World) -> None:
    tiers = world.tiers()
    digest = await store(tiers, b"x")
    assert await tiers.old(time.time() - 100) == []
    await _until_unused(tiers, 1)
    world.marks._grace_seconds = 600.0
    await world.marks.use(digest)
    await tiers.remove(digest, time.time())
    assert await world.in_redis(digest)
    world.marks._used.clear()
    await tiers.remove(digest, time.time())
    assert await world.keys() == set()


async def test_the_archiver_goes_on_after_a_fault(world: World) -> None:
    tiers = world.tiers(archive_after_seconds=0.000_001, archive_check_seconds=0.01)
    digest = await store(tiers, b"x")
    world.proxy.fail = 2
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_archiver, tiers)
            while await world.in_redis(digest):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert world.proxy.fail == 0
    assert await read(tiers, digest) == b"x"


async def test_files_and_states_have_stores_of_their_own_and_both_are_swept(world: World, tmp_path: Path) -> None:
    now = time.time()
    tiers = world.tiers()
    calm = Pressure(HostLimits(0, 0.0, 100.0, 0, 0))
    limits = FileLimits(1 << 20, 5, 3 << 20, 3600.0)

    async def content(piece: bytes) -> AsyncIterator[bytes]:
        yield piece

    async with open_sqlite(tmp_path / "s.sqlite") as sessions:
        made = [
            FileService(
                sessions,
                world.cold,
                limits,
                DerivedIds(b"s"),
                pressure=calm,
                clock=lambda: now,
                states=tiers,
                remove_orphans=removes,
            )
            for removes in (False, True)
        ]
        files = made[1]
        session = await files.create_session(Owner("t", "user", "ann"), SessionId(new_id()))
        await files.receive(session, "a", None, content(b"file"))
        blob = await files.store_state(content(b"state"), 100)
        with pytest.raises(TooLarge):
            await files.store_state(content(b"state"), 4)
        await files.keep_state(session, "p", blob, 3600.0, [])
        state = await files.saved_state(session)
        assert state is not None
        async with files.state_content(state) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"state"
        assert (await world.in_redis(blob.digest), await world.in_s3(blob.digest)) == (True, False)
        now += 3000
        assert await files.sweep() == (0, 0)
        now += 3000
        assert await made[0].sweep() == (1, 0)
        assert await files.sweep() == (0, 2)
        assert await world.keys() == set()
        assert await world.cold.old(time.time() + 100) == []
