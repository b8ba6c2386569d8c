"""The record of what operators do: one line of JSON each, in files that are turned over.

What gives rights (a key, a rule of the network) is done only when it has been written down that it begins: where the
disk is full it is refused, or whoever fills the disk could have it done unseen. What takes something away (ending an
execution, deleting a session, revoking a key) is done all the same: it may be what makes room. Its line goes to the
daemon's log, is kept in memory, and written when there is room again.

Strangers who are refused have files of their own, and so many lines in a while: they cannot push operators' acts out.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import trio
from msgspec import Struct

from supervisor.errors import StorageFull
from supervisor.execution.values import new_id
from supervisor.logs.json_lines import LineFile, latest, visible

log: Final = logging.getLogger("gaoler.admin")

ACTS_FILE: Final = "admin.jsonl"
REFUSED_FILE: Final = "admin-refused.jsonl"
MOST_BYTES: Final = 16 << 20
"""Of each file that is looked through for one answer."""
TEXT_CHARACTERS: Final = 512
UNWRITTEN: Final = 1000
BURST: Final = 100
LINES_PER_SECOND: Final = 1.0
"""Of strangers who are refused; the others are only counted."""

Outcome = Literal["begun", "done", "refused", "failed"]
Which = Literal["all", "acts", "refused"]


class Entry(Struct, frozen=True, kw_only=True):
    """An act. ``time`` in seconds since the epoch, of its beginning; ``who`` is the name of a credential."""

    time: float
    id: str
    who: str
    tenant: str
    address: str
    act: str
    target: str = ""
    outcome: Outcome
    detail: str = ""


class Act:
    """One act under way. Use :meth:`AdminAudit.open_act`."""

    def __init__(self, audit: AdminAudit, entry: Entry, *, gives: bool) -> None:
        self._audit = audit
        self._entry = entry
        self._gives = gives

    def begin(self, target: str) -> None:
        """Say what it is about, just before it is done.

        Raises:
            StorageFull: it gives rights, and could not be written down.
        """
        self._entry = msgspec.structs.replace(self._entry, target=_bounded(target))
        if not self._audit.write(self._entry) and self._gives:
            raise StorageFull("what gives rights is written down first, and that failed: make room in state_dir")

    def end(self, outcome: Outcome, detail: str = "") -> None:
        """Say how it ended."""
        self._entry = msgspec.structs.replace(self._entry, outcome=outcome, detail=_bounded(detail))
        self._audit.write(self._entry)


class AdminAudit:
    """Writes acts down. Use :func:`open_admin_audit`. ``clock``: seconds since the epoch."""

    def __init__(self, acts: LineFile, refused: LineFile, clock: Callable[[], float]) -> None:
        self._acts = acts
        self._refused = refused
        self._clock = clock
        self.unwritten: deque[Entry] = deque(maxlen=UNWRITTEN)
        """What could not be written yet, the oldest first."""
        self._level, self._at, self._left_out = float(BURST), clock(), 0

    def open_act(self, who: str, tenant: str, address: str, act: str, *, gives: bool) -> Act:
        """Have an act by an operator; ``gives``: it gives rights."""
        return Act(self, self._entry(who, tenant, address, act, "begun"), gives=gives)

    def refuse(self, address: str, act: str, detail: str) -> None:
        """Note that somebody was refused who is no operator."""
        now = self._clock()
        self._level = min(float(BURST), self._level + max(0.0, now - self._at) * LINES_PER_SECOND)
        self._at = now
        if self._level < 1:
            self._left_out += 1
            return
        self._level -= 1
        more, self._left_out = self._left_out, 0
        said = f"{detail} (and {more} more before)" if more else detail
        entry = self._entry("", "", address, act, "refused", said)
        with suppress(OSError):  # it is in the log of failed authentications too
            self._refused.write_line(_line(entry))

    def reopen(self) -> None:
        """Write to files of these names from now on, if somebody has moved or removed those that there were."""
        self._acts.close()
        self._refused.close()

    def write(self, entry: Entry) -> bool:
        """Write an act down, after those that could not be written before; say whether it was."""
        waiting = [*self.unwritten, entry]
        self.unwritten.clear()
        for number, each in enumerate(waiting):
            try:
                self._acts.write_line(_line(each))
            except OSError as error:
                self.unwritten.extend(waiting[number:])
                log.error("the record of operators' acts cannot be written (%s): %s", error, _line(entry))
                return False
        return True

    def _entry(self, who: str, tenant: str, address: str, act: str, outcome: Outcome, detail: str = "") -> Entry:
        texts = {"who": who, "tenant": tenant, "address": address, "act": act, "detail": detail}
        bounded = {name: _bounded(text) for name, text in texts.items()}
        return Entry(time=self._clock(), id=new_id(), outcome=outcome, **bounded)

    async def read(self, which: Which, limit: int) -> list[dict[str, Any]]:
        """Give the latest entries, the latest first; of an act that has ended only its end.

        Raises:
            OSError: a file cannot be read.
        """
        paths = [each.path for each in self._wanted(which)]
        kept = [] if which == "refused" else [msgspec.to_builtins(each) for each in reversed(self.unwritten)]

        def look() -> list[dict[str, Any]]:
            sources = [kept, *(latest(path, MOST_BYTES) for path in paths)]
            merged = heapq.merge(*sources, key=_moment, reverse=True)
            return list(itertools.islice(_ended(merged), limit))

        return await trio.to_thread.run_sync(look)

    def _wanted(self, which: Which) -> list[LineFile]:
        return {"acts": [self._acts], "refused": [self._refused], "all": [self._acts, self._refused]}[which]


def _moment(entry: dict[str, Any]) -> float:
    when = entry.get("time")
    return float(when) if isinstance(when, int | float) else 0.0


def _ended(entries: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Pass over the beginnings of acts whose ends are there."""
    seen: set[object] = set()
    for entry in entries:
        if entry.get("outcome") == "begun" and entry.get("id") in seen:
            continue
        seen.add(entry.get("id"))
        yield entry


def _bounded(text: str) -> str:
    return visible(text[:TEXT_CHARACTERS])


def _line(entry: Entry) -> str:
    return msgspec.json.encode(entry).decode()


@contextmanager
def open_admin_audit(
    directory: Path, *, file_bytes: int, files: int, clock: Callable[[], float] = time.time
) -> Iterator[AdminAudit]:
    """Keep the record for the block, in two times so many files of so many bytes.

    Raises:
        OSError: the files cannot be opened.
    """
    acts = LineFile(directory / ACTS_FILE, file_bytes=file_bytes, files=files)
    refused = LineFile(directory / REFUSED_FILE, file_bytes=file_bytes, files=files)
    try:
        yield AdminAudit(acts, refused, clock)
    finally:
        for each in (acts, refused):
            with suppress(OSError):  # what a full disk did not take was told
                each.close()
