"""Where the time of one execution goes, step after step.

The executor says when it has passed a step; whoever watches the execution has put a timeline beside it. It travels as
a context variable, because it is no argument of the work: nothing decides by it.

What is sent ahead costs nothing where it is asked for and something where it is waited for: a cell that has to be
built counts as ``cell`` as far as anybody waits for it there, and in ``code`` otherwise.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

import trio

STEPS: Final = ("inputs", "admission", "cell", "code", "export")
"""Looking inputs up and writing them; waiting for a place; having a sandbox; running; fetching and keeping results."""


class Timeline:
    """Of one execution. Times are those of :func:`trio.current_time`, in seconds."""

    def __init__(self) -> None:
        self.began = self._last = trio.current_time()
        self.passes: list[tuple[str, float, float]] = []
        """Step, beginning and end, in order; a step may come more than once."""

    def passed(self, step: str) -> None:
        """Note that all since the last note was this step."""
        now = trio.current_time()
        self.passes.append((step, self._last, now))
        self._last = now

    @property
    def spent(self) -> dict[str, float]:
        """Give the seconds of each step."""
        found: dict[str, float] = {}
        for step, began, ended in self.passes:
            found[step] = found.get(step, 0.0) + ended - began
        return found


class _Unwatched(Timeline):
    def __init__(self) -> None:
        self.passes = []

    def passed(self, step: str) -> None:
        """Do nothing: nobody looks."""


UNWATCHED: Final[Timeline] = _Unwatched()
_current: Final[ContextVar[Timeline]] = ContextVar("gaoler_timeline", default=UNWATCHED)


def watch_steps() -> Timeline:
    """Make a timeline for what this task does from now on."""
    timeline = Timeline()
    _current.set(timeline)
    return timeline


def steps() -> Timeline:
    """Give the timeline of the execution that this task works for."""
    return _current.get()
