"""The daemon's side of the connector."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

import msgspec
import trio

from supervisor.connector import wire
from supervisor.connector.allowlist import UNIX
from supervisor.errors import StoreUnavailable

_GONE: Final = "the connector is gone"


class Connector:
    """A running connector. :meth:`dial` is a :data:`supervisor.connector.dialling.Dial`, for many threads at once.

    Closing it, or our end, ends the process, which is our child.
    """

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self.channel = channel
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def dial(self, host: str, port: int, seconds: float) -> socket.socket:
        """Have the connector dial; give the connected socket, which is the caller's.

        Blocks for at most ``seconds``. A host that begins with ``unix:`` is the path of a unix socket, with port 0.

        Raises:
            TimeoutError: it took too long.
            PermissionError: the settings do not name this place; the message says which of them would.
            OSError: nobody listens there, the name is not known, or the connector is gone.
        """
        seconds = min(max(seconds, 0.001), wire.MAX_SECONDS)
        try:
            question = wire.encoder.encode(wire.Question(host, port, float(seconds)))
        except UnicodeEncodeError:
            raise OSError(errno.EINVAL, "that is no name of a host") from None
        if len(question) > wire.MAX_BYTES:
            raise OSError(errno.EINVAL, "that is too long for the name of a host")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        local = socket.socket(socket.AF_UNIX) if host.startswith(UNIX) else None
        try:
            with ours:
                with theirs:
                    self._ask(question, [each.fileno() for each in (theirs, local) if each is not None])
                return _take_answer(ours, seconds, local)
        except BaseException:
            if local is not None:
                local.close()
            raise

    def _ask(self, question: bytes, passed: list[int]) -> None:
        try:
            socket.send_fds(self.channel, [question], passed, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionError):
            raise ConnectionResetError(errno.ECONNRESET, _GONE) from None

    async def await_end(self) -> None:
        """Wait until the process is gone, then refuse: without it no connection can be made again.

        Raises:
            StoreUnavailable: it is gone; a supervisor should start the daemon again.
        """
        await trio.lowlevel.wait_readable(self._pidfd)
        raise StoreUnavailable("the connector, by which Redis and S3 are reached, is gone")

    def close(self) -> None:
        """End the process and wait for its end."""
        self.channel.close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass  # somebody waits for all children
        os.close(self._pidfd)


def _take_answer(ours: socket.socket, seconds: float, local: socket.socket | None) -> socket.socket:
    ours.settimeout(seconds)
    # Between this call and the socket object nothing can be interrupted that would lose the descriptor for long.
    data, ancillary, flags, _ = ours.recvmsg(wire.MAX_BYTES, wire.DESCRIPTORS_SPACE, socket.MSG_CMSG_CLOEXEC)
    sockets = [socket.socket(fileno=number) for number in wire.descriptors(ancillary)]
    try:
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, _GONE)
        try:
            answer = wire.answer_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ConnectionResetError(errno.ECONNRESET, "the connector's answer is none") from None
        if answer.number:
            raise OSError(answer.number, answer.reason)
        if local is not None:
            return local
        if len(sockets) != 1 or flags & socket.MSG_CTRUNC:
            # Out of descriptors, on our side.
            raise OSError(errno.EMFILE, "no descriptor is left for a connection")
        connected = sockets.pop()
        connected.settimeout(None)
        return connected
    finally:
        for each in sockets:
            each.close()
