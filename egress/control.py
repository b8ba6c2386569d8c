"""What daemon and proxy say to each other: typed messages in frames, on one unix socket.

The daemon is the authority: it sends the rules, opens and closes grants. The proxy answers, and reports each decision.
A frame is four bytes of length, big-endian, and MessagePack.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta, Struct

from egress.allowlist import Rule

MAX_FRAME: Final = 16 << 20
_LENGTH: Final = struct.Struct(">I")
GrantId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]
Label = Annotated[str, Meta(max_length=512)]


class ControlError(Exception):
    """The other side broke the protocol."""


class Message(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of all messages."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one sandbox may use of the proxy. ``records_per_second``: more refusals are counted, not written."""

    connections: int = 64
    total_bytes: int = 1 << 30
    idle_seconds: float = 120.0
    connection_seconds: float = 3600.0
    connect_seconds: float = 10.0
    queries_per_second: float = 50.0
    records_per_second: float = 20.0


class Configure(Message, frozen=True, tag="configure"):
    """Set everything that is not of one sandbox; takes effect at once, also for what is connected.

    ``rule_sets`` by name. ``name_servers``: addresses of resolvers. ``hosts``: addresses of names that are not asked
    for. ``credentials`` by name. ``authority``: certificate and key (PEM) that sign for intercepted hosts.
    ``trusted``: certificate authorities (PEM) of the servers behind intercepted connections.
    """

    rule_sets: dict[str, tuple[Rule, ...]]
    name_servers: tuple[str, ...] = ()
    hosts: dict[str, tuple[str, ...]] = {}
    limits: Limits = Limits()
    credentials: dict[str, str] = {}
    authority: tuple[str, str] | None = None
    trusted: str = ""


class OpenGrant(Message, frozen=True, tag="open"):
    """Let a sandbox out, or change how: ``rule_sets`` by name, cut down to ``narrowed`` if that is given.

    Answered with :class:`Opened` if that is wanted. ``where`` names in words whose rules these are.
    """

    grant: GrantId
    rule_sets: tuple[str, ...]
    where: Label
    labels: dict[str, str]
    """Goes into every record: tenant, user, session."""
    narrowed: tuple[str, ...] | None = None
    answer: bool = False


class CloseGrant(Message, frozen=True, tag="close"):
    """End whatever a sandbox has, and forget it. Has no answer."""

    grant: GrantId


class Sync(Message, frozen=True, tag="sync"):
    """Ask for :class:`Synced` when every record so far is on its way.

    With a grant: also of what its sandbox has sent already and nobody has read yet.
    """

    number: int
    grant: GrantId | None = None


class Opened(Message, frozen=True, tag="opened"):
    """Answer to :class:`OpenGrant`."""

    grant: GrantId


class Synced(Message, frozen=True, tag="synced"):
    """Answer to :class:`Sync`."""

    number: int


class Record(Message, frozen=True, tag="record"):
    """One decision. ``verdict``: ``allowed``, ``refused``, or ``failed`` (allowed, and could not be reached).

    ``time`` is seconds since the epoch of its beginning; ``sent`` and ``received`` are bytes as the sandbox sees them.
    ``explanation`` is what its user is told; ``suppressed``: so many more before it were not written.
    """

    grant: GrantId
    labels: dict[str, str]
    time: float
    verdict: str
    kind: str
    """``connect``, ``tls``, ``http``, ``raw`` or ``dns``."""
    host: str
    port: int
    rule: str | None = None
    method: str | None = None
    path: str | None = None
    address: str | None = None
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    code: str | None = None
    reason: str | None = None
    explanation: str | None = None
    suppressed: int = 0


FromDaemon = Configure | OpenGrant | CloseGrant | Sync
FromProxy = Opened | Synced | Record

_encoder: Final = msgspec.msgpack.Encoder()
daemon_decoder: Final[msgspec.msgpack.Decoder[FromDaemon]] = msgspec.msgpack.Decoder(FromDaemon)
proxy_decoder: Final[msgspec.msgpack.Decoder[FromProxy]] = msgspec.msgpack.Decoder(FromProxy)


def frame(message: Message) -> bytes:
    """Encode a message with its length.

    Raises:
        ControlError: it is too large.
    """
    payload = _encoder.encode(message)
    if len(payload) > MAX_FRAME:
        raise ControlError("a message is too large")
    return _LENGTH.pack(len(payload)) + payload


async def frames(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    """Give the payloads of a stream, to its end.

    Raises:
        ControlError: a frame is too large, or cut off.
    """
    buffer = bytearray()
    while True:
        while len(buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer)
            if size > MAX_FRAME:
                raise ControlError("a frame is too large")
            end = _LENGTH.size + size
            if len(buffer) < end:
                break
            yield bytes(buffer[_LENGTH.size : end])
            del buffer[:end]
        data = await stream.receive_some(65_536)
        if not data:
            if buffer:
                raise ControlError("the last frame is cut off")
            return
        buffer += data
