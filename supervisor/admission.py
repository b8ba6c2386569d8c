"""Who may run now. Decided at once: run, wait in a bounded queue, or be refused with a time to come again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from supervisor.errors import Busy

RETRY_SECONDS = 2.0


class Admission:
    """Lets so many executions run at once; the next ones wait in order, the rest are told to come again."""

    def __init__(self, *, concurrent: int, queue_length: int, queue_seconds: float) -> None:
        self._places = trio.CapacityLimiter(concurrent)
        self._queue_length = queue_length
        self._queue_seconds = queue_seconds
        self._waiting = 0

    @property
    def running(self) -> int:
        """Executions that run now."""
        return self._places.borrowed_tokens

    @property
    def waiting(self) -> int:
        """Executions in the queue."""
        return self._waiting

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Have a place for the block.

        Raises:
            Busy: the queue is full, or the wait was too long.
        """
        holder = object()
        try:
            self._places.acquire_on_behalf_of_nowait(holder)
        except trio.WouldBlock:
            await self._wait(holder)
        try:
            yield
        finally:
            self._places.release_on_behalf_of(holder)

    async def _wait(self, holder: object) -> None:
        if self._waiting >= self._queue_length:
            raise Busy("all places and the queue are taken", retry_after_seconds=RETRY_SECONDS)
        self._waiting += 1
        try:
            with trio.fail_after(self._queue_seconds):
                await self._places.acquire_on_behalf_of(holder)
        except trio.TooSlowError:
            raise Busy("no place became free in time", retry_after_seconds=RETRY_SECONDS) from None
        finally:
            self._waiting -= 1
