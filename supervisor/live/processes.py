"""Programs in the background of lasting sessions: what they have written, whether they run, and how they ended.

A program's output is kept in a ring: the latest part of it, with a position that only grows, so that a reader can go
on where it was and sees how much it has missed. A program ends by itself, by a signal, with its sandbox, or when its
time is over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.errors import Conflict, SandboxFailed
from supervisor.jailer import protocol
from supervisor.jailer.client import RemoteJail
from supervisor.jailer.remote_program import RemoteProgram
from supervisor.workspace.views import ProcessInfo, ProcessOutput, Status

WRITE_SECONDS: Final = 5.0
"""How long input waits for a program that does not read."""
END_SECONDS: Final = 1.0
PIECE_BYTES: Final = 32_768


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Of each program: how long it may run, how much of its output is kept."""

    seconds: float
    output_bytes: int


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What is started. ``seccomp`` names the profile of its language."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    seccomp: str


class BackgroundProcess:
    """One program. :meth:`run` is its task; the rest is for readers and writers."""

    def __init__(self, process_id: str, command: str, limits: ProcessLimits) -> None:
        self.id = process_id
        self._command = command
        self._limits = limits
        self._ring = bytearray()
        self._total = 0
        self._read_to = 0
        self._news = trio.Event()
        self._status: Status = "running"
        self._exit_code: int | None = None
        self._signal: int | None = None
        self._started_at = time.time()
        self._clock = trio.current_time()
        self._ended_after = 0.0
        self._program: RemoteProgram | None = None
        self._writing = trio.Lock()

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self._status == "running"

    def info(self) -> ProcessInfo:
        """Describe it."""
        seconds = trio.current_time() - self._clock if self.running else self._ended_after
        return ProcessInfo(
            self.id,
            self._command,
            self._status,
            self._exit_code,
            self._signal,
            self._started_at,
            seconds,
            self._total,
        )

    # -- its task --

    async def run(
        self,
        jail: RemoteJail,
        line: CommandLine,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Start it, keep what it writes until it ends. Cancelling kills it.

        Raises:
            JailRefused, SandboxFailed: (before it has started) it could not be.
        """
        started = False
        try:
            async with jail.open_background(line.arguments, line.environment, line.seccomp) as self._program:
                started = True
                task_status.started()
                with trio.move_on_after(self._limits.seconds) as clock:
                    await self._keep_output(self._program)
                if clock.cancelled_caught:
                    self._end("killed")
        except SandboxFailed:
            if not started:
                raise
        finally:
            self._end("lost")

    async def _keep_output(self, program: RemoteProgram) -> None:
        while True:
            answer = await program.next()
            if isinstance(answer, protocol.BackgroundEnded):
                self._exit_code, self._signal = answer.code, answer.signal
                self._end("exited" if answer.signal is None else "signalled")
                return
            self._ring += answer.data
            self._total += len(answer.data)
            del self._ring[: max(0, len(self._ring) - self._limits.output_bytes)]
            self._tell()

    def _end(self, status: Status) -> None:
        """The first word counts."""
        if self.running:
            self._status = status
            self._ended_after = trio.current_time() - self._clock
            self._program = None
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    # -- for its caller --

    async def read(
        self, *, position: int | None, limit: int, wait_seconds: float, until: bytes | None = None
    ) -> ProcessOutput:
        """Give at most ``limit`` bytes from ``position``, or from where the last read ended.

        Waits up to ``wait_seconds`` for something to come, or for ``until`` to be in it, or for the end.
        """
        start = self._read_to if position is None else min(position, self._total)
        with trio.move_on_after(wait_seconds):
            while self.running and not self._has(start, limit, until):
                await self._news.wait()
        oldest = self._total - len(self._ring)
        first = max(start, oldest)
        data = bytes(self._ring[first - oldest : first - oldest + limit])
        self._read_to = first + len(data)
        return ProcessOutput(self.info(), data, first, first - start)

    def _has(self, start: int, limit: int, until: bytes | None) -> bool:
        oldest = self._total - len(self._ring)
        first = max(start, oldest) - oldest
        if until is None:
            return len(self._ring) > first
        return self._ring.find(until, first) >= 0 or len(self._ring) - first >= limit

    async def write(self, data: bytes, *, close: bool) -> int:
        """Write to its standard input; say how many bytes it has room for within some seconds.

        Raises:
            Conflict: it has ended.
        """
        written = 0
        async with self._writing:
            with trio.move_on_after(WRITE_SECONDS):
                while written < len(data):
                    taken = await self._write(data[written : written + PIECE_BYTES])
                    written += taken
                    if not taken:
                        await trio.sleep(0.02)
            if close and written == len(data):
                # One that has ended after it took everything has nothing to be closed.
                with suppress(Conflict, SandboxFailed), trio.move_on_after(WRITE_SECONDS):
                    await self._living().write(b"", close=True)
        return written

    async def _write(self, piece: bytes) -> int:
        try:
            return await self._living().write(piece, close=False)
        except SandboxFailed:
            # It has ended, and its end is on its way; or the sandbox has gone with it.
            await self.wait_ended(END_SECONDS)
            self._living()
            raise

    async def signal(self, number: int) -> None:
        """Signal it, with all that it has started and that has not left its session.

        Raises:
            Conflict: it has ended.
        """
        await self._living().signal(number)

    async def wait_ended(self, seconds: float) -> None:
        """Wait for its end, so long at most."""
        with trio.move_on_after(seconds):
            while self.running:
                await self._news.wait()

    def _living(self) -> RemoteProgram:
        if self._program is None:
            raise Conflict(f"process {self.id} has ended", field="process")
        return self._program
