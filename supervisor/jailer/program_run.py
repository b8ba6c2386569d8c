"""One run in a jail: its output captured, its limits watched, its end decoded.

Three kinds: a program that is executed, a script in a waiting interpreter, a cell in a lasting one. They differ in how
they start, in what their end is, and in what is left of the jail afterwards.
"""

from __future__ import annotations

import math
import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from supervisor.jailer import protocol
from supervisor.jailer.capture import StreamCapture
from supervisor.jailer.channels import ProtocolError
from supervisor.jailer.enclosure import READ_BYTES, JailError
from supervisor.jailer.inhabitants import Stdio
from supervisor.jailer.interpreters import Interpreter, InterpreterBroken, NeverHeard, cell_decoder
from supervisor.jailer.launcher import LaunchError, Process

if TYPE_CHECKING:
    from supervisor.jailer.jail import Jail

LEAVING_LOOKS: Final = 50
"""Some milliseconds; a program that has closed its output and goes on is waited for in the ordinary way."""
DRAIN_BYTES: Final = 1 << 20
Emit = Callable[[protocol.Output], Awaitable[None]]
EmitCalls = Callable[[bytes], Awaitable[None]]
MAX_CALLS_BYTES: Final = 2 << 20
"""Longest line with which a program asks for tools."""
_STREAMS: Final[tuple[protocol.StreamName, ...]] = ("stdout", "stderr")


class Run(ABC):
    """One run. ``interrupted`` may be set from outside: it ends as if its time were over."""

    def __init__(
        self, jail: Jail, emit: Emit, wall_seconds: float | None, stdin: bytes, phase: protocol.Phase = "run"
    ) -> None:
        limits = jail.policy.limits
        self._jail = jail
        self._emit = emit
        self._stdin = stdin
        longest = limits.compile_seconds if phase == "compile" else limits.wall_seconds
        self._wall_limit = min(wall_seconds or longest, longest)
        self._captures = {name: StreamCapture(limits.output_bytes, limits.output_kill_bytes) for name in _STREAMS}
        self._flooded: protocol.StreamName | None = None
        self._stop = trio.CancelScope()
        self._streams: dict[protocol.StreamName, int] = {}
        """Our ends of its output."""
        self._waits: dict[protocol.StreamName, trio.CancelScope] = {}
        self._settled = False
        self._open_streams = len(_STREAMS)
        self._silent = trio.Event()
        """Nobody holds the output open any more."""
        self._clock = trio.CancelScope()
        self.interrupted = False
        self.unheard = False
        """Who was to run it ended before it took it: none of it has run, and it may be tried again."""

    async def take_results(self, _data: AsyncIterator[bytes]) -> None:
        """Give the program the results of the tools that it has called.

        Raises:
            ProtocolError: it waits for none.
        """
        raise ProtocolError("results for a program that has called no tools")

    def interrupt(self) -> None:
        """End it now."""
        self.interrupted = True
        self._stop.cancel()

    async def to_its_end(self) -> protocol.Ended:
        """Start, pass the output on, enforce the limits; return when nothing of it runs any more.

        Raises:
            JailError: it could not be started, or would not die.
        """
        jail = self._jail
        before = jail.counters()
        started = trio.current_time()
        streams = self._streams = await self._open()
        try:
            async with trio.open_nursery() as readers:
                for name, stream in streams.items():
                    readers.start_soon(self._read, name, stream)
                with self._stop:
                    with trio.move_on_after(self._wall_limit) as clock:
                        self._clock = clock
                        await self._wait()
                in_time = self._ended
                if not in_time:
                    await self._break_off(kill=self._flooded is not None)
                    # It had its time, whoever kept it from being heard.
                    self.unheard = False
                wall_seconds = trio.current_time() - started
                await self._settle()
                self._stop_reading()
            await self._emit_rest(streams)
        finally:
            for stream in streams.values():
                os.close(stream)
            self._release()
        after = jail.counters()
        oom_kills = after.oom_kills - before.oom_kills
        if oom_kills:
            await jail.note_kill_for_memory()
        return protocol.Ended(
            outcome=self._outcome(timed_out=not in_time and clock.cancelled_caught, oom_kills=oom_kills),
            wall_seconds=wall_seconds,
            cpu_seconds=max(0.0, after.cpu_seconds - before.cpu_seconds),
            memory_peak_bytes=after.memory_peak_bytes,
            jail_lives=not jail.dead,
            state_lives=jail.inside.interpreter is not None and not jail.dead,
            state_is_new=self._state_is_new,
        )

    def _outcome(self, *, timed_out: bool, oom_kills: int) -> protocol.RunOutcome:
        limits = self._jail.policy.limits
        if self._flooded is not None:
            return protocol.RunOutputLimit(stream=self._flooded, limit_bytes=limits.output_kill_bytes)
        if timed_out:
            return protocol.RunTimedOut(limit_seconds=self._wall_limit)
        # A kill for memory wins: a grandchild may have died of it and the program gone on.
        if oom_kills > 0:
            return protocol.RunOutOfMemory(limit_bytes=limits.memory_bytes)
        if self.interrupted:
            return protocol.RunInterrupted()
        return self._own_outcome()

    # -- what the kinds do differently --

    @abstractmethod
    async def _start(self, stdio: Stdio) -> None:
        """Start with these descriptors, which stay the caller's."""

    @abstractmethod
    async def _wait(self) -> None:
        """Wait for its end and set ``_ended``."""

    _ended: bool = False
    _state_is_new: bool = False

    async def _break_off(self, *, kill: bool) -> None:  # noqa: B027 - most kinds only have _settle
        """End what has not ended by itself; ``kill``: without asking."""

    @abstractmethod
    async def _settle(self) -> None:
        """Bring the jail into the state that was asked for; nothing runs in it afterwards."""

    @abstractmethod
    def _own_outcome(self) -> protocol.RunOutcome:
        """Say how it ended by itself."""

    def _release(self) -> None:  # noqa: B027 - what belongs to the jail stays with it
        """Let go of what was opened."""

    # -- output --

    async def _open(self) -> dict[protocol.StreamName, int]:
        """Start with fresh pipes; give our ends."""
        with ExitStack() as theirs, ExitStack() as ours:
            stdin = _stdin(self._stdin)
            theirs.callback(os.close, stdin)
            out_read, out_write = os.pipe()
            theirs.callback(os.close, out_write)
            ours.callback(os.close, out_read)
            err_read, err_write = os.pipe()
            theirs.callback(os.close, err_write)
            ours.callback(os.close, err_read)
            try:
                await self._start((stdin, out_write, err_write))
            except (LaunchError, InterpreterBroken) as error:
                raise JailError(str(error)) from None
            ours.pop_all()
        for fd in (out_read, err_read):
            os.set_blocking(fd, False)
        return {"stdout": out_read, "stderr": err_read}

    def _stop_reading(self) -> None:
        """Nothing runs any more, but somebody who is only stopped may hold the pipes open: wait for no more."""
        self._settled = True
        for scope in self._waits.values():
            scope.cancel()

    async def _read(self, name: protocol.StreamName, fd: int) -> None:
        # A run may be over before this task has begun.
        while not self._settled:
            with trio.CancelScope() as wait:
                self._waits[name] = wait
                await trio.lowlevel.wait_readable(fd)
            if wait.cancelled_caught:
                return
            try:
                data = os.read(fd, READ_BYTES)
            except BlockingIOError:
                # Somebody else has taken it meanwhile.
                continue
            if not data:
                self._open_streams -= 1
                if not self._open_streams:
                    self._silent.set()
                return
            head = self._feed(name, data)
            if head:
                await self._emit(protocol.Output(stream=name, data=head))

    def _feed(self, name: protocol.StreamName, data: bytes) -> bytes:
        capture = self._captures[name]
        head = capture.feed(data)
        if capture.flooded and self._flooded is None:
            self._flooded = name
            self._stop.cancel()
        return head

    async def _emit_written(self, name: protocol.StreamName, fd: int) -> None:
        """Take what is in a pipe already."""
        for _ in range(DRAIN_BYTES // READ_BYTES):
            try:
                data = os.read(fd, READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                break
            if head := self._feed(name, data):
                await self._emit(protocol.Output(stream=name, data=head))

    async def _emit_rest(self, streams: dict[protocol.StreamName, int]) -> None:
        """Take what is still in the pipes, and pass the tails on."""
        for name, fd in streams.items():
            await self._emit_written(name, fd)
            omitted, tail = self._captures[name].finish()
            for start in range(0, len(tail), READ_BYTES):
                piece = tail[start : start + READ_BYTES]
                await self._emit(protocol.Output(stream=name, data=piece, omitted_before=omitted))
                omitted = 0


class ProgramRun(Run):
    """A program that is executed in the jail."""

    def __init__(self, jail: Jail, request: protocol.Run, emit: Emit) -> None:
        super().__init__(jail, emit, request.wall_seconds, request.stdin, request.phase)
        self._request = request
        self._process: Process | None = None
        self._status: int | None = None

    async def _start(self, stdio: Stdio) -> None:
        request = self._request
        self._process = await self._jail.inside.launch(request.arguments, request.environment, stdio, request.seccomp)

    async def _wait(self) -> None:
        assert self._process is not None
        async with trio.open_nursery() as nursery:
            if self._request.then == "sweep":
                # While a compiler works there is time to have somebody wait for what it makes.
                nursery.start_soon(self._jail.inside.have_standby)
            await self._process.wait_gone()
        self._ended = True

    async def _settle(self) -> None:
        assert self._process is not None
        if self._request.then == "destroy":
            await self._jail.kill_unless_empty()
            # What its zygote will tell in a moment the kernel already knows.
            self._status = self._process.leaving_status()
        elif self._request.then == "sweep":
            # A caller would wait for the broom; seldom has a compiler left anything.
            if not (self._ended and self._jail.inside.only_standby(self._process.pid)):
                await self._jail.sweep()
        else:
            if not self._ended:
                self._jail.inside.kill_session(self._process)
            await self._jail.inside.pause()
        if self._status is None:
            await self._process.ended.wait()
            self._status = self._process.status

    def _own_outcome(self) -> protocol.RunOutcome:
        assert self._status is not None
        return decode_status(self._status)

    def _release(self) -> None:
        if self._process is not None:
            self._process.close()


class InterpreterRun(Run):
    """Code for the interpreter that waits in the jail."""

    _job: ClassVar[str]

    def __init__(self, jail: Jail, request: protocol.RunScript | protocol.RunCell, emit: Emit) -> None:
        super().__init__(jail, emit, request.wall_seconds, request.stdin)
        self._arguments = request.arguments
        self._environment = request.environment
        self._display_bytes = request.display_bytes
        self._given: Interpreter | None = None

    @property
    def _interpreter(self) -> Interpreter:
        assert self._given is not None
        return self._given

    async def _start(self, stdio: Stdio) -> None:
        await self._give(stdio)

    async def _give(self, stdio: Stdio, more: Sequence[int] = (), **job: Any) -> None:
        display = self._jail.new_display(self._display_bytes)
        fds = [*stdio, *more, *([] if display is None else [display])]
        described = {
            "do": self._job,
            "arguments": self._arguments,
            "environment": self._environment,
            "display": display is not None,
            **job,
        }
        self._given, self._state_is_new = await self._jail.inside.give(described, fds)


class ScriptRun(InterpreterRun):
    """A script, the interpreter's only one: the process ends with it."""

    _job = "script"
    _status: int | None = None

    def __init__(self, jail: Jail, request: protocol.RunScript, emit: Emit) -> None:
        super().__init__(jail, request, emit)
        self._main = request.main

    async def _start(self, stdio: Stdio) -> None:
        await self._give(stdio, main=self._main)

    async def _wait(self) -> None:
        process = self._interpreter.process
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._see_it_leave, process, nursery.cancel_scope)
            await process.wait_gone()
            nursery.cancel_scope.cancel()
        self._ended = True

    async def _see_it_leave(self, process: Process, scope: trio.CancelScope) -> None:
        """It is over when it closes its output and leaves; giving back its memory takes as long as a small program."""
        await self._silent.wait()
        for _ in range(LEAVING_LOOKS):
            self._status = process.leaving_status()
            if self._status is not None:
                scope.cancel()
                return
            await trio.lowlevel.checkpoint()

    async def _settle(self) -> None:
        process = self._interpreter.process
        if self._status is not None:
            await self._jail.kill_unless_empty(process.pid)
            return
        await self._jail.kill()
        await process.ended.wait()
        self._status = process.status

    def _own_outcome(self) -> protocol.RunOutcome:
        assert self._status is not None
        return decode_status(self._status)


class ToolRun(ScriptRun):
    """A script that calls tools of the client's. While it waits for them it is stopped, and its clock too.

    The link is a stream: a line of JSON from the program, the results as one line back. Whatever it says is hostile.
    """

    _job = "tools"

    def __init__(self, jail: Jail, request: protocol.RunScript, emit: Emit, emit_calls: EmitCalls) -> None:
        super().__init__(jail, request, emit)
        self._emit_calls = emit_calls
        self._language = request.tools
        self._link: trio.SocketStream | None = None
        self._left = 0.0
        self._holding = False

    async def _start(self, stdio: Stdio) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._link = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        with theirs:
            await self._give(stdio, [theirs.fileno()], language=self._language, main=self._main)

    async def _wait(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear_calls)
            await super()._wait()
            nursery.cancel_scope.cancel()

    async def _hear_calls(self) -> None:
        assert self._link is not None
        line = bytearray()
        while True:
            try:
                data = await self._link.receive_some(READ_BYTES)
            except trio.BrokenResourceError:
                return
            if not data:
                return
            line += data
            if len(line) > MAX_CALLS_BYTES:
                # No honest program asks for so much; it is ended as if it were cancelled.
                self.interrupt()
                return
            if line.endswith(b"\n"):
                await self._hold()
                # What it has printed before belongs to this leg, and came by another way.
                for name, fd in self._streams.items():
                    await self._emit_written(name, fd)
                await self._emit_calls(bytes(line))
                line.clear()

    async def _hold(self) -> None:
        await self._jail.inside.pause()
        self._left = max(0.0, self._clock.deadline - trio.current_time())
        self._clock.deadline = math.inf
        self._holding = True

    async def take_results(self, data: AsyncIterator[bytes]) -> None:
        """See :class:`Run`."""
        if not self._holding or self._link is None:
            raise ProtocolError("results for a program that has called no tools")
        self._holding = False
        self._clock.deadline = trio.current_time() + self._left
        self._jail.inside.resume()
        try:
            async for piece in data:
                await self._link.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # It has ended meanwhile, or closed its end; the rest is dropped.
            async for _ in data:
                pass

    def _release(self) -> None:
        if self._link is not None:
            self._link.socket.close()


class CellRun(InterpreterRun):
    """A cell in the lasting namespace of the interpreter."""

    _job = "cell"

    def __init__(self, jail: Jail, request: protocol.RunCell, emit: Emit) -> None:
        super().__init__(jail, request, emit)
        self._interrupt_seconds = request.interrupt_seconds
        self._status: int | None = None

    async def _wait(self) -> None:
        try:
            self._status = (await self._interpreter.answer(cell_decoder)).status
        except InterpreterBroken as error:
            self.unheard = isinstance(error, NeverHeard)
            # It has ended; or it talks nonsense, and is ended.
            self._interpreter.process.signal(signal.SIGKILL)
            await self._interpreter.process.ended.wait()
        self._ended = True

    async def _break_off(self, *, kill: bool) -> None:
        if not kill:
            self._interpreter.process.signal(signal.SIGINT)
            with trio.move_on_after(self._interrupt_seconds):
                await self._wait()

    async def _settle(self) -> None:
        if self._status is None:
            await self._jail.inside.lose_interpreter()
        await self._jail.inside.pause()

    def _own_outcome(self) -> protocol.RunOutcome:
        if self._status is not None:
            return protocol.RunExited(code=self._status)
        return decode_status(self._interpreter.process.status)


def decode_status(status: int) -> protocol.RunOutcome:
    """Decode a wait status."""
    if os.WIFSIGNALED(status):
        return protocol.RunSignalled(signal=os.WTERMSIG(status))
    return protocol.RunExited(code=os.WEXITSTATUS(status))


def _stdin(content: bytes) -> int:
    if not content:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("stdin")
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
