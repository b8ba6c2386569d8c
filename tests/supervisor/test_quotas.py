"""What a user and a tenant may keep in all sessions together: counted right whatever happens, and never passed."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from supervisor.execution.values import FileId, Owner, SessionId, StoredFile, new_id
from supervisor.store import NO_QUOTA, AccountFull, FileChange, Quota, SavedState, SessionRow, StoredPackages, sqlite
from supervisor.store.sqlite import SqliteSessions, open_sqlite
from tests.daemon import Answer, Daemon, daemon_with

OWNERS = [
    Owner("t", "user", "ann"),
    Owner("t", "user", "bob"),
    Owner("t", "agent", "a1"),
    Owner("t", "skill", "s1", 2),
    Owner("t", "tenant"),
    Owner("u", "user", "ann"),
]
BIG = {"expires_at": 1e9, "max_files": 1000, "max_bytes": 1 << 40}


@pytest.fixture
async def sessions(tmp_path: Path) -> AsyncIterator[SqliteSessions]:
    async with open_sqlite(tmp_path / "s.sqlite") as store:
        yield store


def row_of(owner: Owner, expires_at: float = 1e9) -> SessionRow:
    return SessionRow(SessionId(new_id()), owner, 1.0, expires_at)


def file(row: SessionRow, name: str, size: int) -> StoredFile:
    return StoredFile(FileId(new_id()), row.id, name, size, "1" * 64, "text/plain", 1.0, 1.0, False)


async def install(sessions: SqliteSessions, packages: StoredPackages, quota: Quota = NO_QUOTA) -> None:
    change = FileChange(packages=packages)
    await sessions.change_files(packages.session_id, change, **BIG, quota=quota)  # type: ignore[arg-type]  # as below


async def forget_packages(sessions: SqliteSessions, row: SessionRow) -> None:
    change = FileChange(drop_packages=True)
    await sessions.change_files(row.id, change, expires_at=row.expires_at, max_files=100, max_bytes=1 << 30)


async def put(sessions: SqliteSessions, row: SessionRow, *files: StoredFile, quota: Quota) -> None:
    await sessions.change_files(row.id, FileChange(put=files), **BIG, quota=quota)  # type: ignore[arg-type]  # numbers


COUNTED = "SELECT tenant, user, bytes, sessions FROM accounts ORDER BY 1, 2"
RECOUNTED = """
SELECT s.tenant, iif(s.owner_kind = 'user', s.owner_id, '') AS user,
    sum((SELECT coalesce(sum(size_bytes), 0) FROM files WHERE session_id = s.id)
    + (SELECT coalesce(sum(size_bytes), 0) FROM states WHERE session_id = s.id)
    + (SELECT coalesce(sum(size_bytes), 0) FROM packages WHERE session_id = s.id)), count(*)
FROM sessions s GROUP BY 1, 2 ORDER BY 1, 2
"""


@pytest.mark.parametrize("seed", range(5))
async def test_the_counts_are_what_a_recount_gives_whatever_was_done(
    sessions: SqliteSessions, tmp_path: Path, seed: int
) -> None:
    hand = random.Random(seed)
    rows: list[SessionRow] = []
    names = "abc"
    with sqlite3.connect(tmp_path / "s.sqlite") as look:
        for step in range(150):
            row = hand.choice(rows) if rows else row_of(OWNERS[0])
            match hand.randrange(9) if rows else 0:
                case 0 | 1:
                    rows.append(row_of(hand.choice(OWNERS), expires_at=hand.choice((100.0, 1e9))))
                    await sessions.put_session(rows[-1])
                case 2 | 3:
                    files = [file(row, name, hand.randrange(100)) for name in hand.sample(names, 2)]
                    await put(sessions, row, *files, quota=Quota(1 << 40, 1 << 40, 1 << 40))
                case 4:
                    kept = await sessions.files(row.id)
                    await sessions.delete_files([each.id for each in kept[:1]])
                case 5:
                    state = SavedState(row.id, "python", "2" * 64, hand.randrange(100), 1.0, hand.choice((5.0, 1e9)))
                    await sessions.put_state(state)
                case 6:
                    await install(sessions, StoredPackages(row.id, "3" * 64, hand.randrange(100)))
                case 7:
                    rows.remove(row)
                    await sessions.delete_session(row.id)
                case _ if step % 5 == 0:
                    await sessions.delete_expired(200.0)
                    rows = [each for each in rows if each.expires_at > 200]
                case _:
                    await forget_packages(sessions, row)
                    await sessions.delete_state(row.id)
            assert look.execute(COUNTED).fetchall() == look.execute(RECOUNTED).fetchall()
            in_all = "SELECT tenant, sum(bytes) FROM accounts GROUP BY 1 HAVING sum(bytes) > 0"
            assert look.execute("SELECT * FROM tenants WHERE bytes <> 0").fetchall() == look.execute(in_all).fetchall()


async def test_a_database_of_before_the_quotas_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(" ".join(sqlite._STEPS[:5]) + "PRAGMA user_version = 5;")
        for number, owner in enumerate(("ann", "bob")):
            session = (f"s{number}", "t", "user", owner, None, 1.0, 1e9, None)
            old.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", session)
            old.execute(f"INSERT INTO packages VALUES ('s{number}', 'd', 5)")
            values = (f"f{number}", f"s{number}", "n", 7, "d", "text/plain", 1.0, 1.0, 0, 0)
            old.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    async with open_sqlite(path):
        pass
    with sqlite3.connect(path) as look:
        assert look.execute(COUNTED).fetchall() == [("t", "ann", 12, 1), ("t", "bob", 12, 1)]
        assert look.execute("SELECT * FROM tenants").fetchall() == [("t", 24)]


async def test_a_user_cannot_hold_more_than_its_quota_in_many_sessions(sessions: SqliteSessions) -> None:
    quota = Quota(user_bytes=100, user_sessions=3, tenant_bytes=250)
    ann = [row_of(OWNERS[0]) for _ in range(3)]
    for row in ann:
        await sessions.put_session(row, quota)
    with pytest.raises(AccountFull, match="3 sessions"):
        await sessions.put_session(row_of(OWNERS[0]), quota)
    await sessions.put_session(ann[0], quota)
    await put(sessions, ann[0], file(ann[0], "a", 60), quota=quota)
    await put(sessions, ann[1], file(ann[1], "a", 40), quota=quota)
    for attempt in (
        put(sessions, ann[2], file(ann[2], "a", 1), quota=quota),
        install(sessions, StoredPackages(ann[2].id, "3" * 64, 1), quota),
        sessions.put_state(SavedState(ann[2].id, "python", "2" * 64, 1, 1.0, 1e9), quota),
    ):
        with pytest.raises(AccountFull, match=r"100 bytes \(files.user_bytes\)"):
            await attempt
    # What was replaced makes room, and somebody else has its own.
    await put(sessions, ann[0], file(ann[0], "a", 50), quota=quota)
    await put(sessions, ann[2], file(ann[2], "a", 10), quota=quota)
    bob = row_of(OWNERS[1])
    await sessions.put_session(bob, quota)
    await put(sessions, bob, file(bob, "a", 100), quota=quota)


async def test_new_names_of_agents_are_no_new_quota_and_a_tenant_has_one_too(sessions: SqliteSessions) -> None:
    quota = Quota(user_bytes=10, user_sessions=100, tenant_bytes=45, shared_factor=3)
    held = 0
    for number in range(5):
        row = row_of(Owner("t", "agent", f"agent-{number}"))
        await sessions.put_session(row, quota)
        if held + 10 <= 30:
            await put(sessions, row, file(row, "a", 10), quota=quota)
            held += 10
        else:
            with pytest.raises(AccountFull, match="30 bytes"):
                await put(sessions, row, file(row, "a", 10), quota=quota)
    for number in range(3):
        row = row_of(Owner("t", "user", f"user-{number}"))
        await sessions.put_session(row, quota)
        if number == 0:
            await put(sessions, row, file(row, "a", 10), quota=quota)
        else:
            with pytest.raises(AccountFull, match="tenant"):
                await put(sessions, row, file(row, "a", 10), quota=quota)


async def test_a_session_that_comes_with_its_files_counts_as_any_other(sessions: SqliteSessions) -> None:
    quota, first = Quota(user_bytes=100, user_sessions=2, tenant_bytes=45), row_of(OWNERS[0])
    await sessions.put_session(first, quota)
    await put(sessions, first, file(first, "a", 40), quota=quota)
    second = row_of(OWNERS[1])
    both = FileChange(make=second, put=(file(second, "a", 6),))
    with pytest.raises(AccountFull, match=r"45 bytes \(files.tenant_bytes\)"):
        await sessions.change_files(second.id, both, **BIG, quota=quota)  # type: ignore[arg-type]  # numbers
    # Without files it takes nothing, also of a quota that was lowered meanwhile.
    await sessions.put_session(second, Quota(user_bytes=1, user_sessions=2, tenant_bytes=1))


async def test_who_is_over_a_quota_that_was_lowered_may_still_delete_and_shrink(sessions: SqliteSessions) -> None:
    row, less = row_of(OWNERS[0]), Quota(user_bytes=10, user_sessions=1, tenant_bytes=10)
    await sessions.put_session(row)
    await put(sessions, row, file(row, "a", 50), file(row, "b", 50), quota=Quota(1000, 10, 1000))
    await put(sessions, row, file(row, "a", 40), quota=less)
    kept = await sessions.files(row.id)
    await sessions.change_files(row.id, FileChange(drop=[kept[0].id]), **BIG, quota=less)  # type: ignore[arg-type]  # numbers
    with pytest.raises(AccountFull):
        await put(sessions, row, file(row, "c", 1), quota=less)


async def test_many_at_once_do_not_pass_the_quota_together(sessions: SqliteSessions, tmp_path: Path) -> None:
    quota, full = Quota(user_bytes=100, user_sessions=100, tenant_bytes=1000), 0
    rows = [row_of(OWNERS[0]) for _ in range(16)]
    for row in rows:
        await sessions.put_session(row, quota)

    async def one(row: SessionRow) -> None:
        nonlocal full
        try:
            await put(sessions, row, file(row, "a", 11), quota=quota)
        except AccountFull:
            full += 1

    async with trio.open_nursery() as nursery:
        for row in rows:
            nursery.start_soon(one, row)
    assert full == 16 - 9
    with sqlite3.connect(tmp_path / "s.sqlite") as look:
        assert look.execute("SELECT bytes FROM accounts").fetchall() == [(99,)]


# ---- a real daemon ----


@pytest.mark.root
def test_parallel_uploads_end_at_the_users_quota_and_executions_go_on_without_their_files(image_dir: Path) -> None:
    """F17: each of them is below the quota when it begins."""
    settings = {"GAOLER_FILES_USER_BYTES": "1000000", "GAOLER_FILES_TENANT_BYTES": "100000000"}
    with daemon_with(image_dir, settings) as daemon:
        answers = _upload_at_once(daemon, 16, bytes(90_000))
        assert sorted(each.status for each in answers) == [200] * 11 + [507] * 5
        refused = next(each for each in answers if each.status == 507).json
        assert refused["error"] == "quota_reached"
        assert "1000000 bytes" in refused["message"]
        result = daemon.execute("open('a', 'wb').write(bytes(50000))\nprint('ran')", user="ann")
        assert result["stdout"] == "ran\n"
        assert result["files"] == []
        assert [each["name"] for each in result["skipped"]] == ["a"]
        assert "files.user_bytes" in result["skipped"][0]["reason"]
        assert daemon.upload(("b.txt", b"b"), user="bob").status == 200
        kept = next(each for each in answers if each.status == 200).json
        gone = daemon.request("DELETE", f"/v1/sessions/{kept['session_id']}", headers={"X-User-Id": "ann"})
        assert gone.status == 200
        assert daemon.execute("open('a', 'wb').write(bytes(50000))", user="ann")["skipped"] == []


def _upload_at_once(daemon: Daemon, count: int, content: bytes) -> list[Answer]:
    answers: list[Answer] = []
    together = threading.Barrier(count)

    def upload(number: int) -> None:
        together.wait()
        answers.append(daemon.upload((f"{number}.bin", content + str(number).encode()), user="ann"))

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
