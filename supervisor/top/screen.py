"""How the board is laid out for a terminal of a size. Pure but for the size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from supervisor.commands.console import duration, size, visible
from supervisor.commands.executions import ended, who
from supervisor.commands.status import bars
from supervisor.top.board import Board, Record

_BESIDE = 7
"""Lines of the screen that are no rows."""
_STYLES = {"exited": "", "running": "bold", "waiting": "dim", "refused": "yellow", "cancelled": "yellow"}


class Screen:
    """Renders a board as it is then. ``now``: of this host, in seconds since the epoch."""

    def __init__(self, board: Board, shown: str, now: float) -> None:
        self._board = board
        self._shown = shown
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the lines, no more than there is room for."""
        room = max(2, (options.height or console.size.height) - _BESIDE)
        yield from self._head()
        yield self._table(room)
        yield self._foot()

    def _head(self) -> Iterator[Text]:
        overview = self._board.overview
        load: dict[str, Any] = overview.get("load", {})
        title = Text("gaoler top", style="bold", no_wrap=True, overflow="ellipsis")
        title.append(f"  {visible(overview.get('name', self._shown))}  up ", style="not bold")
        title.append(duration(max(0.0, overview.get("now", 0.0) - overview.get("started_at", 0.0))), style="not bold")
        yield title
        parts = [f"{load.get('running', 0)}/{load.get('places', 0)} run", f"{load.get('waiting', 0)} wait"]
        if "live_sessions" in load:
            parts.append(f"{load['live_sessions']} live sessions")
        if load.get("cpu_percent") is not None:
            parts.append(f"CPU {load['cpu_percent']:.0f} %")
        if "memory_free_bytes" in load:
            parts.append(f"{size(load['memory_free_bytes'])} memory free")
        yield Text("  ".join(parts), no_wrap=True, overflow="ellipsis")
        whole = overview.get("latencies", {}).get("whole")
        figures = "" if whole is None else f"p50 {duration(whole['p50'])}  p99 {duration(whole['p99'])}  "
        yield Text(figures + bars(list(overview.get("per_minute", []))), no_wrap=True, overflow="ellipsis")
        short = ", ".join(load.get("shedding", ()))
        if self._board.lost:
            wait = max(0.0, self._board.retry_at - self._now)
            words = f"NOT HEARD, tried again in {wait:.0f} s: {visible(self._board.lost)}"
            yield Text(words, style="bold red", no_wrap=True, overflow="ellipsis")
            return
        yield Text(f"SHEDDING: short of {short}" if short else "", style="bold red", no_wrap=True)

    def _table(self, room: int) -> Table:
        board = self._board
        made = Table(box=None, pad_edge=False, expand=True, header_style="reverse")
        for name in ("who", "language", "state", "seconds", "memory", "door", "id"):
            right = name in ("seconds", "memory")
            made.add_column(name, no_wrap=True, overflow="ellipsis", justify="right" if right else "left")
        selected = board.selected()
        rows = board.rows()
        first = rows.index(selected) - room + 1 if selected in rows else 0
        shown = rows[max(0, first) :][:room]
        for each in shown:
            self._add(made, each, style="reverse" if each is selected else "")
        for each in list(board.ended)[: room - len(shown)]:
            self._add(made, each, style="dim")
        return made

    def _add(self, made: Table, each: Record, *, style: str) -> None:
        memory = size(each["memory_peak_bytes"]) if each["memory_peak_bytes"] else ""
        word = each["outcome"] if each["state"] == "ended" else each["state"]
        state = Text(ended(each), style=_STYLES.get(word, "red"))
        took = f"{self._board.seconds(each, self._now):.1f}"
        cells = (Text(who(each)), Text(visible(each["language"])), state, took, memory, each["door"], each["id"])
        made.add_row(*cells, style=style)

    def _foot(self) -> Text:
        board = self._board
        if board.asked:
            one = board.running.get(board.asked)
            words = f" ({who(one)}, {visible(one['language'])})" if one is not None else ""
            return Text(f"Cancel {board.asked}{words}? y: yes, any other key: no", style="bold yellow", no_wrap=True)
        missed = f"  {board.missed} events missed" if board.missed else ""
        return Text(board.said or f"q quits, k cancels the chosen one, arrows choose{missed}", no_wrap=True)
