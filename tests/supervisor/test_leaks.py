"""Three hundred executions, twenty at a time, a third of them cancelled at any moment: the host holds what it held before."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from supervisor.jailer.cgroup_subtree import mount_points, subtree_name
from tests.daemon import KEY, Daemon, daemon_with, eventually

pytestmark = pytest.mark.root
PROGRAMS = [
    ("bash", "echo $RANDOM > file; echo done"),
    ("bash", "sleep 300 & setsid sleep 300 & echo left behind"),
    ("py", "import os\nfor _ in range(5):\n    os.fork() or os._exit(0)\nprint('forked')"),
    ("py", "open('big', 'wb').write(bytes(3 << 20)); raise SystemExit(3)"),
    ("bash", "kill -9 $$"),
    ("c", "int main(void) { return 7; }"),
]


# Two cells of each kind wait, never more or fewer for long: what is held can be compared.
STEADY = {"GAOLER_CELLS_FLOOR": "2", "GAOLER_CELLS_BARE_FLOOR": "2", "GAOLER_CELLS_MEMORY_BYTES": str(16 << 20)}


@pytest.fixture(scope="module")
def daemon(image_dir: Path) -> Iterator[Daemon]:
    with daemon_with(image_dir, STEADY) as running:
        yield running


def holdings(daemon: Daemon) -> dict[str, object]:
    """Count what could leak, from outside."""
    jailer = daemon.named("gaoler-jailer")
    family = daemon.family()
    leaves = [
        leaf.name
        for mount in set(mount_points().values())
        if (mount / subtree_name(daemon.state_dir)).is_dir()
        for leaf in (mount / subtree_name(daemon.state_dir)).iterdir()
        if leaf.is_dir() and leaf.name.startswith("jail-")
    ]
    return {
        "processes": Counter(daemon.names()),
        "cgroups": len(set(leaves)),
        "mounts of the jailer": len(Path(f"/proc/{jailer}/mountinfo").read_text().splitlines()),
        "mounts of the host": mounts_of_host(daemon),
        "workspaces": len(os.listdir(f"/proc/{jailer}/root/sandbox/workspaces")),
        "network namespaces": len(
            {os.readlink(f"/proc/{pid}/ns/net") for pid in family if Path(f"/proc/{pid}/ns/net").exists()}
        ),
        "descriptors of the jailer": len(os.listdir(f"/proc/{jailer}/fd")),
        "descriptors of the zygote": len(os.listdir(f"/proc/{daemon.named('gaoler-zygote')}/fd")),
        "descriptors of the warm zygote": len(os.listdir(f"/proc/{daemon.named('gaoler-warm')}/fd")),
        "descriptors of the daemon": len(os.listdir(f"/proc/{daemon.process.pid}/fd")),
        "incoming": len(list((daemon.state_dir / "data" / "blobs" / "incoming").iterdir())),
    }


def mounts_of_host(daemon: Daemon) -> int:
    """Without those that tests beside us make in directories of theirs."""
    theirs = f"{daemon.state_dir.parent}/gt-"
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sum(not f"{each}/".startswith(theirs) or f"{each}/".startswith(f"{daemon.state_dir}/") for each in points)


def whole(processes: Counter[str], cgroups: int) -> bool:
    """Say whether there is one jail to each cgroup, and nothing is just being forked for one.

    What a zygote forks is called as it is until it has become what it is for, which takes long on a busy machine.
    """
    return (processes["gaoler-zygote"], processes["gaoler-warm"], processes["catatonit"]) == (1, 1, cgroups)


def ready(processes: Counter[str], cells: int) -> bool:
    """Say whether in each cell something waits for its first program: in half of them an interpreter."""
    return processes["gaoler-standby"] == processes["python3"] == cells // 2


def at_rest(daemon: Daemon) -> dict[str, object]:
    """What it holds when all cells are there and nothing moves."""
    found: list[dict[str, object]] = []

    def steady() -> bool:
        try:
            found.append(holdings(daemon))
        except OSError:  # of a process that ended between two looks
            return False
        processes = cast("Counter[str]", found[-1]["processes"])
        there = found[-1]["cgroups"] == 4 and whole(processes, 4) and ready(processes, 4)
        return there and found[-2:] == [found[-1]] * 2

    eventually(steady)
    return found[-1]


def cancelled(daemon: Daemon, lang: str, code: str, after_seconds: float) -> None:
    """Send a request and hang up."""
    body = json.dumps({"lang": lang, "code": code}).encode()
    with socket.create_connection(tuple(daemon.address.split(":"))) as link:  # type: ignore[arg-type]
        link.sendall(
            b"POST /exec HTTP/1.1\r\nHost: x\r\nX-API-Key: %b\r\nContent-Length: %d\r\n\r\n" % (KEY.encode(), len(body))
            + body
        )
        threading.Event().wait(after_seconds)


def test_three_hundred_executions_with_cancellations_leave_nothing_behind(daemon: Daemon) -> None:
    for lang, code in PROGRAMS:  # threads and caches that stay are there before the count
        daemon.execute(code, lang)
    with ThreadPoolExecutor(20) as warm:
        list(warm.map(lambda _: daemon.execute("true", "bash"), range(40)))
    before = at_rest(daemon)
    chance = random.Random(20)

    def one(number: int) -> int:
        lang, code = PROGRAMS[number % len(PROGRAMS)]
        if number % 3 == 0:
            cancelled(daemon, lang, code, chance.random() * 0.12)
            return 0
        return daemon.try_execute(code, lang).status

    with ThreadPoolExecutor(20) as clients:
        statuses = Counter(clients.map(one, range(300)))
    assert statuses == {0: 100, 200: 200}
    # Cancelled ones are destroyed after the client has gone: wait for it, within the test's own patience.
    assert at_rest(daemon) == before


def test_memory_and_descriptors_do_not_grow_with_use(daemon: Daemon) -> None:
    def resident(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    pids = [
        daemon.process.pid,
        daemon.named("gaoler-jailer"),
        daemon.named("gaoler-zygote"),
        daemon.named("gaoler-warm"),
    ]
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda number: daemon.execute("1 < 2", ("bash", "py")[number % 2]), range(150)))
        before = [resident(pid) for pid in pids]
        list(clients.map(lambda number: daemon.execute("1 < 2", ("bash", "py")[number % 2]), range(300)))
    growth = [(resident(pid) - size) >> 10 for pid, size in zip(pids, before, strict=True)]
    assert max(growth) < 4096, f"KiB grown by daemon, jailer, zygote: {growth}"
