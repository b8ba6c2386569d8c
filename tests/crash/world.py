"""What a crash may and may not change: steps, what is kept, what of the host is held."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec

from supervisor.jailer.cgroup_subtree import mount_points, subtree_name
from tests.crash.tracer import Plan
from tests.daemon import eventually

EVERY_STEP: Final = os.environ.get("GAOLER_CRASH") == "all"
LONG_ROW: Final = 20
QUIET_LOOKS: Final = 12
"""So many looks in a row without a new step mean that nothing is under way."""

NOTHING_WAITS: Final = {"GAOLER_CELLS_FLOOR": "0", "GAOLER_CELLS_BARE_FLOOR": "0", "GAOLER_CELLS_MEMORY_BYTES": "0"}
"""Then every execution builds its jail, and what is left of cgroups is what was left behind."""

_OLD_SECONDS: Final = 3600


class Step(msgspec.Struct, frozen=True):
    """A system call that leaves a trace."""

    call: str
    what: str
    killed: bool


@dataclass
class Steps:
    """What a traced process has done."""

    path: Path
    tracer: subprocess.Popen[str]

    def seen(self) -> list[Step]:
        return [msgspec.json.decode(line, type=Step) for line in self.path.read_text().splitlines()]

    @property
    def killed(self) -> Step | None:
        return killed_at(self.seen())

    def settle(self) -> None:
        """Wait until it has been killed, or does nothing more."""
        sizes: list[int] = []

        def quiet() -> bool:
            sizes.append(self.path.stat().st_size)
            return len(set(sizes[-QUIET_LOOKS:])) == 1 and len(sizes) >= QUIET_LOOKS

        eventually(lambda: self.tracer.poll() is not None or self.killed is not None or quiet())


def killed_at(steps: Sequence[Step]) -> Step | None:
    return next((step for step in steps if step.killed), None)


@contextmanager
def traced(
    pid: int, kill_at: int = 0, *, victim: int = 0, depth: int = 0, skip: int = 0, go: Path | None = None
) -> Iterator[Steps]:
    """Watch a process for the block, and kill it (or ``victim``) at a step."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "steps")
        path.touch()
        plan = Plan(pid, str(path), kill_at, victim, depth, skip, str(go or ""))
        tracer = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.tracer", json.dumps(msgspec.to_builtins(plan))],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert tracer.stdout is not None
        try:
            assert tracer.stdout.readline() == "ready\n"
            yield Steps(path, tracer)
        finally:
            tracer.kill()
            tracer.wait()
            tracer.stdout.close()


def chosen(name: str, steps: Sequence[Step], at_most: int) -> list[int]:
    """Choose the steps to kill at: all of them, or some, always the same ones for a name and a number of steps.

    "All" leaves out the middle of long rows of the same call in one directory, as when hundreds of links are copied.
    """
    everything: list[int] = []
    rows = groupby(enumerate(steps, 1), key=lambda each: (each[1].call, each[1].what.rpartition("/")[0]))
    for _, group in rows:
        numbers = [number for number, _ in group]
        everything += numbers if len(numbers) <= LONG_ROW else [numbers[0], numbers[1], numbers[-1]]
    if EVERY_STEP or len(everything) <= at_most:
        return everything
    return sorted(random.Random(name).sample(everything, at_most))


@dataclass
class Count:
    """A line of the table that the tests print."""

    name: str
    steps: list[Step]
    killed_at: int = 0

    def line(self) -> str:
        calls = ", ".join(f"{call} {count}" for call, count in Counter(step.call for step in self.steps).most_common())
        return f"{self.name}: {len(self.steps)} steps, killed at {self.killed_at} ({calls})"


COUNTS: Final[list[Count]] = []
"""Printed at the end, by ``conftest``."""


@contextmanager
def blamed_on(number: int, step: Step | None) -> Iterator[None]:
    """Say after which step what fails in the block went wrong."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"killed at step {number}, before {step}")
        raise


@dataclass(frozen=True)
class Contents:
    """What the database says of a session. Of packages and state only that there are some: their bytes hold times."""

    files: tuple[tuple[str, int, str, int], ...] = ()
    directories: tuple[str, ...] = ()
    packages: int = 0
    states: int = 0


@dataclass
class Kept:
    """Everything that is kept."""

    sessions: dict[str, Contents] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)


def kept(state: Path) -> Kept:
    """Read the database, as a second reader beside the daemon."""
    found = Kept()
    database = sqlite3.connect(f"file:{state}/data/gaoler.sqlite?mode=ro", uri=True, timeout=30)
    try:
        database.execute("BEGIN")
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        for (session,) in database.execute("SELECT id FROM sessions").fetchall():
            query = "SELECT name, size_bytes, sha256, executable FROM files WHERE session_id = ? ORDER BY name"
            files = tuple(database.execute(query, (session,)).fetchall())
            query = "SELECT name FROM directories WHERE session_id = ? ORDER BY name"
            names = tuple(name for (name,) in database.execute(query, (session,)))
            counts = [
                database.execute(f"SELECT count(*) FROM {table} WHERE session_id = ?", (session,)).fetchone()[0]
                for table in ("packages", "states")
            ]
            found.sessions[session] = Contents(files, names, *counts)
        for table in ("files", "packages", "states"):
            found.digests |= {digest for (digest,) in database.execute(f"SELECT sha256 FROM {table}")}
    finally:
        database.close()
    return found


@dataclass
class Expected:
    """What may become of sessions, from nothing done to all done: of those that are known, and of one that is new."""

    known: dict[str, list[Contents | None]] = field(default_factory=dict)
    fresh: list[Contents] = field(default_factory=list)


def blobs(state: Path) -> dict[str, Path]:
    directory = state / "data" / "blobs"
    if not directory.exists():
        return {}
    return {
        folder.name + each.name: each
        for folder in directory.iterdir()
        if folder.name != "incoming"
        for each in folder.iterdir()
    }


def age_blobs(state: Path) -> None:
    """Let all blobs be old, so that the next sweep takes those that nothing names."""
    for path in blobs(state).values():
        then = path.stat().st_mtime - _OLD_SECONDS
        os.utime(path, (then, then))


def family_of(state: Path) -> list[int]:
    """Every process that writes to the log of the daemon of ``state``: the daemon itself, keeper, jailer, zygotes, proxy."""
    log = str(state / "test.log")
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if os.readlink(entry / "fd" / "2") == log:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def leaves(state: Path) -> list[str]:
    """The cgroups of sandboxes."""
    directories = {mount / subtree_name(state) for mount in mount_points().values()}
    found = (leaf.name for each in directories if each.is_dir() for leaf in each.iterdir() if leaf.is_dir())
    return sorted(name for name in found if name.startswith("jail-"))


def check_blobs(state: Path) -> None:
    """Every file has its bytes, every blob is whole and, once the sweeper was there, named by something."""
    assert os.listdir(state / "data" / "blobs" / "incoming") == []
    known = kept(state)
    eventually(lambda: set(blobs(state)) == known.digests)
    for digest, path in blobs(state).items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    sizes = {digest: size for each in known.sessions.values() for _name, size, digest, _executable in each.files}
    for digest, size in sizes.items():
        assert blobs(state)[digest].stat().st_size == size


def check_only_whole(before: Kept, after: Kept, expected: Expected, *, acknowledged: bool) -> None:
    """What was there is as it was; what was under way happened whole or not at all; what was acknowledged happened."""
    for session, contents in before.sessions.items():
        allowed = expected.known.get(session, [contents])
        assert after.sessions.get(session) in (allowed[-1:] if acknowledged else allowed), session
    fresh = [contents for session, contents in after.sessions.items() if session not in before.sessions]
    assert len(fresh) <= len(expected.fresh[:1])
    if acknowledged and expected.fresh:
        assert fresh == expected.fresh[-1:]
    assert all(contents in expected.fresh for contents in fresh), fresh
