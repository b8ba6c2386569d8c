"""Security events: one line each, ``event=NAME key=value ...``, in the log ``gaoler.security``.

A line says who did what, from where, how often. It never has a credential in it, nor a part of one.
"""

from __future__ import annotations

import json
import logging
from typing import Final

from supervisor.logs.taken_apart import FIELDS

log: Final = logging.getLogger("gaoler.security")


def tell(event: str, **fields: object) -> None:
    """Write an event. Values with blanks or quotes are written as JSON strings, so that each field is one word."""
    told = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
    # Of the caller's line: the log is bounded by lines of code, and one event should not hide another.
    log.warning("event=%s %s", event, told, stacklevel=2, extra={FIELDS: {"event": event, **fields}})


def _word(value: object) -> str:
    text = str(value)
    plain = text and text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain else json.dumps(text)
