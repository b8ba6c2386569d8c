"""Two daemons on one host: with different state directories neither notices the other; with one, the second refuses."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.jailer import kernel
from supervisor.jailer.cgroup_subtree import mount_points, remove_subtree, subtree_name
from tests.crash import world
from tests.crash.house import House, open_house
from tests.daemon import KEY, Daemon, eventually, start_daemon

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def first(image_dir: Path) -> Iterator[House]:
    with open_house(image_dir) as house:
        yield house
        house.daemon.stop()


@contextmanager
def executions_without_end(daemon: Daemon) -> Iterator[list[int]]:
    """Somebody runs one thing after the other in the block; every status is noted."""
    statuses: list[int] = []
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            statuses.append(daemon.try_execute("echo $RANDOM > f", "bash").status)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


def refused(state: str, image: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Start a second daemon on a state directory that is in use, from a working directory."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent.parent),
        "GAOLER_API_KEY": KEY,
        "GAOLER_IMAGE_DIR": str(image),
        "GAOLER_BIND": "127.0.0.1:0",
    }
    command = [sys.executable, "-m", "supervisor", "serve", "--state-dir", state]
    return subprocess.run(
        command, env=environment, cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )


def test_one_that_is_killed_and_started_again_is_not_noticed_by_the_other(first: House, image_dir: Path) -> None:
    family = first.family()
    with open_house(image_dir) as second, executions_without_end(first.daemon) as statuses:
        second.kill_and_start()
        assert family <= set(world.family_of(first.state))
        second.daemon.stop()
        eventually(lambda: len(statuses) > 1)
    assert set(statuses) == {200}
    first.check()


@pytest.mark.parametrize("path", ["itself", "a link", "a relative path", "a bind mount"])
def test_a_second_one_in_the_same_place_is_refused_and_harms_nobody(
    path: str, first: House, image_dir: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    if path == "a link":
        other.symlink_to(first.state)
    if path == "a bind mount":
        other.mkdir()
        kernel.bind(first.state, other)
    try:
        state = {"itself": str(first.state), "a relative path": os.path.relpath(first.state, tmp_path)}
        with executions_without_end(first.daemon) as statuses:
            done = refused(state.get(path, str(other)), image_dir, tmp_path)
    finally:
        if path == "a bind mount":
            kernel.unmount(other)
    assert done.returncode == 78
    assert "another gaoler uses" in done.stderr
    assert set(statuses) == {200}
    first.check()


def test_a_start_through_a_bind_mount_ends_what_a_killed_one_has_left(image_dir: Path, tmp_path: Path) -> None:
    """Cgroups are named after the path; those of the other path would stay for ever."""
    with open_house(image_dir) as house:
        session = house.daemon.execute("echo kept > kept", "bash")["session_id"]
        house.daemon.process.kill()
        house.daemon.process.wait()
        other = tmp_path / "o"
        other.mkdir()
        kernel.bind(house.state, other)
        try:
            with open_house_at(other, house) as daemon:
                name = subtree_name(house.state)
                assert not [mount for mount in mount_points().values() if (mount / name).exists()]
                assert daemon.request("GET", f"/v1/sessions/{session}/files/kept").body == b"kept\n"
        finally:
            remove_subtree(other)
            kernel.unmount(other)


@contextmanager
def open_house_at(state: Path, house: House) -> Iterator[Daemon]:
    daemon = start_daemon(state, house.image, settings=house.settings)
    yield daemon
    daemon.stop()


def test_a_start_at_once_after_a_kill_ends_what_still_lives_of_the_first(image_dir: Path) -> None:
    """The keeper gives its jailer seconds to end in order; the next daemon does not share the cgroups with them."""
    with open_house(image_dir) as house:
        for _ in range(5 if world.EVERY_STEP else 1):
            old = [pid for pid in world.family_of(house.state) if pid != house.daemon.process.pid]
            started = threading.Event()
            thread = threading.Thread(target=cut, args=(house.daemon, started))
            thread.start()
            assert started.wait(30)
            house.daemon.process.kill()
            house.daemon.process.wait()
            house.start()
            thread.join()
            assert not set(old) & set(world.family_of(house.state))
        house.daemon.stop()


def cut(daemon: Daemon, started: threading.Event) -> None:
    """Run something long, whose client will see its connection cut."""
    connection = daemon.connection()
    body = b'{"lang": "bash", "code": "sleep 60"}'
    connection.request("POST", "/v1/exec", body, {"X-API-Key": KEY, "Content-Type": "application/json"})
    eventually(lambda: world.leaves(daemon.state_dir) != [])
    started.set()
    try:
        connection.getresponse().read()
    except OSError:
        return
    finally:
        connection.close()


def test_a_daemon_that_dies_while_its_keeper_is_made_leaves_nobody_who_holds_the_place(image_dir: Path) -> None:
    """The keeper to be waited for its uid map, with both ends of the pair in its own hands and the lock as well."""
    with open_house(image_dir, empty=True) as house:
        steps, _ = house.start_watched(0, 0)
        house.daemon.stop()
        writes = [number for number, step in enumerate(steps, 1) if step.what.endswith("uid_map")]
        house.start_watched(writes[0], 0)
        assert house.daemon.process.wait() == -9
        house.gone()
        with (house.state / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        house.start().stop()


def test_a_lock_file_that_was_copied_with_its_directory_leads_to_nobody(first: House, image_dir: Path) -> None:
    with open_house(image_dir, empty=True) as house:
        (house.state / "lock").write_bytes((first.state / "lock").read_bytes())
        family = first.family()
        house.start().stop()
        assert family <= set(world.family_of(first.state))
        first.check()
