"""One cgroup leaf for each jail, on cgroup v1 and v2.

The subtree was made and given away by ``setup``; here the jailer, root only of its own user namespace, makes leaves in
it. What to write is a pure function of the limits (:func:`values_v1`, :func:`values_v2`); a :class:`Leaf` writes, reads
the counters after the run and goes away. Sources: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import trio
from msgspec import Meta, Struct

from supervisor.policy import LimitTable

CPU_PERIOD_MICROSECONDS: Final = 100_000
V1_CONTROLLERS: Final = ("memory", "pids", "cpu", "cpuacct")
V2_CONTROLLERS: Final = ("memory", "pids", "cpu")
FULL_WEIGHT: Final = 1024
"""Of a caller who uses one place, against others who want the CPU in the same moment."""
WAITING_WEIGHT: Final = 128
"""Of a jail that is being built or waits: what somebody runs goes first."""
REMOVE_SECONDS: Final = 5
SOCKET_BUFFER_BYTES: Final = 32 << 20
"""Enough for loopback at full speed; on v2 these buffers are part of the memory limit."""


class Layout(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the jailer's subtree is: a directory for each controller (v1), or one named ``unified`` (v2)."""

    version: Literal[1, 2]
    directories: Annotated[dict[str, str], Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Counters:
    """What a leaf has counted. ``oom_kills`` counts every process killed for the memory limit, grandchildren too."""

    cpu_seconds: float
    memory_peak_bytes: int
    oom_kills: int


def values_v1(limits: LimitTable) -> tuple[tuple[str, str, str], ...]:
    """Give (controller, file, value) in the order in which they have to be written.

    What a jail has not used while it waited it may use later, one period's share at most: compilers have as many
    threads as the host has cores, and would spend the first period's share in half of it and wait for the next.
    """
    quota = round(limits.cpu_cores * CPU_PERIOD_MICROSECONDS)
    return (
        ("memory", "memory.limit_in_bytes", str(limits.memory_bytes)),
        # After the plain limit: memory plus swap may never be less than memory alone.
        ("memory", "memory.memsw.limit_in_bytes", str(limits.memory_bytes)),
        ("memory", "memory.swappiness", "0"),
        # Buffers of TCP and UDP sockets: v1 counts them apart, by default without a limit. They add to the other one.
        ("memory", "memory.kmem.tcp.limit_in_bytes", str(min(SOCKET_BUFFER_BYTES, limits.memory_bytes))),
        ("pids", "pids.max", str(limits.processes)),
        ("cpu", "cpu.cfs_period_us", str(CPU_PERIOD_MICROSECONDS)),
        ("cpu", "cpu.cfs_quota_us", str(quota)),
        ("cpu", "cpu.cfs_burst_us", str(quota)),
        ("cpu", "cpu.shares", str(WAITING_WEIGHT)),
    )


def values_v2(limits: LimitTable) -> tuple[tuple[str, str], ...]:
    """Give (file, value) for a unified leaf."""
    quota = round(limits.cpu_cores * CPU_PERIOD_MICROSECONDS)
    return (
        ("memory.max", str(limits.memory_bytes)),
        ("memory.swap.max", "0"),
        # One victim is not enough: a half-killed program gives wrong results with exit code 0.
        ("memory.oom.group", "1"),
        ("pids.max", str(limits.processes)),
        ("cpu.max", f"{quota} {CPU_PERIOD_MICROSECONDS}"),
        ("cpu.max.burst", str(quota)),
        ("cpu.weight", str(WAITING_WEIGHT)),
    )


_OPTIONAL: Final = frozenset(
    {"memory.memsw.limit_in_bytes", "memory.swap.max", "memory.swappiness", "cpu.cfs_burst_us", "cpu.max.burst"}
)
"""Absent where the kernel was built or booted without swap accounting (``gaoler doctor`` says so), or before 5.14."""


class Leaf:
    """The cgroup of one jail. Use :func:`open_leaf`."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._layout = layout
        self._weight = WAITING_WEIGHT
        self._directories = {kind: Path(path) / name for kind, path in layout.directories.items()}

    def create(self, limits: LimitTable) -> None:
        """Make the directories and set the limits.

        Raises:
            OSError: a limit could not be set; nothing runs unlimited.
        """
        for directory in self._unique():
            directory.mkdir(mode=0o755)
        if self._layout.version == 1:
            for controller, name, value in values_v1(limits):
                _write(self._directories[controller] / name, value, optional=name in _OPTIONAL)
        else:
            for name, value in values_v2(limits):
                _write(self._directories["unified"] / name, value, optional=name in _OPTIONAL)

    def weigh(self, share: float) -> None:
        """Set what it weighs when others want the CPU too; ``share`` of :data:`FULL_WEIGHT`, more than 0, at most 1.

        The ranges are the kernel's, 2 to 262144 (v1) and 1 to 10000 (v2), so that one number fits both.
        """
        weight = max(2, round(FULL_WEIGHT * share))
        if weight != self._weight:
            self._weight = weight
            v1 = self._layout.version == 1
            place = self._directories["cpu"] / "cpu.shares" if v1 else self._directories["unified"] / "cpu.weight"
            place.write_text(str(weight))

    def hurry(self) -> None:
        """Let those inside, who have been killed, have the CPU that dying takes: throttled they would die slowly.

        A leaf that is gone meanwhile needs none.
        """
        with suppress(OSError):
            if self._layout.version == 1:
                (self._directories["cpu"] / "cpu.cfs_quota_us").write_text("-1")
            else:
                (self._directories["unified"] / "cpu.max").write_text(f"max {CPU_PERIOD_MICROSECONDS}")
            self.weigh(1.0)

    def open_procs(self) -> list[int]:
        """Open every ``cgroup.procs``; a process that writes ``0`` to each moves itself in. Caller closes."""
        fds: list[int] = []
        try:
            for directory in self._unique():
                fds.append(os.open(directory / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))  # noqa: PERF401 - closed on error
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    @property
    def dies_whole(self) -> bool:
        """When the kernel kills for memory it takes everybody inside, not one: ``memory.oom.group``."""
        return self._layout.version != 1

    def processes(self) -> list[int]:
        """Give the pids inside, as numbers of the reader's pid namespace."""
        return [int(pid) for pid in (self._any() / "cgroup.procs").read_text().split()]

    def counters(self) -> Counters:
        """Read what was counted so far."""
        if self._layout.version == 1:
            memory = self._directories["memory"]
            return Counters(
                cpu_seconds=int(_read(self._directories["cpuacct"] / "cpuacct.usage")) / 1e9,
                memory_peak_bytes=int(_read(memory / "memory.max_usage_in_bytes")),
                oom_kills=int(_pairs(_read(memory / "memory.oom_control")).get("oom_kill", "0")),
            )
        unified = self._directories["unified"]
        peak = unified / "memory.peak"  # since Linux 5.19
        return Counters(
            cpu_seconds=int(_pairs(_read(unified / "cpu.stat"))["usage_usec"]) / 1e6,
            memory_peak_bytes=int(_read(peak if peak.exists() else unified / "memory.current")),
            oom_kills=int(_pairs(_read(unified / "memory.events")).get("oom_kill", "0")),
        )

    def remove(self) -> bool:
        """Remove the directories; say whether they are all gone. A leaf with a dying process in it stays."""
        gone = True
        for directory in self._unique():
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone

    def _unique(self) -> list[Path]:
        return list(dict.fromkeys(self._directories.values()))

    def _any(self) -> Path:
        return next(iter(self._directories.values()))


@asynccontextmanager
async def open_leaf(layout: Layout, name: str, limits: LimitTable) -> AsyncIterator[Leaf]:
    """Make a leaf for the block. At its end the processes inside must be dying; removal is tried for some seconds.

    What cannot be removed in that time is left for the reconciliation at the next start.
    """
    leaf = Leaf(layout, name)
    try:
        leaf.create(limits)
        yield leaf
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(REMOVE_SECONDS):
            delay = 0.001
            while not leaf.remove():
                await trio.sleep(delay)
                delay = min(delay * 2, 0.1)


def _write(path: Path, value: str, *, optional: bool) -> None:
    try:
        path.write_text(value)
    except FileNotFoundError:
        if not optional:
            raise
    except PermissionError:
        # Setting swappiness of a leaf is refused by some v1 kernels to all but the real root; memsw holds anyway.
        if not optional:
            raise


def _read(path: Path) -> str:
    return path.read_text()


def _pairs(text: str) -> Mapping[str, str]:
    return dict(line.split(maxsplit=1) for line in text.splitlines() if " " in line)
