"""What nsjail makes: the jail's namespaces, mounts and limits, held by a reaping init, and the cgroup leaf around it.

Killing is the kernel's atomic "the init of a pid namespace is gone"; the init's pidfd becoming readable means that no
process of the jail is left.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Mapping
from typing import Final

import trio

from supervisor.jailer.cgroup import Leaf
from supervisor.jailer.equality import describe, program_name
from supervisor.jailer.launcher import Process, Zygote
from supervisor.jailer.nsjail_config import SandboxSpec, jail_config

DEATH_SECONDS: Final = 10
READ_BYTES: Final = 65_536
_READY: Final = b"Executing '"


class JailError(Exception):
    """The jail could not be built or was lost; by our fault, not the program's."""


class Enclosure:
    """The walls of one jail. The leaf is the caller's; whoever makes it calls :meth:`kill` and :meth:`close`."""

    def __init__(self, leaf: Leaf, launcher: Zygote) -> None:
        self._leaf = leaf
        self._launcher = launcher
        self._nsjail: Process | None = None
        self._init_pid = 0
        self.init_pidfd = -1
        """Of the init, whose namespaces are joined; -1 before :meth:`build` and after :meth:`close`."""
        self.procs: list[int] = []
        """The leaf's ``cgroup.procs``, open for writing."""
        self.dead = False
        """No process of the jail is left."""

    # -- building --

    async def build(self, nsjail: str, spec: SandboxSpec) -> None:
        """Start nsjail and find the jail's init.

        Raises:
            JailError: nsjail says why not.
            LaunchError: nsjail could not be started.
        """
        self.procs = self._leaf.open_procs()
        log_read, log_write = os.pipe()
        config = os.memfd_create("nsjail-config")
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(config, json.dumps(jail_config(spec)).encode())
            self._nsjail = await self._launcher.launch(
                [nsjail, "--config", "/proc/self/fd/3", "--log_fd", "4"],
                {},
                stdio=(null, null, null),
                cgroups=self.procs,
                passed=[config, log_write],
            )
        except BaseException:
            os.close(log_read)
            raise
        finally:
            for fd in (log_write, config, null):
                os.close(fd)
        async with trio.lowlevel.FdStream(log_read) as log:
            await _await_ready(log)
        children = [pid for pid in self._leaf.processes() if pid != self._nsjail.pid]
        if len(children) != 1:
            raise JailError(f"{len(children)} processes in a jail that has only its init")
        self._init_pid = children[0]
        self.init_pidfd = os.pidfd_open(self._init_pid)

    async def describe_init(self) -> Mapping[str, str]:
        """Read what nsjail makes of its own child; it has said "Executing" a moment before that is done."""
        assert self._nsjail is not None
        nsjail = program_name(self._nsjail.pid)
        while program_name(self._init_pid) == nsjail:  # noqa: ASYNC110 - the kernel tells nobody of an execve
            await trio.sleep(0.001)
        return describe(self._init_pid)

    # -- who is inside --

    def inhabitants(self) -> list[int]:
        """Processes of the jail that are neither nsjail nor the init."""
        walls = (self._nsjail.pid if self._nsjail is not None else 0, self._init_pid)
        return [pid for pid in self._leaf.processes() if pid not in walls]

    def signal(self, pid: int, number: int) -> None:
        """Signal by pidfd, and only if the pid, once held, is still in our leaf: pids are used again."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if pid in self._leaf.processes():
                _signal_by_pidfd(pidfd, number)
        finally:
            os.close(pidfd)

    async def sweep(self) -> None:
        """Kill everything but the init."""
        await self._launcher.sweep(self.init_pidfd)

    # -- its end --

    def note_death(self) -> None:
        """Look whether the kernel has killed the init, for memory perhaps, and everything with it."""
        if self.init_pidfd >= 0:
            poll = select.poll()
            poll.register(self.init_pidfd, select.POLLIN)
            self.dead = self.dead or bool(poll.poll(0))

    async def note_kill_for_memory(self) -> None:
        """The kernel has killed for memory: where that takes the whole jail, wait until its init has gone too."""
        if self._leaf.dies_whole and self.init_pidfd >= 0:
            with trio.move_on_after(DEATH_SECONDS):
                await trio.lowlevel.wait_readable(self.init_pidfd)
        self.note_death()

    async def wait_dead(self) -> None:
        """Wait until the init has ended by itself."""
        await trio.lowlevel.wait_readable(self.init_pidfd)

    async def kill(self) -> None:
        """Kill every process of the jail and wait until none is left. Idempotent; shielded and bounded.

        Raises:
            JailError: something would not die in time; the leaf then stays for the reconciliation.
        """
        if self.dead:
            return
        with trio.CancelScope(shield=True), trio.move_on_after(DEATH_SECONDS) as patience:
            if self.init_pidfd >= 0:
                _signal_by_pidfd(self.init_pidfd, signal.SIGKILL)
                # From here on no code runs in it any more.
                self._leaf.hurry()
                await trio.lowlevel.wait_readable(self.init_pidfd)
            if self._nsjail is not None:
                self._nsjail.signal(signal.SIGKILL)
            self.dead = True
        if patience.cancelled_caught:
            raise JailError("the jail did not die in time")

    def end_without(self, leaving: int = 0) -> bool:
        """If nobody is inside but ``leaving``, who runs no code any more, tell the walls to go; say whether it is so.

        What is left is the kernel's work, and nobody has to wait for it.
        """
        if any(pid != leaving for pid in self.inhabitants()):
            return False
        if self.init_pidfd >= 0:
            _signal_by_pidfd(self.init_pidfd, signal.SIGKILL)
        if self._nsjail is not None:
            self._nsjail.signal(signal.SIGKILL)
        self.dead = True
        return True

    async def close(self) -> None:
        """After :meth:`kill`: wait for nsjail itself, kill what a broken build left, close every descriptor."""
        with trio.CancelScope(shield=True), trio.move_on_after(DEATH_SECONDS):
            if self._nsjail is not None:
                await self._nsjail.ended.wait()
            while stragglers := self._leaf.processes():
                for pid in stragglers:
                    self.signal(pid, signal.SIGKILL)
                await trio.sleep(0.001)
        for fd in (*self.procs, self.init_pidfd):
            if fd >= 0:
                os.close(fd)
        self.procs, self.init_pidfd = [], -1
        if self._nsjail is not None:
            self._nsjail.close()


async def _await_ready(log: trio.lowlevel.FdStream) -> None:
    """Read nsjail's log up to the line it writes when all namespaces, mounts and limits are in place."""
    text = b""
    while _READY not in text:
        data = await log.receive_some(READ_BYTES)
        if not data:
            lines = text.decode("utf-8", "replace").splitlines()
            raise JailError("; ".join(line for line in lines if line[:3] in ("[W]", "[E]", "[F]")) or "nsjail ended")
        text += data


def _signal_by_pidfd(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
