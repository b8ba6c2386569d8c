"""The daemon's side of a program in the background of a jail, and what a lost jailer means to whoever waits for it."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

import msgspec
import trio

from supervisor.errors import SandboxFailed
from supervisor.jailer import protocol
from supervisor.jailer.channels import Channel, ChannelClosed, ProtocolError

WRITE_SECONDS: Final = 10.0
MAX_WRITES: Final = 256
"""Answered at once, by tasks that have not looked yet."""
log: Final = logging.getLogger("gaoler.jailer.client")


class RemoteProgram:
    """A program in the background. Use :meth:`RemoteJail.open_background`. One task reads, others may write."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._written: deque[int] = deque()
        self._news = trio.Condition()
        self._over = False
        """It has ended: whoever waits for an answer waits in vain."""

    async def next(self) -> protocol.Output | protocol.BackgroundEnded:
        """Wait for the next piece of output, or for the end.

        Raises:
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            while True:
                try:
                    answer = protocol.decode_answer(await self._channel.receive_message())
                except ChannelClosed:
                    await self._end()
                    raise
                if isinstance(answer, protocol.BackgroundEnded):
                    await self._end()
                if isinstance(answer, protocol.Output | protocol.BackgroundEnded):
                    return answer
                if not isinstance(answer, protocol.Written):
                    raise ProtocolError(f"{type(answer).__name__} from a background program")
                if len(self._written) >= MAX_WRITES:
                    raise ProtocolError("answers to writes that nobody made")
                async with self._news:
                    self._written.append(answer.size)
                    self._news.notify()

    async def _end(self) -> None:
        self._over = True
        async with self._news:
            self._news.notify_all()

    async def write(self, data: bytes, *, close: bool) -> int:
        """Write to its standard input what the pipe takes now, in at most 64 KiB; say how much that was.

        Needs another task in :meth:`next`; a cancelled call may have written.

        Raises:
            SandboxFailed: the jail was lost.
        """
        # Shielded: an answer that is left behind would be taken for that of the next write. The jailer answers at once.
        with LostIsTyped(), trio.CancelScope(shield=True), trio.fail_after(WRITE_SECONDS):
            await self._channel.send_message(protocol.encode(protocol.WriteStdin(data=data, close=close)))
            async with self._news:
                while not self._written and not self._over:
                    await self._news.wait()
                if not self._written:
                    raise ChannelClosed
                return self._written.popleft()
        raise SandboxFailed("the sandbox was lost")

    async def signal(self, number: int) -> None:
        """Signal it and all that is in its session.

        Raises:
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            await self._channel.send_message(protocol.encode(protocol.SignalSession(signal=number)))


class LostIsTyped:
    """Map what a lost or broken jailer raises to one of our errors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ChannelClosed | trio.TooSlowError):
            raise SandboxFailed("the sandbox was lost") from error
        if isinstance(error, ProtocolError | msgspec.DecodeError):
            log.error("the jailer breaks the protocol: %s", error)
            raise SandboxFailed("the sandbox was lost") from error
