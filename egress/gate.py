"""What every connection of a sandbox meets first: what does it speak, and for which name?"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final

import trio

from egress.allowlist import Ask, Refusal
from egress.authority import Authority
from egress.client_hello import ClientHello, NotTls, parse_client_hello
from egress.grants import Grant, Refused
from egress.names import Host
from egress.resolver import Resolver
from egress.splice import BROKEN

HELLO_SECONDS: Final = 20.0
"""For the first bytes of a connection."""
MAX_PIECES: Final = 256
"""Reads of a ClientHello, which is looked at anew after each."""
READ_BYTES: Final = 65_536
_TLS_HANDSHAKE: Final = 0x16
_ALERT: Final = b"\x15\x03\x03\x00\x02\x02"
_ACCESS_DENIED: Final = b"\x31"
_UNRECOGNISED_NAME: Final = b"\x70"
_INTERNAL_ERROR: Final = b"\x50"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a connection went as far as its address tells; ``host`` is a name if the address was made up for one."""

    host: Host
    port: int
    by_name: bool


@dataclass(slots=True)
class Outside:
    """What all connections share: how to find and reach a host, and what rules add and look into."""

    resolver: Resolver
    credentials: dict[str, str] = field(default_factory=dict)
    authority: Authority | None = None
    """Signs for the hosts of rules that intercept."""
    checked: ssl.SSLContext | None = None
    """Checks the servers behind them."""


class Replayed(trio.abc.HalfCloseableStream):
    """A stream whose first bytes have been read already: they come again."""

    def __init__(self, stream: trio.SocketStream, data: bytes) -> None:
        self._stream = stream
        self._data = data

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As of the stream."""
        if self._data:
            await trio.lowlevel.checkpoint()
            size = len(self._data) if max_bytes is None else max_bytes
            piece, self._data = self._data[:size], self._data[size:]
            return piece
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As of the stream."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As of the stream."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """As of the stream."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()


class Incoming:
    """The first bytes of a connection, kept until somebody knows what they are."""

    def __init__(self, stream: trio.SocketStream, data: bytes = b"") -> None:
        self.stream = stream
        self.data = data
        self.hello_size = 0
        """Bytes of the ClientHello, once it has been read."""

    async def first_byte(self) -> int | None:
        """Wait for it; ``None``: there is none, in time."""
        if not self.data:
            await self._more()
        return self.data[0] if self.data else None

    async def hello(self) -> ClientHello | None:
        """Read a whole ClientHello; ``None``: the connection ended within it, or took too long.

        Raises:
            NotTls: it is something else.
        """
        with trio.move_on_after(HELLO_SECONDS):
            for _ in range(MAX_PIECES):
                hello = parse_client_hello(self.data)
                if hello is not None:
                    self.hello_size = hello.size
                    return hello
                if not await self._more():
                    return None
            raise NotTls("the ClientHello comes in too many pieces")
        return None

    async def _more(self) -> bool:
        with trio.move_on_after(HELLO_SECONDS):
            try:
                data = await self.stream.receive_some(READ_BYTES)
            except BROKEN:
                return False
            self.data += data
            return bool(data)
        return False


def is_tls(first: int) -> bool:
    """Say whether a connection that begins with this byte can be TLS."""
    return first == _TLS_HANDSHAKE


async def alert(stream: trio.SocketStream, refusal: Refusal | None) -> None:
    """Tell a TLS client that it is refused (access_denied, unrecognized_name), or that it is our side's failure."""
    kind = _ACCESS_DENIED
    if refusal is None:
        kind = _INTERNAL_ERROR
    elif refusal.code.startswith("sni"):
        kind = _UNRECOGNISED_NAME
    try:
        await stream.send_all(_ALERT + kind)
        await stream.send_eof()
    except BROKEN:
        pass  # it has gone already


async def recorded(grant: Grant, kind: str, ask: Ask, refusal: Refusal) -> Refused:
    """Record a refusal that came before the rules were asked; give it to be raised."""
    await grant.record_refusal(kind, ask, refusal)
    return Refused(refusal)
