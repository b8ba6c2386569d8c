"""Marks keep those who use a blob again and those who remove it apart."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from supervisor.connector.dialling import dial_directly
from supervisor.execution.values import FileId, Owner, SessionId, StoredFile, new_id
from supervisor.files.service import GRACE_SECONDS
from supervisor.redis_link.link import RedisLink, open_redis
from supervisor.settings.fleet import RedisSettings
from supervisor.store import FileChange, SessionRow
from supervisor.store.redis_marks import REMOVAL_SECONDS, RedisMarks
from supervisor.store.redis_sessions import RedisSessions
from tests.redis_server import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

DIGEST = "5" * 64


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with open_redis(RedisSettings(url=redis_url, prefix=new_id()), dial_directly) as link:
        yield link


async def forget_mark(link: RedisLink) -> None:
    """Do what time does."""
    await link.call(lambda client: client.delete(link.key("mark", DIGEST)))


async def test_what_was_used_of_late_is_not_removed(link: RedisLink) -> None:
    marks = RedisMarks(link)
    await marks.use(DIGEST)
    assert not await marks.begin_removal(DIGEST)
    left: int = await link.call(lambda client: client.pttl(link.key("mark", DIGEST)))
    assert 0 < left <= GRACE_SECONDS * 1000
    await forget_mark(link)
    assert await marks.begin_removal(DIGEST)


async def test_what_a_file_names_is_not_removed(link: RedisLink) -> None:
    sessions, marks = RedisSessions(link, 1.0), RedisMarks(link)
    row = SessionRow(SessionId(new_id()), Owner("t", "tenant"), 1.0, 100.0)
    file = StoredFile(FileId(new_id()), row.id, "a", 1, DIGEST, "text/plain", 1.0, 1.0)
    change = FileChange(put=[file], make=row)
    await sessions.change_files(row.id, change, expires_at=100.0, max_files=9, max_bytes=9)
    assert not await marks.begin_removal(DIGEST)
    await sessions.delete_session(row.id)
    assert await marks.begin_removal(DIGEST)


async def test_who_uses_it_waits_for_its_removal_and_another_removal_does_not_begin(link: RedisLink) -> None:
    one, other = RedisMarks(link), RedisMarks(link)
    assert await one.begin_removal(DIGEST)
    assert not await one.begin_removal(DIGEST)
    assert not await other.begin_removal(DIGEST)
    done: list[str] = []

    async def use() -> None:
        await other.use(DIGEST)
        done.append("used")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use)
        while not await link.call(lambda client: client.exists(link.key("mark", DIGEST))):
            await trio.lowlevel.checkpoint()
        await other.end_removal(DIGEST)
        assert await link.call(lambda client: client.exists(link.key("removal", DIGEST)))
        assert not done
        done.append("removed")
        await one.end_removal(DIGEST)
    assert done == ["removed", "used"]
    assert not await one.begin_removal(DIGEST)


async def test_a_removal_whose_maker_is_gone_ends_by_itself(link: RedisLink) -> None:
    assert await RedisMarks(link).begin_removal(DIGEST)
    left: int = await link.call(lambda client: client.pttl(link.key("removal", DIGEST)))
    assert 0 < left <= REMOVAL_SECONDS * 1000


async def test_of_many_users_and_removers_no_user_comes_between_the_beginning_and_the_end(link: RedisLink) -> None:
    removing = 0
    used = 0

    async def remove() -> None:
        nonlocal removing
        marks = RedisMarks(link)
        for _ in range(20):
            await forget_mark(link)
            if await marks.begin_removal(DIGEST):
                removing += 1
                assert removing == 1
                await link.time()
                removing -= 1
                await marks.end_removal(DIGEST)

    async def use() -> None:
        nonlocal used
        marks = RedisMarks(link)
        for _ in range(5):
            await marks.use(DIGEST)
            used += 1

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(remove)
            nursery.start_soon(use)
    assert used == 15
