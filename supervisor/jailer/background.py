"""A program in the background of a jail that lasts: output goes out as it comes, input comes in, signals too.

It has a channel of its own. The channel's credit is the back-pressure: output that nobody takes stays in the pipe, and
the program waits. When everything in the jail is stopped it is stopped too. It ends with its channel or its jail.
"""

from __future__ import annotations

import os
from typing import Final

import trio

from supervisor.jailer import protocol
from supervisor.jailer.channels import Channel
from supervisor.jailer.conversation import ConversationError, decode, send
from supervisor.jailer.enclosure import READ_BYTES, JailError
from supervisor.jailer.jail import Jail
from supervisor.jailer.launcher import LaunchError, Process

FLOOD_BYTES: Final = 16_384
FLOOD_PAUSE_SECONDS: Final = 0.01
CRUMB_PAUSE_SECONDS: Final = 0.004
DRAIN_READS: Final = 64
"""What is left in the pipes when the program has ended: a pipe's size, some times over."""


class BackgroundProgram:
    """One channel's program."""

    def __init__(self, channel: Channel, jail: Jail) -> None:
        self._channel = channel
        self._jail = jail
        self._stdin = -1

    async def run(self, request: protocol.Background) -> None:
        """Run it to its end.

        Raises:
            ChannelClosed: the peer is gone.
            ConversationError: it breaks a rule.
        """
        jail = self._jail
        try:
            await jail.wait_built()
            if request.seccomp not in jail.seccomp_profiles:
                raise JailError(f"no seccomp profile named {request.seccomp!r}")
            if jail.dead or jail.background >= protocol.MAX_PROGRAMS:
                raise JailError("the sandbox has ended" if jail.dead else f"at most {protocol.MAX_PROGRAMS} processes")
            jail.background += 1
        except JailError as error:
            await send(self._channel, protocol.Refused(reason=str(error)))
            return
        try:
            await self._run(request)
        finally:
            jail.background -= 1

    async def _run(self, request: protocol.Background) -> None:
        stdin_read, self._stdin = os.pipe()
        pipes = {"stdout": os.pipe(), "stderr": os.pipe()}
        inside = self._jail.inside
        self._jail.used = True
        inside.resume()
        process: Process | None = None
        try:
            os.set_blocking(self._stdin, False)
            try:
                stdio = (stdin_read, pipes["stdout"][1], pipes["stderr"][1])
                process = await inside.launch(request.arguments, request.environment, stdio, request.seccomp)
            except LaunchError as error:
                await send(self._channel, protocol.Refused(reason=str(error)[:2000]))
                return
            finally:
                for fd in (stdin_read, pipes["stdout"][1], pipes["stderr"][1]):
                    os.close(fd)
            await send(self._channel, protocol.Started())
            await self._serve(process, {"stdout": pipes["stdout"][0], "stderr": pipes["stderr"][0]})
        finally:
            if process is not None:
                inside.kill_session(process)
                process.close()
            for fd in (pipes["stdout"][0], pipes["stderr"][0]):
                os.close(fd)
            self._close_stdin()

    async def _serve(self, process: Process, streams: dict[protocol.StreamName, int]) -> None:
        for fd in streams.values():
            os.set_blocking(fd, False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, process)
            async with trio.open_nursery() as readers:
                for name, fd in streams.items():
                    readers.start_soon(self._read, name, fd)
                await process.wait_gone()
                await process.ended.wait()
                readers.cancel_scope.cancel()
            # A child of it may still hold the pipes open: what is in them now is what is told.
            for name, fd in streams.items():
                await self._drain(name, fd)
            nursery.cancel_scope.cancel()
        status = process.status
        killed = os.WIFSIGNALED(status)
        await send(
            self._channel,
            protocol.BackgroundEnded(
                code=None if killed else os.WEXITSTATUS(status), signal=os.WTERMSIG(status) if killed else None
            ),
        )

    async def _read(self, name: protocol.StreamName, fd: int) -> None:
        while True:
            await trio.lowlevel.wait_readable(fd)
            async with self._jail.output_turn:
                try:
                    data = os.read(fd, READ_BYTES)
                except BlockingIOError:
                    continue
                if not data:
                    return
                # What was read has to go out, also when the program ends meanwhile; a peer that is gone ends the wait.
                with trio.CancelScope(shield=True):
                    await send(self._channel, protocol.Output(stream=name, data=data))
                # All programs of a jail together get so much through; a flood, also of crumbs, waits in its own pipe.
                await trio.sleep(FLOOD_PAUSE_SECONDS if len(data) >= FLOOD_BYTES else CRUMB_PAUSE_SECONDS)

    async def _drain(self, name: protocol.StreamName, fd: int) -> None:
        for _ in range(DRAIN_READS):
            try:
                data = os.read(fd, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            await send(self._channel, protocol.Output(stream=name, data=data))

    async def _listen(self, process: Process) -> None:
        while True:
            request = decode(await self._channel.receive_message())
            if isinstance(request, protocol.SignalSession):
                self._jail.inside.signal_session(process, request.signal)
            elif isinstance(request, protocol.WriteStdin):
                await send(self._channel, protocol.Written(size=self._write(request.data)))
                if request.close:
                    self._close_stdin()
            else:
                raise ConversationError(
                    f"channel {self._channel.number}: {type(request).__name__} to a background program"
                )

    def _write(self, data: bytes) -> int:
        """Write what the pipe takes now."""
        if self._stdin < 0 or not data:
            return 0
        try:
            return os.write(self._stdin, data)
        except (BlockingIOError, BrokenPipeError):
            return 0

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
