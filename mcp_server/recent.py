"""What sessions have put out lately, whole: a result shows a part of it, and links to the rest here.

In memory, bounded over all sessions together; the oldest goes first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from supervisor.errors import NotFound
from supervisor.execution.values import ExecutionResult, SessionId, Shown

PER_SESSION: Final = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """The output of one execution."""

    number: int
    stdout: str
    stderr: str
    shown: tuple[Shown, ...]

    @property
    def size(self) -> int:
        """What it costs, about."""
        forms = sum(len(content) for each in self.shown for content in each.untrusted_forms.values())
        return len(self.stdout) + len(self.stderr) + forms + 256


class Recent:
    """Entries by session. Who may see them is decided before."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._entries: OrderedDict[SessionId, deque[Entry]] = OrderedDict()
        self._numbers: OrderedDict[SessionId, int] = OrderedDict()
        self._bytes = 0
        self.on_added: Callable[[SessionId], None] = lambda _session_id: None
        """Called when a session has a new one."""

    def add(self, session_id: SessionId, result: ExecutionResult) -> Entry:
        """Keep the output of an execution."""
        number = self._numbers.get(session_id, 0) + 1
        self._numbers[session_id] = number
        self._numbers.move_to_end(session_id)
        if len(self._numbers) > 100_000:
            self._numbers.popitem(last=False)
        entry = Entry(number, result.stdout.text(), result.stderr.text(), result.shown)
        entries = self._entries.setdefault(session_id, deque())
        self._entries.move_to_end(session_id)
        entries.append(entry)
        self._bytes += entry.size
        if len(entries) > PER_SESSION:
            self._bytes -= entries.popleft().size
        while self._bytes > self._limit:
            oldest = next(iter(self._entries))
            self._bytes -= self._entries[oldest].popleft().size
            if not self._entries[oldest]:
                del self._entries[oldest]
        self.on_added(session_id)
        return entry

    def all(self, session_id: SessionId) -> list[Entry]:
        """Give what is kept of a session, the oldest first."""
        return list(self._entries.get(session_id, ()))

    def one(self, session_id: SessionId, number: int) -> Entry:
        """Give one.

        Raises:
            NotFound: it is not kept any more, or never was.
        """
        for entry in self._entries.get(session_id, ()):
            if entry.number == number:
                return entry
        raise NotFound("this output is not kept any more", field="uri")

    def forget(self, session_id: SessionId) -> None:
        """Drop what is kept of a session."""
        for entry in self._entries.pop(session_id, ()):
            self._bytes -= entry.size
