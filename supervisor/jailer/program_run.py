"""One program in a jail: its output captured, its limits watched, its end decoded."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import trio

from supervisor.jailer import protocol
from supervisor.jailer.capture import StreamCapture
from supervisor.jailer.launcher import LaunchError, Process

if TYPE_CHECKING:
    from supervisor.jailer.jail import Jail

READ_BYTES: Final = 65_536
Emit = Callable[[protocol.Output], Awaitable[None]]


class JailError(Exception):
    """The jail could not be built or was lost; by our fault, not the program's."""


class ProgramRun:
    """One program in a jail."""

    def __init__(self, jail: Jail, request: protocol.Run, emit: Emit) -> None:
        limits = jail.policy.limits
        self._jail = jail
        self._request = request
        self._emit = emit
        self._captures = {
            "stdout": StreamCapture(limits.output_bytes, limits.output_kill_bytes),
            "stderr": StreamCapture(limits.output_bytes, limits.output_kill_bytes),
        }
        self._flooded: protocol.StreamName | None = None
        self._stop = trio.CancelScope()

    async def to_its_end(self) -> protocol.Ended:
        """Start the program, pass its output on, enforce its limits; return when nothing of it is left.

        Raises:
            JailError: it could not be started, or would not die.
        """
        jail, limits = self._jail, self._jail.policy.limits
        wall_limit = min(self._request.wall_seconds or limits.wall_seconds, limits.wall_seconds)
        before = jail.counters()
        started = trio.current_time()
        process, streams = await self._start()
        try:
            async with trio.open_nursery() as readers:
                readers.start_soon(self._read, "stdout", streams[0])
                readers.start_soon(self._read, "stderr", streams[1])
                with self._stop:
                    with trio.move_on_after(wall_limit) as clock:
                        await process.ended.wait()
                wall_seconds = trio.current_time() - started
                ended_by_itself = process.ended.is_set()
                await self._stop_everything(process)
            for name in ("stdout", "stderr"):
                await self._emit_tail(name)
        finally:
            process.close()
        after = jail.counters()
        if self._flooded is not None:
            outcome: protocol.RunOutcome = protocol.RunOutputLimit(
                stream=self._flooded, limit_bytes=limits.output_kill_bytes
            )
        elif clock.cancelled_caught and not ended_by_itself:
            outcome = protocol.RunTimedOut(limit_seconds=wall_limit)
        else:
            outcome = _outcome(
                process.status, oom_kills=after.oom_kills - before.oom_kills, limit_bytes=limits.memory_bytes
            )
        return protocol.Ended(
            outcome=outcome,
            wall_seconds=wall_seconds,
            cpu_seconds=max(0.0, after.cpu_seconds - before.cpu_seconds),
            memory_peak_bytes=after.memory_peak_bytes,
        )

    async def _start(self) -> tuple[Process, tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]]:
        with ExitStack() as ours:
            stdin = _stdin(self._request.stdin)
            ours.callback(os.close, stdin)
            out_read, out_write = os.pipe()
            ours.callback(os.close, out_write)
            streams = [trio.lowlevel.FdStream(out_read)]
            err_read, err_write = os.pipe()
            ours.callback(os.close, err_write)
            streams.append(trio.lowlevel.FdStream(err_read))
            try:
                process = await self._jail.launch(self._request, (stdin, out_write, err_write))
            except BaseException as error:
                for stream in streams:
                    await trio.aclose_forcefully(stream)
                if isinstance(error, LaunchError):
                    raise JailError(str(error)) from None
                raise
            return process, (streams[0], streams[1])

    async def _read(self, name: protocol.StreamName, stream: trio.lowlevel.FdStream) -> None:
        capture = self._captures[name]
        async with stream:
            while data := await stream.receive_some(READ_BYTES):
                head = capture.feed(data)
                if head:
                    await self._emit(protocol.Output(stream=name, data=head))
                if capture.flooded and self._flooded is None:
                    self._flooded = name
                    self._stop.cancel()

    async def _stop_everything(self, process: Process) -> None:
        """Nothing of this run lives on; then the pipes have no writer and the readers end by themselves."""
        if self._request.final:
            await self._jail.kill()
        else:
            await self._jail.kill_rest()
        await process.ended.wait()

    async def _emit_tail(self, name: str) -> None:
        omitted, tail = self._captures[name].finish()
        stream: protocol.StreamName = "stdout" if name == "stdout" else "stderr"
        for start in range(0, len(tail), READ_BYTES):
            piece = protocol.Output(stream=stream, data=tail[start : start + READ_BYTES], omitted_before=omitted)
            await self._emit(piece)
            omitted = 0


def _outcome(status: int, *, oom_kills: int, limit_bytes: int) -> protocol.RunOutcome:
    """Decode a wait status. A kill for memory wins: a grandchild may have died of it and the program gone on."""
    if oom_kills > 0:
        return protocol.RunOutOfMemory(limit_bytes=limit_bytes)
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
