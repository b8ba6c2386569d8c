"""Bodies of HTTP against the readers of Python's own library: JSON, forms, base64."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import policy
from email.parser import BytesParser
from typing import Any, cast

import msgspec
import trio
from quart import Request

from http_api import multipart, programmatic, schemas, sessions
from mcp_server.tools.common import content_of
from supervisor.errors import InvalidRequest, TooLarge
from tests.fuzz.names import Disagreement

KINDS: tuple[type[Any], ...] = (
    schemas.ExecBody,
    programmatic.Body,
    programmatic.CancelBody,
    sessions.CreateBody,
    sessions.ExecuteBody,
)


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def check_json(data: bytes) -> str:
    """Whatever is read as a body is JSON, and says what Python's reader finds there; all else is one error."""
    accepted = 0
    for kind in KINDS:
        try:
            body = schemas.decode(data, kind)
        except InvalidRequest as error:
            if not error.field or len(error.message) > 2000:
                raise Disagreement(f"{kind.__name__}: {error.field!r} {error.message[:100]!r}") from None
            continue
        accepted += 1
        _compare(body, data)
    return "accepted" if accepted else "refused"


def _compare(body: Any, data: bytes) -> None:
    try:
        # What is not known is skipped unread, so it may be no UTF-8.
        found = json.loads(data.decode("utf-8", "replace"), parse_constant=_no_constant)
    except RecursionError:
        return
    if not isinstance(found, dict):
        raise Disagreement(f"{type(body).__name__} out of {found!r}")
    for name in body.__struct_fields__:
        ours, theirs = getattr(body, name), found.get(name)
        if name in found and isinstance(ours, str | int | bool) and ours != theirs:
            raise Disagreement(f"{name}: {ours!r}, not {theirs!r}")
        if name not in found and isinstance(ours, str) and ours not in ("python", "user"):
            raise Disagreement(f"{name}: {ours!r} out of nothing")


@dataclass
class Sent:
    """As much of a request as the reader of forms looks at. ``sizes``: how the body comes."""

    data: bytes
    boundary: str
    mimetype: str = "multipart/form-data"
    sizes: tuple[int, ...] = (1, 7, 100, 4096)
    mimetype_params: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mimetype_params["boundary"] = self.boundary

    @property
    async def _pieces(self) -> None:
        return None

    @property
    def body(self) -> AsyncIterator[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            position, turn = 0, 0
            while position < len(self.data):
                size = self.sizes[turn % len(self.sizes)]
                yield self.data[position : position + size]
                position, turn = position + size, turn + 1

        return pieces()


async def _read(data: bytes, boundary: str) -> list[tuple[str, str, bytes]]:
    found = []
    async for part in multipart.MultipartReader(cast("Request", Sent(data, boundary))).parts():
        if isinstance(part, multipart.FieldPart):
            found.append((part.name, "", part.value.encode()))
        else:
            found.append((part.name, part.filename, b"".join([chunk async for chunk in part.chunks])))
    return found


def check_form(data: bytes) -> str:
    """The first line is the boundary. What is plainly well-formed is read as Python's reader of mail does."""
    first, _, body = data.partition(b"\n")
    boundary = first.decode("latin-1")
    try:
        found = trio.run(_read, body, boundary)
    except (InvalidRequest, TooLarge):
        return "refused"
    if not _is_plain(body, boundary):
        return "undecided"
    head = f'Content-Type: multipart/form-data; boundary="{boundary}"\r\n\r\n'.encode("latin-1")
    mail = BytesParser(policy=policy.HTTP).parsebytes(head + body)
    expected = []
    for part in mail.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if part.is_multipart() or not isinstance(name, str) or not isinstance(payload, bytes):
            return "undecided"
        expected.append((name, payload))
    if [(name, content) for name, _, content in found] != expected:
        raise Disagreement(f"we read {found}, the reference {expected}")
    return "accepted"


_DISPOSITION = rb'Content-Disposition: form-data; name="[a-z]*"(; filename="[a-z.]*")?\r\n'


def _is_plain(body: bytes, boundary: str) -> bool:
    """Say whether there can be no two ways to read it."""
    if not re.fullmatch(r"[A-Za-z0-9]{1,60}", boundary):
        return False
    line = b"--" + boundary.encode()
    part = line + rb"\r\n" + _DISPOSITION + rb"\r\n[A-Za-z0-9 ]*\r\n"
    return re.fullmatch(rb"(?:" + part + rb")+" + line + rb"--\r\n", body) is not None


def check_base64(data: bytes) -> str:
    """Content as base64: what is accepted is what the library reads; nothing outside of the alphabet."""
    text = data.decode("utf-8", "surrogatepass" if not _broken(data) else "replace")
    try:
        content = content_of(None, text, 1 << 20)
    except (InvalidRequest, TooLarge):
        content = None
    compact = re.sub(r"[ \t\r\n]", "", text)
    well_formed = re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", compact) is not None
    if content is not None and not well_formed:
        raise Disagreement(f"{text!r} is read as {content!r}")
    if content is None:
        return "refused"
    bare = compact.rstrip("=")
    try:
        expected = base64.b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        raise Disagreement(f"{text!r} is read as {content!r}, and is none") from None
    if content != expected:
        raise Disagreement(f"{text!r} is read as {content!r}, not {expected!r}")
    return "accepted"


def _broken(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return True
    return False


def check_upload(data: bytes) -> str:
    """Whatever an argument of a tool is, the reader of types says one kind of error."""
    try:
        msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return "refused"
    return "accepted"
