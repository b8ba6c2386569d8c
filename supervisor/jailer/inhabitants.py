"""Who lives in a jail: the process that waits in it, the programs that are started, and what they leave behind.

A jail with a profile has an interpreter, which waits for code or lasts from cell to cell; one without has a standby
process, which becomes the first program. Each is compared with nsjail's own child before it gets any work.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.jailer.enclosure import DEATH_SECONDS, Enclosure, JailError
from supervisor.jailer.equality import describe, difference
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
from supervisor.jailer.nsjail_config import INSIDE_ID, WORKSPACE, rlimits
from supervisor.jailer.seccomp import language_program, watch_program
from supervisor.jailer.watch import Watch
from supervisor.policy import Policy

PAUSE_ROUNDS: Final = 50
LOOK_SECONDS: Final = 0.0003
WAKE_SECONDS: Final = 1.0
"""So long processes may wake each other before they are killed."""
STOP_SECONDS: Final = 4.0
"""So long one may wait for a processor to stop on, or for a child that it has lent its memory to (vfork)."""
STANDSTILL_SECONDS: Final = 0.05
"""What is longer between two looks counts as so much."""
Stdio = tuple[int, int, int]


class Inhabitants:
    """The processes inside one :class:`Enclosure`. Whoever makes it calls :meth:`close` when all are dead."""

    def __init__(
        self,
        enclosure: Enclosure,
        policy: Policy,
        launcher: Zygote,
        source: InterpreterSource | None,
        watch: Watch | None = None,
    ) -> None:
        self._enclosure = enclosure
        self._policy = policy
        self._launcher = launcher
        self._source = source
        self._watch = watch
        self._model: Mapping[str, str] = {}
        self._standby: Interpreter | None = None
        self.interpreter: Interpreter | None = None
        """The one that waits, or lasts."""
        self.paused = False
        """Everything that lives here is stopped."""

    # -- who waits --

    async def first(self) -> None:
        """Have somebody wait, of the kind that this jail is for.

        Raises:
            JailError: it differs from what nsjail makes.
            LaunchError: it could not be started.
        """
        if self._source is not None:
            await self.have_interpreter()
            return
        if self._watch is not None:
            # Whoever waits has a filter already; one that asks is installed at the very end.
            return
        await self._fork_standby()

    async def _fork_standby(self) -> None:
        standby = await fork_waiting(
            self._launcher,
            StandbyPacket,
            cgroups=self._enclosure.procs,
            join=self._join(),
            jail_pidfd=self._enclosure.init_pidfd,
        )
        await self._check(standby, narrowed=0)
        self._standby = standby

    async def have_standby(self) -> None:
        """Have somebody wait again, beside what runs now: that may kill him, and then the next program is launched."""
        if self._standby is None and self._watch is None:
            with suppress(JailError, LaunchError):
                await self._fork_standby()

    def only_standby(self, leaving: int) -> bool:
        """Say whether nobody is inside but who waits, and ``leaving``, who runs no code any more."""
        waiting = 0 if self._standby is None else self._standby.process.pid
        return all(pid in (waiting, leaving) for pid in self._enclosure.inhabitants())

    async def have_interpreter(self) -> Interpreter:
        """Give the interpreter; if there is none (any more), one is made, checked and waited for.

        Raises:
            JailError: this jail has no profile, or the interpreter differs from what nsjail makes.
            LaunchError: it could not be started.
        """
        if self.interpreter is not None:
            return self.interpreter
        if self._source is None:
            raise JailError("a jail without a profile has no interpreter")
        seccomp = self._source.profile.seccomp
        if self._policy.warm == "fork" and self._watch is None:
            interpreter = await self._source.fork(
                cgroups=self._enclosure.procs, join=self._join(seccomp), jail_pidfd=self._enclosure.init_pidfd
            )
        else:
            interpreter = await self._execute_interpreter(self._source.profile)
        # In logging mode policy and language are one program.
        await self._check(interpreter, narrowed=1 if self._watch is None else 0)
        self.interpreter = interpreter
        return interpreter

    async def _execute_interpreter(self, profile: RuntimeProfile) -> Interpreter:
        ours, theirs = control_pair()
        control = trio.socket.from_stdlib_socket(ours)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        arguments = [profile.python, "-c", "import gaoler_interpreter; gaoler_interpreter.main()"]
        try:
            with theirs:
                stdio = (null, null, null)
                process = await self._execute(arguments, profile.environment, stdio, profile.seccomp, [theirs.fileno()])
        except BaseException:
            control.close()
            raise
        finally:
            os.close(null)
        return Interpreter(process, control)

    async def _check(self, waiting: Interpreter, *, narrowed: int) -> None:
        """Wait until it is ready and compare it with nsjail's own child; what is different is killed.

        ``narrowed``: so many filters of a language it has beside nsjail's.

        Raises:
            JailError: it is different, or has ended.
        """
        try:
            await waiting.wait_ready()
            self._model = self._model or await self._enclosure.describe_init()
            found = difference(self._model, describe(waiting.process.pid), narrowed=narrowed)
        except (InterpreterBroken, OSError) as error:
            found = f"it ended: {error}"
        except BaseException:
            waiting.close()
            raise
        if found is not None:
            waiting.process.signal(signal.SIGKILL)
            waiting.close()
            raise JailError(f"a joined process is not what nsjail makes: {found}")

    async def lose_interpreter(self) -> None:
        """Kill everything but the init: the interpreter does not answer, or is gone. Files stay."""
        interpreter, self.interpreter = self.interpreter, None
        if interpreter is not None:
            interpreter.process.signal(signal.SIGKILL)
            await self._enclosure.sweep()
            await interpreter.process.ended.wait()
            interpreter.close()

    async def wait_one_ended(self) -> None:
        """Wait until somebody who waits here has ended by himself; for ever if nobody waits."""
        async with trio.open_nursery() as nursery:

            async def watch(process: Process) -> None:
                await process.ended.wait()
                nursery.cancel_scope.cancel()

            for waiting in self._waiting():
                nursery.start_soon(watch, waiting.process)
            await trio.sleep_forever()

    # -- work for them --

    async def give(self, job: Mapping[str, Any], fds: Sequence[int]) -> tuple[Interpreter, bool]:
        """Give the interpreter a job; who does not listen any more is replaced. Also say whether it is a new one.

        Raises:
            JailError, LaunchError: as :meth:`have_interpreter`.
            InterpreterBroken: the new one does not listen either.
        """
        if self.interpreter is not None:
            try:
                await self.interpreter.send(job, fds)
            except InterpreterBroken:
                # It has ended since the last job, or is deaf by its own doing.
                await self.lose_interpreter()
            else:
                return self.interpreter, False
        interpreter = await self.have_interpreter()
        await interpreter.send(job, fds)
        return interpreter, True

    async def launch(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdio: Stdio, seccomp: str
    ) -> Process:
        """Start a program, hardened as nsjail would, and narrowed by the profile ``seccomp`` of its language.

        Raises:
            LaunchError: it cannot be executed.
        """
        standby, self._standby = self._standby, None
        if standby is not None:
            # What ran beside him may have stopped him.
            standby.process.signal(signal.SIGCONT)
            try:
                return await standby.become(arguments, environment, stdio, language_program(seccomp))
            except InterpreterBroken:
                # Somebody has killed it while it waited.
                pass
        return await self._execute(arguments, environment, stdio, seccomp)

    async def _execute(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stdio: Stdio,
        seccomp: str,
        passed: Sequence[int] = (),
    ) -> Process:
        with ExitStack() as stack:
            if self._watch is not None:
                listens = stack.enter_context(self._watch.follow(self._policy.name, seccomp))
                passed = [*passed, listens.fileno()]
            return await self._launcher.launch(
                arguments,
                environment,
                stdio=stdio,
                cgroups=self._enclosure.procs,
                passed=passed,
                join=self._join(seccomp),
                jail_pidfd=self._enclosure.init_pidfd,
            )

    def _join(self, seccomp: str | None = None) -> JoinSpec:
        """Say what a process becomes; ``seccomp``: with the profile of a language on top of the policy's."""
        program = self._policy.name
        language = None if seccomp is None else language_program(seccomp)
        if self._watch is not None and seccomp is not None:
            program, language = watch_program(self._policy.name, seccomp), None
        return JoinSpec(
            inside_id=INSIDE_ID,
            working_directory=WORKSPACE,
            rlimits=rlimits(self._policy),
            seccomp=program,
            language=language,
            watched=self._watch is not None,
        )

    # -- between runs --

    async def pause(self) -> None:
        """Stop every process until the next run: what is idle costs nothing, and its files hold still.

        By SIGSTOP, not by the freezer: a stopped process dies at once when the kernel cleans up after a dead jailer.
        Bounded; a cancelled call is carried out all the same.
        """
        stopped: set[int] = set()
        for _ in range(PAUSE_ROUNDS):
            fresh = [pid for pid in self._enclosure.inhabitants() if pid not in stopped]
            if not fresh:
                break
            for pid in fresh:
                self._enclosure.signal(pid, signal.SIGSTOP)
            stopped.update(fresh)
        if len(stopped) > 1:
            with trio.CancelScope(shield=True):
                await self._stop_those_who_wake_each_other()
        self.paused = True
        self._enclosure.note_death()

    async def _stop_those_who_wake_each_other(self) -> None:
        """One process cannot wake itself; several can each other. Who is not to be stopped is killed.

        On a busy host one that is told to stop may wait long for the processor on which it will: that is not its fault.
        Neither is it when the whole host stood still, as a virtual machine does that is moved.
        """
        waited, looked = 0.0, trio.current_time()
        while awake := [pid for pid in self._enclosure.inhabitants() if not _is_stopped(pid)]:
            now = trio.current_time()
            waited, looked = waited + min(now - looked, STANDSTILL_SECONDS), now
            if waited > STOP_SECONDS + WAKE_SECONDS:
                return  # what the kernel neither stops nor kills runs no code either
            for pid in awake:
                self._enclosure.signal(pid, signal.SIGKILL if is_obstinate(pid, waited) else signal.SIGSTOP)
            await trio.sleep(LOOK_SECONDS)

    def resume(self) -> None:
        """Let what was paused go on."""
        if self.paused:
            self.paused = False
            for pid in self._enclosure.inhabitants():
                self._enclosure.signal(pid, signal.SIGCONT)

    def kill_session(self, process: Process) -> None:
        """Kill a program with all that is in its session; what has left the session goes on."""
        self.signal_session(process, signal.SIGKILL)

    def signal_session(self, process: Process, number: int) -> None:
        """Signal a program and all that is in its session."""
        for pid in self._enclosure.inhabitants():
            try:
                if pid != process.pid and os.getsid(pid) == process.pid:
                    self._enclosure.signal(pid, number)
            except ProcessLookupError:
                continue
        process.signal(number)

    # -- the end --

    async def close(self) -> None:
        """After the walls are down: take the ends of those who waited, and let go of them. Shielded and bounded."""
        with trio.CancelScope(shield=True), trio.move_on_after(DEATH_SECONDS):
            for waiting in self._waiting():
                await waiting.process.ended.wait()
        for waiting in self._waiting():
            waiting.close()

    def _waiting(self) -> list[Interpreter]:
        return [each for each in (self.interpreter, self._standby) if each is not None]


def is_obstinate(pid: int, waited_seconds: float) -> bool:
    """Say whether a process that was told to stop so long ago, and had not a moment ago, is not going to."""
    if waited_seconds > STOP_SECONDS:
        return True
    # The second look at whether it stopped comes last: it may have done so between the first and that at its signals.
    return waited_seconds > WAKE_SECONDS and not _is_told_to_stop(pid) and not _is_stopped(pid)


def _is_told_to_stop(pid: int) -> bool:
    """Say whether a SIGSTOP waits for a process to run: it will run no more code of its own before it has stopped."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(each >> (signal.SIGSTOP - 1) & 1 for each in pending)


def _is_stopped(pid: int) -> bool:
    """Say whether a process is stopped, or has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "TtZX"
