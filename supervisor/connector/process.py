"""The process: takes questions from the daemon, dials what is allowed, and passes connected sockets on.

What comes from the daemon is not trusted: it may have been captured. A question that breaks a rule is dropped with the
descriptors that it brought, whose closing is the answer.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import time
from typing import Final

import msgspec
import trio

from supervisor.connector import wire
from supervisor.connector.allowlist import UNIX, Allowed, plain_host
from supervisor.jailer import kernel

log: Final = logging.getLogger("gaoler.connector")

AT_ONCE: Final = 64
"""Questions that are worked on; more wait in the socket, and with a full one whoever asks."""
LOG_SECONDS: Final = 60.0
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    # A server that vanished without a word is noticed after two minutes.
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


class Dialler:
    """Answers questions, :data:`AT_ONCE` of them at a time."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._places = trio.Semaphore(AT_ONCE)
        self._refused = 0
        self._told_at = -LOG_SECONDS

    async def serve(self, channel: trio.socket.SocketType) -> None:
        """Serve until the daemon's end is closed; then nothing goes on."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._places.acquire()
                data, ancillary, flags, _ = await channel.recvmsg(
                    wire.MAX_BYTES + 1, wire.DESCRIPTORS_SPACE, socket.MSG_CMSG_CLOEXEC
                )
                passed = [each for number in wire.descriptors(ancillary) if (each := _as_unix_socket(number))]
                if not data:
                    break
                if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or not passed:
                    data = b""
                nursery.start_soon(self._work, data, passed)
            nursery.cancel_scope.cancel()

    async def _work(self, data: bytes, passed: list[socket.socket]) -> None:
        try:
            try:
                question = wire.question_decoder.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._tell("a question that is none")
                return
            answer, connected = await self._answer(question, passed[1:])
            _reply(passed[0], answer, connected)
        finally:
            for each in passed:
                each.close()
            self._places.release()

    async def _answer(
        self, question: wire.Question, unconnected: list[socket.socket]
    ) -> tuple[wire.Answer, trio.SocketStream | None]:
        """Give the answer, and the connection if it was made by us."""
        if not self._allowed.permits(question.host, question.port):
            self._tell(f"{question.host[:300]!a} port {question.port}")
            return _refusal(question), None
        host = plain_host(question.host)
        assert host is not None
        try:
            with trio.fail_after(question.seconds):
                if not host.startswith(UNIX):
                    return wire.Answer(0), await _connect(host, question.port)
                if not unconnected:
                    return wire.Answer(errno.EINVAL, "no socket came with the question"), None
                await _connect_unix(unconnected[0], host.removeprefix(UNIX))
                return wire.Answer(0), None
        except trio.TooSlowError:
            return wire.Answer(errno.ETIMEDOUT, f"{_shown(question)} did not answer in {question.seconds:g} s"), None
        except OSError as error:
            return _failure(question, error), None

    def _tell(self, what: str) -> None:
        """Log refusals, but not as fast as a captured daemon can ask."""
        self._refused += 1
        now = time.monotonic()
        if now - self._told_at >= LOG_SECONDS:
            log.warning("refused: %d, the last of them %s", self._refused, what)
            self._told_at, self._refused = now, 0


async def _connect(host: str, port: int) -> trio.SocketStream:
    stream = await trio.open_tcp_stream(host, port)
    for level, option, value in _KEEPALIVE:
        stream.socket.setsockopt(level, option, value)
    # Trio's own choice, which is for non-blocking sockets: back to the host's.
    stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0)
    return stream


async def _connect_unix(unconnected: socket.socket, path: str) -> None:
    """Connect the daemon's socket, which both have open."""
    await trio.socket.from_stdlib_socket(unconnected).connect(path)
    # A full backlog looks like a connection that is under way.
    unconnected.getpeername()
    unconnected.setblocking(True)


def _as_unix_socket(number: int) -> socket.socket | None:
    try:
        found = socket.socket(fileno=number)
    except OSError:
        os.close(number)
        return None
    if found.family == socket.AF_UNIX:
        return found
    found.close()
    return None


def _reply(to: socket.socket, answer: wire.Answer, connected: trio.SocketStream | None) -> None:
    """Send the answer, without waiting: who asked made an empty socket for it, or is not owed one."""
    passed = [] if connected is None else [connected.socket.fileno()]
    try:
        socket.send_fds(to, [wire.encoder.encode(answer)], passed, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass  # it is waited for no longer
    finally:
        if connected is not None:
            connected.socket.close()


def _shown(question: wire.Question) -> str:
    return question.host[:300] if question.host.startswith(UNIX) else f"{question.host[:260]}:{question.port}"


def _refusal(question: wire.Question) -> wire.Answer:
    return wire.Answer(
        errno.EACCES,
        f"{_shown(question)} is named by neither redis.url, redis.nodes, s3.url nor tracing.url: "
        "nodes behind sentinels or of a cluster go into redis.nodes"[:400],
    )


def _failure(question: wire.Question, error: OSError) -> wire.Answer:
    """Say why it failed: of several addresses that were tried, the first's reason."""
    cause: BaseException = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, socket.gaierror):
        return wire.Answer(errno.EHOSTUNREACH, f"{_shown(question)}: {cause.strerror}"[:400])
    number = cause.errno if isinstance(cause, OSError) and cause.errno else errno.EHOSTUNREACH
    return wire.Answer(number, f"{_shown(question)}: {os.strerror(number)}"[:400])


async def _serve(channel: socket.socket, allowed: Allowed) -> None:
    daemon = trio.socket.from_stdlib_socket(channel)
    await daemon.send(wire.READY)
    await Dialler(allowed).serve(daemon)


def main() -> None:
    """Serve; descriptors in argv: the daemon's socket, and a file with the :class:`wire.Order`."""
    kernel.set_process_name("gaoler-connect")
    # Its memory is for nobody to read or write, also where the daemon has the same uid.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        file.seek(0)
        order = wire.order_decoder.decode(file.read())
    logging.basicConfig(level=order.level, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    kernel.install_seccomp(order.program)
    trio.run(_serve, channel, order.allowed)
