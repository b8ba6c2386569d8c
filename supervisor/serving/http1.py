"""HTTP/1.1 as strict as two readers of one message need it, on top of h11 and hypercorn.

h11 reads what RFC 9112 lets a server read: folded headers, bare line feeds, a length beside chunks. A proxy in front of
us may read the same bytes otherwise, and then one of us sees a request that the other has not seen. So all of that is
refused. Websockets and HTTP/2 without TLS, which hypercorn would speak when asked, are not spoken: nothing here needs
them, and each is a parser and a set of floods more.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import h11
import trio
from h11._receivebuffer import ReceiveBuffer
from hypercorn.events import Closed, Updated
from hypercorn.protocol.events import Body, EndBody, Event, Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup, _handle

HEADER_BYTES: Final = 32 * 1024
HEADER_LINES: Final = 100
TARGET_BYTES: Final = 8 * 1024
BODY_PIECE_BYTES: Final = 64 * 1024
FREE_CHUNKS: Final = 1024
SMALLEST_CHUNK_BYTES: Final = 16
"""A chunk costs as much work as a kilobyte: after the first ones they have to be so large on average."""
QUEUED_EVENTS: Final = 10
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_VERSIONS: Final = frozenset({b"1.0", b"1.1"})
_ONCE: Final = frozenset({b"content-length", b"transfer-encoding", b"host"})


def refusal(status: int, words: str) -> h11.RemoteProtocolError:
    """Make what h11 raises for a bad request, with a status."""
    return h11.RemoteProtocolError(words, error_status_hint=status)


class StrictBuffer(ReceiveBuffer):
    """h11's, which sees the raw lines of a header block before anything is made of them."""

    _taken: bytearray = bytearray()

    def _extract(self, count: int) -> bytearray:
        self._taken = super()._extract(count)
        return self._taken

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Give the lines of a block.

        Raises:
            RemoteProtocolError: they can be read in two ways, or are too many.
        """
        lines = super().maybe_extract_lines()
        if lines is not None:
            check_lines(bytes(self._taken))
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        """Give a line that tells the size of a chunk.

        Raises:
            RemoteProtocolError: it can be read in two ways.
        """
        line = super().maybe_extract_next_line()
        if line is not None and _CONTROL.search(line[:-2]):
            raise refusal(400, "a chunk's line has no control character inside")
        return line


def has_controls(text: bytes) -> bool:
    """Say whether there is a control character but a tab in it."""
    return _CONTROL.search(text) is not None


def check_lines(raw: bytes) -> None:
    """Refuse a header block that two readers could read differently. Pure.

    Raises:
        RemoteProtocolError: with the status.
    """
    if len(raw) > HEADER_BYTES:
        raise refusal(431, f"a header block has at most {HEADER_BYTES} bytes")
    lines = raw.split(b"\r\n")
    if len(lines) - 3 > HEADER_LINES:
        raise refusal(431, f"a request has at most {HEADER_LINES} headers")
    seen: set[bytes] = set()
    for number, line in enumerate(lines):
        if _CONTROL.search(line):
            raise refusal(400, "a line ends with CR and LF, and has no control character inside")
        if line[:1] in (b" ", b"\t"):
            raise refusal(400, "a header is one line")
        name = line.partition(b":")[0].lower()
        if number and name in _ONCE:
            if name in seen:
                raise refusal(400, "a header that decides where a message ends, or for whom it is, comes once")
            seen.add(name)
    if {b"content-length", b"transfer-encoding"} <= seen:
        raise refusal(400, "a message has a length or chunks, not both")


def check_request(request: h11.Request) -> None:
    """Refuse what is well-formed but not for us. Pure.

    Raises:
        RemoteProtocolError: with the status.
    """
    if request.http_version not in _VERSIONS:
        raise refusal(505, "HTTP/1.1 is spoken here")
    if request.http_version == b"1.0" and any(name == b"transfer-encoding" for name, _ in request.headers):
        raise refusal(400, "HTTP/1.0 knows no chunks")
    if len(request.target) > TARGET_BYTES:
        raise refusal(414, f"a target has at most {TARGET_BYTES} bytes")
    if not request.target.startswith(b"/"):
        # Neither a proxy's absolute form, nor CONNECT's, nor an asterisk.
        raise refusal(400, "a target is a path")


class StrictHttp(H11Protocol):
    """One connection's requests. ``linger`` is awaited between a refusal and the end of the connection."""

    linger: Callable[[], Awaitable[None]]
    connection: h11.Connection

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
        self._buffer = StrictBuffer()
        self.connection._receive_buffer = self._buffer  # noqa: SLF001 - h11 has no other way to see raw lines
        self._refused = False
        self._chunks = 0
        self._body_bytes = 0

    @property
    def between_requests(self) -> bool:
        """Say whether no request has come, or none since the last was answered."""
        return self.connection.their_state is h11.IDLE

    @property
    def in_body(self) -> bool:
        """Say whether a body is coming."""
        return self.connection.their_state is h11.SEND_BODY

    @property
    def waiting_bytes(self) -> int:
        """Give how much is there of something that is not complete."""
        return len(self._buffer)

    async def refuse(self, status: int) -> None:
        """Answer with a status, if no answer has begun, and end the connection. Only the reading task calls it."""
        self._refused = True
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(status)
            await self.linger()
        await self.send(Closed())

    async def stream_send(self, event: Event) -> None:
        """Take what the application says; after a refusal nobody listens."""
        if not self._refused:
            await super().stream_send(event)

    async def _handle_events(self) -> None:
        """Make of what has come what the application reads. Small chunks are put together."""
        body = bytearray()
        while True:
            try:
                event = await self._next_event()
            except h11.RemoteProtocolError as error:
                await self.refuse(error.error_status_hint)
                return
            if isinstance(event, h11.Data):
                body += event.data
            if body and (len(body) >= BODY_PIECE_BYTES or not isinstance(event, h11.Data)):
                await self._pass_on(Body(stream_id=STREAM_ID, data=bytes(body)))
                body.clear()
            if isinstance(event, h11.Request):
                await self._begin(event)
            elif event is h11.PAUSED:
                await self.can_read.clear()
                await self.can_read.wait()
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed) or self.stream is None:
                return
            elif isinstance(event, h11.EndOfMessage):
                await self._pass_on(EndBody(stream_id=STREAM_ID))

    async def _next_event(self) -> Any:
        """Give what h11 makes of what has come.

        Raises:
            RemoteProtocolError: it is refused.
        """
        if self.connection.they_are_waiting_for_100_continue:
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
        event = self.connection.next_event()
        if isinstance(event, h11.Data):
            self._count(event)
        elif isinstance(event, h11.Request):
            check_request(event)
        return event

    async def _pass_on(self, event: Event) -> None:
        if self.stream is not None:
            await self.stream.handle(event)

    def _count(self, data: h11.Data) -> None:
        self._chunks += data.chunk_start
        self._body_bytes += len(data.data)
        if self._chunks > FREE_CHUNKS and self._body_bytes < self._chunks * SMALLEST_CHUNK_BYTES:
            raise refusal(400, f"chunks have at least {SMALLEST_CHUNK_BYTES} bytes on average")

    async def _begin(self, request: h11.Request) -> None:
        """Have the application answer a request."""
        self._chunks = self._body_bytes = 0
        await self.send(Updated(idle=False))
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1


class Inbox:
    """What comes for one request. A disconnection never waits, nor does anything after it, or after the request's end.

    Hypercorn's own is a channel: its connection hangs when that is full and the application does not look any more.
    """

    def __init__(self) -> None:
        self._events: list[Any] = []
        self._over = False
        self._changed = trio.lowlevel.ParkingLot()

    async def put(self, event: Any) -> None:
        """Add an event; wait while there are many."""
        if event["type"] == "http.disconnect":
            self.close()
        while len(self._events) >= QUEUED_EVENTS and not self._over:
            await self._changed.park()
        if not self._over:
            self._events.append(event)
            self._changed.unpark_all()

    async def receive(self) -> Any:
        """Give the next event: ``http.disconnect`` when there will be none."""
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._over:
                return {"type": "http.disconnect"}
            await self._changed.park()
        self._changed.unpark_all()
        return self._events.pop(0)

    def close(self) -> None:
        """Nothing more is taken."""
        self._over = True
        self._changed.unpark_all()


class RequestTasks(TaskGroup):
    """Hypercorn's, with such an inbox for each request."""

    async def spawn_app(
        self, app: Any, config: Any, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        """Start the application on a request; give what takes its events."""
        inbox = Inbox()

        async def closing(*arguments: Any) -> None:
            try:
                await app(*arguments)
            finally:
                inbox.close()

        self.start(closing, config, scope, inbox.receive, send)
        return inbox.put

    def start(self, app: Any, config: Any, scope: Any, receive: Any, send: Any) -> None:
        """Start the application on a request, whose events it takes by ``receive``."""
        handle: Any = _handle
        assert self._nursery is not None
        self._nursery.start_soon(
            handle, app, config, scope, receive, send, trio.to_thread.run_sync, trio.from_thread.run
        )
