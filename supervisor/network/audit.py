"""The record of every decision of the egress proxy: one line of JSON each, in files that are turned over; counters."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from egress.control import Record
from supervisor.logs.json_lines import LineFile

log: Final = logging.getLogger("gaoler.network.audit")

AUDIT_FILE: Final = "egress.jsonl"
_FIELDS: Final = ("kind", "method", "host", "port", "path", "address", "rule", "sent", "received", "seconds")


def as_line(record: Record) -> dict[str, Any]:
    """Lay a record out: when, who, what, and why; without what only the sandbox's user is told."""
    when = datetime.fromtimestamp(record.time, UTC).isoformat("T", "milliseconds")
    line: dict[str, Any] = {"time": when, **record.labels, "verdict": record.verdict}
    for name in _FIELDS:
        value = getattr(record, name)
        if value is not None:
            line[name] = round(value, 4) if isinstance(value, float) else value
    for name in ("code", "reason"):
        if getattr(record, name) is not None:
            line[name] = getattr(record, name)
    if record.suppressed:
        line["suppressed"] = record.suppressed
    return line


class Audit:
    """Writes records down and counts them. Use :func:`open_audit`."""

    def __init__(self, handler: LineFile | None) -> None:
        self._handler = handler
        self.verdicts: Counter[tuple[str, str]] = Counter()
        """By kind and verdict."""
        self.refusals: Counter[str] = Counter()
        """By code."""
        self.sent_bytes = 0
        self.received_bytes = 0
        self.suppressed = 0
        self.write_failures = 0

    def write(self, record: Record) -> None:
        """Write one down. A disk that is full loses lines, not connections; the counter tells."""
        self.verdicts[record.kind, record.verdict] += 1
        if record.code is not None:
            self.refusals[record.code] += 1
        self.sent_bytes += record.sent
        self.received_bytes += record.received
        self.suppressed += record.suppressed
        if self._handler is None:
            return
        text = msgspec.json.encode(as_line(record)).decode()
        try:
            self._handler.write_line(text)
        except OSError as error:
            self.write_failures += 1
            log.error("the network audit cannot be written: %s", error)


@contextmanager
def open_audit(path: Path | None, *, file_bytes: int, files: int) -> Iterator[Audit]:
    """Keep an audit for the block, in at most ``files`` files of ``file_bytes``; without a path it only counts."""
    if path is None:
        yield Audit(None)
        return
    handler = LineFile(path, file_bytes=file_bytes, files=files)
    try:
        yield Audit(handler)
    finally:
        with suppress(OSError):  # what a full disk did not take has been counted
            handler.close()
