"""Jailer, zygotes, the jailer's parent, keeper and proxy killed at every step of an execution."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.crash import world
from tests.crash.house import House, count_steps, open_house, status_of
from tests.crash.scenes import FIRST_OF_LASTING, LEAVES_FILES, SECOND_OF_LASTING, Scene
from tests.daemon import Daemon, eventually
from tests.internet import WEB, online_daemon, open_internet

pytestmark = pytest.mark.root
KILLS_FOR_ONE_DAEMON = 3
"""The keeper waits longer and longer before it starts a jailer again: a new daemon begins anew."""

Pid = Callable[[Daemon], int]


@dataclass(frozen=True)
class Death:
    """Who dies, at a step of whom, during what. ``at_most``: so many steps in the gate."""

    victim: str
    watched: str
    scene: Scene
    at_most: int

    def __str__(self) -> str:
        return f"{self.victim} at a step of {self.watched}, {self.scene.name}"


DEATHS = (
    Death("gaoler-jailer", "gaoler-jailer", LEAVES_FILES, 2),
    Death("gaoler-jailer", "gaoler-jailer", SECOND_OF_LASTING, 1),
    Death("gaoler-zygote", "gaoler-zygote", LEAVES_FILES, 1),
    Death("gaoler-warm", "gaoler-warm", FIRST_OF_LASTING, 1),
    Death("gaoler-warm", "gaoler-jailer", SECOND_OF_LASTING, 1),
    Death("gaoler-parent", "gaoler-jailer", LEAVES_FILES, 1),
)


def pid_of(daemon: Daemon, name: str) -> int:
    """Of a process that may just be starting."""
    eventually(lambda: name in daemon.names())
    return daemon.named(name)


def goes_on(daemon: Daemon) -> None:
    """What was asked of a jailer whose death nobody has noticed yet is refused, in words; then everything works."""
    statuses: list[int] = []

    def works() -> bool:
        statuses.append(status_of(lambda daemon: daemon.try_execute("true", "bash"), daemon))
        return statuses[-1] == 200

    eventually(works)
    assert set(statuses[:-1]) <= {503}


def killed(house: House, death: Death, number: int, count: world.Count) -> None:
    """One death: the client is told, the daemon goes on, the next execution works, nothing is left."""
    daemon = house.daemon
    act, expected = death.scene.prepare(daemon, 100 + number)
    before = world.kept(house.state)
    victim = 0 if death.victim == death.watched else pid_of(daemon, death.victim)
    with world.traced(pid_of(daemon, death.watched), number, victim=victim) as steps:
        status = status_of(act, daemon)
        steps.settle()
        step = steps.killed
    count.killed_at += step is not None
    with world.blamed_on(number, step):
        assert status in (200, 204, 503)
        goes_on(daemon)
        world.check_only_whole(before, world.kept(house.state), expected, acknowledged=status < 300)
        assert "Traceback" not in daemon.log_path.read_text()
        eventually(lambda: daemon.names().count("gaoler-jailer") == 1)
        if death.scene is LEAVES_FILES:
            house.check_nothing_is_left()


@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_when_one_of_ours_is_killed_the_client_is_told_and_the_daemon_goes_on(death: Death, image_dir: Path) -> None:
    with open_house(image_dir) as house:
        count = count_steps(
            house,
            death.scene,
            lambda daemon: pid_of(daemon, death.watched),
            f"{death.victim} at a step of {death.watched}",
        )
        for index, number in enumerate(world.chosen(str(death), count.steps, death.at_most)):
            if index and index % KILLS_FOR_ONE_DAEMON == 0:
                house.daemon.stop()
                house.start()
            killed(house, death, number, count)
        house.daemon.stop()


def test_a_killed_keeper_ends_everybody_and_the_next_start_finds_order(image_dir: Path) -> None:
    scene = LEAVES_FILES
    with open_house(image_dir) as house:
        count = count_steps(
            house, scene, lambda daemon: pid_of(daemon, "gaoler-jailer"), "keeper at a step of the jailer"
        )
        for number in world.chosen("keeper", count.steps, 1):
            act, expected = scene.prepare(house.daemon, 100 + number)
            before = world.kept(house.state)
            keeper = pid_of(house.daemon, "gaoler-keeper")
            with world.traced(pid_of(house.daemon, "gaoler-jailer"), number, victim=keeper) as steps:
                status = status_of(act, house.daemon)
                steps.settle()
                step = steps.killed
            count.killed_at += step is not None
            with world.blamed_on(number, step):
                assert status in (0, 200, 503)
                assert house.daemon.process.wait(timeout=30) == 1
                assert "keeper is gone" in house.daemon.log_path.read_text()
                house.gone()
                house.start()
                world.check_only_whole(before, world.kept(house.state), expected, acknowledged=status == 200)
        house.daemon.stop()


FETCH = """
import socket
try:
    with socket.create_connection(("127.0.0.1", 3128), 10) as sock:
        sock.sendall(b"CONNECT www.example.org:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        print(int(sock.recv(4096).split()[1]))
except (OSError, IndexError) as error:
    print("failed", type(error).__name__)
"""
RULES = '[[rule]]\nname = "web"\nhosts = ["www.example.org"]\nreason = "the only one"\n'


def replaced(daemon: Daemon, proxy: int) -> bool:
    return daemon.names().count("gaoler-egress") == 1 and proxy not in daemon.family()


def test_a_killed_proxy_cuts_connections_and_nothing_else(image_dir: Path) -> None:
    with open_internet() as internet:
        internet.records.update({"www.example.org": [WEB]})
        with online_daemon(image_dir, internet, {"e": RULES}, world.NOTHING_WAITS) as daemon:
            for _ in range(2):
                with world.traced(pid_of(daemon, "gaoler-egress")) as steps:
                    assert daemon.execute(FETCH)["stdout"] == "200\n"
                    steps.settle()
                    seen = steps.seen()
            count = world.Count("gaoler-egress, an execution with a connection", seen)
            world.COUNTS.append(count)
            for number in world.chosen("proxy", seen, 1):
                proxy = pid_of(daemon, "gaoler-egress")
                with world.traced(proxy, number) as steps:
                    answer = daemon.try_execute(FETCH)
                    steps.settle()
                    step = steps.killed
                count.killed_at += step is not None
                with world.blamed_on(number, step):
                    assert answer.status == 200, answer.body
                    assert answer.json["stdout"].startswith(("200\n", "failed "))
                    eventually(partial(replaced, daemon, proxy))
                    assert daemon.execute(FETCH)["stdout"] == "200\n"
                    assert "Traceback" not in daemon.log_path.read_text()
            eventually(lambda: world.leaves(daemon.state_dir) == [])
            assert set(os.listdir(daemon.state_dir / "run")) == {"jailer.sock", "egress.sock", "door.sock"}
