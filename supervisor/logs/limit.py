"""The log stays readable whatever clients and sandboxes provoke: so many lines of a kind, so long, without controls.

A kind is a place in the code. What is left out is counted and told with the next line of its kind.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MESSAGE_CHARACTERS: Final = 4096
TRACEBACK_CHARACTERS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many at once, and so many a second for ever."""

    burst: float
    per_second: float


ORDINARY: Final = Allowance(1000, 200)
"""Up to INFO: a line for each request that was served."""
TROUBLE: Final = Allowance(50, 2)
"""From WARNING on: the first ones tell what the others would."""


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float
    left_out: int = 0


class LogLimit(logging.Filter):
    """A filter for a handler: bounds rate and length of what passes, and makes control characters visible."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, int], _Bucket] = {}
        """By place in the code, of which there are as many as there are."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, made harmless, or leave it out."""
        left_out = self._take(record)
        if left_out is None:
            return False
        self.note(record, left_out)
        message = record.getMessage()
        if len(message) > MESSAGE_CHARACTERS:
            message = message[:MESSAGE_CHARACTERS] + "..."
        if not message.isprintable():
            message = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)
        if left_out:
            message += f" [{left_out} more of this kind were left out]"
        record.msg, record.args = message, ()
        if record.exc_info and not record.exc_text:
            text = logging.Formatter().formatException(record.exc_info)
            record.exc_text = text if len(text) <= TRACEBACK_CHARACTERS else text[:TRACEBACK_CHARACTERS] + "\n..."
        return True

    def note(self, record: logging.LogRecord, left_out: int) -> None:
        """Look at a record that passes, before its message is made."""

    def _take(self, record: logging.LogRecord) -> int | None:
        """Give how many were left out before this one, or ``None`` if it is one too many itself."""
        allowed = TROUBLE if record.levelno >= logging.WARNING else ORDINARY
        place, now = (record.pathname, record.lineno), self._clock()
        with self._lock:
            bucket = self._buckets.get(place)
            if bucket is None:
                bucket = self._buckets[place] = _Bucket(allowed.burst, now)
            bucket.level = min(allowed.burst, bucket.level + (now - bucket.at) * allowed.per_second)
            bucket.at = now
            if bucket.level < 1:
                bucket.left_out += 1
                return None
            bucket.level -= 1
            left_out, bucket.left_out = bucket.left_out, 0
        return left_out


def limit_logging() -> None:
    """Bound what every handler of the root logger writes."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(LogLimit())
