"""The forms of a record: a line for people, an object of JSON, the fields of systemd's journal.

Records are those of the standard library, ours and other packages' alike; structlog's processors put in what each was
written for, request and session, and write it.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

from supervisor.execution.request_context import current_request, current_session
from supervisor.logs.limit import MESSAGE_CHARACTERS, LogLimit
from supervisor.logs.taken_apart import TakenApart, bounded, take_apart

Event = MutableMapping[str, Any]

_APART: Final = "gaoler_apart"
_PRIORITIES: Final = {"DEBUG": "7", "INFO": "6", "WARNING": "4", "ERROR": "3", "CRITICAL": "2"}
SHORTEST_SECRET: Final = 6
"""What is shorter stands in many words that say nothing of it."""


class ApartLimit(LogLimit):
    """Bounds what passes, as its base, and takes it apart before its message is made."""

    def note(self, record: logging.LogRecord, left_out: int) -> None:
        """Take it apart."""
        apart = take_apart(record)
        if left_out:
            apart.fields["left_out"] = left_out
        setattr(record, _APART, apart)


class Hiding:
    """Takes the settings' secrets out of a text: nobody writes them there, and whoever might is covered here."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Hide these too."""
        self._known |= {each for each in secrets if len(each) >= SHORTEST_SECRET}
        forms = self._known | {json.dumps(each)[1:-1] for each in self._known}
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """Give the text without them."""
        return text if self._pattern is None else self._pattern.sub("(hidden)", text)


class HidingFormatter(logging.Formatter):
    """Gives what another formatter gives, without what is to be hidden."""

    def __init__(self, inner: logging.Formatter, hide: Hiding) -> None:
        super().__init__()
        self._inner = inner
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """Give it."""
        return self._hide(self._inner.format(record))


def line_form() -> logging.Formatter:
    """Give the form for people: time, level, logger, message, and for what it was written."""
    return ProcessorFormatter(foreign_pre_chain=[*_CONTEXT, _write_line], processors=[_the_line])


def json_form() -> logging.Formatter:
    """Give the form for programs: one object a line. All but ASCII is escaped, so no reader takes one line for two."""
    return ProcessorFormatter(
        foreign_pre_chain=[*_CONTEXT, _put_together], processors=[structlog.processors.JSONRenderer()]
    )


def fields_of(record: logging.LogRecord) -> Event:
    """Give all that a record says, in the order in which it is shown."""
    event: Event = {"event": record.getMessage(), "_record": record}
    for step in (*_CONTEXT, _put_together):
        made = step(None, "", event)
        assert isinstance(made, MutableMapping)
        event = made
    return event


def priority_of(event: Event) -> str:
    """Give syslog's number for the level."""
    return _PRIORITIES.get(event["level"], "5")


def _name_request(_logger: Any, _name: str, event: Event) -> Event:
    """Say for which request and session this task works."""
    request, session = current_request(), current_session()
    if request is not None:
        event["request_id"] = request.request_id
    if session is not None:
        event["session_id"] = session
    return event


def _put_together(_logger: Any, _name: str, event: Event) -> Event:
    """Begin with what every record has, then its own fields."""
    record: logging.LogRecord = event["_record"]
    apart: TakenApart = getattr(record, _APART, None) or TakenApart(event["event"])
    made: Event = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat("T", "milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "event": bounded(apart.event, MESSAGE_CHARACTERS),
        **{key: value for key, value in event.items() if key not in _BESIDE},
        # Last, for a record that is about another session than the request's says so itself.
        **apart.fields,
    }
    if record.exc_text:
        made["exception"] = record.exc_text
    return made


def _write_line(_logger: Any, _name: str, event: Event) -> Event:
    record: logging.LogRecord = event["_record"]
    stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.created))},{int(record.msecs):03d}"
    context = "".join(f" {key}={value}" for key, value in event.items() if key not in _BESIDE)
    line = f"{stamp} {record.levelname} {record.name} {event['event']}{context}"
    return {"event": f"{line}\n{record.exc_text}" if record.exc_text else line}


def _the_line(_logger: Any, _name: str, event: Event) -> str:
    return str(event["event"])


_BESIDE: Final = frozenset({"event", "exc_info", "stack_info", "_record", "_from_structlog"})
_CONTEXT: Final[tuple[Processor, ...]] = (structlog.contextvars.merge_contextvars, _name_request)
