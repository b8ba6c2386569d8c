"""What came of a run: a table for a person, JSON for a program, and the figures that both begin with."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from supervisor.attack.case import GROUPS
from supervisor.attack.session import Subject
from supervisor.attack.suite import Result, Run, Verdict

SIGNS: Final[dict[Verdict, str]] = {
    "held": "[green]held[/]",
    "broken": "[bold red]BROKEN[/]",
    "untried": "[yellow]not tried[/]",
}


class Watch:
    """Shows a person that it goes on, on standard error. Use as a context manager, then as a watcher of results."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet, soft_wrap=True)
        self._total = total
        self._done = 0
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._task = self._progress.add_task("attacking", total=total)

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._progress.stop()

    def result(self, result: Result) -> None:
        """Show one more."""
        self._done += 1
        self._progress.update(self._task, completed=self._done, description=f"{result.case.id} {result.case.name}")
        if result.verdict != "held" or not self._console.is_terminal:
            detail = f": {escape(result.detail)}" if result.detail and result.verdict != "held" else ""
            place = f"{self._done:>4}/{self._total}"
            line = f"{place}  {SIGNS[result.verdict]}  {result.case.id} {escape(result.case.name)}{detail}"
            self._console.print(line, highlight=False)

    def tell(self, what: str) -> None:
        """Show what happens in between."""
        self._console.print(f"           {escape(what)}", highlight=False)


def as_table(run: Run, subject: Subject, console: Console) -> None:
    """Print the groups, then every failure with its meaning, then what was not tried."""
    console.print(
        f"Gaoler {subject.version}, policy {subject.policy}, tier {subject.tier}, at {subject.address}; "
        f"{subject.kernel}, {subject.machine}, cgroup {subject.cgroups}",
        highlight=False,
    )
    table = Table("", "group", "held", "broken", "not tried", box=None, pad_edge=False)
    for letter, words in GROUPS.items():
        counts = [run.count(verdict, letter) for verdict in SIGNS]
        if any(counts):
            table.add_row(letter, words, *(str(each) if each else "-" for each in counts))
    table.add_row("", "all", *(str(run.count(verdict)) for verdict in SIGNS), style="bold")
    console.print(table)
    for result in run.of("broken"):
        console.print(
            f"\n[bold red]BROKEN[/] {result.case.id} {escape(result.case.name)}: {escape(result.case.promise)}"
        )
        console.print(f"  seen      {escape(result.detail)}", highlight=False)
        console.print(f"  means     {escape(result.case.meaning)}", highlight=False)
        console.print(f"  to do     {escape(result.case.mend)}", highlight=False)
    skipped = run.of("untried")
    if skipped:
        console.print(f"\nNot tried, and not counted as held: {len(skipped)}")
        for result in skipped:
            console.print(f"  {result.case.id} {escape(result.case.name)}: {escape(result.detail)}", highlight=False)


def as_tree(run: Run, subject: Subject) -> dict[str, Any]:
    """Give the report as plain values: ``subject``, ``counts``, ``results``."""
    return {
        "subject": msgspec.to_builtins(subject),
        "counts": {verdict: run.count(verdict) for verdict in SIGNS},
        "results": [
            {
                "id": each.case.id,
                "group": each.case.group,
                "name": each.case.name,
                "verdict": each.verdict,
                "detail": each.detail,
                "seconds": round(each.seconds, 3),
                "promise": each.case.promise,
                "meaning": each.case.meaning,
                "mend": each.case.mend,
            }
            for each in run.results
        ],
    }


def as_json(run: Run, subject: Subject) -> str:
    """Give the report for a program."""
    return msgspec.json.format(msgspec.json.encode(as_tree(run, subject))).decode()
