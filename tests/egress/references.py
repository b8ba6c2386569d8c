"""Strict reference parsers: each says what an input means by other means than the code under test.

The C library reads addresses, ``unicodedata`` and the punycode codec read international names, h11 reads request lines,
RFC 3986's own regular expression splits URLs, dnspython reads DNS, and ClientHello is read by a schema that is copied
from the presentation language of RFC 8446. Speed does not matter here; being plainly right does.
"""

from __future__ import annotations

import posixpath
import re
import socket
import struct
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote_to_bytes

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdataclass
import h11

Address = IPv4Address | IPv6Address


class Refused(ValueError):
    """The reference refuses the input. The message is the rule that is broken, always the same words for it."""


class Unfinished(Refused):
    """What there is could be the beginning of something."""


class Undecided(Exception):
    """The reference knows too little: a character of a newer Unicode, or one whose use depends on its neighbours."""


# Names and addresses -------------------------------------------------------------------------------------------------


def host(text: str) -> tuple[str, Address | None]:
    """Read a host: RFC 952/1123 names (with underscores), UTS 46 names, inet_aton's and inet_pton's addresses."""
    if text[:1] == "[" or text.count(":") >= 2:
        return _shown(_ipv6(text))
    name = text.lower() if text.isascii() else _mapped(text)
    name = name.removesuffix(".")
    labels = name.split(".")
    if labels[-1].isdecimal() or re.match(r"0x[0-9a-f]*\Z", labels[-1]):
        return _shown(_ipv4(name))
    if len(name) > 253:
        raise Refused("a name has at most 253 characters")
    for label in labels:
        _check_label(label)
    return name, None


def _shown(address: Address) -> tuple[str, Address]:
    return str(address), address


def _ipv4(text: str) -> IPv4Address:
    """The C library's reading; without what it stops reading at, white space."""
    if set(text) - set("0123456789abcdefx."):
        raise Refused("a name does not end in a number")
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        if re.search(r"(^|\.)0x(\.|$)", text):
            raise Refused("inet_aton knows no 0x without digits") from None
        raise Refused("inet_aton knows no such address") from None


def _ipv6(text: str) -> Address:
    if text[:1] == "[":
        if text[-1:] != "]":
            raise Refused("a bracket is not closed")
        text = text[1:-1]
    try:
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        raise Refused("inet_pton knows no such address") from None
    if packed[:12] == bytes(10) + b"\xff\xff":
        return IPv4Address(packed[12:])
    return IPv6Address(packed)


def _check_label(label: str) -> None:
    if not 1 <= len(label) <= 63:
        raise Refused("a label has 1 to 63 characters")
    if set(label) - set("abcdefghijklmnopqrstuvwxyz0123456789-_"):
        raise Refused("a label is of letters, digits, hyphens, underscores")
    if "-" in (label[0], label[-1]):
        raise Refused("a label neither begins nor ends with a hyphen")
    if label.startswith("xn--"):
        _check_international(label)


def _check_international(label: str) -> None:
    try:
        unicode = label[4:].encode().decode("punycode")
    except (UnicodeError, OverflowError):
        raise Refused("it is no punycode") from None
    if unicode.isascii() or _punycode(unicode) != label:
        raise Refused("the punycode is not the shortest")
    _check_unicode_label(unicode)


def _punycode(unicode: str) -> str:
    return f"xn--{unicode.encode('punycode').decode('ascii')}"


_BY_CONTEXT: Final = frozenset("\u00b7\u0375\u05f3\u05f4\u30fb\u200c\u200d") | {
    chr(code) for first in (0x660, 0x6F0) for code in range(first, first + 10)
}
_IGNORED: Final = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2064\u206a-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0100-\U000e01ef]"
)
_STOPS: Final = re.compile("[\u3002\uff0e\uff61]")
_EXCEPTIONS: Final = frozenset("\u00df\u03c2\u06fd\u06fe\u0f0b\u3007")
"""RFC 5892, 2.6: valid although their category says otherwise."""


def _mapped(text: str) -> str:
    """UTS 46 by its idea: ignore, fold, compose. Whatever its table does beyond that is undecided."""
    plain = _STOPS.sub(".", _IGNORED.sub("", text))
    folded = unicodedata.normalize("NFC", "".join(map(_folded, plain)))
    if any(unicodedata.category(character) == "Cn" for character in text):
        raise Undecided("a character that this Python does not know")
    labels = folded.removesuffix(".").split(".")
    for label in labels:
        if not label.isascii():
            _check_unicode_label(label)
    return ".".join(label if label.isascii() else _punycode(label) for label in labels)


def _folded(character: str) -> str:
    """RFC 5892, 2.2, with the sharp s in both cases as what it is (not "transitional")."""
    if character in _EXCEPTIONS:
        return character
    if character == "\u1e9e":
        return "\u00df"
    for _ in range(2):
        character = unicodedata.normalize("NFKC", character.casefold())
    return character


def _check_unicode_label(label: str) -> None:
    categories = [unicodedata.category(character) for character in label]
    if "Cn" in categories or not _BY_CONTEXT.isdisjoint(label):
        raise Undecided("a character that needs a table")
    if unicodedata.normalize("NFC", label) != label:
        raise Refused("an international label is composed (NFC)")
    if categories[0].startswith("M"):
        raise Refused("an international label does not begin with a mark")
    if not all(map(_is_letter_mark_or_digit, label)):
        raise Refused("an international label is of letters, marks and digits")
    _check_direction(label)


def _is_letter_mark_or_digit(character: str) -> bool:
    """RFC 5892, 2.1 and 2.2: capitals are none, unless they are their own folded form, as in Cherokee."""
    if character in _EXCEPTIONS or character == "-":
        return True
    return (
        unicodedata.category(character) in {"Ll", "Lo", "Lm", "Lu", "Mn", "Mc", "Nd"}
        and _folded(character) == character
    )


def _check_direction(label: str) -> None:
    """RFC 5893, 2, rules 1 and 2, which forbid to mix directions in one label."""
    directions = {unicodedata.bidirectional(character) for character in label}
    if not directions & {"R", "AL", "AN"}:
        return
    if unicodedata.bidirectional(label[0]) not in {"R", "AL"} or "L" in directions:
        raise Refused("a label from right to left holds nothing else")


def publicly_reachable(address: Address) -> bool:
    """Say whether Python and every way to hide an IPv4 address in an IPv6 one agree that it is public."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return isinstance(address, IPv4Address) or all(publicly_reachable(inner) for inner in disguised(address))


def disguised(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that some router or host may take an IPv6 one for."""
    packed = address.packed
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    prefixes = {bytes(12), b"\0\x64\xff\x9b" + bytes(8), bytes(8) + b"\xff\xff\0\0"}
    if packed[:12] in prefixes or packed[:6] == b"\0\x64\xff\x9b\0\x01":
        inner.append(IPv4Address(packed[12:]))
    return [one for one in inner if one is not None]


# HTTP ----------------------------------------------------------------------------------------------------------------

_APPENDIX_B: Final = re.compile(r"^(([^:/?#]+):)?(//([^/?#]*))?([^?#]*)(\?([^#]*))?(#(.*))?", re.DOTALL)
"""RFC 3986's own."""


@dataclass(frozen=True)
class Url:
    """What a URL says, its path with the query."""

    host: tuple[str, Address | None]
    port: int
    path: str


def request_line(method: str, target: str) -> None:
    """Let h11 read it, with a field behind it that an injected line would show itself before."""
    try:
        raw = f"{method} {target} HTTP/1.1\r\nHost: only.example\r\n\r\n".encode("ascii")
    except UnicodeEncodeError:
        raise Refused("a request line is ASCII") from None
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        raise Refused("h11 refuses the request line") from None
    if not isinstance(event, h11.Request) or (event.method, event.target) != (method.encode(), target.encode()):
        raise Refused("h11 reads another request line")
    if list(event.headers) != [(b"host", b"only.example")]:
        raise Refused("h11 reads more header fields")


def authority(text: str, default_port: int | None) -> tuple[tuple[str, Address | None], int]:
    """RFC 3986, 3.2, without user information, and never with an empty port."""
    if not text.isascii():
        raise Refused("an authority is ASCII")
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        if default_port is None:
            raise Refused("the port is missing")
        return host(_host_part(text)), default_port
    if not port.isdecimal() or str(int(port[:9])) != port or not 1 <= int(port) <= 65535:
        raise Refused("a port is a decimal number from 1 to 65535")
    return host(_host_part(name)), int(port)


def _host_part(text: str) -> str:
    """A colon stands within brackets only."""
    if ":" in text and not (text[0] == "[" and text[-1] == "]"):
        raise Refused("an IPv6 address stands in brackets")
    if text[:1] == "[" and ":" not in text:
        raise Refused("nothing but an IPv6 address stands in brackets")
    return text


def url(method: str, text: str) -> Url:
    """Read the absolute form."""
    request_line(method, text)
    match = _APPENDIX_B.match(text)
    assert match is not None
    scheme, place, path, query, fragment = match[2], match[4], match[5], match[6], match[8]
    if scheme is None or scheme.lower() != "http" or place is None or fragment is not None:
        raise Refused("it is no http URL, or has a fragment")
    where, port = authority(place, 80)
    return Url(where, port, (path or "/") + (query or ""))


def origin_form(method: str, text: str) -> None:
    """Read a path with its query."""
    request_line(method, text)
    if text[:1] != "/" or "#" in text:
        raise Refused("the origin form begins with a slash and has no fragment")


def _decode_overlong(text: str) -> str:
    """As lax UTF-8 decoders do: two bytes for an ASCII character."""
    return re.sub(r"([\xc0\xc1])([\x80-\xbf])", lambda m: chr((ord(m[1]) & 1) << 6 | ord(m[2]) & 63), text)


_READINGS: Final[dict[str, Callable[[str], str]]] = {
    "escapes": lambda text: unquote_to_bytes(text).decode("latin-1"),
    "backslashes": lambda text: text.replace("\\", "/"),
    "parameters": lambda text: re.sub(r";[^/]*", "", text),
    "overlong UTF-8": _decode_overlong,
    "NUL": lambda text: text.partition("\0")[0],
    "spaces at the end of a segment": lambda text: re.sub(r"[\t\n\r ]+(?=/|$)", "", text),
}


def readings(path: str) -> dict[str, frozenset[str]]:
    """All that servers make of a path, each with the habits that lead to it: any habits, in any order, up to four."""
    known: dict[str, frozenset[str]] = {path.partition("?")[0]: frozenset()}
    fresh = dict(known)
    for _ in range(4):
        made = {habit(text): used | {name} for text, used in fresh.items() for name, habit in _READINGS.items()}
        fresh = {text: used for text, used in made.items() if text not in known}
        known |= fresh
    return known


def lies_under(path: str, prefixes: tuple[str, ...]) -> None:
    """Check that a path lies under one of the prefixes in each of its readings."""
    ways_out = [
        sorted(habits)
        for reading, habits in readings(path).items()
        if not any(_normal(reading).startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes)
    ]
    if ways_out:
        shortest = min(ways_out, key=lambda habits: (len(habits), habits))
        raise Refused("the path leads out for servers that read " + " and ".join(shortest))


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/")).rstrip("/") + "/"


# TLS -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """What a ClientHello says, and how many bytes of the stream it took."""

    server_name: bytes | None
    hidden: bool
    size: int


def _vector(data: bytes, width: int, floor: int, ceiling: int) -> tuple[bytes, bytes]:
    """``opaque name<floor..ceiling>`` of the presentation language, whose length takes ``width`` bytes; and the rest."""
    if len(data) < width:
        raise Refused("the length of a vector is cut off")
    length = int(data[:width].hex(), 16)
    if not floor <= length <= ceiling or len(data) < width + length:
        raise Refused("a vector is too short, too long, or cut off")
    return data[width : width + length], data[width + length :]


def _handshake_bytes(stream: bytes) -> Iterator[tuple[bytes, int]]:
    """RFC 8446, 5.1: the fragments of handshake records, with the place where each record ends."""
    place = 0
    while place < len(stream):
        head = stream[place : place + 5]
        if head[:1] != b"\x16" or head[1:2] not in (b"", b"\x03"):
            raise Refused("a record is no handshake of TLS")
        if len(head) < 5:
            raise Unfinished("the stream ends within the head of a record")
        if not 1 <= int(head[3:].hex(), 16) <= 2**14:
            raise Refused("a record is empty or too long")
        if len(stream) < place + 5 + int(head[3:].hex(), 16):
            raise Unfinished("the stream ends within a record")
        fragment, _ = _vector(stream[place + 3 :], 2, 1, 2**14)
        place += 5 + len(fragment)
        yield fragment, place


def hello(stream: bytes) -> Hello:
    """Read the ClientHello at the beginning of a stream."""
    message = b""
    for fragment, place in _handshake_bytes(stream):
        message += fragment
        if message[0] != 1:
            raise Refused("the first message is no ClientHello")
        if len(message) >= 4 and len(message) >= 4 + int(message[1:4].hex(), 16):
            body, rest = _vector(message[1:], 3, 0, 2**24 - 1)
            if rest:
                raise Refused("the record goes on behind the message")
            return _hello_body(body, place)
    raise Unfinished("the stream ends within the ClientHello")


def _hello_body(body: bytes, size: int) -> Hello:
    if body[:1] != b"\x03" or len(body) < 34:
        raise Refused("the version or the random is wrong")
    _session, rest = _vector(body[34:], 1, 0, 32)
    suites, rest = _vector(rest, 2, 2, 2**16 - 2)
    if len(suites) % 2:
        raise Refused("half a cipher suite")
    methods, rest = _vector(rest, 1, 1, 255)
    if 0 not in methods:
        raise Refused("RFC 5246, 7.4.1.2: the null compression must be offered")
    if not rest:
        return Hello(None, hidden=False, size=size)
    extensions, rest = _vector(rest, 2, 0, 2**16 - 1)
    if rest:
        raise Refused("the message goes on behind the extensions")
    return _meaning(dict(_extensions(extensions)), size)


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    kinds: list[int] = []
    while data:
        if len(data) < 2:
            raise Refused("half an extension")
        kind = data[0] << 8 | data[1]
        if kind in kinds:
            raise Refused("an extension comes twice")
        if 41 in kinds:
            raise Refused("RFC 8446, 4.2.11: pre_shared_key must be the last extension")
        kinds.append(kind)
        content, data = _vector(data[2:], 2, 0, 2**16 - 1)
        yield kind, content


def _meaning(extensions: dict[int, bytes], size: int) -> Hello:
    hidden = any(kind in extensions for kind in (0xFE0A, 0xFE0B, 0xFE0C, 0xFE0D, 0xFFCE))
    name = _server_name(extensions[0]) if 0 in extensions else None
    return Hello(name, hidden, size)


def _server_name(content: bytes) -> bytes:
    """RFC 6066, 3. Lists of more than one name are forbidden by "MUST NOT contain more than one name of the same type"."""
    names, rest = _vector(content, 2, 1, 2**16 - 1)
    if rest or names[0] != 0:
        raise Refused("the list of server names goes on, or is of another kind")
    name, rest = _vector(names[1:], 2, 1, 2**16 - 1)
    if rest or not name.isascii():
        raise Refused("there is a second server name, or it is not ASCII")
    if name.endswith(b"."):
        raise Refused("RFC 6066, 3: a server name has no dot at its end")
    if _is_address(name.decode("ascii")):
        raise Refused("RFC 6066, 3: a server name is no literal address")
    return name


def _is_address(text: str) -> bool:
    try:
        return host(text)[1] is not None
    except (Refused, Undecided):
        return False


# DNS -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """What a query asks."""

    id: int
    labels: tuple[bytes, ...]
    kind: int
    wants_recursion: bool
    extended: bool


def _read(packet: bytes) -> dns.message.Message:
    """RFC 6891, 6.1.2: options that are not understood are ignored, so what is in them must not matter; framing does."""
    try:
        return dns.message.from_wire(packet)
    except (dns.exception.DNSException, ValueError):
        shorter = _without_options(packet)
    try:
        return dns.message.from_wire(shorter)
    except (dns.exception.DNSException, ValueError):
        raise Refused("dnspython refuses the message") from None


def _without_options(packet: bytes) -> bytes:
    """Cut the options out of an OPT record at the end of a packet with one question."""
    try:
        _, used = dns.name.from_wire(packet, 12)
    except dns.exception.DNSException:
        raise Refused("dnspython refuses the name") from None
    fixed, options = packet[: 12 + used + 4 + 9], packet[12 + used + 4 + 11 :]
    if packet[len(fixed) : len(fixed) + 2] != struct.pack(">H", len(options)):
        raise Refused("the message does not end with an OPT record")
    while options:
        if len(options) < 4 or len(options) < 4 + int(options[2:4].hex(), 16):
            raise Refused("RFC 6891, 6.1.2: an EDNS option is cut off")
        options = options[4 + int(options[2:4].hex(), 16) :]
    return fixed + bytes(2)


def question(packet: bytes) -> Question:
    """Let dnspython read it; then everything that would make it more than one plain question is refused."""
    message = _read(packet)
    if message.flags & (dns.flags.QR | dns.flags.TC) or message.opcode() != dns.opcode.QUERY:
        raise Refused("it is no query")
    if len(message.question) != 1 or message.answer or message.authority or message.additional or message.had_tsig:
        raise Refused("it holds more than one question")
    asked = message.question[0]
    wire = asked.name.to_wire()
    if asked.rdclass != dns.rdataclass.IN or wire != packet[12 : 12 + len(wire or b"")]:
        raise Refused("it is of another class, or its name is compressed")
    if message.edns > 0:
        raise Refused("RFC 6891, 6.1.3: an unknown version of EDNS is answered BADVERS")
    recursion = bool(message.flags & dns.flags.RD)
    return Question(message.id, asked.name.labels[:-1], int(asked.rdtype), recursion, message.edns >= 0)


def reply(packet: bytes) -> tuple[dns.message.Message, str | None]:
    """Read a reply, and the text of its extended error."""
    message = dns.message.from_wire(packet)
    texts = [option.text for option in message.options if isinstance(option, dns.edns.EDEOption)]
    return message, texts[0] if texts else None


def address_of(text: str) -> Address:
    """Read an address as Python does; for tables."""
    return ip_address(text)
