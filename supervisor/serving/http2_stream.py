"""One stream of HTTP/2: whether its request is one for us, and its body as the application takes it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio
from hypercorn.protocol.http_stream import HTTPStream

from supervisor.serving.http1 import HEADER_LINES, TARGET_BYTES, RequestTasks, has_controls
from supervisor.serving.places import Places

PIECE_BYTES: Final = 64 * 1024
_TOKEN: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,256}")
_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_METHOD: Final = re.compile(rb"[A-Z]{1,32}")
_AUTHORITY: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]{1,300}")
OF_CONNECTIONS: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
Headers = list[tuple[bytes, bytes]]


def read_request(headers: Headers) -> tuple[int, bytes, bytes, Headers]:
    """Give what is wrong with a request (a status; 0: nothing), its method, target and headers with Host. Pure."""
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    rest = [(name, value) for name, value in headers if not name.startswith(b":")]
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    hosts = {value for name, value in rest if name == b"host"} | {pseudo.get(b":authority", b"")} - {b""}
    lengths = [value for name, value in rest if name == b"content-length"]
    fields = [(name, value) for name, value in rest if name != b"host"]
    status = 0
    if len(rest) > HEADER_LINES:
        status = 431
    elif len(target) > TARGET_BYTES:
        status = 414
    elif (
        # Neither CONNECT, nor an asterisk, nor what two readers could read differently.
        not target.startswith(b"/")
        or not all(0x20 < byte < 0x7F for byte in target)
        or not _METHOD.fullmatch(method)
        or method == b"CONNECT"
        or not pseudo.keys() <= _PSEUDO
        or len(hosts) != 1
        or sum(name == b"host" for name, _ in rest) > 1
        or not _AUTHORITY.fullmatch(next(iter(hosts)))
        or len(lengths) > 1
        or not all(value.isdigit() and len(value) < 20 for value in lengths)
        or any(not _TOKEN.fullmatch(name) or has_controls(value) or name in OF_CONNECTIONS for name, value in rest)
    ):
        status = 400
    return status, method, target, [*((b"host", host) for host in hosts), *fields]


@dataclass(frozen=True, slots=True)
class Share:
    """What streams take of the limits for connections, and how long they wait, in seconds for each 64 KiB."""

    places: Places
    key: str
    body_seconds: float
    send_seconds: float


@dataclass(eq=False, slots=True)
class Stream:
    """One request, and what has come of its body; the application takes it as an ASGI ``receive``."""

    id: int
    give_back: Callable[[int, int], Awaitable[None]]
    stalled: Callable[[int], Awaitable[None]]
    patience: float
    http: HTTPStream | None = None
    answered: bool = False
    """An answer has begun."""
    ended: bool = False
    """Nothing more is sent or taken."""
    complete: bool = False
    missing: int | None = None
    """What is still to come of a body whose length was said."""
    sent_waited: float = 0.0
    sent: int = 0
    _pieces: list[tuple[bytes, int]] = field(default_factory=list)
    _told: bool = False
    _taken: int = 0
    _waited: float = 0.0
    _changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def add(self, data: bytes, flow_bytes: int) -> None:
        """A piece of the body has come, which takes so much of the window."""
        if self.missing is not None:
            self.missing -= len(data)
        self._pieces.append((data, flow_bytes))
        self._changed.unpark_all()

    def complete_body(self) -> None:
        """That was all of it."""
        self.complete = True
        self._changed.unpark_all()

    def close(self) -> int:
        """Take nothing more; give how much of the window lies here still."""
        self.ended = True
        left = sum(flow_bytes for _, flow_bytes in self._pieces)
        self._pieces.clear()
        self._changed.unpark_all()
        return left

    async def receive(self) -> dict[str, Any]:
        """Give what the application asks for: a piece of the body, its end, ``http.disconnect``."""
        await trio.lowlevel.checkpoint()
        while True:
            if self.ended:
                return {"type": "http.disconnect"}
            if self._pieces:
                # Small pieces are put together, so that each costs the application little.
                data = b"".join(piece for piece, _ in self._pieces)
                flow_bytes = sum(each for _, each in self._pieces)
                self._pieces.clear()
                await self.give_back(self.id, flow_bytes)
                return {"type": "http.request", "body": data, "more_body": True}
            if self.complete and not self._told:
                self._told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self._wait()

    async def _wait(self) -> None:
        """Wait for the client, for so long in all for each 64 KiB."""
        if self.complete:
            await self._changed.park()
            return
        began = trio.current_time()
        with trio.move_on_after(max(0.0, self.patience - self._waited)) as scope:
            await self._changed.park()
        self._waited += trio.current_time() - began
        self._taken += sum(len(piece) for piece, _ in self._pieces)
        if self._taken >= PIECE_BYTES:
            self._taken, self._waited = 0, 0.0
        if scope.cancelled_caught:
            await self.stalled(self.id)


@dataclass(frozen=True, slots=True)
class OneStream:
    """What Hypercorn's stream sees of the tasks: its application reads from the stream itself."""

    tasks: RequestTasks
    stream: Stream

    async def spawn_app(self, app: Any, config: Any, scope: Any, send: Any) -> Callable[[Any], Awaitable[None]]:
        """Start it; what it is told it hears from the stream."""
        self.tasks.start(app, config, scope, self.stream.receive, send)

        async def put(_event: Any) -> None:
            """The stream knows already."""

        return put
