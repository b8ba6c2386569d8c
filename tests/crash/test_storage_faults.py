"""A disk that is full, or that cannot be written to, in the middle of a write: said clearly, nothing half kept."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.errors import ConfigurationError, StorageFull
from supervisor.execution.values import Owner, SessionId, new_id
from supervisor.jailer import kernel
from supervisor.store import SessionRow
from supervisor.store.sqlite import SqliteSessions, open_sqlite
from tests.crash import world
from tests.crash.house import House, open_house
from tests.crash.scenes import large
from tests.daemon import spawn_daemon, start_daemon

DISK_BYTES = 24 << 20
OWNER = Owner("t", "user", "ann")


@pytest.fixture
def small(image_dir: Path) -> Iterator[House]:
    """A daemon on a small disk of its own, that keeps no reserve free."""
    with open_house(
        image_dir,
        {"GAOLER_FILES_RESERVE_BYTES": "0", "GAOLER_HOST_FREE_DISK_BYTES": "0", "GAOLER_HOST_FREE_DISK_INODES": "0"},
        empty=True,
    ) as house:
        kernel.mount("small", house.state, "tmpfs", 0, f"size={DISK_BYTES},mode=755")
        try:
            yield house
        finally:
            subprocess.run(["umount", "--lazy", str(house.state)], check=True)


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.mark.root
def test_a_full_disk_is_said_at_every_write_and_keeps_no_halves(small: House) -> None:
    daemon = start_daemon(small.state, small.image, settings=small.settings)
    kept = daemon.execute("echo kept > kept", "bash")["session_id"]
    filler = small.state / "filler"
    fill(filler)
    refusals = 0
    for number in range(12):
        before = world.kept(small.state)
        attempts = (
            daemon.try_execute(f"seq {number} {29999 + number} > large", "bash"),
            daemon.upload(("one.bin", large(number))),
            daemon.try_execute(f"echo {number} > more", "bash", session_id=kept),
            # These write nothing but the database.
            daemon.request("POST", "/v1/sessions", b'{"language": "python"}', {"Content-Type": "application/json"}),
        )
        for answer in attempts:
            assert answer.status in (200, 201, 507), answer.body
            if answer.status == 507:
                refusals += 1
                assert answer.json["error"] == "storage_full"
                assert "disk is full" in answer.json["message"]
        after = world.kept(small.state)
        assert all(after.sessions[session] == contents for session, contents in before.sessions.items())
    assert refusals > 40
    filler.unlink()
    assert daemon.execute("cat kept; seq 30000 > large", "bash", session_id=kept)["stdout"] == "kept\n"
    daemon.process.kill()
    daemon.process.wait()
    small.gone()
    world.age_blobs(small.state)
    daemon = start_daemon(small.state, small.image, settings=small.settings)
    world.check_blobs(small.state)
    assert "Traceback" not in daemon.log_path.read_text()
    daemon.stop()


@pytest.mark.root
def test_a_start_on_a_full_disk_says_so_and_the_next_one_works(small: House) -> None:
    filler = small.state / "filler"
    log = small.state / "test.log"
    log.write_bytes(bytes(64 << 10))  # room for the log itself
    fill(filler)
    process = spawn_daemon(small.state, small.image, settings=small.settings)
    assert process.wait(timeout=60) != 0
    text = log.read_text()
    assert "Traceback" not in text
    assert "No space left" in text or "disk is full" in text
    filler.unlink()
    start_daemon(small.state, small.image, settings=small.settings).stop()


async def test_a_database_that_cannot_be_written_to_refuses_in_words_and_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    row, other = (SessionRow(SessionId(new_id()), OWNER, 1.0, 100.0) for _ in range(2))
    async with open_sqlite(path) as sessions:
        await sessions.put_session(row)
        read_only = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
        with closing(read_only):
            with pytest.raises(StorageFull, match="cannot be written"):
                await SqliteSessions(read_only).put_session(other)
            assert await SqliteSessions(read_only).session(row.id, 50) == row
        await sessions.put_session(other)
        assert len(await sessions.sessions_of(OWNER, 50, 10)) == 2


async def test_a_file_that_is_no_database_refuses_to_start(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        async with open_sqlite(path):
            pass
