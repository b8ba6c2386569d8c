"""One bind for both doors: who gets a connection, and how long it may keep us waiting.

Hypercorn's pieces under Trio, put together anew. Its own server gives a place to whoever comes, waits for ever for a
client that sends a body byte by byte or does not read its answer, and speaks HTTP/2 and websockets with whoever asks
(:mod:`supervisor.serving.http1`, :mod:`supervisor.serving.http2`).
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from hypercorn.utils import parse_socket_addr, repr_socket_addr, wrap_app

from supervisor.serving.handshake import Handshakes, TlsStream
from supervisor.serving.http1 import RequestTasks, StrictHttp
from supervisor.serving.http2 import StrictH2
from supervisor.serving.http2_stream import Share
from supervisor.serving.places import NoPlace, Place, Places, key_of

log: Final = logging.getLogger("gaoler.connections")

RECEIVE_BYTES: Final = 64 * 1024
PIECE_BYTES: Final = 64 * 1024
BACKLOG: Final = 1024
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 4 << 20
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: 78\r\n\r\n"
    b'{"error":"connections","message":"too many connections are open; come again"}\n'
)
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)


@dataclass(frozen=True, slots=True)
class Patience:
    """What a client may take. Seconds are those in which we wait for it, never those in which it waits for us.

    ``header_seconds``: for the whole head of a request, from its first byte. ``body_seconds`` and ``send_seconds``: for
    each 64 KiB, of a body and of an answer. ``idle_seconds``: from one request to the first byte of the next.
    """

    connections: int = 4096
    connections_per_address: int = 3072
    header_seconds: float = 20.0
    body_seconds: float = 60.0
    send_seconds: float = 60.0
    idle_seconds: float = 75.0


class Connection:
    """One connection, from its acceptance to its end."""

    def __init__(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream | TlsStream,
        places: Places,
        place: Place,
        patience: Patience,
    ) -> None:
        self._config = config
        self._stream = stream
        secure = isinstance(stream, trio.SSLStream)
        self._socket = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._places = places
        self._place = place
        self._patience = patience
        self._send_lock = trio.Lock()
        self._waiting = trio.CancelScope()
        # When what is waited for began; in a body, only the time that was spent waiting counts.
        self._since = trio.current_time()
        self._waited = 0.0
        self._received = 0
        self._tasks = RequestTasks()
        # Of a unix socket: who is at its other end.
        sock = self._socket.socket
        client = parse_socket_addr(sock.family, sock.getpeername()) or (place.key, 0)
        server = parse_socket_addr(sock.family, sock.getsockname())
        arguments: tuple[Any, ...] = (app, config, context, self._tasks, {}, secure, client, server, self._take)
        self._protocol: StrictHttp | StrictH2
        if isinstance(stream, trio.SSLStream) and stream.selected_alpn_protocol() == "h2":
            share = Share(places, place.key, patience.body_seconds, patience.send_seconds)
            self._protocol = StrictH2(arguments, share)
        else:
            self._protocol = StrictHttp(*arguments)
            self._protocol.linger = self._linger

    async def serve(self) -> None:
        """Answer requests until either side ends it."""
        try:
            async with self._tasks:
                await self._protocol.initiate()
                await self._read()
        finally:
            await self._close()

    async def _read(self) -> None:
        while True:
            began = trio.current_time()
            with trio.CancelScope(deadline=self._deadline()) as self._waiting:
                try:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                except _GONE:
                    break
            if self._waiting.cancelled_caught:
                await self._out_of_patience()
                break
            self._note(data, trio.current_time() - began)
            await self._protocol.handle(RawData(bytes(data)))
            if not data:
                break
        await self._protocol.handle(Closed())

    def _deadline(self) -> float:
        """Give until when the next bytes have to come."""
        patience, protocol = self._patience, self._protocol
        if protocol.between_requests:
            return self._since + (patience.header_seconds if protocol.waiting_bytes else patience.idle_seconds)
        if protocol.in_body:
            return trio.current_time() + max(0.0, patience.body_seconds - self._waited)
        # The whole request is here: now it is the client who waits.
        return math.inf

    def _note(self, data: bytes | bytearray, waited: float) -> None:
        """Count what has come, and how long it was waited for."""
        if self._protocol.between_requests:
            if not self._protocol.waiting_bytes:
                self._since = trio.current_time()
            self._waited = self._received = 0
            return
        self._waited += waited
        self._received += len(data)
        if self._received >= PIECE_BYTES:
            self._waited = self._received = 0

    async def _out_of_patience(self) -> None:
        if self._protocol.between_requests and not self._protocol.waiting_bytes:
            return
        await self._protocol.refuse(408)

    async def _take(self, event: Event) -> None:
        """Do what the protocol wants done with the connection."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed):
            await self._close()
            await self._protocol.handle(Closed())
        elif isinstance(event, Updated):
            if event.idle:
                self._places.idle(self._place)
                self._since = trio.current_time()
                self._waiting.deadline = self._deadline()
            else:
                self._places.busy(self._place)

    async def _send(self, data: bytes) -> None:
        """Send all of it, whoever is cancelled meanwhile: a half of it would spoil what comes after."""
        with trio.CancelScope(shield=True) as scope:
            async with self._send_lock:
                self._place.sending = scope
                try:
                    for start in range(0, len(data), PIECE_BYTES):
                        scope.deadline = min(trio.current_time() + self._patience.send_seconds, self._places.deadline)
                        await self._stream.send_all(memoryview(data)[start : start + PIECE_BYTES])
                except _GONE:
                    pass
                else:
                    return
        if scope.cancelled_caught:
            self._reset()
        await self._protocol.handle(Closed())

    def _reset(self) -> None:
        """Drop what lies in the kernel for a client that does not fetch it."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        except _GONE:
            pass
        self._socket.socket.close()

    async def _linger(self) -> None:
        """Let a client that is still sending see its refusal: closing in its face would lose it."""
        taken = 0
        with trio.move_on_after(LINGER_SECONDS):
            try:
                await self._end_sending()
                while taken < LINGER_BYTES and (data := await self._stream.receive_some(RECEIVE_BYTES)):
                    taken += len(data)
            except _GONE:
                pass

    async def _close(self) -> None:
        # Closing tells the application, which ends whoever is closing here: it must not be stopped half-way.
        # Under TLS a last record says that this was all; who does not take it is not waited for.
        with trio.move_on_after(LINGER_SECONDS, shield=True):
            try:
                await self._end_sending()
            except _GONE:
                pass
            await self._stream.aclose()

    async def _end_sending(self) -> None:
        """Say that no more will come. Under TLS only the end of the connection says it."""
        if isinstance(self._stream, trio.SocketStream):
            await self._stream.send_eof()


async def _serve_connection(
    app: Any,
    config: Config,
    context: WorkerContext,
    places: Places,
    patience: Patience,
    handshakes: Handshakes | None,
    stream: trio.SocketStream,
) -> None:
    try:
        key = key_of(stream)
        _watch_for_death(stream)
        with places.take(key) as place, place.scope:
            link = stream if handshakes is None else await handshakes.shake(stream, key)
            if link is not None:
                await Connection(app, config, context, link, places, place, patience).serve()
    except NoPlace:
        if handshakes is None:
            _say_full(stream)
    except OSError:
        # It was gone before it began.
        pass
    finally:
        with trio.CancelScope(shield=True):
            await stream.aclose()


def _watch_for_death(stream: trio.SocketStream) -> None:
    """A client whose machine or network has gone says nothing; the kernel asks after it, while we wait."""
    if stream.socket.family == socket.AF_UNIX:
        return
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    ):
        stream.setsockopt(level, option, value)


def _say_full(stream: trio.SocketStream) -> None:
    """One try: who floods us is not waited for."""
    try:
        os.write(stream.socket.fileno(), _FULL)
    except OSError:
        pass


async def serve(
    app: ASGIFramework,
    config: Config,
    patience: Patience | None = None,
    *,
    handshakes: Handshakes | None = None,
    shutdown_trigger: Callable[[], Awaitable[object]] = trio.sleep_forever,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application on ``config.bind`` until ``shutdown_trigger`` returns; with ``handshakes`` over TLS.

    Then no connection is accepted, idle ones are closed, and the others have ``config.graceful_timeout`` seconds.
    Cancelling ends them at once. ``task_status`` is given the addresses.
    """
    patience = patience or Patience()
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    lifespan, context = Lifespan(wrapped, config, {}), WorkerContext(None)
    places = Places(patience.connections, patience.connections_per_address)
    handler = partial(_serve_connection, wrapped, config, context, places, patience, handshakes)
    async with trio.open_nursery() as nursery:
        await nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        listeners, bound = _listen(config, "http" if handshakes is None else "https")
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(partial(trio.serve_listeners, handler, listeners, handler_nursery=connections))
                task_status.started(bound)
                try:
                    await shutdown_trigger()
                finally:
                    # Being cancelled, too, does not reach what is being sent.
                    deadline = trio.current_time() + config.graceful_timeout
                    places.hurry(deadline)
                accepting.cancel_scope.cancel()
            connections.cancel_scope.deadline = deadline
            await context.terminated.set()
        await lifespan.wait_for_shutdown()
        nursery.cancel_scope.cancel()


def _listen(config: Config, scheme: str) -> tuple[list[trio.SocketListener], list[str]]:
    listeners, bound = [], []
    for sock in config.create_sockets().insecure_sockets:
        sock.listen(BACKLOG)
        listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))
        bound.append(f"{scheme}://{repr_socket_addr(sock.family, sock.getsockname())}")
    return listeners, bound
