"""A record's message taken apart into the event and its fields, by its template: what a value says cannot forge one.

``"request method=%s status=%d"`` with its arguments is the event ``request`` with the fields ``method`` and ``status``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

FIELD_CHARACTERS: Final = 1024
FIELDS: Final = "gaoler_fields"
"""An attribute of a record that says its fields itself, with ``event`` among them: ``extra={FIELDS: {...}}``."""
_PIECE: Final = re.compile(
    r"(?:(?<![^\s(])(?P<key>[a-z][a-z_0-9]*)=)?%(?:(?P<percent>%)|(?P<form>[-#0 +]*[0-9]*(?:\.[0-9]+)?[a-zA-Z]))"
)
_OTHER_NAMES: Final = {
    "session": "session_id",
    **{name: f"{name}_" for name in ("event", "level", "logger", "time", "exception", "request_id")},
}
"""What is called so by us is called so in every record; nothing may take the place of what each record has."""


@dataclass(frozen=True, slots=True)
class TakenApart:
    """What happened, and with what. Texts are printable and bounded."""

    event: str
    fields: dict[str, Any] = field(default_factory=dict)


def printable(text: str) -> str:
    """Make what is no ordinary character visible: line breaks, escapes, directions of writing."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def bounded(text: str, characters: int) -> str:
    """Cut a text that is longer."""
    return text if len(text) <= characters else text[:characters] + "..."


def take_apart(record: logging.LogRecord) -> TakenApart:
    """Take a record apart that nobody has changed yet."""
    said = getattr(record, FIELDS, None)
    if isinstance(said, Mapping):
        named = {
            _OTHER_NAMES.get(str(key), str(key)): _value(value, "s") for key, value in said.items() if key != "event"
        }
        return TakenApart(printable(str(said.get("event", ""))), named)
    arguments = record.args if isinstance(record.args, tuple) else None
    if not isinstance(record.msg, str) or not arguments:
        return TakenApart(printable(record.getMessage()))
    pieces = [piece for piece in _PIECE.finditer(record.msg) if piece["percent"] is None]
    if len(pieces) != len(arguments):
        return TakenApart(printable(record.getMessage()))
    left = iter(arguments)
    fields: dict[str, Any] = {}

    def without(piece: re.Match[str]) -> str:
        if piece["percent"] is not None:
            return f"{piece['key']}=%" if piece["key"] else "%"
        value = next(left)
        if piece["key"] is None:
            return str(f"%{piece['form']}" % (value,))
        fields[_OTHER_NAMES.get(piece["key"], piece["key"])] = _value(value, piece["form"])
        return ""

    event = " ".join(_PIECE.sub(without, record.msg).split())
    return TakenApart(printable(event), fields)


def _value(value: object, form: str) -> Any:
    """Keep what has a type in JSON; a number as it would have been shown."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(f"%{form}" % value) if form[-1] in "fge" else value
    return bounded(printable(str(value)), FIELD_CHARACTERS)
