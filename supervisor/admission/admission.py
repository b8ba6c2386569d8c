"""Who may run now. Decided at once: run, wait in a bounded queue, or be refused with a time to come again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from supervisor.admission.fair_queue import FairQueue, QueueLimits, Standing, Ticket
from supervisor.admission.pressure import Pressure
from supervisor.errors import Busy
from supervisor.execution.values import Principal


class Admission:
    """Lets so many executions run at once; the others wait in a fair order (:mod:`supervisor.admission.fair_queue`)."""

    def __init__(self, limits: QueueLimits, pressure: Pressure, *, queue_seconds: float) -> None:
        self._queue = FairQueue(limits)
        self.pressure = pressure
        self._queue_seconds = queue_seconds
        self._turns: dict[Ticket, trio.Event] = {}

    @property
    def running(self) -> int:
        """Executions that run now."""
        return self._queue.total_running

    @property
    def waiting(self) -> int:
        """Executions in the queue."""
        return self._queue.total_waiting

    @property
    def places(self) -> int:
        """Executions that may run at once."""
        return self._queue.places

    def resize(self, places: int) -> None:
        """Have so many places from now on."""
        for admitted in self._queue.resize(places):
            self._turns.pop(admitted).set()

    @asynccontextmanager
    async def place(self, principal: Principal, *, goes_on: bool = False) -> AsyncIterator[Standing]:
        """Have a place for the block, and know what comes with it. ``goes_on``: for what has run before.

        Raises:
            Busy: the queue is full, or the wait was too long.
            Overloaded: the host is short of something, and this is new.
        """
        if not goes_on:
            self.pressure.check()
        decision = self._queue.enter(principal)
        if isinstance(decision, str):
            raise Busy(decision, retry_after_seconds=self._queue.retry_seconds)
        ticket, runs = decision
        if not runs:
            await self._wait(ticket)
        started = trio.current_time()
        try:
            if not (runs or goes_on):
                # Much may have happened while it waited.
                self.pressure.check()
            yield self._queue.standing(ticket)
        finally:
            for admitted in self._queue.leave(ticket, trio.current_time() - started):
                self._turns.pop(admitted).set()

    async def _wait(self, ticket: Ticket) -> None:
        turn = self._turns[ticket] = trio.Event()
        try:
            with trio.move_on_after(self._queue_seconds):
                await turn.wait()
        except trio.Cancelled:
            self._leave_queue(ticket, turn)
            raise
        if not turn.is_set():
            self._leave_queue(ticket, turn)
            raise Busy("no place became free in time", retry_after_seconds=self._queue.retry_seconds)

    def _leave_queue(self, ticket: Ticket, turn: trio.Event) -> None:
        if turn.is_set():
            # The place came in the same moment; it goes to the next one.
            for admitted in self._queue.leave(ticket, 0.0):
                self._turns.pop(admitted).set()
        else:
            del self._turns[ticket]
            self._queue.give_up(ticket)
