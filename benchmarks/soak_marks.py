"""What a daemon holds at one moment of the soak, what has grown, and what it leaves when it has ended."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.waiting import cells, name_of
from supervisor.jailer.cgroup_subtree import subtree_name
from tests.daemon import Daemon

PATIENCE_SECONDS = 60.0
SLACK_KIB = 8 * 1024
SLACK_SHARE = 0.2
MEMORY = "anonymous memory, KiB"


def holdings(daemon: Daemon) -> dict[str, int]:
    """Count what could grow. Those who wait are not counted: their number follows demand."""
    by_cell = cells(daemon)
    in_cells = {pid for pids in by_cell.values() for pid in pids}
    lasting = [pid for pid in daemon.family() if pid not in in_cells]
    found: Counter[str] = Counter({"processes beside the cells": len(lasting), "cells": len(by_cell)})
    for pid in lasting:
        try:
            name = "daemon" if pid == daemon.process.pid else name_of(pid)
            found[f"{name}: descriptors"] += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            found[f"{name}: mounts"] += len(Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines())
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            found[f"{name}: {MEMORY}"] += int(status.split("RssAnon:")[1].split()[0])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue  # one that is just being forked or replaced
    found["cgroup leaves"] = len(leaves(daemon.state_dir))
    return dict(found)


def leaves(state: Path) -> list[Path]:
    """Give the cgroups of jails."""
    name = subtree_name(state)
    return [leaf for top in Path("/sys/fs/cgroup").rglob(name) for leaf in top.glob("jail-*") if leaf.is_dir()]


def within_patience(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Wait until it is true; say whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def settled(daemon: Daemon, each_kind: int) -> bool:
    """Wait until nothing runs: only so many cells of each kind wait, all of them ready."""

    def at_rest() -> bool:
        names = daemon.names()
        waiting = (names.count("python3"), names.count("gaoler-standby"))
        return len(cells(daemon)) == 2 * each_kind and waiting == (each_kind, each_kind)

    return within_patience(at_rest)


def growth(before: Mapping[str, int], after: Mapping[str, int], *, same: bool) -> list[str]:
    """Say what has grown that may not: memory beyond a slack, anything else at all.

    ``same``: it is still the same daemon; mounts are those that the host had when it started.
    """
    found = []
    for name, value in after.items():
        if name.endswith("mounts") and not same:
            continue
        earlier = before.get(name, 0)
        slack = max(SLACK_KIB, earlier * SLACK_SHARE) if name.endswith(MEMORY) else 0
        if value > earlier + slack:
            found.append(f"{name}: {earlier} -> {value}")
    return found


def left_behind(state: Path) -> list[str]:
    """Look for what must be gone when the daemon has ended."""
    found = [f"cgroup {leaf}" for leaf in leaves(state)]
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    found += [f"mount {line}" for line in mounts if str(state) in line]
    sockets = Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()
    found += [f"socket {line.split()[-1]}" for line in sockets if str(state) in line]
    found += [f"unfinished blob {path.name}" for path in (state / "data" / "blobs" / "incoming").iterdir()]
    return found


def age_blobs(state: Path) -> None:
    """Make every blob old enough for the sweeper, which spares what has just been written. The daemon is stopped."""
    for folder in (state / "data" / "blobs").iterdir():
        if folder.name != "incoming":
            for blob in folder.iterdir():
                os.utime(blob, (1000, 1000))


def orphans(state: Path) -> tuple[set[str], set[str]]:
    """Give the blobs that nothing names, and the names whose blob is missing."""
    there = {
        folder.name + blob.name
        for folder in (state / "data" / "blobs").iterdir()
        if folder.name != "incoming"
        for blob in folder.iterdir()
    }
    query = "SELECT sha256 FROM files UNION SELECT sha256 FROM states UNION SELECT sha256 FROM packages"
    with sqlite3.connect(f"file:{state / 'data' / 'gaoler.sqlite'}?mode=ro", uri=True) as database:
        named = {digest for (digest,) in database.execute(query)}
    return there - named, named - there
