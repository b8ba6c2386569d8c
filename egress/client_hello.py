"""Read a TLS ClientHello: the name it asks for, and whether it hides one. Pure.

RFC 8446, 4.1.2 and 5.1; RFC 6066, 3 (SNI); RFC 9849 (ECH). Only what is needed is read, but every length is checked,
and what no TLS library sends is refused: a server that is laxer must not see another name than we do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from egress.names import BadName, canonical_host

MAX_HELLO: Final = 32 * 1024
"""Post-quantum key shares and large tickets make 2 to 4 KiB."""
MAX_RECORDS: Final = 64
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SNI: Final = 0
_PRE_SHARED_KEY: Final = 41
"""The last extension (RFC 8446, 4.2.11)."""
_HIDDEN: Final = frozenset({0xFE0D, 0xFE0A, 0xFE0B, 0xFE0C, 0xFFCE})
"""encrypted_client_hello and its drafts, encrypted_server_name."""
_MAX_RECORD: Final = 1 << 14


class NotTls(ValueError):
    """The bytes are no ClientHello; the message says why."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """``server_name`` as sent, ASCII, not yet canonical; ``hidden``: it carries an encrypted one. ``size`` in bytes."""

    server_name: str | None
    hidden: bool
    size: int


class _Reader:
    """Reads big-endian values of a byte string, and nothing behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise NotTls("a length in the ClientHello is wrong")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Read a length of ``size`` bytes, and so many bytes."""
        return self.take(self.number(size))

    @property
    def left(self) -> int:
        return len(self._data) - self._at


def parse_client_hello(data: bytes) -> ClientHello | None:
    """Read a ClientHello from the beginning of a stream; ``None``: more bytes are needed.

    Raises:
        NotTls: it cannot become one any more.
    """
    message, at = bytearray(), 0
    for _ in range(MAX_RECORDS):
        if len(data) > at and data[at] != _HANDSHAKE:
            raise NotTls("it does not begin with a TLS handshake")
        if len(data) > at + 1 and data[at + 1] != 3:
            raise NotTls("it is not TLS")
        if len(data) < at + 5:
            return None
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 0 < length <= _MAX_RECORD:
            raise NotTls("a record has an impossible length")
        message += data[at + 5 : at + 5 + length]
        wanted = _message_size(message)
        if wanted is not None and len(message) > wanted:
            raise NotTls("something follows the ClientHello in its record")
        if len(data) < at + 5 + length:
            return None
        at += 5 + length
        if wanted is not None and len(message) == wanted:
            return _parse_message(bytes(message[4:]), at)
    raise NotTls("the ClientHello comes in too many pieces")


def _message_size(message: bytearray) -> int | None:
    if message and message[0] != _CLIENT_HELLO:
        raise NotTls("the first message is no ClientHello")
    if len(message) < 4:
        return None
    size = 4 + int.from_bytes(message[1:4], "big")
    if size > MAX_HELLO:
        raise NotTls("the ClientHello is too large")
    return size


def _parse_message(body: bytes, size: int) -> ClientHello:
    reader = _Reader(body)
    if reader.take(1) != b"\x03":
        raise NotTls("it is not TLS")
    reader.take(1 + 32)
    if len(reader.vector(1)) > 32:
        raise NotTls("the session id is too long")
    suites = reader.vector(2)
    if not suites or len(suites) % 2:
        raise NotTls("the list of cipher suites is broken")
    if b"\0" not in reader.vector(1):
        raise NotTls("compression is demanded")
    if not reader.left:
        return ClientHello(None, hidden=False, size=size)
    extensions = _extensions(_Reader(reader.vector(2)))
    if reader.left:
        raise NotTls("something follows the extensions")
    name = _server_name(extensions[_SNI]) if _SNI in extensions else None
    return ClientHello(name, hidden=bool(extensions.keys() & _HIDDEN), size=size)


def _extensions(reader: _Reader) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while reader.left:
        kind = reader.number(2)
        content = reader.vector(2)
        if kind in found:
            raise NotTls("an extension comes twice")
        if _PRE_SHARED_KEY in found:
            raise NotTls("something follows the pre-shared key")
        found[kind] = content
    return found


def _server_name(content: bytes) -> str:
    reader = _Reader(content)
    names = _Reader(reader.vector(2))
    if reader.left:
        raise NotTls("something follows the server name")
    if names.number(1) != 0:
        raise NotTls("the server name is of an unknown kind")
    name = names.vector(2)
    if names.left:
        raise NotTls("there is more than one server name")
    try:
        text = name.decode("ascii")
    except UnicodeDecodeError:
        raise NotTls("the server name is not ASCII") from None
    if not text or text.endswith(".") or _is_address(text):
        raise NotTls("the server name is empty, an address, or ends in a dot (RFC 6066, 3)")
    return text


def _is_address(text: str) -> bool:
    try:
        return canonical_host(text).address is not None
    except BadName:
        return False
