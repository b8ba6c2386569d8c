"""Show a person that long work goes on: a bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class StepProgress(Protocol):
    """Progress inside one step."""

    def advance(self, what: str) -> None:
        """One more part is done or begun; ``what`` names it."""


class BuildProgress(Protocol):
    """Progress of a piece of work in steps."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[StepProgress]:
        """Show a step for the block; ``total`` parts if known."""


class _Bar:
    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._title = title
        self._task = progress.add_task(title, total=total)

    def advance(self, what: str) -> None:
        self._progress.update(self._task, advance=1, description=f"{self._title}: {what[:32]}")

    def finish(self) -> None:
        task = self._progress.tasks[self._task]
        self._progress.update(
            self._task, description=self._title, total=task.completed or 1, completed=task.completed or 1
        )


class _Silent:
    def advance(self, what: str) -> None:
        """Lines for every part would drown a log."""


class ConsoleProgress:
    """Prints to standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[StepProgress]:
        """Show a step for the block."""
        if not self._console.is_terminal:
            self._console.print(f"  {title} ...")
            yield _Silent()
            return
        columns = (
            SpinnerColumn(finished_text="+"),
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            bar = _Bar(progress, title, total)
            yield bar
            bar.finish()
