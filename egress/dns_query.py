"""Read a DNS query of a sandbox and write the answer. Pure.

RFC 1035, 4; RFC 6891 (EDNS); RFC 8914 (extended errors, which carry the reason of a refusal as text). A query is one
question and at most one OPT record; anything else has no business here. Nothing of it is ever sent on.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

MAX_QUERY: Final = 1024
A: Final = 1
AAAA: Final = 28
ANY: Final = 255
IN: Final = 1
NOERROR: Final = 0
FORMERR: Final = 1
REFUSED: Final = 5
PROHIBITED: Final = 18
"""Extended error: the resolver is not allowed to answer this."""
_OPT: Final = 41
_EDE: Final = 15
_HEADER: Final = struct.Struct(">HHHHHH")
_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_PAYLOAD: Final = 1232


class BadQuery(ValueError):
    """A packet is no query that can be answered; the message says why."""


@dataclass(frozen=True, slots=True)
class Query:
    """``name`` is text of ASCII labels, not yet canonical. ``question`` is the section as sent, to be echoed."""

    id: int
    name: str
    kind: int
    wants_recursion: bool
    extended: bool
    question: bytes


def parse_query(packet: bytes) -> Query:
    """Read a query.

    Raises:
        BadQuery: it is none, or asks in a way that no resolver does.
    """
    if len(packet) > MAX_QUERY or len(packet) < _HEADER.size:
        raise BadQuery("the packet has no size of a query")
    number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(packet)
    if flags & (_RESPONSE | _OPCODE | _TRUNCATED):
        raise BadQuery("it is no plain query")
    if questions != 1 or answers or authorities or additional > 1:
        raise BadQuery("a query has one question and nothing else")
    name, at = _name(packet, _HEADER.size)
    if len(packet) < at + 4:
        raise BadQuery("the question is cut off")
    kind, family = struct.unpack_from(">HH", packet, at)
    if family != IN:
        raise BadQuery("only the Internet class is served")
    question = packet[_HEADER.size : at + 4]
    at += 4
    if additional:
        at = _skip_opt(packet, at)
    if at != len(packet):
        raise BadQuery("something follows the question")
    return Query(number, name, kind, bool(flags & _RECURSION_DESIRED), bool(additional), question)


def _name(packet: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    start = at
    while True:
        if at >= len(packet):
            raise BadQuery("the name is cut off")
        length = packet[at]
        at += 1
        if length == 0:
            break
        if length > 63:
            raise BadQuery("a label is too long, or a pointer")
        label = packet[at : at + length]
        if len(label) < length:
            raise BadQuery("the name is cut off")
        if not label.isascii() or b"." in label:
            raise BadQuery("a label holds what no host name holds")
        labels.append(label.decode("ascii"))
        at += length
        if at - start > 254:
            raise BadQuery("the name is too long")
    return ".".join(labels), at


def _skip_opt(packet: bytes, at: int) -> int:
    if len(packet) < at + 11 or packet[at] != 0 or struct.unpack_from(">H", packet, at + 1)[0] != _OPT:
        raise BadQuery("the additional record is no OPT")
    if packet[at + 6] != 0:
        raise BadQuery("the OPT record is of an unknown version")
    end = at + 11 + int(struct.unpack_from(">H", packet, at + 9)[0])
    at += 11
    while at < end <= len(packet):
        if at + 4 > end:
            break
        at += 4 + int(struct.unpack_from(">H", packet, at + 2)[0])
    if at != end:
        raise BadQuery("the OPT record is cut off")
    return end


def answer(query: Query, addresses: Sequence[IPv4Address] = (), *, ttl: int) -> bytes:
    """Answer with addresses, or with "there is nothing of this kind"."""
    records = [struct.pack(">HHHIH", 0xC00C, A, IN, ttl, 4) + address.packed for address in addresses]
    return _packet(query, NOERROR, b"".join(records), len(records), b"")


def refuse(query: Query, text: str) -> bytes:
    """Refuse, with the reason for those who can read it."""
    reason = text.encode(errors="replace")[:480].decode(errors="ignore").encode()
    option = struct.pack(">HHH", _EDE, 2 + len(reason), PROHIBITED) + reason
    return _packet(query, REFUSED, b"", 0, option)


def format_error(packet: bytes) -> bytes | None:
    """Answer what could not be read, if it at least looks like a query."""
    if len(packet) < _HEADER.size or packet[2] & 0x80:
        return None
    flags = _RESPONSE | (int.from_bytes(packet[2:4], "big") & _OPCODE) | FORMERR
    return _HEADER.pack(int.from_bytes(packet[:2], "big"), flags, 0, 0, 0, 0)


def _packet(query: Query, code: int, answers: bytes, count: int, option: bytes) -> bytes:
    flags = _RESPONSE | _RECURSION_AVAILABLE | code | (_RECURSION_DESIRED if query.wants_recursion else 0)
    head = _HEADER.pack(query.id, flags, 1, count, 0, int(query.extended))
    opt = b""
    if query.extended:
        opt = b"\0" + struct.pack(">HHIH", _OPT, _PAYLOAD, 0, len(option)) + option
    return head + query.question + answers + opt
