"""What the host has left: memory (also of the cgroups around us), how much waits for it, and the disk of our state.

Everything is read as an ordinary user. What a kernel does not tell (PSI, a limit, inodes) is told apart from zero by
trying. Sources: the kernel's Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst and accounting/psi.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.admission.pressure import Reading

MEMINFO: Final = Path("/proc/meminfo")
STALLS: Final = Path("/proc/pressure/memory")
_FILES: Final = (
    # Version 2, then version 1: limit, what is used, and which part of that the kernel could drop at once.
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True, slots=True)
class HostView:
    """Where to look. ``cgroups``: every directory whose memory limit holds for us or for our sandboxes."""

    state_directory: Path
    cgroups: tuple[Path, ...] = ()

    def look(self) -> Reading:
        """Look once; some 0.2 ms, and as long as the file system of the state directory takes.

        Raises:
            OSError: ``/proc`` or the state directory cannot be read.
        """
        meminfo = parse_meminfo(MEMINFO.read_text(encoding="ascii"))
        total = meminfo["MemTotal"]
        free = min((meminfo["MemAvailable"], *self._rooms()))
        disk = os.statvfs(self.state_directory)
        return Reading(
            total_memory_bytes=total,
            free_memory_bytes=free,
            stalled_percent=_stalled(),
            free_disk_bytes=disk.f_bavail * disk.f_frsize,
            free_disk_inodes=disk.f_favail if disk.f_files else None,
        )

    def _rooms(self) -> Iterable[int]:
        for directory in self.cgroups:
            room = cgroup_room(directory)
            if room is not None:
                yield room


def parse_meminfo(text: str) -> Mapping[str, int]:
    """Give the fields of ``/proc/meminfo`` in bytes."""
    fields: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        fields[name] = int(number) * (1024 if unit == "kB" else 1)
    return fields


def parse_stalls(text: str) -> float | None:
    """Give ``full avg10`` of a PSI file, in percent."""
    for line in text.splitlines():
        kind, *pairs = line.split()
        if kind == "full":
            return float(dict(pair.split("=", 1) for pair in pairs)["avg10"])
    return None


def cgroup_room(directory: Path) -> int | None:
    """Give what may still be used in a cgroup, in bytes; ``None``: it has no limit, or is no memory cgroup."""
    for limit_file, usage_file, droppable in _FILES:
        try:
            limit = (directory / limit_file).read_text(encoding="ascii").strip()
            if limit == "max":
                return None
            used = int((directory / usage_file).read_text(encoding="ascii"))
            stat = (directory / "memory.stat").read_text(encoding="ascii")
        except OSError:
            continue
        kept = dict(line.split(" ", 1) for line in stat.splitlines())
        return max(0, int(limit) - used + int(kept.get(droppable, "0")))
    return None


def memory_cgroups(subtree: Path, mount: Path, own: str) -> tuple[Path, ...]:
    """Name the cgroups whose limit can hold: from our subtree and from the daemon's own group up to the mount."""
    found: dict[Path, None] = {}
    for start in (subtree, mount / own.lstrip("/")):
        directory = start
        while directory == mount or mount in directory.parents:
            found[directory] = None
            directory = directory.parent
    return tuple(found)


def own_cgroup(text: str, *, unified: bool) -> str:
    """Find the path of a process in ``/proc/self/cgroup``: in the unified hierarchy, or in that of memory."""
    for line in text.splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers == "" if unified else "memory" in controllers.split(","):
            return path
    return "/"


def _stalled() -> float | None:
    try:
        return parse_stalls(STALLS.read_text(encoding="ascii"))
    except OSError:
        # Not built in, or switched off: then opening or reading fails.
        return None
