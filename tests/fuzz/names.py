"""Names and addresses against a strict reading of their own: written from the rules, not from the code."""

from __future__ import annotations

import re

from mcp_server import uris
from supervisor.errors import NotFound
from supervisor.execution.values import is_id
from supervisor.jailer.workspace import MAX_DEPTH, BadName, _check_parts
from supervisor.workspace.names import name_fault

BIDI = {0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


class Disagreement(Exception):
    """We say one thing, the reference another."""


def text_of(data: bytes) -> str:
    """Give text of every kind: also what is no Unicode."""
    return data.decode("utf-8", "surrogatepass") if not _is_broken(data) else data.decode("utf-8", "surrogateescape")


def _is_broken(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return True
    return False


def may_be_a_name(text: str) -> bool:
    """Say whether a file may be called so."""
    if not 1 <= len(text) <= 256 or re.match(r"/|[A-Za-z]:", text):
        return False
    for character in text:
        code = ord(character)
        if code < 0x20 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029) or code in BIDI:
            return False
        if 0xD800 <= code < 0xE000 or character == "\\":
            return False
    parts = text.split("/")
    return len(parts) <= 10 and all(
        part not in ("", ".", "..") and len(part.encode("utf-8", "surrogatepass")) <= 255 for part in parts
    )


def check_name(data: bytes) -> str:
    """Names at the doors. What is allowed cannot lead out, however often it is decoded and joined."""
    text = text_of(data)
    fault = name_fault(text)
    if (fault is None) != may_be_a_name(text):
        raise Disagreement(f"{text!r}: {fault}")
    return "accepted" if fault is None else "refused"


_PART = rb"(?!\.{1,2}(?:/|\Z))[^/\0]{1,255}"
_PATH = re.compile(_PART + rb"(?:/" + _PART + rb"){0,%d}" % (MAX_DEPTH - 1), re.DOTALL)


def check_path(data: bytes) -> str:
    """Names in the jailer: bytes, beneath a directory."""
    try:
        parts = _check_parts(data)
    except BadName:
        parts = None
    if (parts is not None) != (_PATH.fullmatch(data) is not None):
        raise Disagreement(f"{data!r}: we say {parts}")
    if parts is not None and b"/".join(parts) != data:
        raise Disagreement(f"{data!r} is not kept byte for byte")
    return "accepted" if parts is not None else "refused"


def check_uri(data: bytes) -> str:
    """Addresses of resources: what we write is what we read, and what we read has one way to be written."""
    text = text_of(data)
    _round_trip(text)
    try:
        address = uris.parse(text)
    except NotFound:
        return "refused"
    if isinstance(address, uris.Fixed):
        if text not in (uris.LANGUAGES, uris.POLICY):
            raise Disagreement(f"{text!r} is no fixed address")
        return "accepted"
    if len(text) > uris.MAX_URI or not is_id(address.session):
        raise Disagreement(f"{text!r} names the session {address.session!r}")
    if isinstance(address, uris.SessionFile) and name_fault(address.path) is None:
        _same(address, uris.file(address.session, address.path))
    if isinstance(address, uris.SessionOutput) and address.number is not None and address.kind is None:
        stream = f"/{address.stream}" if address.stream else ""
        _same(address, uris.output(address.session, address.number) + stream)
    return "accepted"


def _same(address: uris.Address, written: str) -> None:
    if len(written) <= uris.MAX_URI and uris.parse(written) != address:
        raise Disagreement(f"{address} is written as {written!r} and read as {uris.parse(written)}")


def _round_trip(text: str) -> None:
    """Every name that a file may have can be addressed."""
    if name_fault(text) is not None:
        return
    session = "A" * 21
    written = uris.file(session, text)  # type: ignore[arg-type]
    if len(written) > uris.MAX_URI:
        return
    read = uris.parse(written)
    if read != uris.SessionFile(session, text):  # type: ignore[arg-type]
        raise Disagreement(f"{text!r} is written as {written!r} and read as {read}")
