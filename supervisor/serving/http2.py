"""HTTP/2 as strict as our HTTP/1.1, on top of h2, with one stream's application as Hypercorn runs it.

Hypercorn's own connection is not used: it speaks websockets to who asks by CONNECT, keeps a tree of priorities that a
client can fill, and waits for ever for a window that does not open. Here each request sends by itself when the client
has room, in the order of asking; a stream counts as a connection does (:mod:`supervisor.serving.places`), until its
application has ended, whatever the client has reset meanwhile; what comes of a body waits in windows, not in queues.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any, Final, cast

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.events import Event as H2Event
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, InformationalResponse, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.http_stream import HTTPStream

from supervisor.serving.http1 import HEADER_BYTES, RequestTasks
from supervisor.serving.http2_meter import FRAME_BYTES, PER_REQUEST, PER_SENT, FrameMeter, TooMuch
from supervisor.serving.http2_stream import OF_CONNECTIONS, PIECE_BYTES, OneStream, Share, Stream, read_request
from supervisor.serving.places import NoPlace

log: Final = logging.getLogger("gaoler.connections")

STREAMS: Final = 32
STREAM_WINDOW: Final = 256 * 1024
CONNECTION_WINDOW: Final = 512 * 1024
HEADER_TABLE_BYTES: Final = 4096
SMALLEST_WINDOW: Final = 1024
"""A client that lets us send byte by byte is waited for until there is room for this."""


class _Gone(Exception):
    """The stream is no more."""


class _Connection(H2Connection):
    # Until the client has acknowledged our settings this one holds.
    DEFAULT_MAX_HEADER_LIST_SIZE = HEADER_BYTES


class StrictH2:
    """One connection's requests; has what :class:`supervisor.serving.http1.StrictHttp` has for who reads it."""

    in_body = False
    """Each stream waits for its own body."""

    def __init__(self, arguments: tuple[Any, ...], share: Share) -> None:
        """Take what Hypercorn's protocols take, and the share of the limits."""
        (self._app, self._config, self._context, tasks, self._state, self._ssl, *rest) = arguments
        self._client, self._server, self._send = rest
        self._tasks: RequestTasks = tasks
        self._share = share
        self._meter = FrameMeter(trio.current_time())
        self._streams: dict[int, Stream] = {}
        self._running = 0
        self._moved = trio.lowlevel.ParkingLot()
        self._closed = False
        self._h2 = _Connection(H2Configuration(client_side=False, header_encoding=None))
        values = {
            SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        }
        self._h2.local_settings = Settings(client=False, initial_values=values)

    async def initiate(self) -> None:
        """Say what may be sent."""
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - (1 << 16) + 1)
        await self._flush()

    @property
    def between_requests(self) -> bool:
        """Say whether no request is open."""
        return not self._running

    @property
    def waiting_bytes(self) -> int:
        """Give how much is there of something that is not complete."""
        return self._meter.waiting_bytes

    async def refuse(self, _status: int) -> None:
        """End the connection. Only the reading task calls it."""
        await self._end(ErrorCodes.NO_ERROR)

    async def handle(self, event: Event) -> None:
        """Take what has come, or that nothing will."""
        if isinstance(event, Closed):
            self._closed = True
            for stream in list(self._streams.values()):
                await self._drop(stream)
        elif isinstance(event, RawData) and not self._closed:
            await self._read(event.data)

    async def _read(self, data: bytes) -> None:
        """Named boundary: whatever a client makes of h2, it is its own connection that ends."""
        try:
            self._meter.weigh(data, trio.current_time())
            events = self._h2.receive_data(data)
            for event in events:
                await self._take(event)
            await self._flush()
        except TooMuch as error:
            log.info("an HTTP/2 connection of %s is ended: %s", self._share.key, error)
            await self._end(ErrorCodes.ENHANCE_YOUR_CALM)
        except H2Error:
            # What is said of it lies ready to be sent.
            await self._flush()
            await self._send(Closed())
        except Exception:
            log.exception("a fault in an HTTP/2 connection of %s", self._share.key)
            await self._send(Closed())

    async def _take(self, event: H2Event) -> None:
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        match event:
            case RequestReceived():
                await self._begin(event)
            case DataReceived():
                await self._take_body(stream, event)
            case StreamEnded() if stream is not None:
                await self._complete(stream)
            case StreamReset() if stream is not None:
                await self._drop(stream)
            case WindowUpdated() | RemoteSettingsChanged():
                # A client may allow us a table as large as it likes; our own headers would fill it.
                self._h2.encoder.header_table_size = min(self._h2.encoder.header_table_size, HEADER_TABLE_BYTES)
                self._moved.unpark_all()
            case ConnectionTerminated():
                await self._send(Closed())

    async def _complete(self, stream: Stream) -> None:
        """That was the body; one that is not as long as was said is two, to somebody else."""
        if not stream.missing:
            stream.complete_body()
            return
        if not stream.answered:
            self._refuse_stream(stream.id, 400)
        await self._drop(stream)

    async def _take_body(self, stream: Stream | None, event: DataReceived) -> None:
        length = event.flow_controlled_length or 0
        if stream is None or stream.ended:
            await self._give_back(event.stream_id or 0, length)
        else:
            stream.add(event.data or b"", length)

    # -- requests --

    async def _begin(self, event: RequestReceived) -> None:
        """Have the application answer a request, or refuse it."""
        number = event.stream_id or 0
        status, method, target, headers = read_request(event.headers or [])
        missing = next((int(value) for name, value in headers if name == b"content-length"), None) if not status else 0
        if missing and event.stream_ended is not None:
            status = 400
        if status:
            self._refuse_stream(number, status)
            return
        stack = ExitStack()
        try:
            if self._running >= STREAMS or self._context.terminated.is_set():
                raise NoPlace
            # The connection itself has a place: the first stream is in that.
            if self._running:
                self._share.places.busy(stack.enter_context(self._share.places.take(self._share.key)))
        except NoPlace:
            # Not begun: a client may send it again.
            self._refuse_stream(number)
            return
        self._running += 1
        await self._send(Updated(idle=False))
        stream = Stream(number, self._give_back, self._stalled, self._share.body_seconds)
        stream.missing = missing
        self._streams[number] = stream
        stream.http = HTTPStream(
            self._counted(stack),
            self._config,
            self._context,
            cast("Any", OneStream(self._tasks, stream)),
            self._ssl,
            self._client,
            self._server,
            self._stream_send,
            number,
        )
        await stream.http.handle(
            Request(
                stream_id=number,
                headers=headers,
                http_version="2",
                method=method.decode("ascii"),
                raw_path=target,
                state=self._state,
            )
        )

    def _counted(self, stack: ExitStack) -> Any:
        """Hold the place until the application has ended, however soon the client has lost interest."""

        async def app(*arguments: Any) -> None:
            try:
                await self._app(*arguments)
            finally:
                stack.close()
                self._running -= 1
                if not self._running:
                    with trio.CancelScope(shield=True):
                        await self._send(Updated(idle=True))

        return app

    def _refuse_stream(self, number: int, status: int = 0) -> None:
        """Answer with a status and no body, or say that it was not begun; take nothing more of the request."""
        code = ErrorCodes.NO_ERROR if status else ErrorCodes.REFUSED_STREAM
        try:
            if status:
                said = [(b":status", b"%d" % status), (b"content-length", b"0")]
                self._h2.send_headers(number, said, end_stream=True)
            self._reset(number, code)
        except H2Error:
            # The client has thought better of it.
            pass

    def _reset(self, number: int, code: ErrorCodes) -> None:
        if number in self._h2.streams and not self._h2.streams[number].closed:
            self._h2.reset_stream(number, code)

    async def _stream_send(self, event: StreamEvent) -> None:
        """Take what the application says; of a stream that is no more nobody hears it."""
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.ended:
            return
        try:
            match event:
                case Response():
                    stream.answered = True
                    kept = [(name, value) for name, value in event.headers if name.lower() not in OF_CONNECTIONS]
                    status = (b":status", b"%d" % event.status_code)
                    self._h2.send_headers(stream.id, [status, *kept, *self._config.response_headers("h2")])
                case Body():
                    await self._send_body(stream, memoryview(bytes(event.data)))
                case EndBody():
                    self._h2.end_stream(stream.id)
                    self._meter.earn(PER_REQUEST)
                case StreamClosed():
                    await self._over(stream)
                case InformationalResponse() | _:
                    return
            await self._flush()
        except (H2Error, _Gone, KeyError):
            await self._drop(stream)

    async def _over(self, stream: Stream) -> None:
        """The application has ended; what it left unsaid will not be said."""
        self._reset(stream.id, ErrorCodes.NO_ERROR if stream.answered else ErrorCodes.INTERNAL_ERROR)
        await self._drop(stream)
        if self._context.terminated.is_set() and not self._streams:
            await self._end(ErrorCodes.NO_ERROR)

    async def _send_body(self, stream: Stream, data: memoryview) -> None:
        while data:
            room = await self._room(stream, len(data))
            self._h2.send_data(stream.id, bytes(data[:room]))
            self._meter.earn(PER_SENT)
            data = data[room:]
            stream.sent += room
            if stream.sent >= PIECE_BYTES:
                stream.sent, stream.sent_waited = 0, 0.0
            await self._flush()

    async def _room(self, stream: Stream, wanted: int) -> int:
        """Give how much may be sent now, when it is worth a frame.

        Raises:
            _Gone: the stream is no more, or the client has had its time.
        """
        while not stream.ended:
            room = min(self._h2.local_flow_control_window(stream.id), self._h2.max_outbound_frame_size, FRAME_BYTES)
            if room >= min(wanted, SMALLEST_WINDOW):
                return min(room, wanted)
            began = trio.current_time()
            with trio.move_on_after(max(0.0, self._share.send_seconds - stream.sent_waited)) as scope:
                await self._moved.park()
            stream.sent_waited += trio.current_time() - began
            if scope.cancelled_caught:
                self._reset(stream.id, ErrorCodes.CANCEL)
                await self._flush()
                break
        raise _Gone

    async def _give_back(self, number: int, flow_bytes: int) -> None:
        """Let the client send as much again."""
        if flow_bytes and not self._closed:
            try:
                self._h2.acknowledge_received_data(flow_bytes, number)
            except (H2Error, KeyError):
                return
            await self._flush()

    async def _stalled(self, number: int) -> None:
        """The client has had its time for the body."""
        stream = self._streams.get(number)
        if stream is None or stream.ended:
            return
        if stream.answered:
            self._reset(number, ErrorCodes.CANCEL)
        else:
            self._refuse_stream(number, 408)
        await self._flush()
        await self._drop(stream)

    async def _drop(self, stream: Stream) -> None:
        """Forget a stream; its application is told, and ends."""
        self._streams.pop(stream.id, None)
        left = stream.close()
        self._moved.unpark_all()
        await self._give_back(stream.id, left)
        if stream.http is not None and not stream.http.closed:
            await stream.http.handle(StreamClosed(stream_id=stream.id))

    async def _end(self, code: ErrorCodes) -> None:
        try:
            self._h2.close_connection(code)
        except H2Error:
            pass
        await self._flush()
        await self._send(Closed())

    async def _flush(self) -> None:
        # Nothing may come between taking the bytes and asking for the lock: headers are compressed in their order.
        data = self._h2.data_to_send()
        if data:
            await self._send(RawData(data=bytes(data)))
