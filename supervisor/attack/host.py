"""What the host looks like from outside: whose processes there are, and what would be left if something leaked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.jailer.cgroup_subtree import subtree_name

PROC: Final = Path("/proc")
_GONE: Final = (FileNotFoundError, ProcessLookupError, NotADirectoryError)
_TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm")


@dataclass(frozen=True, slots=True)
class HostView:
    """What could be left of sandboxes on a host on which others work too: only what can be ours is looked at."""

    mounts: frozenset[str]
    """Of ours, or below one of our directories."""
    cgroups: frozenset[str]
    ipc: frozenset[str]
    """System V objects of the host that belong to a sandbox's id."""
    files: frozenset[str]
    """Entries of the directories for temporary files that do."""
    orphans: frozenset[str]
    """Processes of a sandbox's id that no keeper stands above; a connector has its daemon there."""

    def changes(self, later: HostView) -> list[str]:
        """Say what is there now and was not; empty if nothing is."""
        return [
            f"{name}: {each}"
            for name in ("mounts", "cgroups", "ipc", "files", "orphans")
            for each in sorted(getattr(later, name) - getattr(self, name))
        ]


def look(ids: range, directories: Sequence[Path]) -> HostView:
    """Look now. ``ids``: those that sandboxes run as; ``directories``: the state directories of our daemons."""
    names = {subtree_name(directory) for directory in directories}
    ours = ("gaoler", *map(str, directories))
    return HostView(
        mounts=frozenset(line for line in _lines("/proc/self/mountinfo") if any(each in line for each in ours)),
        cgroups=frozenset(str(path) for path in _subtrees() if path.name in names),
        ipc=frozenset(each for kind in ("shm", "sem", "msg") for each in _ipc(kind, ids)),
        files=frozenset(_owned(ids)),
        orphans=frozenset(f"{process_name(pid)} {pid}" for pid in processes_of(ids) if not _is_kept(pid)),
    )


def _subtrees() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [*root.glob("gaoler-*"), *root.glob("*/gaoler-*"), *root.glob("*/*/gaoler-*")]


def _ipc(kind: str, ids: range) -> list[str]:
    """The columns of /proc/sysvipc differ by kind; their names are in the first line."""
    lines = [line.split() for line in _lines(f"/proc/sysvipc/{kind}")]
    if not lines:
        return []
    owner, number = lines[0].index("uid"), lines[0].index(f"{kind}id" if kind != "msg" else "msqid")
    return [f"{kind} {fields[number]}" for fields in lines[1:] if int(fields[owner]) in ids]


def _is_kept(pid: int) -> bool:
    if process_name(pid) == "gaoler-connect" and parent(pid) > 1:
        return True
    while pid > 1:
        if process_name(pid) == "gaoler-keeper":
            return True
        pid = parent(pid)
    return False


def _owned(ids: range) -> list[str]:
    found: list[str] = []
    for directory in _TEMPORARY:
        for name in _names(directory):
            path = Path(directory) / name
            try:
                if path.lstat().st_uid in ids:
                    found.append(str(path))
            except _GONE:
                continue
    return found


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except _GONE:
        return []


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except _GONE:
        return []


# -- processes --


def process_name(pid: int) -> str:
    """Give the name of a process; empty for one that has ended meanwhile."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except _GONE:
        return ""


def status(pid: int) -> Mapping[str, str]:
    """Read what the kernel says of a process; empty for one that has ended."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except _GONE:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def resident_bytes(pid: int) -> int:
    """Give the memory of a process that is in no file; 0 for one that has ended."""
    return int(status(pid).get("RssAnon", "0 kB").split()[0]) << 10


def descriptors(pid: int) -> int:
    """Count the open descriptors of a process; 0 for one that has ended."""
    return len(_names(f"/proc/{pid}/fd"))


def parent(pid: int) -> int:
    """Give the parent of a process; 0 for one that has ended meanwhile."""
    return int(status(pid).get("PPid", "0"))


def descendants(root: int) -> list[int]:
    """Give all that a process has started, and they, without zombies."""
    children: dict[int, list[int]] = {}
    for name in _names("/proc"):
        if name.isdigit():
            try:
                stat = (PROC / name / "stat").read_text()
            except _GONE:
                continue
            state, above = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(above), []).append(int(name))
    found: list[int] = []
    pending: list[int] = [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def processes_of(ids: range) -> Sequence[int]:
    """Give the processes that run as one of these uids, zombies apart."""
    found = []
    for name in _names("/proc"):
        if name.isdigit():
            fields = status(int(name))
            if fields and int(fields["Uid"].split()[0]) in ids and not fields["State"].startswith("Z"):
                found.append(int(name))
    return found


def holder_of(path: Path) -> int | None:
    """Find the process that has a file open; ``None``: nobody has, or we may not know."""
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return None
    for name in _names("/proc"):
        if name.isdigit():
            for fd in _names(f"/proc/{name}/fd"):
                try:
                    found = Path(f"/proc/{name}/fd/{fd}").stat()
                except OSError:
                    continue
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return int(name)
    return None


def namespace(pid: str, kind: str) -> str:
    """Name the namespace of a kind (``user``, ``net``) of a process (``self``: ours); empty for one that has ended."""
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return ""
