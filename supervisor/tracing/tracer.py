"""Where executions leave what is to be told of them: a bounded queue, which nobody ever waits for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.activity.records import ExecutionRecord
from supervisor.tracing.trace_context import Place, place_below

QUEUE: Final = 2048
"""Executions that wait to be told of; more are dropped, and counted."""
MAX_STEPS: Final = 32
"""Of one execution that are told."""

Step = tuple[str, float, float]
"""Name, beginning and end, by the clock of :class:`supervisor.activity.timeline.Timeline`."""


@dataclass(frozen=True, slots=True)
class Told:
    """An execution that has ended. ``began``: by the clock of its steps, where the record has the time of day."""

    place: Place
    record: ExecutionRecord
    language: str
    began: float
    steps: tuple[Step, ...]

    @property
    def spans(self) -> int:
        """How many spans it makes."""
        return 1 + len(self.steps)


class Tracer:
    """Of one process. ``language_of``: as of :class:`supervisor.activity.totals.Totals`."""

    def __init__(self, ratio: float, language_of: Callable[[str], str] = str) -> None:
        self._ratio = ratio
        self._language_of = language_of
        self._queue: deque[Told] = deque()
        self._some = trio.Event()
        self._none = trio.Event()
        self.spans: Counter[str] = Counter(sent=0, dropped=0, lost=0)
        """``dropped``: the queue was full; ``lost``: the receiver did not take them."""
        self.exports: Counter[str] = Counter(taken=0, refused=0, failed=0)
        """Batches; ``failed``: tries that found nobody, or somebody who could not now."""

    def begin(self, traceparent: str, tracestate: str = "") -> Place:
        """Give an execution its place, below its client's. ``tracestate``: as its request's context has it."""
        return place_below(traceparent, self._ratio, tracestate)

    def end(self, place: Place, record: ExecutionRecord, began: float, steps: list[Step]) -> None:
        """Take an execution that has ended; never waits, never raises."""
        if not place.sampled:
            return
        told = Told(place, record, self._language_of(record.language), began, tuple(steps[:MAX_STEPS]))
        if len(self._queue) >= QUEUE:
            self.spans["dropped"] += told.spans
            return
        self._queue.append(told)
        self._some.set()

    async def wait(self) -> None:
        """Wait until something is there to be taken."""
        if not self._queue:
            self._some = trio.Event()
            await self._some.wait()

    async def wait_empty(self) -> None:
        """Wait until nothing is there any more."""
        while self._queue:
            await self._none.wait()

    @property
    def waiting(self) -> int:
        """Executions that wait to be told of."""
        return len(self._queue)

    def give_back(self, batch: list[Told]) -> None:
        """Put back what could not be delivered now."""
        self._queue.extendleft(reversed(batch))

    def take(self, most: int) -> list[Told]:
        """Take the oldest."""
        taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        if not self._queue:
            self._none.set()
            self._none = trio.Event()
        return taken
