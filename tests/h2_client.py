"""A client of HTTP/2 that does what it is told to, also what no client does."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from hpack import Encoder
from hyperframe.frame import Frame

from tests.certificates import Certificates, secure
from tests.daemon import KEY, Daemon

Headers = Sequence[tuple[str, str]]


@dataclass
class Reply:
    """What has come for one stream. ``reset``: the code with which it was, if it was."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", "0"))

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


@dataclass
class H2Client:
    """One connection. ``takes``: windows are given back as their bytes come."""

    link: ssl.SSLSocket
    takes: bool = True
    replies: dict[int, Reply] = field(default_factory=dict)
    goodbye: int | None = None
    """The code with which the server has ended the connection."""
    ended: bool = False

    def __post_init__(self) -> None:
        # Nothing that it sends is looked at.
        config = h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)

    def begin(self, settings: Mapping[int, int] | None = None) -> None:
        if settings:
            values = {h2.settings.SettingCodes(code): value for code, value in settings.items()}
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.send(self.h2.data_to_send())

    def send(self, data: bytes) -> None:
        """Send bytes, unless the server has had enough."""
        try:
            self.link.sendall(data)
        except (ConnectionError, ssl.SSLError):
            pass

    def send_frames(self, *frames: Frame) -> None:
        self.send(b"".join(frame.serialize() for frame in frames))

    def headers(self, method: str, path: str, more: Headers = ()) -> list[tuple[str, str]]:
        own = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        return [*own, ("x-api-key", KEY), *more]

    def ask(self, method: str, path: str, more: Headers = (), body: bytes | None = None) -> int:
        """Begin a request; give its number. A body of ``None`` ends it; another goes with it as far as it may."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, self.headers(method, path, more), end_stream=body is None)
        self.replies[number] = Reply()
        if body is None:
            self.flush()
        else:
            self.upload(number, body)
        return number

    def upload(self, number: int, body: bytes, *, end: bool = True) -> None:
        """Send a body as the windows allow it."""
        while body:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if not room:
                self.flush()
                self.read()
                if self.ended or self.replies[number].over:
                    return
                continue
            self.h2.send_data(number, body[:room])
            body = body[room:]
            if body:
                self.flush()
        if end:
            self.h2.end_stream(number)
        self.flush()

    def read(self) -> None:
        """Take what has come; ``ended`` is set when nothing more will."""
        try:
            data = self.link.recv(1 << 16)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self.ended = True
            return
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            # What it was told to do has confused itself; the server's frames are read elsewhere then.
            self.ended = True
            return
        for event in events:
            self._take(event)
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goodbye = int(event.error_code or 0)
            self.ended = True
            return
        reply = self.replies.setdefault(getattr(event, "stream_id", None) or 0, Reply())
        if isinstance(event, h2.events.ResponseReceived):
            reply.headers = {str(name): str(value) for name, value in event.headers or []}
        elif isinstance(event, h2.events.DataReceived):
            reply.body += event.data or b""
            if self.takes and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
        elif isinstance(event, h2.events.StreamEnded):
            reply.ended = True
        elif isinstance(event, h2.events.StreamReset):
            reply.reset = int(event.error_code or 0)

    def wait(self, number: int) -> Reply:
        """Read until a request has its answer, or the connection has ended."""
        while not self.ended and not self.replies[number].over:
            self.read()
        return self.replies[number]

    def wait_end(self) -> None:
        """Read until the connection has ended."""
        while not self.ended:
            self.read()

    def get(self, path: str, more: Headers = ()) -> Reply:
        return self.wait(self.ask("GET", path, more))


def block(headers: Headers) -> bytes:
    """Pack headers, whatever they are."""
    return bytes(Encoder().encode(list(headers), huffman=False))


@contextmanager
def h2_connection(
    daemon: Daemon,
    made: Certificates,
    source: str = "127.0.0.1",
    *,
    settings: Mapping[int, int] | None = None,
    takes: bool = True,
) -> Iterator[H2Client]:
    """Speak HTTP/2 with a daemon for the block."""
    context = made.client()
    context.set_alpn_protocols(["h2"])
    with secure(daemon, context, source) as link:
        assert link.selected_alpn_protocol() == "h2"
        client = H2Client(link, takes)
        client.begin(settings)
        yield client
