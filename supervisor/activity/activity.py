"""The table of executions: those that run, the latest that have ended, and who follows them."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

import msgspec
import trio
from msgspec import Struct

from supervisor.activity.records import Door, ExecutionRecord, Kind, outcome_words, output_bytes
from supervisor.activity.timeline import Timeline, watch_steps
from supervisor.activity.totals import Totals
from supervisor.errors import ConfigurationError, GaolerError, SandboxFailed, StorageFull, StoreUnavailable
from supervisor.execution.request_context import current_request, under
from supervisor.execution.values import ExecutionRequest, ExecutionResult, new_id
from supervisor.tracing.tracer import Tracer

log: Final = logging.getLogger("gaoler.activity")

RECENT: Final = 1000
"""Executions that have ended and are remembered."""
FOLLOWED: Final = 256
"""Events that wait for one who follows; whoever is slower misses some, and is told."""


class Event(Struct, frozen=True):
    """Something happened to an execution. ``missed``: so many events were dropped before it."""

    kind: str
    """``began``, ``runs`` or ``ended``."""
    execution: ExecutionRecord
    missed: int = 0


class Running:
    """One execution under way. ``stopped_by``: the operator who has ended it."""

    def __init__(self, record: ExecutionRecord, timeline: Timeline) -> None:
        self.record = record
        self.timeline = timeline
        self.scope = trio.CancelScope()
        self.stopped_by: str | None = None
        self._ending: dict[str, object] = {"outcome": "failed"}

    def finish(self, result: ExecutionResult) -> None:
        """Note the result. What a worker measured counts for the steps that are its own."""
        outcome, detail = outcome_words(result.outcome)
        self._ending = {
            "outcome": outcome,
            "detail": detail,
            "session": result.session_id,
            "tier": result.tier,
            "wall_seconds": result.usage.wall_seconds,
            "cpu_seconds": result.usage.cpu_seconds,
            "memory_peak_bytes": result.usage.memory_peak_bytes,
            "output_bytes": output_bytes(result),
            "files": len(result.files),
            "spent": {**self.timeline.spent, **result.spent},
        }

    def end_as(self, outcome: str, detail: str = "") -> None:
        """Note an end that has no result."""
        self._ending = {"outcome": outcome, "detail": detail, "spent": self.timeline.spent}

    def now(self) -> ExecutionRecord:
        """Give the record as it stands."""
        return msgspec.structs.replace(self.record, seconds=trio.current_time() - self.timeline.began)

    def ended(self) -> ExecutionRecord:
        """Give the record of its end, which is now."""
        seconds = trio.current_time() - self.timeline.began
        return msgspec.structs.replace(
            self.record, state="ended", ended_at=time.time(), seconds=seconds, **self._ending
        )


class Activity:
    """Watches executions. ``on_ended`` is told of each end, and must neither wait nor raise.

    ``language_of`` as of :class:`supervisor.activity.totals.Totals`; ``tracer``: where each is told, if anywhere.
    """

    def __init__(self, language_of: Callable[[str], str] = str, tracer: Tracer | None = None) -> None:
        self.totals = Totals(language_of)
        self._tracer = tracer
        self.on_ended: list[Callable[[ExecutionRecord], None]] = []
        self._running: OrderedDict[str, Running] = OrderedDict()
        self._recent: deque[ExecutionRecord] = deque(maxlen=RECENT)
        self._followers: dict[trio.MemorySendChannel[Event], int] = {}

    def running(self) -> list[ExecutionRecord]:
        """Give what runs and waits now, the oldest first."""
        return [each.now() for each in self._running.values()]

    def recent(self, limit: int = RECENT) -> list[ExecutionRecord]:
        """Give the latest that have ended, the latest first."""
        return [each for _, each in zip(range(limit), reversed(self._recent), strict=False)]

    def stop(self, execution_id: str, who: str) -> bool:
        """End an execution on an operator's behalf: it is killed, its caller told. ``False``: it does not run."""
        running = self._running.get(execution_id)
        if running is None:
            return False
        log.info("stopped by an operator execution=%s operator=%s", execution_id, ascii(who))
        running.stopped_by = who
        running.scope.cancel()
        return True

    @contextmanager
    def follow(self) -> Iterator[trio.MemoryReceiveChannel[Event]]:
        """Be told of everything that happens in the block."""
        send, receive = trio.open_memory_channel[Event](FOLLOWED)
        self._followers[send] = 0
        try:
            with receive:
                yield receive
        finally:
            self._followers.pop(send, None)
            send.close()

    @contextmanager
    def watch(self, request: ExecutionRequest, door: Door, kind: Kind = "code") -> Iterator[Running]:
        """Have an execution in the table for the block, which says how it ends; an error ends it too."""
        context, principal = current_request(), request.principal
        record = ExecutionRecord(
            id=new_id(),
            door=door,
            kind=kind,
            state="waiting",
            tenant=principal.tenant,
            credential=principal.credential,
            user=principal.user,
            # The caller's word, which may be no text: half a character (a lone surrogate) can be written nowhere.
            language=request.language.encode("utf-8", "backslashreplace").decode(),
            session=request.session_id,
            request_id=context.request_id if context else "",
            traceparent=context.traceparent if context else "",
            began_at=time.time(),
        )
        running = self._running[record.id] = Running(record, watch_steps())
        state = context.tracestate if context else ""
        place = None if self._tracer is None else self._tracer.begin(record.traceparent, state)
        self._tell("began", record)
        try:
            with nullcontext() if place is None else under(place.traceparent, place.state):
                yield running
        except trio.Cancelled:
            running.end_as("cancelled")
            raise
        except GaolerError as error:
            running.end_as(*_failure(error))
            raise
        finally:
            del self._running[record.id]
            self._end(ended := running.ended())
            if self._tracer is not None and place is not None:
                self._tracer.end(place, ended, running.timeline.began, running.timeline.passes)

    def note_running(self, running: Running) -> None:
        """Note that it has got its place."""
        if running.record.state == "waiting":
            running.record = msgspec.structs.replace(running.record, state="running")
            self._tell("runs", running.record)

    def _end(self, record: ExecutionRecord) -> None:
        self._recent.append(record)
        self.totals.add(record)
        self._tell("ended", record)
        for told in self.on_ended:
            told(record)

    def _tell(self, kind: str, record: ExecutionRecord) -> None:
        for follower, missed in self._followers.items():
            try:
                follower.send_nowait(Event(kind, record, missed))
                self._followers[follower] = 0
            except trio.WouldBlock:
                self._followers[follower] = missed + 1
            except trio.BrokenResourceError:
                pass  # it is about to leave


def _failure(error: GaolerError) -> tuple[str, str]:
    """Say whether the caller was refused or we have failed, and as what."""
    ours = isinstance(error, SandboxFailed | StoreUnavailable | StorageFull | ConfigurationError)
    return ("failed" if ours else "refused"), type(error).__name__
