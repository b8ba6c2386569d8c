"""What a program has shown beside its output, read strictly: lines of JSON that hostile code may have written. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.execution.values import Shown

MAX_SHOWN: Final = 64
"""Of one execution; more are left out, which is said."""
MAX_FORMS: Final = 12
_MEDIA_TYPE: Final = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,60}")
_BINARY: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"})
"""These come as base64, everything else as text."""


class _Line(Struct, frozen=True):
    data: Annotated[dict[str, str], Meta(min_length=1, max_length=MAX_FORMS)]


_decoder: Final = msgspec.json.Decoder(_Line)


def read_shown(untrusted_lines: bytes, limit_bytes: int) -> tuple[tuple[Shown, ...], str | None]:
    """Give what was shown, and what has to be said about the rest. What is malformed is left out."""
    found: list[Shown] = []
    note = None
    start = 0
    for _ in range(MAX_SHOWN):
        end = untrusted_lines.find(b"\n", start)
        if end < 0:
            break
        line, start = untrusted_lines[start:end], end + 1
        try:
            data = _decoder.decode(line).data
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        forms = {kind: content for kind, text in data.items() if (content := _content(kind, text)) is not None}
        if forms:
            found.append(Shown(forms))
    if start < len(untrusted_lines):
        note = f"not everything that was shown is here: at most {MAX_SHOWN} things of {limit_bytes >> 20} MiB together"
    return tuple(found), note


def _content(kind: str, text: str) -> bytes | None:
    if not _MEDIA_TYPE.fullmatch(kind):
        return None
    if kind not in _BINARY:
        return text.encode("utf-8", "replace")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
