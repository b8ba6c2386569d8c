"""The store in Redis: it answers as the embedded one whatever is done, counts right, and forgets without a trace."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import redis
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.connector.dialling import dial_directly
from supervisor.errors import StoreUnavailable
from supervisor.execution.values import FileId, Owner, SessionId, StoredFile, new_id
from supervisor.redis_link.link import RedisLink, open_redis
from supervisor.settings.fleet import RedisSettings
from supervisor.store import (
    NO_QUOTA,
    Fenced,
    FileChange,
    Quota,
    QuotaExceeded,
    SavedState,
    SessionRow,
    SessionStore,
    StoredPackages,
)
from supervisor.store.redis_sessions import RedisSessions
from supervisor.store.sqlite import open_sqlite
from tests.redis_server import LASTING, RedisServer, redis_server, redis_url, run_cluster, run_redis

__all__ = ["redis_server", "redis_url"]

OWNERS: Final = [
    Owner("t", "user", "ann"),
    Owner("t", "user", 'b"ob,\\'),
    Owner("t", "agent", "a1"),
    Owner("t", "skill", "s1", 2),
    Owner("t", "tenant"),
    Owner("ü", "user", "ann"),
]
IDS: Final = [SessionId(f"S{number}") for number in range(4)]
NAMES: Final = ["a", "b", "ä/ö", 'q"\\\x01']
DIGESTS: Final = [str(number) * 64 for number in range(4)]
QUOTAS: Final = [NO_QUOTA, Quota(60, 2, 90, 2), Quota(20, 1, 40)]

times = st.sampled_from([1.5, 10.0, 1_700_000_000.123456, 50.0])
sizes = st.integers(0, 40)
some_ids = st.sampled_from(IDS)
some_quotas = st.sampled_from(QUOTAS)
rows = st.builds(SessionRow, some_ids, st.sampled_from(OWNERS), times, times, st.sampled_from([None, "py"]))
packages = st.builds(StoredPackages, some_ids, st.sampled_from(DIGESTS), sizes)
states = st.builds(
    SavedState,
    some_ids,
    st.just("python"),
    st.sampled_from(DIGESTS),
    sizes,
    times,
    times,
    st.lists(st.tuples(st.text(max_size=3), st.just("why")), max_size=2).map(tuple),
)
some_names = st.frozensets(st.sampled_from(NAMES), max_size=2)


def file_id(session_id: SessionId, number: int) -> FileId:
    return FileId(f"{session_id}-{number}")


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    session_id = draw(some_ids)
    numbers = st.integers(0, 5)
    ids = numbers.map(lambda number: file_id(session_id, number))
    files = st.builds(
        StoredFile,
        ids,
        st.just(session_id),
        st.sampled_from(NAMES),
        sizes,
        st.sampled_from(DIGESTS),
        st.just("text/plain"),
        times,
        times,
        st.booleans(),
        st.booleans(),
    )
    kept = draw(st.none() | packages)
    made = draw(st.none() | rows)
    change = FileChange(
        put=draw(st.lists(files, max_size=3)),
        drop=draw(st.lists(ids, max_size=2)),
        add_directories=draw(some_names),
        drop_directories=draw(some_names),
        packages=None if kept is None else StoredPackages(session_id, kept.sha256, kept.size_bytes),
        drop_packages=draw(st.booleans()),
        make=None if made is None else SessionRow(session_id, made.owner, made.created_at, made.expires_at),
    )
    limits = {"max_files": draw(st.sampled_from([3, 100])), "max_bytes": draw(st.sampled_from([60, 10_000]))}
    return "change_files", {
        "session_id": session_id,
        "change": change,
        "expires_at": draw(times),
        "quota": draw(some_quotas),
        **limits,
    }


def call(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.fixed_dictionaries(arguments).map(lambda drawn: (name, drawn))


some_files = st.lists(st.builds(file_id, some_ids, st.integers(0, 5)), max_size=4)
calls = st.one_of(
    call("put_session", row=rows, quota=some_quotas),
    changes(),
    changes(),
    changes(),
    call("put_state", state=states, quota=some_quotas),
    call("delete_files", file_ids=some_files),
    call("delete_state", session_id=some_ids),
    call("delete_session", session_id=some_ids),
    call("delete_expired", now=times),
    call("find", file_ids=some_files, now=times),
)


async def answer(store: SessionStore, name: str, arguments: dict[str, Any]) -> object:
    try:
        return await getattr(store, name)(**arguments)
    except (QuotaExceeded, KeyError) as error:
        return type(error), str(error)
    except (sqlite3.IntegrityError, ValueError):
        return "an id that is taken"


async def look(store: SessionStore) -> list[object]:
    """Give all that can be asked of a store."""
    seen: list[object] = []
    for now in (0.0, 20.0):
        seen += [await store.session(each, now) for each in IDS]
        seen += [await store.state(each, now) for each in IDS]
        seen += [await store.sessions_of(owner, now, limit) for owner in OWNERS for limit in (1, 100)]
    seen += [await store.contents(each) for each in IDS]
    seen += [await store.files(each) for each in IDS]
    seen.append(await store.find([file_id(each, number) for each in IDS for number in range(6)], 0.0))
    seen.append(await store.unreferenced(DIGESTS))
    return seen


@given(st.lists(calls, min_size=4, max_size=30))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_done_it_answers_as_the_embedded_one(
    redis_url: str, done: list[tuple[str, dict[str, Any]]]
) -> None:
    async def both() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with open_sqlite(Path(directory) / "s") as embedded, linked(redis_url) as link:
                shared = RedisSessions(link, 0)
                for name, arguments in done:
                    assert await answer(shared, name, arguments) == await answer(embedded, name, arguments), name
                assert await look(shared) == await look(embedded)
                await recount(link)
                assert await shared.delete_expired(1e12) == await embedded.delete_expired(1e12)
                assert await left(link) == []

    trio.run(both)


def linked(url: str, **more: Any) -> Any:
    return open_redis(RedisSettings(url=url, prefix=new_id(), **more), dial_directly)


async def keys_of(link: RedisLink, kind: str) -> list[str]:
    pattern = link.key(kind, "*")
    found = await link.call(lambda client: [each.decode() for each in client.scan_iter(pattern, count=1000)])
    return [each.removeprefix(link.key(kind, "")) for each in found]


async def left(link: RedisLink) -> list[str]:
    """Give all keys but those that go by themselves."""

    def scan(client: redis.Redis) -> list[str]:
        return [each.decode() for each in client.scan_iter(link.key("*"), count=1000) if client.ttl(each) == -1]

    return await link.call(scan)


async def recount(link: RedisLink) -> None:
    """Compare every count with what is there."""
    held: Counter[str] = Counter()
    sessions: Counter[str] = Counter()
    tenants: Counter[str] = Counter()
    refs: Counter[str] = Counter()
    for each in await keys_of(link, "session"):
        key, files_key = link.key("session", each), link.key("files", each)
        record: dict[bytes, bytes] = await link.call(lambda client, key=key: client.hgetall(key))  # type: ignore[misc]
        files = [
            json.loads(text)
            for text in await link.call(lambda client, key=files_key: client.hvals(key))  # type: ignore[misc]
        ]
        kept = files + [json.loads(record[name]) for name in (b"state", b"packages") if name in record]
        refs.update(one["sha256"] for one in kept)
        size = sum(one["size"] for one in kept)
        assert int(record[b"held"]) == size
        assert (int(record[b"files"]), int(record[b"file_bytes"])) == (len(files), sum(one["size"] for one in files))
        held[record[b"account"].decode()] += size
        sessions[record[b"account"].decode()] += 1
        tenants[record[b"tenant"].decode()] += size
    for account in await keys_of(link, "account"):
        key = link.key("account", account)
        counts: dict[bytes, bytes] = await link.call(lambda client, key=key: client.hgetall(key))  # type: ignore[misc]
        assert int(counts[b"sessions"]) == sessions.pop(account)
        assert int(counts.get(b"bytes", 0)) == held[account]
    assert not sessions
    for kind, expected in (("tenant", tenants), ("ref", refs)):
        keys = await keys_of(link, kind)
        names = [link.key(kind, each) for each in keys]
        values = await link.call(lambda client, names=names: client.mget(names) if names else [])  # type: ignore[misc]
        counted = dict(zip(keys, map(int, values), strict=True))
        assert counted == {each: count for each, count in expected.items() if count}


class Robber:
    """Stands between a link and the server, and lets some answers be lost with their connections."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._hand = random.Random(seed)
        self.robs = False
        self.lost = 0

    async def stand(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with client, server, trio.open_nursery() as nursery:

            async def carry_questions() -> None:
                async for data in client:
                    await server.send_all(data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(carry_questions)
            try:
                async for data in server:
                    if self.robs and self._hand.random() < 0.2:
                        self.lost += 1
                        break
                    await client.send_all(data)
            except trio.BrokenResourceError:
                pass
            nursery.cancel_scope.cancel()


lost: Final[list[int]] = []


@given(st.lists(calls, min_size=8, max_size=30), st.integers(0, 9))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_it_does_so_when_answers_are_lost_on_their_way(
    redis_server: RedisServer, done: list[tuple[str, dict[str, Any]]], seed: int
) -> None:
    async def both() -> None:
        robber = Robber(redis_server.port, seed)
        with tempfile.TemporaryDirectory() as directory:
            async with open_sqlite(Path(directory) / "s") as embedded, trio.open_nursery() as nursery:
                [listener] = await nursery.start(partial(trio.serve_tcp, robber.stand, 0, host="127.0.0.1"))
                port = listener.socket.getsockname()[1]
                async with linked(f"redis://127.0.0.1:{port}", retry_seconds=60.0) as link:
                    shared = RedisSessions(link, 10.0)
                    robber.robs = True
                    for name, arguments in done:
                        assert await answer(shared, name, arguments) == await answer(embedded, name, arguments), name
                    robber.robs = False
                    assert await look(shared) == await look(embedded)
                    lost.append(robber.lost)
                nursery.cancel_scope.cancel()

    trio.run(both)


def test_answers_were_lost_indeed() -> None:
    assert sum(lost) > 0 or not lost


# -- what the embedded one has not --


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with linked(redis_url) as link:
        yield link


@pytest.fixture
def sessions(link: RedisLink) -> RedisSessions:
    return RedisSessions(link, 1.0)


def a_session(expires_at: float = 1e9) -> SessionRow:
    return SessionRow(SessionId(new_id()), OWNERS[0], 1.0, expires_at)


def a_file(row: SessionRow, name: str = "a", size: int = 1) -> StoredFile:
    return StoredFile(FileId(new_id()), row.id, name, size, "1" * 64, "text/plain", 1.0, 1.0)


BIG: Final = {"expires_at": 1e9, "max_files": 10_000, "max_bytes": 1 << 40}


async def test_who_lost_the_lease_writes_nothing(sessions: RedisSessions, link: RedisLink) -> None:
    row = a_session()
    await sessions.put_session(row)
    state = SavedState(row.id, "python", "2" * 64, 3, 1.0, 1e9)
    fence = link.key("fence", row.id)
    for held in (None, b"6", b"8"):
        if held is not None:
            await link.call(lambda client, held=held: client.set(fence, held))  # type: ignore[misc]
        with pytest.raises(Fenced):
            await sessions.change_files(row.id, FileChange(put=[a_file(row)]), **BIG, fence=7)  # type: ignore[arg-type]
        with pytest.raises(Fenced):
            await sessions.put_state(state, fence=7)
    assert await sessions.files(row.id) == []
    assert await sessions.state(row.id, 1.0) is None
    await link.call(lambda client: client.set(fence, b"7"))
    await sessions.change_files(row.id, FileChange(put=[a_file(row)]), **BIG, fence=7)  # type: ignore[arg-type]
    await sessions.put_state(state, fence=7)
    assert await sessions.state(row.id, 1.0) == state


class Forgetful:
    """A link whose every answer to a script that writes is lost once."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def run(self, script: Any, keys: Any, arguments: Any, *, lasting: bool = False) -> Any:
        lost = await self._link.run(script, keys, arguments, lasting=lasting)
        if lasting:
            await self.between()
            assert await self._link.run(script, keys, arguments, lasting=lasting) == lost
        return lost

    async def between(self) -> None:
        """Has somebody else do something meanwhile."""


async def test_what_is_sent_again_because_its_answer_was_lost_is_done_once(link: RedisLink) -> None:
    forgetful: Any = Forgetful(link)
    mine, theirs = RedisSessions(forgetful, 1.0), RedisSessions(link, 1.0)
    row = a_session()
    older, newer = a_file(row), a_file(row)

    async def between() -> None:
        await theirs.change_files(row.id, FileChange(put=[newer]), **BIG)  # type: ignore[arg-type]

    await mine.put_session(row)
    forgetful.between = between
    await mine.change_files(row.id, FileChange(put=[older]), **BIG)  # type: ignore[arg-type]
    assert await theirs.files(row.id) == [newer]

    async def again() -> None:
        await theirs.put_session(row)

    forgetful.between = again
    await mine.delete_session(row.id)
    assert await theirs.session(row.id, 1.0) == row
    assert await mine.delete_expired(2e9) == 1
    await recount(link)


async def test_many_who_write_at_once_cannot_pass_a_quota_together(sessions: RedisSessions, link: RedisLink) -> None:
    row = a_session()
    await sessions.put_session(row)
    passed: list[int] = []

    async def write(number: int) -> None:
        with trio.CancelScope():
            try:
                change = FileChange(put=[a_file(row, str(number), 10)])
                await sessions.change_files(row.id, change, **BIG, quota=Quota(55, 9, 1 << 40))  # type: ignore[arg-type]
            except QuotaExceeded:
                return
            passed.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(write, number)
    assert len(passed) == len(await sessions.files(row.id)) == 5
    await recount(link)


async def test_a_session_with_thousands_of_files_is_changed_and_dropped_whole(
    sessions: RedisSessions, link: RedisLink
) -> None:
    row = a_session(100.0)
    files = [a_file(row, f"{number:04}") for number in range(5000)]
    await sessions.change_files(row.id, FileChange(put=files, make=row), **BIG)  # type: ignore[arg-type]
    assert await sessions.files(row.id) == files
    assert len(await sessions.find([each.id for each in files], 1.0)) == 5000
    await sessions.delete_files([each.id for each in files[:4000]])
    assert len((await sessions.contents(row.id)).files) == 1000
    assert await sessions.delete_expired(1e9 + 1) == 1
    assert await left(link) == []


async def test_more_expired_sessions_than_one_script_drops_go_all(sessions: RedisSessions, link: RedisLink) -> None:
    for number in range(45):
        row = a_session(10.0)
        await sessions.put_session(row)
        await sessions.put_state(SavedState(row.id, "p", "3" * 64, 1, 1.0, float(number)))
    living = a_session(50.0)
    await sessions.put_session(living)
    assert await sessions.delete_expired(20.0) == 45
    assert await sessions.session(living.id, 20.0) == living
    assert await sessions.delete_expired(60.0) == 1
    assert await left(link) == []


async def test_dead_sessions_do_not_hide_living_ones(sessions: RedisSessions) -> None:
    living = [SessionRow(SessionId(f"L{number}"), OWNERS[0], float(number), 1e9) for number in range(3)]
    for row in living:
        await sessions.put_session(row)
    for number in range(250):
        await sessions.put_session(SessionRow(SessionId(f"D{number:03}"), OWNERS[0], 1000.0, 10.0))
    assert [row for row, _ in await sessions.sessions_of(OWNERS[0], 20.0, 2)] == [living[2], living[1]]


async def test_prefixes_know_nothing_of_each_other(redis_url: str) -> None:
    async with linked(redis_url) as one, linked(redis_url) as other:
        row = a_session()
        await RedisSessions(one, 1.0).put_session(row)
        stranger = RedisSessions(other, 1.0)
        assert await stranger.session(row.id, 1.0) is None
        assert await stranger.sessions_of(row.owner, 1.0, 10) == []
        assert await left(other) == []


async def test_it_holds_in_a_cluster(state_dir: Path) -> None:
    with run_cluster(state_dir / "c") as cluster:
        async with linked(cluster.url) as link:
            sessions, row = RedisSessions(link, 10.0), a_session()
            change = FileChange(put=[a_file(row), a_file(row, "b")], make=row, add_directories=frozenset({"d"}))
            await sessions.change_files(row.id, change, **BIG)  # type: ignore[arg-type]
            await sessions.put_state(SavedState(row.id, "python", "2" * 64, 3, 1.0, 1e9))
            assert await sessions.files(row.id) == list(change.put)
            assert await sessions.unreferenced(["1" * 64, "3" * 64]) == ["3" * 64]
            await recount(link)
            await sessions.delete_session(row.id)
            assert await left(link) == []


async def test_what_was_acknowledged_survives_a_kill_and_the_counts_with_it(state_dir: Path) -> None:
    server: RedisServer
    with run_redis(state_dir / "r", options=LASTING) as server:
        async with linked(server.url, socket_seconds=2, retry_seconds=60.0) as link:
            sessions = RedisSessions(link, 10.0)
            row = a_session()
            await sessions.put_session(row)
            kept: list[StoredFile] = []

            async def write() -> None:
                while True:
                    file = a_file(row, f"{len(kept):06}")
                    await sessions.change_files(row.id, FileChange(put=[file]), **BIG)  # type: ignore[arg-type]
                    kept.append(file)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                for count in (10, 40, 70):
                    while len(kept) < count:
                        await trio.lowlevel.checkpoint()
                    await trio.to_thread.run_sync(server.kill)
                    await trio.to_thread.run_sync(server.start)
                nursery.cancel_scope.cancel()
            stored = await sessions.files(row.id)
            # Cancelled in the middle of one, which happened or not.
            assert stored[: len(kept)] == kept
            assert len(stored) - len(kept) in (0, 1)
            await recount(link)


async def test_a_store_that_does_not_answer_is_unavailable(state_dir: Path) -> None:
    with run_redis(state_dir / "r") as server:
        async with linked(server.url, retry_seconds=60.0, socket_seconds=0.1, connect_seconds=0.1) as link:
            sessions, patient = RedisSessions(link, 0.1), link._settings
            server.pause()
            link._settings = msgspec.structs.replace(patient, retry_seconds=0.1)
            with pytest.raises(StoreUnavailable):
                await sessions.session(SessionId("x"), 1.0)
            with pytest.raises(StoreUnavailable):
                await sessions.put_session(a_session())
            server.resume()
            # A server that is well may stand still for longer than one that is given up.
            link._settings = patient
            await sessions.put_session(a_session())
