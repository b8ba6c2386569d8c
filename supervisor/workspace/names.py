"""Which file names are allowed. Pure. A name that passes is kept byte for byte; nothing is silently repaired."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from supervisor.errors import InvalidRequest

MAX_CHARACTERS: Final = 256
MAX_PARTS: Final = 10
MAX_PART_BYTES: Final = 255

_DIRECTION: Final = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that make ``gpj.exe`` read as ``exe.jpg``."""
_DRIVE: Final = re.compile(r"[A-Za-z]:")


def name_fault(name: str) -> str | None:  # noqa: C901, PLR0911 - a table of rules
    """Say which rule ``name`` breaks, or ``None``."""
    if not name:
        return "it is empty"
    if len(name) > MAX_CHARACTERS:
        return f"it is longer than {MAX_CHARACTERS} characters"
    if name.startswith("/") or _DRIVE.match(name):
        return "it is absolute; names are relative to /mnt/data"
    if "\\" in name:
        return "it has a backslash"
    for character in name:
        category = unicodedata.category(character)
        if category in ("Cc", "Zl", "Zp"):
            return "it has a control character"
        if category == "Cs":
            return "it is not valid Unicode"
        if character in _DIRECTION:
            return "it has a mark that changes the direction of text"
    parts = name.split("/")
    if len(parts) > MAX_PARTS:
        return f"it has more than {MAX_PARTS} parts"
    if any(part in ("", ".", "..") for part in parts):
        return "it has an empty, '.' or '..' part"
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"a part of it is longer than {MAX_PART_BYTES} bytes"
    return None


def check_name(name: str, *, field: str = "filename") -> str:
    """Give ``name`` back if it is allowed.

    Raises:
        InvalidRequest: it is not; the message names the rule, ``field`` the place.
    """
    fault = name_fault(name)
    if fault is not None:
        raise InvalidRequest(f"the file name cannot be used: {fault}", field=field)
    return name
