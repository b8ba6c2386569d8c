"""What is known of a daemon from its stream of events, and what a person has chosen. Pure; every list is bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Record = Mapping[str, Any]
MOST_RUNNING: Final = 1000
MOST_ENDED: Final = 200


@dataclass(slots=True)
class Board:
    """Takes events in; gives rows. Times are seconds since the epoch, ``now`` of this host."""

    overview: Mapping[str, Any] = field(default_factory=dict)
    running: dict[str, Record] = field(default_factory=dict)
    ended: deque[Record] = field(default_factory=lambda: deque(maxlen=MOST_ENDED))
    missed: int = 0
    chosen: str = ""
    """Id of the row that a key acts on; empty: the first."""
    asked: str = ""
    """Id of what is about to be cancelled, if the person says yes."""
    said: str = ""
    """A line for the person, until the next key."""
    lost: str = ""
    """Why the daemon is not heard any more; empty: it is. What is shown is then as it was."""
    retry_at: float = 0.0
    """When it is asked again."""
    _ahead: float = 0.0
    """How far the daemon's clock is before ours."""

    def take(self, name: str, data: Mapping[str, Any], now: float) -> None:
        """Take in an event of the stream."""
        self.lost = ""
        if name == "snapshot":
            self._look(data["overview"], now)
            self.running = {each["id"]: each for each in data["running"][:MOST_RUNNING]}
        elif name == "overview":
            self._look(data, now)
        elif name == "execution":
            self.missed += data["missed"]
            self._note(data["kind"], data["execution"])

    def lose(self, why: str, retry_at: float) -> None:
        """The stream is gone until then, at least."""
        self.lost, self.retry_at = why, retry_at

    def _look(self, overview: Mapping[str, Any], now: float) -> None:
        self.overview = overview
        self._ahead = overview["now"] - now

    def _note(self, kind: str, record: Record) -> None:
        if kind == "ended":
            self.running.pop(record["id"], None)
            self.ended.appendleft(record)
        elif record["id"] in self.running or len(self.running) < MOST_RUNNING:
            self.running[record["id"]] = record

    def rows(self) -> list[Record]:
        """Give what runs, the longest first."""
        return sorted(self.running.values(), key=lambda each: float(each["began_at"]))

    def seconds(self, record: Record, now: float) -> float:
        """Give how long it has taken, until now or until its end."""
        if record["state"] == "ended":
            return float(record["seconds"])
        return max(0.0, now + self._ahead - float(record["began_at"]))

    # -- choosing --

    def selected(self) -> Record | None:
        """Give the row that a key acts on."""
        rows = self.rows()
        return next((each for each in rows if each["id"] == self.chosen), rows[0] if rows else None)

    def move(self, by: int) -> None:
        """Choose another row, so many further down."""
        rows = [each["id"] for each in self.rows()]
        if rows:
            at = rows.index(self.chosen) if self.chosen in rows else 0
            self.chosen = rows[min(len(rows) - 1, max(0, at + by))]

    def press(self, key: str) -> str:
        """Take a key; give what is to be done: ``quit``, ``cancel`` (what :attr:`asked` says), or nothing."""
        self.said = ""
        if self.asked:
            if key in ("y", "Y"):
                return "cancel"
            self.asked = ""
            return ""
        if key in ("q", "Q"):
            return "quit"
        if key in ("up", "down"):
            self.move(-1 if key == "up" else 1)
        if key == "k":
            one = self.selected()
            self.asked = "" if one is None else one["id"]
            self.said = "nothing runs" if one is None else ""
        return ""


def keys_of(data: bytes) -> list[str]:
    """Give the keys that a terminal has sent: letters, and ``up`` and ``down``. Source: ctlseqs of xterm."""
    text = data.decode("ascii", "ignore")
    for sequence, name in (("\x1b[A", "\0"), ("\x1bOA", "\0"), ("\x1b[B", "\1"), ("\x1bOB", "\1")):
        text = text.replace(sequence, name)
    return [{"\0": "up", "\1": "down"}.get(each, each) for each in text if each != "\x1b"]
