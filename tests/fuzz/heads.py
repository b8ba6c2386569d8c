"""The beginning of a connection against a reader that knows only what RFC 9112 wants of a client."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import h11

from supervisor.serving.http1 import HEADER_BYTES, HEADER_LINES, TARGET_BYTES, StrictBuffer, check_request
from tests.fuzz.names import Disagreement

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
LINE = re.compile(rb"(" + TOKEN + rb") (/[\x21-\x7e]*) HTTP/(1\.[01])\Z")
HEADER = re.compile(
    rb"(" + TOKEN + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[ \t\x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*\Z"
)


@dataclass
class Read:
    """One request as it was understood."""

    method: bytes = b""
    target: bytes = b""
    host: bytes | None = None
    body: bytes = b""
    rest: bytes = b""
    complete: bool = False
    headers: dict[bytes, bytes] = field(default_factory=dict)


def reference(data: bytes) -> Read | None:
    """Read one request; ``None`` for what has to be refused, or is not there in full."""
    head, end, rest = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not end or len(head) + 4 > HEADER_BYTES or len(lines) - 1 > HEADER_LINES:
        return None
    if (match := LINE.match(lines[0])) is None or len(match[2]) > TARGET_BYTES:
        return None
    found = Read(match[1], match[2])
    for line in lines[1:]:
        if (header := HEADER.match(line)) is None:
            return None
        name = header[1].lower()
        if name in found.headers and name in (b"host", b"content-length", b"transfer-encoding"):
            return None
        found.headers[name] = header[2]
    if match[3] == b"1.1" and b"host" not in found.headers:
        return None
    return _with_body(found, rest, match[3])


def _with_body(found: Read, rest: bytes, version: bytes) -> Read | None:
    length, coding = found.headers.get(b"content-length"), found.headers.get(b"transfer-encoding")
    if length is not None and coding is not None:
        return None
    if coding is not None:
        return None if coding.lower() != b"chunked" or version == b"1.0" else _with_chunks(found, rest)
    if length is not None and not re.fullmatch(rb"[0-9]{1,20}", length):
        return None
    size = int(length or b"0")
    found.body, found.rest, found.complete = rest[:size], rest[size:], len(rest) >= size
    return found


def _with_chunks(found: Read, rest: bytes) -> Read | None:
    body = b""
    while (match := re.match(rb"([0-9A-Fa-f]{1,20})[ \t]*(?:;[^\r\n]*)?\r\n", rest)) is not None:
        size, rest = int(match[1], 16), rest[match.end() :]
        if size == 0:
            found.body, found.complete = body, True
            return found
        body += rest[:size]
        if len(rest) < size + 2 or rest[size : size + 2] != b"\r\n":
            break
        rest = rest[size + 2 :]
    found.body = body
    return found


def ours(data: bytes, sizes: tuple[int, ...]) -> Read | None:
    """Read one request as the server does, as it comes in pieces; ``None`` if it is refused or no head is there."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
    connection._receive_buffer = StrictBuffer()
    found: Read | None = None
    position, turn = 0, 0
    try:
        while True:
            event: Any = connection.next_event()
            if event is h11.NEED_DATA:
                if position >= len(data):
                    return found
                size = sizes[turn % len(sizes)]
                connection.receive_data(data[position : position + size])
                position, turn = position + size, turn + 1
            elif isinstance(event, h11.Request):
                check_request(event)
                found = Read(event.method, event.target, headers=dict(event.headers.raw_items()))
            elif isinstance(event, h11.Data) and found is not None:
                found.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and found is not None:
                found.complete = True
                return found
            else:
                return found
    except h11.RemoteProtocolError:
        return None if found is None or not found.complete else found


def check_head(data: bytes) -> str:
    """What is let in is what the strict reader sees, with the same end, however it is cut into pieces."""
    whole = ours(data, (1 << 20,))
    pieces = ours(data, (1, 2, 3, 50))
    if (whole is None) != (pieces is None) or (whole and pieces and _seen(whole) != _seen(pieces)):
        raise Disagreement(f"in one piece {whole}, in many {pieces}")
    if whole is None or not whole.complete:
        return "refused"
    expected = reference(data)
    if expected is None or _seen(expected) != _seen(whole):
        raise Disagreement(f"we read {whole}, the reference {expected}")
    return "accepted"


def _seen(read: Read) -> tuple[bytes, bytes, bytes, bool]:
    return (read.method, read.target, read.body if read.complete else b"", read.complete)
