"""Takes from the tracer's queue and delivers, batch by batch, in one thread. Nobody waits for it, and it waits for all.

A receiver that is slow, dead or full is tried some times, with growing pauses; then the batch is lost, and counted.
What cannot be delivered for long fills the queue, and what comes then is dropped, and counted.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import h11
import trio

from supervisor import __version__
from supervisor.connector.dialling import Dial
from supervisor.settings.tracing import TracingSettings
from supervisor.tracing.delivery import Answer, Receiver, receiver_of
from supervisor.tracing.otlp import CONTENT_TYPE, encode, refused_spans
from supervisor.tracing.tracer import Told, Tracer

log: Final = logging.getLogger("gaoler.tracing")

LINGER_SECONDS: Final = 1.0
"""What came first waits so long for others to go with it."""
BATCH: Final = 128
"""Executions of one delivery."""
PAUSES: Final = (0.5, 2.0, 8.0)
"""Seconds before the second, third and fourth try."""
LONGEST_PAUSE: Final = 30.0
LAST_SECONDS: Final = 2.0
"""For what is left at the end."""
_PASSING: Final = frozenset({429, 502, 503, 504})
"""What OTLP calls retryable."""


class Exporter:
    """Use :func:`open_tracing`."""

    def __init__(self, tracer: Tracer, receiver: Receiver, dial: Dial, resource: dict[str, str]) -> None:
        self._tracer = tracer
        self._receiver = receiver
        self._dial = dial
        self._resource = resource
        self._thread = trio.CapacityLimiter(1)
        self._well = True

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._tracer.wait()
            if self._tracer.waiting < BATCH:
                await trio.sleep(LINGER_SECONDS)
            await self._deliver(self._tracer.take(BATCH), PAUSES)

    async def finish(self) -> None:
        """Deliver what is left, within :data:`LAST_SECONDS` and without a second try."""
        with trio.CancelScope(shield=True), trio.move_on_after(LAST_SECONDS):
            while self._tracer.waiting:
                await self._deliver(self._tracer.take(BATCH), ())
        left = self._tracer.take(self._tracer.waiting)
        if left:
            self._tracer.spans["lost"] += sum(each.spans for each in left)
            log.warning("the last spans were not delivered in time executions=%d", len(left))

    async def _deliver(self, batch: list[Told], pauses: Sequence[float]) -> None:
        """Deliver, or give up; cancelled, the batch is put back: whether it has arrived is not known, its ids stay."""
        try:
            await self._try(batch, pauses)
        except trio.Cancelled:
            self._tracer.give_back(batch)
            raise

    async def _try(self, batch: Sequence[Told], pauses: Sequence[float]) -> None:
        count = sum(each.spans for each in batch)
        kept, why, later = await self._attempt(batch, count)
        for pause in pauses:
            if later is None:
                break
            self._tell(why)
            await trio.sleep(min(LONGEST_PAUSE, max(pause, later)))
            kept, why, later = await self._attempt(batch, count)
        self._tracer.spans["sent"] += kept
        self._tracer.spans["lost"] += count - kept
        self._tell(why)

    async def _attempt(self, batch: Sequence[Told], count: int) -> tuple[int, str, float | None]:
        """Try once; give how many spans were taken, why not all, and after how many seconds it may be tried again."""

        def work() -> Answer:
            return self._receiver.post(self._dial, encode(batch, self._resource), CONTENT_TYPE)

        exports = self._tracer.exports
        try:
            answer = await trio.to_thread.run_sync(work, limiter=self._thread, abandon_on_cancel=True)
        except (OSError, h11.ProtocolError) as error:
            exports["failed"] += 1
            return 0, f"{type(error).__name__}: {error}", 0.0
        except Exception:
            # Named boundary: what cannot be written down or read is no reason for a daemon to end.
            log.exception("a batch of spans is lost")
            exports["failed"] += 1
            return 0, "a fault of ours", None
        if answer.status in _PASSING:
            exports["failed"] += 1
            return 0, f"status {answer.status}", answer.retry_after_seconds or 0.0
        if not 200 <= answer.status < 300:
            exports["refused"] += 1
            return 0, f"status {answer.status}", None
        exports["taken"] += 1
        refused, reason = refused_spans(answer.body)
        return max(0, count - refused), f"some are refused: {reason}" if refused else "", None

    def _tell(self, why: str) -> None:
        """Log when it begins to fail, and when it goes on; not each time between."""
        if why and self._well:
            log.warning("spans are not taken: %s", ascii(why[:300]))
        elif not why and not self._well:
            log.info("spans are taken again")
        self._well = not why


@asynccontextmanager
async def open_tracing(
    settings: TracingSettings, dial: Dial, *, name: str, role: str, language_of: Callable[[str], str] = str
) -> AsyncIterator[Tracer]:
    """Have a tracer for the block; what is left at its end is delivered within :data:`LAST_SECONDS`.

    ``name`` and ``role`` are this process'; ``dial`` is used by a thread.
    """
    tracer = Tracer(settings.sample, language_of)
    resource = {
        "service.name": settings.service,
        "service.version": __version__,
        "service.instance.id": name,
        "gaoler.role": role,
    }
    exporter = Exporter(tracer, receiver_of(settings), dial, resource)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exporter.run)
        try:
            yield tracer
        finally:
            nursery.cancel_scope.cancel()
            await exporter.finish()
