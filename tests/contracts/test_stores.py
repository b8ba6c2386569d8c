"""What every session store and every blob store promises: the embedded pair, and sessions in Redis."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from supervisor.admission.pressure import HostLimits, Pressure
from supervisor.connector.dialling import dial_directly
from supervisor.errors import ConfigurationError, NotFound, TooLarge
from supervisor.execution.values import FileId, Owner, Principal, SessionId, StoredFile, new_id
from supervisor.files.service import GRACE_SECONDS, FileLimits, FileService
from supervisor.identity.derived import DerivedIds
from supervisor.preparation.own_files import read_or_make_secret
from supervisor.redis_link.link import open_redis
from supervisor.settings.fleet import RedisSettings
from supervisor.store import FileChange, Place, QuotaExceeded, SessionRow, SessionStore, StoredPackages, Wanted
from supervisor.store.disk import DiskBlobs, open_blobs
from supervisor.store.redis_sessions import RedisSessions
from supervisor.store.sqlite import open_sqlite
from tests.redis_server import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

ANN, BOB = Principal("t", "key", "ann"), Principal("t", "key", "bob")
OWNER = Owner("t", "user", "ann")
CALM = Pressure(HostLimits(0, 0.0, 100.0, 0, 0))
BIG = {"expires_at": 100.0, "max_files": 100, "max_bytes": 10_000}


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


async def bytes_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture(params=["sqlite", "redis"])
async def sessions(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> AsyncIterator[SessionStore]:
    if request.param == "sqlite":
        async with open_sqlite(tmp_path / "s.sqlite") as store:
            yield store
    else:
        async with open_redis(RedisSettings(url=redis_url, prefix=new_id()), dial_directly) as link:
            yield RedisSessions(link, retry_seconds=1.0)


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[DiskBlobs]:
    async with open_blobs(tmp_path / "blobs", reserve_bytes=0) as store:
        yield store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(sessions: SessionStore, blobs: DiskBlobs, clock: Clock) -> FileService:
    return FileService(
        sessions, blobs, FileLimits(1 << 20, 5, 3 << 20, 3600.0), DerivedIds(b"s"), pressure=CALM, clock=clock
    )


def session(expires: float = 100.0) -> SessionRow:
    return SessionRow(SessionId(new_id()), OWNER, 1.0, expires)


def file(row: SessionRow, name: str, size: int = 1, digest: str = "0" * 64) -> StoredFile:
    return StoredFile(FileId(new_id()), row.id, name, size, digest, "text/plain", 1.0, 2.0, read_only=True)


async def put(sessions: SessionStore, files: list[StoredFile], **limits: float) -> None:
    await sessions.change_files(files[0].session_id, FileChange(put=files), **limits)  # type: ignore[arg-type]


async def test_what_is_stored_is_found_until_it_expires(sessions: SessionStore) -> None:
    row = session()
    await sessions.put_session(row)
    stored = file(row, "a")
    await put(sessions, [stored], **BIG)
    assert await sessions.session(row.id, 50) == row
    assert await sessions.files(row.id) == [stored]
    assert await sessions.find([stored.id, FileId("x")], 50) == {stored.id: (stored, row)}
    assert await sessions.session(row.id, 100) is None
    assert await sessions.find([stored.id], 100) == {}
    assert await sessions.delete_expired(100) == 1
    assert await sessions.unreferenced(["0" * 64]) == ["0" * 64]


async def test_a_file_of_the_same_name_is_replaced_and_lives_longer(sessions: SessionStore) -> None:
    row = session()
    await sessions.put_session(row)
    old, new = file(row, "a", digest="1" * 64), file(row, "a", digest="2" * 64)
    await put(sessions, [old], **BIG)
    await put(sessions, [new], expires_at=500.0, max_files=100, max_bytes=100)
    assert await sessions.files(row.id) == [new]
    assert await sessions.find([old.id], 1) == {}
    found = await sessions.session(row.id, 300)
    assert found is not None
    assert found.expires_at == 500
    assert await sessions.unreferenced(["1" * 64, "2" * 64]) == ["1" * 64]


async def test_a_session_that_is_there_keeps_its_owner(sessions: SessionStore) -> None:
    row = session()
    await sessions.put_session(row)
    await sessions.put_session(SessionRow(row.id, Owner("evil", "user", "eve"), 2.0, 900.0))
    found = await sessions.session(row.id, 300)
    assert found is not None
    assert found.owner == OWNER


async def test_over_a_quota_nothing_is_stored(sessions: SessionStore) -> None:
    row = session()
    await sessions.put_session(row)
    with pytest.raises(QuotaExceeded, match="2 files"):
        await put(sessions, [file(row, name) for name in "abc"], expires_at=1.0, max_files=2, max_bytes=100)
    with pytest.raises(QuotaExceeded, match="10 bytes"):
        await put(sessions, [file(row, name, 6) for name in "ab"], expires_at=1.0, max_files=9, max_bytes=10)
    assert await sessions.files(row.id) == []
    with pytest.raises(KeyError):
        await put(sessions, [file(session(), "a")], **BIG)


async def test_deleting_a_session_takes_its_files(sessions: SessionStore) -> None:
    row = session()
    await sessions.put_session(row)
    stored = file(row, "a")
    await put(sessions, [stored, file(row, "b")], **BIG)
    await sessions.delete_files([stored.id, FileId("x")])
    assert [each.name for each in await sessions.files(row.id)] == ["b"]
    await sessions.delete_session(row.id)
    assert await sessions.files(row.id) == []


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(ConfigurationError, match="newer Gaoler"):
        async with open_sqlite(tmp_path / "s.sqlite"):
            pass


KILLED = """
import os, signal, sys, trio
from pathlib import Path
from supervisor.execution.values import *
from supervisor.identity.derived import DerivedIds
from supervisor.files.service import FileLimits, FileService
from supervisor.admission.pressure import HostLimits, Pressure
from supervisor.store import sqlite
from supervisor.store.disk import DiskBlobWriter, open_blobs
where, step = Path(sys.argv[1]), sys.argv[2]
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if step == "flush": DiskBlobWriter._flush = lambda self, real=DiskBlobWriter._flush: (real(self), die())
if step == "sync": os.fdatasync = die
if step == "rename": Path.rename = die
if step == "insert": sqlite._file_values = die
async def chunks():
    for _ in range(4): yield os.urandom(100_000)
async def main():
    async with sqlite.open_sqlite(where / "s.sqlite") as s, open_blobs(where / "blobs", reserve_bytes=0) as b:
        limits, calm = FileLimits(1 << 30, 9, 1 << 30, 3600.0), Pressure(HostLimits(0, 0.0, 100.0, 0, 0))
        files = FileService(s, b, limits, DerivedIds(b"s"), pressure=calm, clock=lambda: 1.0)
        session = await files.create_session(Owner("t", "user", "ann"), SessionId("S" * 21))
        await files.receive(session, "kept", None, chunks())
        if step == "commit": die()
trio.run(main)
"""


@pytest.mark.parametrize(("step", "kept"), [("flush", 0), ("sync", 0), ("rename", 0), ("insert", 0), ("commit", 1)])
async def test_a_kill_at_any_step_of_storing_leaves_nothing_half_written(tmp_path: Path, step: str, kept: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), step], check=False)  # noqa: ASYNC221
    assert done.returncode == -signal.SIGKILL
    async with open_sqlite(tmp_path / "s.sqlite") as sessions, open_blobs(tmp_path / "blobs", reserve_bytes=0) as blobs:
        assert not any((tmp_path / "blobs" / "incoming").iterdir())
        stored = await sessions.files(SessionId("S" * 21))
        assert len(stored) == kept
        for each in stored:
            async with blobs.open(each.sha256) as chunks:
                assert len(b"".join([chunk async for chunk in chunks])) == 400_000


async def test_anothers_file_cannot_be_told_from_a_missing_one(files: FileService) -> None:
    row = await files.create_session(OWNER)
    stored = await files.receive(row, "a.txt", None, bytes_of(b"x"))
    faults = []
    for principal, identifier in ((BOB, stored.id), (ANN, FileId(new_id())), (ANN, FileId("../x"))):
        with pytest.raises(NotFound) as caught:
            await files.find(principal, row, identifier)
        faults.append((caught.value.message, caught.value.field))
    assert len(set(faults)) == 1
    assert await files.find(ANN, SessionId(new_id()), stored.id) == stored


async def test_sixteen_uploads_at_once_do_not_pass_the_quota_together(files: FileService) -> None:
    row = await files.create_session(OWNER)
    passed: list[str] = []

    async def upload(number: int) -> None:
        try:
            passed.append((await files.receive(row, f"{number}", None, bytes_of(os.urandom(900_000)))).name)
        except TooLarge:
            pass

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(upload, number)
    assert len(passed) == 3
    assert {each.name for each in await files.listing(ANN, row)} == set(passed)


async def test_a_file_over_its_limit_stops_being_read_and_leaves_nothing(files: FileService, tmp_path: Path) -> None:
    row = await files.create_session(OWNER)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 100_000
            yield bytes(100_000)

    with pytest.raises(TooLarge):
        await files.receive(row, "a", None, endless())
    assert taken < 1_300_000
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_expired_sessions_go_and_their_bytes_after_a_grace(
    files: FileService, clock: Clock, tmp_path: Path
) -> None:
    row = await files.create_session(OWNER)
    stored = await files.receive(row, "a", None, bytes_of(b"x"))
    clock.now += 3599
    assert await files.find(ANN, row, stored.id) == stored
    clock.now += 2
    with pytest.raises(NotFound):
        await files.find(ANN, row, stored.id)
    blob = next(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
    os.utime(blob, (clock.now, clock.now))
    assert await files.sweep() == (1, 0)
    clock.now += GRACE_SECONDS + 1
    assert await files.sweep() == (0, 1)
    assert not blob.exists()


async def test_a_session_is_made_with_what_is_put_into_it_or_not_at_all(sessions: SessionStore) -> None:
    row = session()
    change = FileChange(put=[file(row, "a", 20), file(row, "b", 20)], make=row, add_directories=frozenset({"d"}))
    with pytest.raises(QuotaExceeded):
        await sessions.change_files(row.id, change, expires_at=100.0, max_files=100, max_bytes=30)
    assert await sessions.session(row.id, 50) is None
    await sessions.change_files(row.id, change, **BIG)  # type: ignore[arg-type]
    assert [each.name for each in await sessions.files(row.id)] == ["a", "b"]
    packages = StoredPackages(row.id, "1" * 64, 3)
    await sessions.change_files(row.id, FileChange(drop=[change.put[0].id], packages=packages), **BIG)  # type: ignore[arg-type]
    held = await sessions.contents(row.id)
    assert ([each.name for each in held.files], held.packages) == (["b"], packages)
    await sessions.change_files(row.id, FileChange(drop_packages=True), **BIG)  # type: ignore[arg-type]
    assert (await sessions.contents(row.id)).packages is None
    assert await sessions.unreferenced(["1" * 64]) == ["1" * 64]


def test_a_secret_is_kept_whole_and_half_a_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hint_key"
    secret = read_or_make_secret(path)
    assert len(secret) == 32
    assert read_or_make_secret(path) == secret
    assert [each.name for each in tmp_path.iterdir()] == ["hint_key"]
    for broken in (b"", secret[:31]):
        path.write_bytes(broken)
        with pytest.raises(ConfigurationError, match="does not hold"):
            read_or_make_secret(path)


async def test_sessions_of_all_owners_come_the_newest_first_page_after_page(sessions: SessionStore) -> None:
    owners = [Owner("t", "user", "ann"), Owner("t", "agent", "ann"), Owner("u", "user", "ann"), Owner("t", "tenant")]
    rows = [
        SessionRow(SessionId(new_id()), owners[number % 4], float(number // 3), 100.0 + number) for number in range(24)
    ]
    for row in rows:
        await sessions.put_session(row)
    await sessions.put_session(SessionRow(SessionId(new_id()), OWNER, 50.0, 5.0))
    wanted = sorted(rows, key=lambda each: (-each.created_at, each.id))

    async def pages(filters: Wanted, limit: int) -> list[SessionRow]:
        found: list[SessionRow] = []
        after: Place | None = None
        while part := await sessions.all_sessions(filters, 10.0, limit, after):
            assert len(part) <= limit
            found += [row for row, _ in part]
            after = found[-1].created_at, found[-1].id
        return found

    for limit in (1, 7, 24, 100):
        assert await pages(Wanted(), limit) == wanted
    assert await pages(Wanted("t"), 5) == [each for each in wanted if each.owner.tenant == "t"]
    assert await pages(Wanted("t", "ann"), 5) == [each for each in wanted if each.owner == owners[0]]
    assert await pages(Wanted(None, "ann"), 5) == [each for each in wanted if each.owner in (owners[0], owners[2])]
    assert await pages(Wanted("nobody"), 5) == []


async def test_a_listing_goes_on_where_its_last_session_was_deleted(sessions: SessionStore) -> None:
    rows = [SessionRow(SessionId(new_id()), OWNER, 1.0 + number // 4, 100.0) for number in range(12)]
    for row in rows:
        await sessions.put_session(row)
    wanted = sorted(rows, key=lambda each: (-each.created_at, each.id))
    for place, row in enumerate(wanted):
        await sessions.delete_session(row.id)
        found = await sessions.all_sessions(Wanted(), 10.0, 100, (row.created_at, row.id))
        assert [each for each, _ in found] == wanted[place + 1 :]
        await sessions.put_session(row)


async def test_a_listing_says_what_sessions_hold(sessions: SessionStore) -> None:
    row = session()
    await sessions.put_session(row)
    files = [StoredFile(FileId(new_id()), row.id, name, 7, "00", "text/plain", 1.0, 1.0) for name in ("a", "b")]
    await sessions.change_files(row.id, FileChange(put=files), expires_at=100.0, max_files=9, max_bytes=99)
    ((_, usage),) = await sessions.all_sessions(Wanted(), 10.0, 10)
    assert (usage.files, usage.size_bytes) == (2, 14)
