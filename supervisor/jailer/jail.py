"""One jail: made by nsjail around a reaping init, entered by the programs that run in it, destroyed as a whole.

The jail is built in the background while its files are written; :meth:`Jail.run` waits for it. Killing is the kernel's
atomic "the init of a pid namespace is gone"; its pidfd becoming readable means that no process of the jail is left.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from supervisor.jailer import protocol
from supervisor.jailer.cgroup import Counters, Layout, Leaf, open_leaf
from supervisor.jailer.equality import describe, difference, program_name
from supervisor.jailer.interpreters import (
    Interpreter,
    InterpreterBroken,
    InterpreterSource,
    RuntimeProfile,
    control_pair,
    fork_waiting,
)
from supervisor.jailer.join import JoinSpec
from supervisor.jailer.launcher import LaunchError, Process, StandbyPacket, Zygote
from supervisor.jailer.nsjail_config import INSIDE_ID, WORKSPACE, Mask, Places, SandboxSpec, jail_config, rlimits
from supervisor.jailer.program_run import READ_BYTES, CellRun, Emit, JailError, ProgramRun, Run, ScriptRun
from supervisor.jailer.workspace import Workspace, open_workspace
from supervisor.policy import Policy

BUILD_SECONDS: Final = 30
LEAF_PREFIX: Final = "jail-"
DEATH_SECONDS: Final = 10
PAUSE_ROUNDS: Final = 50
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
    launcher: Zygote
    sources: Mapping[str, InterpreterSource]
    """Interpreters by profile."""
    building: trio.CapacityLimiter
    """How many jails are built at once."""


class Jail:
    """Use :func:`open_jail`."""

    def __init__(self, yard: Yard, policy: Policy, workspace: Workspace, leaf: Leaf, profile: str | None) -> None:
        self._yard = yard
        self._policy = policy
        self._leaf = leaf
        self._profile = profile
        self._built = trio.Event()
        self._nsjail: Process | None = None
        self._init_pid = 0
        self._init_pidfd = -1
        self._model: Mapping[str, str] = {}
        self._procs: list[int] = []
        self._failure: str | None = None
        self.paused = False
        """Everything that lives in it is stopped."""
        self.workspace = workspace
        self._standby: Interpreter | None = None
        self.interpreter: Interpreter | None = None
        """The one that waits, or lasts."""
        self.dead = False
        """No process of the jail is left; only the workspace is."""

    # -- building --

    async def build(self, spec: SandboxSpec) -> None:
        """Start nsjail, find the jail's init, fork an interpreter. A failure is kept for whoever waits for the jail."""
        try:
            async with self._yard.building:
                with trio.fail_after(BUILD_SECONDS):
                    await self._build(spec)
                    if self._profile is not None:
                        await self.have_interpreter()
                    else:
                        self._standby = await self._fork_standby()
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
        self._find_init()

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

    def _find_init(self) -> None:
        nsjail = self._nsjail
        assert nsjail is not None
        children = [pid for pid in self._leaf.processes() if pid != nsjail.pid]
        if len(children) != 1:
            raise JailError(f"{len(children)} processes in a jail that has only its init")
        self._init_pid = children[0]
        self._init_pidfd = os.pidfd_open(self._init_pid)

    async def wait_built(self) -> None:
        """Wait until the jail can be used.

        Raises:
            JailError: it could not be built.
        """
        await self._built.wait()
        if self._failure is not None:
            raise JailError(self._failure)

    # -- the interpreter --

    async def have_interpreter(self) -> Interpreter:
        """Give the jail's interpreter; if it has none (any more), one is made, checked and waited for.

        Raises:
            JailError: this jail has no profile, or the interpreter differs from what nsjail makes.
            LaunchError: it could not be started.
        """
        if self.interpreter is not None:
            return self.interpreter
        if self._profile is None:
            raise JailError("a jail without a profile has no interpreter")
        source = self._yard.sources[self._profile]
        join = self._join()
        if self._policy.warm == "fork":
            interpreter = await source.fork(cgroups=self._procs, join=join, jail_pidfd=self._init_pidfd)
        else:
            interpreter = await self._execute_interpreter(source.profile, join)
        await self._check(interpreter)
        self.interpreter = interpreter
        return interpreter

    async def _fork_standby(self) -> Interpreter:
        """Have a process wait that will become the first program of this jail."""
        standby = await fork_waiting(
            self._yard.launcher,
            StandbyPacket,
            cgroups=self._procs,
            join=self._join(),
            jail_pidfd=self._init_pidfd,
        )
        await self._check(standby)
        return standby

    async def _check(self, waiting: Interpreter) -> None:
        """Wait until it is ready and compare it with nsjail's own child; what is different is killed.

        Raises:
            JailError: it is different, or has ended.
        """
        try:
            await waiting.wait_ready()
            self._model = self._model or await self._describe_init()
            found = difference(self._model, describe(waiting.process.pid))
        except (InterpreterBroken, OSError) as error:
            found = f"it ended: {error}"
        except BaseException:
            waiting.close()
            raise
        if found is not None:
            waiting.process.signal(signal.SIGKILL)
            waiting.close()
            raise JailError(f"a joined process is not what nsjail makes: {found}")

    async def _describe_init(self) -> Mapping[str, str]:
        """Read what nsjail makes of its own child; it has said "Executing" a moment before that is done."""
        nsjail = program_name(self._nsjail_pid)
        while program_name(self._init_pid) == nsjail:  # noqa: ASYNC110 - the kernel tells nobody of an execve
            await trio.sleep(0.001)
        return describe(self._init_pid)

    async def _execute_interpreter(self, profile: RuntimeProfile, join: JoinSpec) -> Interpreter:
        ours, theirs = control_pair()
        control = trio.socket.from_stdlib_socket(ours)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            with theirs:
                process = await self._yard.launcher.launch(
                    [profile.python, "-c", "import gaoler_interpreter; gaoler_interpreter.main()"],
                    profile.environment,
                    stdio=(null, null, null),
                    cgroups=self._procs,
                    passed=[theirs.fileno()],
                    join=join,
                    jail_pidfd=self._init_pidfd,
                )
        except BaseException:
            control.close()
            raise
        finally:
            os.close(null)
        return Interpreter(process, control)

    def require_interpreter(self) -> Interpreter:
        """Give the interpreter of a jail that was made with one.

        Raises:
            JailError: there is none.
        """
        if self.interpreter is None:
            raise JailError("a jail without a profile has no interpreter")
        return self.interpreter

    async def lose_interpreter(self) -> None:
        """Kill everything in the jail but its init: the interpreter does not answer, or is gone. Files stay."""
        interpreter, self.interpreter = self.interpreter, None
        if interpreter is not None:
            interpreter.process.signal(signal.SIGKILL)
            await self.kill_rest()
            await interpreter.process.ended.wait()
            interpreter.close()

    # -- running --

    async def run(self, request: protocol.Run | protocol.RunScript | protocol.RunCell, emit: Emit) -> Run:
        """Make a run, to be brought to its end by the caller. Cancelling that leaves the jail to its destruction.

        Raises:
            JailError: the jail could not be built.
        """
        await self.wait_built()
        self.resume()
        match request:
            case protocol.Run():
                return ProgramRun(self, request, emit)
            case protocol.RunScript():
                return ScriptRun(self, request, emit)
            case protocol.RunCell():
                return CellRun(self, request, emit)

    async def launch(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdio: tuple[int, int, int]
    ) -> Process:
        """Start a program inside, hardened as nsjail would.

        Raises:
            LaunchError: it cannot be executed.
        """
        standby, self._standby = self._standby, None
        if standby is not None:
            return await standby.become(arguments, environment, stdio)
        return await self._yard.launcher.launch(
            arguments, environment, stdio=stdio, cgroups=self._procs, join=self._join(), jail_pidfd=self._init_pidfd
        )

    def _join(self) -> JoinSpec:
        return JoinSpec(
            inside_id=INSIDE_ID,
            working_directory=WORKSPACE,
            rlimits=rlimits(self._policy),
            seccomp=self._policy.name,
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

    def pause(self) -> None:
        """Stop every process of the jail until the next run: what is idle costs nothing, and its files hold still.

        By SIGSTOP, not by the freezer: a stopped process dies at once when the kernel cleans up after a dead jailer.
        """
        stopped: set[int] = set()
        for _ in range(PAUSE_ROUNDS):
            fresh = [pid for pid in self._inhabitants() if pid not in stopped]
            if not fresh:
                break
            for pid in fresh:
                self._signal(pid, signal.SIGSTOP)
            stopped.update(fresh)
        self.paused = True
        self._note_death()

    def resume(self) -> None:
        """Let what was paused go on."""
        if self.paused:
            self.paused = False
            for pid in self._inhabitants():
                self._signal(pid, signal.SIGCONT)

    @property
    def quiet(self) -> bool:
        """Nothing runs in it now: its files can be looked at."""
        return self.dead or self.paused

    def kill_session(self, process: Process) -> None:
        """Kill a program with all that is in its session; what has left the session is a background process."""
        for pid in self._inhabitants():
            try:
                if os.getsid(pid) == process.pid:
                    self._signal(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.signal(signal.SIGKILL)

    def _inhabitants(self) -> list[int]:
        """Processes of the jail that are neither nsjail nor the init."""
        return [pid for pid in self._leaf.processes() if pid not in (self._nsjail_pid, self._init_pid)]

    @property
    def _nsjail_pid(self) -> int:
        return self._nsjail.pid if self._nsjail is not None else 0

    def _note_death(self) -> None:
        """The kernel may have killed the init for memory, and everything with it."""
        if self._init_pidfd >= 0:
            poll = select.poll()
            poll.register(self._init_pidfd, select.POLLIN)
            self.dead = self.dead or bool(poll.poll(0))

    async def wait_dead(self) -> None:
        """Wait until the jail's init, or its waiting interpreter, has ended by itself."""
        await self._built.wait()
        async with trio.open_nursery() as nursery:

            async def watch(process: Process) -> None:
                await process.ended.wait()
                nursery.cancel_scope.cancel()

            for waiting in (self.interpreter, self._standby):
                if waiting is not None:
                    nursery.start_soon(watch, waiting.process)
            await trio.lowlevel.wait_readable(self._init_pidfd)
            nursery.cancel_scope.cancel()

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
                _signal_by_pidfd(self._init_pidfd, signal.SIGKILL)
                await trio.lowlevel.wait_readable(self._init_pidfd)
            if self._nsjail is not None:
                self._nsjail.signal(signal.SIGKILL)
            self.dead = True
        if patience.cancelled_caught:
            raise JailError("the jail did not die in time")

    async def bury(self) -> None:
        """After :meth:`kill`: wait for nsjail itself, kill what a broken build left, close every descriptor."""
        with trio.CancelScope(shield=True), trio.move_on_after(DEATH_SECONDS):
            for process in self._own_processes():
                await process.ended.wait()
            while stragglers := self._leaf.processes():
                for pid in stragglers:
                    self._signal(pid, signal.SIGKILL)
                await trio.sleep(0.001)
        for fd in (*self._procs, self._init_pidfd):
            if fd >= 0:
                os.close(fd)
        self._procs, self._init_pidfd = [], -1
        for waiting in (self.interpreter, self._standby):
            if waiting is not None:
                waiting.close()
        if self._nsjail is not None:
            self._nsjail.close()

    def _own_processes(self) -> list[Process]:
        """Those whose end the zygotes tell."""
        waiting = [each.process for each in (self.interpreter, self._standby) if each is not None]
        return waiting if self._nsjail is None else [self._nsjail, *waiting]

    def _signal(self, pid: int, number: int) -> None:
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


def _signal_by_pidfd(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


@asynccontextmanager
async def open_jail(
    yard: Yard, policy: Policy, masks: tuple[Mask, ...], profile: str | None = None
) -> AsyncIterator[Jail]:
    """Make a jail for the block; it is being built while the block already fills its workspace.

    With a ``profile`` it gets an interpreter that waits for code.

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
