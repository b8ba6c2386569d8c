"""After a storm of executions, cancellations, kills and drains the host holds what it held before it."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from supervisor.jailer.cgroup_subtree import mount_points, subtree_name
from tests.daemon import Daemon, eventually, process_name
from tests.fleet.faults import stream
from tests.fleet_world import Fleet, Member, run_fleet
from tests.supervisor.test_leaks import ready, whole

pytestmark = pytest.mark.root

# Two cells of each kind wait, never more or fewer for long: what is held can be compared.
STEADY: Final = {
    "GAOLER_CELLS_FLOOR": "2",
    "GAOLER_CELLS_BARE_FLOOR": "2",
    "GAOLER_CELLS_MEMORY_BYTES": str(16 << 20),
}
CELLS: Final = 4
LOOKS: Final = 10
PROGRAMS: Final = [
    ("bash", "echo $RANDOM > file; echo done"),
    ("bash", "sleep 300 & setsid sleep 300 & echo left behind"),
    ("py", "import os\nfor _ in range(4):\n    os.fork() or os._exit(0)\nprint('forked')"),
    ("py", "import time; time.sleep(0.2); raise SystemExit(3)"),
    ("bash", "kill -9 $$"),
]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with run_fleet(settings=STEADY) as world:
        world.start("worker", "w1", "w2")
        for gateway in world.start("gateway", "g1", "g2"):
            world.wait_workers(gateway, 2)
        yield world


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def namespaces(pids: list[int]) -> int:
    found = set()
    for pid in pids:
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return len(found)


def leaves(home: Path) -> int:
    """Cgroups of jails."""
    return len(
        {
            leaf.name
            for mount in set(mount_points().values())
            if (mount / subtree_name(home)).is_dir()
            for leaf in (mount / subtree_name(home)).iterdir()
            if leaf.is_dir() and leaf.name.startswith("jail-")
        }
    )


def of_worker(member: Member) -> dict[str, Any]:
    daemon, family = member.daemon, member.daemon.family()
    jailer = daemon.named("gaoler-jailer")
    return {
        "processes": Counter(daemon.names()),
        "cgroups": leaves(member.home),
        "network namespaces": namespaces(family),
        "mounts of the jailer": len(Path(f"/proc/{jailer}/mountinfo").read_text().splitlines()),
        "workspaces": len(os.listdir(f"/proc/{jailer}/root/sandbox/workspaces")),
        "descriptors of the jailer": descriptors(jailer),
        "threads of the jailer": threads(jailer),
        "descriptors of the zygotes": [descriptors(daemon.named(name)) for name in ("gaoler-zygote", "gaoler-warm")],
    }


def of_daemon(daemon: Daemon) -> dict[str, int]:
    """What may vary with load, up to a bound: connections to Redis and S3 that are kept, and threads that wait."""
    return {"descriptors": descriptors(daemon.process.pid), "threads": threads(daemon.process.pid)}


def of_host(homes: list[Path]) -> dict[str, Any]:
    return {
        # Others on the machine mount too.
        "mounts": [
            line.split()[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if any(str(home) in line for home in homes)
        ],
        "subtrees": {home.name: leaves(home) for home in homes},
    }


def at_rest(fleet: Fleet, wanted: dict[str, Any] | None = None) -> dict[str, Any]:
    """What all hold when all cells are there and nothing moves; ``wanted``: it may take a while until it is that."""
    workers = [each for each in fleet.members.values() if each.role == "worker"]
    found: list[dict[str, Any]] = []

    def steady() -> bool:
        try:
            now: dict[str, Any] = {each.name: of_worker(each) for each in workers}
        except (AssertionError, FileNotFoundError, ProcessLookupError):  # of a process that ended, or was just forked
            return False
        found.append(now | {"host": of_host([each.home for each in workers])})
        if wanted is not None and found[-1] != wanted:
            return False
        # Who stands still for a moment on a busy machine is not at rest.
        return found[-LOOKS:] == [found[-1]] * LOOKS and all(
            each["cgroups"] == CELLS and whole(each["processes"], CELLS) and ready(each["processes"], CELLS)
            for each in now.values()
        )

    for _ in range(400):
        if steady():
            return found[-1]
        threading.Event().wait(0.1)
    assert wanted is None or found[-1:] == [wanted]
    raise AssertionError(f"they do not come to rest: {found[-1:]}")


def storm(fleet: Fleet, count: int) -> Counter[str]:
    """Have many things run, by both gateways, and hang up on some."""
    chance = random.Random(11)
    gateways = [each.daemon for each in fleet.gateways]

    def one(number: int) -> str:
        lang, code = PROGRAMS[number % len(PROGRAMS)]
        gateway = gateways[number % len(gateways)]
        if number % 4 == 0:
            connection = gateway.connection()
            body = f'{{"lang": "bash", "code": "sleep {chance.random():.2f}"}}'
            connection.request("POST", "/v1/exec", body, {"X-API-Key": gateway.api_key})
            threading.Event().wait(chance.random() * 0.15)
            connection.close()
            return "hung up"
        return stream(gateway, code, lang, stateful=lang == "py" and number % 3 == 0).what

    with ThreadPoolExecutor(8) as callers:
        return Counter(callers.map(one, range(count)))


def end_sessions(fleet: Fleet) -> None:
    """Live sessions keep their sandboxes: they are not what is counted."""
    gateway = fleet.gateways[0].daemon
    told: dict[str, int] = {}

    def none_left() -> bool:
        with fleet.redis.client() as client:
            names = client.scan_iter(match=f"{{{fleet.prefix}}}:lease:*")
            sessions = [name.decode().rpartition(":")[2] for name in names]
        for session in set(sessions) - set(told):
            told[session] = gateway.request("DELETE", f"/v1/sessions/{session}").status
        return not sessions

    eventually(none_left)
    assert set(told.values()) <= {200}


def test_a_storm_of_executions_leaves_nothing_in_any_process_of_a_fleet(fleet: Fleet) -> None:
    storm(fleet, 60)  # threads and caches that stay are there before the count
    end_sessions(fleet)
    before = at_rest(fleet)
    daemons = {each.name: of_daemon(each.daemon) for each in fleet.members.values()}
    assert set(storm(fleet, 120)) <= {"done", "hung up"}
    end_sessions(fleet)
    assert at_rest(fleet, before) == before
    for each in fleet.members.values():
        now = of_daemon(each.daemon)
        grown = {what: now[what] - daemons[each.name][what] for what in now}
        print(each.name, daemons[each.name], grown)
        # Connections and threads that wait for work end by themselves; none is left for each execution.
        assert max(grown.values()) <= 8, (each.name, grown)


def test_workers_that_are_killed_or_drained_leave_nothing_of_theirs(fleet: Fleet) -> None:
    end_sessions(fleet)
    before = at_rest(fleet)
    for number, how in enumerate(("killed", "drained", "killed")):
        name = ("w1", "w2")[number % 2]
        member = fleet.members[name]
        with ThreadPoolExecutor(1) as aside:
            busy = aside.submit(storm, fleet, 24)
            eventually(lambda: "running" in [line["state"] for line in fleet.ledger().values()])
            family = [(pid, process_name(pid)) for pid in member.daemon.family()]
            if how == "killed":
                member.kill()
            else:
                assert member.internal("drain", "POST").status == 202
                assert member.daemon.process.wait(40) == 0
            busy.result()
        eventually(lambda family=family: not [pid for pid, was in family if was and process_name(pid) == was])  # type: ignore[misc]
        fleet.start("worker", name)
        for gateway in fleet.gateways:
            fleet.wait_workers(gateway, 2)
    storm(fleet, 60)  # those that were started again have what stays, too
    end_sessions(fleet)
    assert at_rest(fleet, before) == before
