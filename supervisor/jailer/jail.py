"""One jail: made by nsjail around a reaping init, entered by the programs that run in it, destroyed as a whole.

The jail is built in the background while its files are written; :meth:`Jail.run` waits for it. ``enclosure`` is its
walls, ``inhabitants`` the processes inside, ``workspace`` the files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from supervisor.jailer import netns, protocol
from supervisor.jailer.cgroup import Counters, Layout, Leaf, open_leaf
from supervisor.jailer.enclosure import Enclosure, JailError
from supervisor.jailer.inhabitants import Inhabitants
from supervisor.jailer.interpreters import InterpreterSource
from supervisor.jailer.jail_network import JailNetwork
from supervisor.jailer.launcher import LaunchError, Zygote
from supervisor.jailer.nsjail_config import Mask, Places, SandboxSpec
from supervisor.jailer.program_run import CellRun, Emit, EmitCalls, ProgramRun, Run, ScriptRun, ToolRun
from supervisor.jailer.watch import Watch
from supervisor.jailer.workspace import Workspace, open_workspace
from supervisor.policy import Policy

log: Final = logging.getLogger("gaoler.jailer.jail")

LEAF_PREFIX: Final = "jail-"


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
    launcher: Zygote
    sources: Mapping[str, InterpreterSource]
    """Interpreters by profile."""
    egress: netns.EgressLink | None
    """The way to the egress proxy, if there is one."""
    building: trio.CapacityLimiter
    """How many jails are built at once."""
    modest_building: trio.CapacityLimiter
    """How many of them for callers who have something running already: fewer."""
    seccomp_profiles: frozenset[str]
    """Of languages: a program names one of them."""
    build_seconds: float
    """How long building one may take."""
    watch: Watch | None = None
    """Logging mode: what is not allowed is written down, and what would be killed goes on."""


@dataclass(frozen=True, slots=True)
class Display:
    """A file in memory that a run may write to; what is in it is untrusted."""

    fd: int
    limit_bytes: int


class Jail:
    """Use :func:`open_jail`."""

    def __init__(self, yard: Yard, policy: Policy, workspace: Workspace, leaf: Leaf, profile: str | None) -> None:
        self._yard = yard
        self._leaf = leaf
        self._built = trio.Event()
        self._failure: str | None = None
        self._enclosure = Enclosure(leaf, yard.launcher)
        source = yard.sources[profile] if profile is not None else None
        self.inside = Inhabitants(self._enclosure, policy, yard.launcher, source, yard.watch)
        self.seccomp_profiles = yard.seccomp_profiles
        self.policy = policy
        self.workspace = workspace
        self.background = 0
        """Programs that run beside the others."""
        self.output_turn = trio.StrictFIFOLock()
        """Of their output: one piece at a time."""
        self.used = False
        """Code of the caller's has run in it."""
        self.display: Display | None = None
        """What the last run has shown."""
        self._network: JailNetwork | None = None
        if yard.egress is not None and policy.network == "egress":
            self._network = JailNetwork(yard.egress)

    async def build(self, spec: SandboxSpec, *, modest: bool) -> None:
        """Have nsjail make it and somebody wait in it. A failure is kept for whoever waits for the jail."""
        try:
            async with self._yard.modest_building if modest else nullcontext(), self._yard.building:
                with trio.fail_after(self._yard.build_seconds):
                    await self._enclosure.build(self._yard.nsjail, spec)
                    if self._network is not None:
                        await self._network.make(self._enclosure.init_pidfd)
                    await self.inside.first()
        except trio.TooSlowError:
            self._failure = f"the jail could not be built in {self._yard.build_seconds:g} s"
        except (LaunchError, JailError, OSError) as error:
            self._failure = f"the jail could not be built: {error}"
        finally:
            self._built.set()
        if self._network is not None and self._failure is None:
            await self._network.open()

    async def wait_built(self) -> None:
        """Wait until the jail can be used.

        Raises:
            JailError: it could not be built.
        """
        await self._built.wait()
        if self._failure is not None:
            raise JailError(self._failure)

    async def connect(self, grant: str, ports: list[int]) -> None:
        """Give the jail's network to the proxy, once the jail is built. What fails leaves it without one."""
        if self._network is not None:
            await self._network.connect(grant, ports)

    async def run(
        self, request: protocol.Run | protocol.RunScript | protocol.RunCell, emit: Emit, emit_calls: EmitCalls
    ) -> Run:
        """Make a run, to be brought to its end by the caller. Cancelling that leaves the jail to its destruction.

        Raises:
            JailError: the jail could not be built.
        """
        await self.wait_built()
        self.inside.resume()
        match request:
            case protocol.Run():
                self.new_display(0)
                return ProgramRun(self, request, emit)
            case protocol.RunScript(tools=None):
                return ScriptRun(self, request, emit)
            case protocol.RunScript():
                return ToolRun(self, request, emit, emit_calls)
            case protocol.RunCell():
                return CellRun(self, request, emit)

    def new_display(self, limit_bytes: int) -> int | None:
        """Forget what the last run has shown; give a descriptor for what the next one will show, which stays ours."""
        if self.display is not None:
            os.close(self.display.fd)
            self.display = None
        if not limit_bytes:
            return None
        self.display = Display(os.memfd_create("display", os.MFD_CLOEXEC), limit_bytes)
        return self.display.fd

    def weigh(self, share: float) -> None:
        """Set its part of the CPU when others want it too: ``share`` of one caller's whole."""
        self._leaf.weigh(share)

    def counters(self) -> Counters:
        """Read the leaf's counters."""
        return self._leaf.counters()

    async def note_kill_for_memory(self) -> None:
        """Look what the kernel has left when it killed for memory."""
        await self._enclosure.note_kill_for_memory()

    async def sweep(self) -> None:
        """Kill whatever a program left running; the jail stays usable."""
        await self._enclosure.sweep()

    @property
    def dead(self) -> bool:
        """No process of the jail is left; only the workspace is."""
        return self._enclosure.dead

    @property
    def quiet(self) -> bool:
        """Nothing runs in it now: its files can be looked at."""
        return self.dead or self.inside.paused

    async def wait_dead(self) -> None:
        """Wait until the jail's init, or who waits in it, has ended by itself."""
        await self._built.wait()
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await self.inside.wait_one_ended()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self._enclosure.wait_dead()
            nursery.cancel_scope.cancel()

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
        await self._enclosure.kill()

    async def kill_unless_empty(self, leaving: int = 0) -> None:
        """As :meth:`kill`, without the wait if nobody but ``leaving`` is inside, who runs no code any more."""
        if not self._enclosure.end_without(leaving):
            await self._enclosure.kill()

    async def close(self) -> None:
        """After :meth:`kill`: take the ends of all processes, and close every descriptor."""
        self.new_display(0)
        if self._network is not None:
            self._network.close()
        await self.inside.close()
        await self._enclosure.close()


@asynccontextmanager
async def open_jail(
    yard: Yard, policy: Policy, masks: tuple[Mask, ...], profile: str | None = None, *, modest: bool = False
) -> AsyncIterator[Jail]:
    """Make a jail for the block; it is being built while the block already fills its workspace.

    With a ``profile`` it gets an interpreter that waits for code. ``modest``: it stands back while others are built.

    At the end of the block, however it ends, every process of the jail is dead, its workspace detached and its cgroup
    removed; what a bounded clean-up had to leave is an empty leaf for the reconciliation.
    """
    outside_id = yard.ids.take()
    name = f"{LEAF_PREFIX}{outside_id}"
    try:
        async with open_leaf(yard.layout, name, policy.limits) as leaf:
            with open_workspace(yard.work / name, policy.limits, outside_id) as workspace:
                jail = Jail(yard, policy, workspace, leaf, profile)
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
                        nursery.start_soon(partial(jail.build, spec, modest=modest))
                        yield jail
                        nursery.cancel_scope.cancel()
                finally:
                    try:
                        await jail.kill()
                    finally:
                        await jail.close()
    finally:
        yard.ids.give_back(outside_id)
