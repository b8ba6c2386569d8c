"""Daemon, keeper and jailer killed at every step of starting, of putting a crashed house in order, and of stopping."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import sqlite3
from pathlib import Path

import pytest

from supervisor.jailer.cgroup_subtree import mount_points, subtree_name
from tests.crash import world
from tests.crash.house import House, open_house
from tests.crash.scenes import row

pytestmark = pytest.mark.root
GENERATIONS = ("daemon", "gaoler-keeper", "gaoler-parent", "gaoler-jailer")
"""Each is a child of the one before."""
FIRST = GENERATIONS if world.EVERY_STEP else GENERATIONS[:2]
IN_ORDER = GENERATIONS[:2] if world.EVERY_STEP else GENERATIONS[:1]
STOPPING = ("daemon", "gaoler-keeper", "gaoler-jailer") if world.EVERY_STEP else ("daemon",)
"""What the gate leaves out is tried by ``make crash``."""


def make_disorder(house: House) -> None:
    """Leave what crashes leave: half a blob, bytes of nobody, an expired session, sockets, cgroups."""
    blobs = house.state / "data" / "blobs"
    (blobs / "incoming" / "half").write_bytes(b"ha")
    digest = hashlib.sha256(b"nobody's").hexdigest()
    (blobs / digest[:2]).mkdir(exist_ok=True)
    shutil.chown(blobs / digest[:2], blobs.stat().st_uid)
    (blobs / digest[:2] / digest[2:]).write_bytes(b"nobody's")
    with sqlite3.connect(house.state / "data" / "gaoler.sqlite") as database:
        columns = "(id, tenant, owner_kind, owner_id, created_at, expires_at)"
        database.execute(f"INSERT OR REPLACE INTO sessions {columns} VALUES ('old', 't', 'user', 'u', 1, 2)")
    database.close()
    listener = socket.socket(socket.AF_UNIX)
    (house.state / "run" / "egress.sock").unlink(missing_ok=True)
    listener.bind(str(house.state / "run" / "egress.sock"))
    listener.close()
    for mount in set(mount_points().values()):
        if (mount / subtree_name(house.state)).is_dir():
            (mount / subtree_name(house.state) / "jail-77").mkdir(exist_ok=True)


@pytest.fixture(scope="module")
def skip(image_dir: Path) -> int:
    """So many children does a daemon fork before the keeper, which is the last one."""
    with open_house(image_dir, empty=True) as house:
        steps, came_up = house.start_watched(0, 0)
        assert came_up
        end(house)
    return sum(step.call == "clone" for step in steps) - 1


def end(house: House) -> None:
    house.daemon.process.kill()
    house.daemon.process.wait()
    house.gone()


def killed_while_starting(house: House, number: int, depth: int, skip: int, count: world.Count) -> None:
    """One start that somebody does not survive. Afterwards all are gone, or it came up none the less and works."""
    steps, came_up = house.start_watched(number, depth, skip)
    step = world.killed_at(steps)
    count.killed_at += step is not None
    with world.blamed_on(number, step):
        if came_up:
            assert house.daemon.execute("echo works", "bash")["stdout"] == "works\n"
            end(house)
        else:
            status = house.daemon.process.wait()
            assert status == (-signal.SIGKILL if depth == 0 else 78)
            house.gone()
            said = house.daemon.log_path.read_text()
            assert "Traceback" not in said
            assert depth == 0 or "gaoler: " in said
        house.start()


@pytest.mark.parametrize("depth", range(len(FIRST)), ids=FIRST)
def test_a_first_start_that_is_killed_leaves_nothing_that_a_second_minds(
    depth: int, skip: int, image_dir: Path
) -> None:
    who = GENERATIONS[depth]
    with open_house(image_dir, empty=True) as house:
        steps, came_up = house.start_watched(0, depth, skip)
        assert came_up
        end(house)
    count = world.Count(f"{who}, the first start", steps)
    world.COUNTS.append(count)
    for number in world.chosen(f"first start {who}", steps, 1):
        with open_house(image_dir, empty=True) as house:
            killed_while_starting(house, number, depth, skip, count)
            house.daemon.stop()


@pytest.mark.parametrize("depth", range(len(IN_ORDER)), ids=IN_ORDER)
def test_putting_a_crashed_house_in_order_can_be_killed_and_begun_again(depth: int, skip: int, image_dir: Path) -> None:
    who = GENERATIONS[depth]
    with open_house(image_dir) as house:
        session = house.daemon.execute("echo kept > kept", "bash")["session_id"]
        end(house)
        make_disorder(house)
        world.age_blobs(house.state)
        steps, came_up = house.start_watched(0, depth, skip)
        assert came_up
        count = world.Count(f"{who}, putting a crashed house in order", steps)
        world.COUNTS.append(count)
        for number in world.chosen(f"order {who}", steps, 1):
            end(house)
            make_disorder(house)
            world.age_blobs(house.state)
            killed_while_starting(house, number, depth, skip, count)
            assert world.kept(house.state).sessions[session].files == (row("kept", b"kept\n"),)
            assert "old" not in world.kept(house.state).sessions
        house.daemon.stop()


@pytest.mark.parametrize("who", STOPPING)
def test_stopping_can_be_killed_at_every_step(who: str, image_dir: Path) -> None:
    with open_house(image_dir) as house:

        def stop_watched(number: int) -> list[world.Step]:
            session = house.daemon.execute(f"x = {number}", "py", stateful=True)["session_id"]
            daemon = house.daemon.process
            with world.traced(daemon.pid if who == "daemon" else house.daemon.named(who), number) as steps:
                os.kill(daemon.pid, signal.SIGTERM)
                status = daemon.wait(timeout=60)
                house.gone()
                seen = steps.seen()
            with world.blamed_on(number, world.killed_at(seen)):
                assert status == (-signal.SIGKILL if who == "daemon" and world.killed_at(seen) else 0)
                house.start()
                assert world.kept(house.state).sessions[session].states in (0, 1)
            return seen

        count = world.Count(f"{who}, stopping", stop_watched(0))
        world.COUNTS.append(count)
        for number in world.chosen(f"stop {who}", count.steps, 1):
            count.killed_at += world.killed_at(stop_watched(number)) is not None
        house.daemon.stop()
