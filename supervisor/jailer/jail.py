"""One jail: made by nsjail around a reaping init, entered by the programs that run in it, destroyed as a whole.

The jail is built in the background while its files are written; :meth:`Jail.run` waits for it. Killing is the kernel's
atomic "the init of a pid namespace is gone"; its pidfd becoming readable means that no process of the jail is left.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from supervisor.jailer import protocol
from supervisor.jailer.cgroup import Counters, Layout, Leaf, open_leaf
from supervisor.jailer.join import JoinSpec
from supervisor.jailer.launcher import Launcher, LaunchError, Process
from supervisor.jailer.nsjail_config import INSIDE_ID, WORKSPACE, Mask, Places, SandboxSpec, jail_config, rlimits
from supervisor.jailer.program_run import READ_BYTES, Emit, JailError, ProgramRun
from supervisor.jailer.workspace import Workspace, open_workspace
from supervisor.policy import Policy

BUILD_SECONDS: Final = 30
LEAF_PREFIX: Final = "jail-"
DEATH_SECONDS: Final = 10
_READY: Final = b"Executing '"


class Ids:
    """The range of outside uids. Each is used by one jail at a time, the longest unused first."""

    def __init__(self, first: int, count: int) -> None:
        self._free = list(range(first + count - 1, first - 1, -1))

    def take(self) -> int:
        """Take an id, to be given back.

        Raises:
            JailError: all are in use.
        """
        if not self._free:
            raise JailError("all sandbox uids are in use")
        return self._free.pop()

    def give_back(self, outside_id: int) -> None:
        """Give an id back, when no process and no file has it any more."""
        self._free.insert(0, outside_id)


@dataclass(frozen=True, slots=True)
class Yard:
    """What all jails of one jailer share."""

    nsjail: str
    places: Places
    layout: Layout
    work: Path
    """Directory for the workspaces' mount points."""
    ids: Ids
    launcher: Launcher
    building: trio.CapacityLimiter
    """How many jails are built at once."""


class Jail:
    """Use :func:`open_jail`."""

    def __init__(self, yard: Yard, policy: Policy, workspace: Workspace, leaf: Leaf) -> None:
        self._yard = yard
        self._policy = policy
        self._leaf = leaf
        self._built = trio.Event()
        self._nsjail: Process | None = None
        self._init_pidfd = -1
        self._procs: list[int] = []
        self._failure: str | None = None
        self.workspace = workspace
        self.dead = False
        """No process of the jail is left; only the workspace is."""

    # -- building --

    async def build(self, spec: SandboxSpec) -> None:
        """Start nsjail and find the jail's init. A failure is kept for whoever waits in :meth:`run`."""
        try:
            async with self._yard.building:
                with trio.fail_after(BUILD_SECONDS):
                    await self._build(spec)
        except (LaunchError, JailError, OSError, trio.TooSlowError) as error:
            self._failure = f"the jail could not be built: {error}"
        finally:
            self._built.set()

    async def _build(self, spec: SandboxSpec) -> None:
        self._procs = self._leaf.open_procs()
        log_read, log_write = os.pipe()
        config = os.memfd_create("nsjail-config")
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(config, json.dumps(jail_config(spec)).encode())
            self._nsjail = await self._yard.launcher.launch(
                [self._yard.nsjail, "--config", "/proc/self/fd/3", "--log_fd", "4"],
                {},
                stdio=(null, null, null),
                cgroups=self._procs,
                passed=[config, log_write],
            )
        except BaseException:
            os.close(log_read)
            raise
        finally:
            for fd in (log_write, config, null):
                os.close(fd)
        async with trio.lowlevel.FdStream(log_read) as log:
            await self._await_ready(log)
        self._init_pidfd = self._find_init()

    async def _await_ready(self, log: trio.lowlevel.FdStream) -> None:
        """Read nsjail's log up to the line it writes when all namespaces, mounts and limits are in place."""
        text = b""
        while _READY not in text:
            data = await log.receive_some(READ_BYTES)
            if not data:
                lines = text.decode("utf-8", "replace").splitlines()
                raise JailError(
                    "; ".join(line for line in lines if line[:3] in ("[W]", "[E]", "[F]")) or "nsjail ended"
                )
            text += data

    def _find_init(self) -> int:
        nsjail = self._nsjail
        assert nsjail is not None
        children = [pid for pid in self._leaf.processes() if pid != nsjail.pid]
        if len(children) != 1:
            raise JailError(f"{len(children)} processes in a jail that has only its init")
        return os.pidfd_open(children[0])

    # -- running --

    async def run(self, request: protocol.Run, emit: Emit) -> protocol.Ended:
        """Run a program to its end and pass its output on. Cancelling leaves the jail to its destruction.

        Raises:
            JailError: the jail could not be built, or the program not be started.
        """
        await self._built.wait()
        if self._failure is not None:
            raise JailError(self._failure)
        return await ProgramRun(self, request, emit).to_its_end()

    async def launch(self, request: protocol.Run, stdio: tuple[int, int, int]) -> Process:
        """Start a program inside, hardened as nsjail would."""
        join = JoinSpec(
            inside_id=INSIDE_ID,
            working_directory=WORKSPACE,
            rlimits=rlimits(self._policy),
            seccomp=self._policy.name,
        )
        return await self._yard.launcher.launch(
            request.arguments,
            request.environment,
            stdio=stdio,
            cgroups=self._procs,
            join=join,
            jail_pidfd=self._init_pidfd,
        )

    def counters(self) -> Counters:
        """Read the leaf's counters."""
        return self._leaf.counters()

    @property
    def policy(self) -> Policy:
        """The policy that the jail was made of."""
        return self._policy

    async def kill_rest(self) -> None:
        """Kill whatever a program left running; the jail stays usable."""
        await self._yard.launcher.sweep(self._init_pidfd)

    # -- destroying --

    async def finish(self) -> None:
        """Kill everything, once the jail is built; the workspace stays. Idempotent.

        Raises:
            JailError: as :meth:`kill`.
        """
        await self._built.wait()
        await self.kill()

    async def kill(self) -> None:
        """Kill every process of the jail and wait until none is left. Idempotent; shielded and bounded.

        Raises:
            JailError: something would not die in time; the leaf then stays for the reconciliation.
        """
        if self.dead:
            return
        with trio.CancelScope(shield=True), trio.move_on_after(DEATH_SECONDS) as patience:
            if self._init_pidfd >= 0:
                _kill_by_pidfd(self._init_pidfd)
                await trio.lowlevel.wait_readable(self._init_pidfd)
            if self._nsjail is not None:
                self._nsjail.signal(signal.SIGKILL)
            self.dead = True
        if patience.cancelled_caught:
            raise JailError("the jail did not die in time")

    async def bury(self) -> None:
        """After :meth:`kill`: wait for nsjail itself, kill what a broken build left, close every descriptor."""
        with trio.CancelScope(shield=True), trio.move_on_after(DEATH_SECONDS):
            if self._nsjail is not None:
                await self._nsjail.ended.wait()
            while stragglers := self._leaf.processes():
                for pid in stragglers:
                    self._kill_straggler(pid)
                await trio.sleep(0.001)
        for fd in (*self._procs, self._init_pidfd):
            if fd >= 0:
                os.close(fd)
        self._procs, self._init_pidfd = [], -1
        if self._nsjail is not None:
            self._nsjail.close()

    def _kill_straggler(self, pid: int) -> None:
        """Kill by pidfd, and only if the pid, once held, is still in our leaf: pids are used again."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if pid in self._leaf.processes():
                _kill_by_pidfd(pidfd)
        finally:
            os.close(pidfd)


def _kill_by_pidfd(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return


@asynccontextmanager
async def open_jail(yard: Yard, policy: Policy, masks: tuple[Mask, ...]) -> AsyncIterator[Jail]:
    """Make a jail for the block; it is being built while the block already fills its workspace.

    At the end of the block, however it ends, every process of the jail is dead, its workspace detached and its cgroup
    removed; what a bounded clean-up had to leave is an empty leaf for the reconciliation.
    """
    outside_id = yard.ids.take()
    name = f"{LEAF_PREFIX}{outside_id}"
    try:
        async with open_leaf(yard.layout, name, policy.limits) as leaf:
            with open_workspace(yard.work / name, policy.limits, outside_id) as workspace:
                jail = Jail(yard, policy, workspace, leaf)
                spec = SandboxSpec(
                    policy=policy,
                    places=yard.places,
                    outside_id=outside_id,
                    workspace=str(workspace.data),
                    code=str(workspace.code),
                    masks=masks,
                )
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(jail.build, spec)
                        yield jail
                        nursery.cancel_scope.cancel()
                finally:
                    try:
                        await jail.kill()
                    finally:
                        await jail.bury()
    finally:
        yard.ids.give_back(outside_id)
