"""Sessions that keep their interpreter: variables, functions, open files, whatever cannot be pickled.

Each has one task that owns its jail and does one execution after the other. Between executions everything in the jail
is stopped. A session that is not used for long, or has to make room, is saved (inside the sandbox, as bytes that are
never read outside one) and ended; at its next use it is restored into another cell, and the answer says what was not.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from supervisor.access import may_use
from supervisor.admission import Admission
from supervisor.errors import Busy, GaolerError, NotFound, SandboxFailed
from supervisor.execution import (
    ExecutionRequest,
    ExecutionResult,
    Listener,
    OutputPiece,
    Owner,
    Principal,
    Runtime,
    SessionId,
)
from supervisor.files import FileService
from supervisor.in_jail import InJail, Present, refusals_typed, result_of
from supervisor.inputs import InputResolver
from supervisor.jailer import protocol
from supervisor.jailer.client import JailerClient, JailRefused, RemoteJail
from supervisor.results import Collector, Results, shown_text
from supervisor.runtimes.catalogue import InstalledLanguage

log: Final = logging.getLogger("gaoler.live")

QUEUE_LENGTH: Final = 16
"""Executions that wait for their turn in one session."""
PRESSURE_SECONDS: Final = 5.0
FINISH_SECONDS: Final = 15.0
"""For an execution whose caller has gone to be interrupted and its files to be read back."""
STOP_SECONDS: Final = 10.0
SHOWN_UNSAVED: Final = 8
REMEMBERED_LOSSES: Final = 1000


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """How many, how long, how much."""

    sessions: int
    idle_seconds: float
    reserve_memory_bytes: int
    state_bytes: int
    archive_seconds: float
    save_seconds: float
    interrupt_seconds: float
    policy: str
    profile: str
    """Of the interpreter that every lasting session has, whatever its first execution is."""


@dataclass(eq=False, slots=True)
class _Job:
    request: ExecutionRequest
    language: InstalledLanguage
    listener: Listener | None
    on_admitted: Callable[[], None] | None
    done: trio.Event = field(default_factory=trio.Event)
    result: ExecutionResult | None = None
    error: GaolerError | None = None
    abandoned: bool = False

    async def hear(self, piece: OutputPiece) -> None:
        if self.listener is not None and not self.abandoned:
            await self.listener(piece)


@dataclass(eq=False, slots=True)
class _Session:
    id: SessionId
    jobs: trio.MemorySendChannel[_Job]
    inbox: trio.MemoryReceiveChannel[_Job]
    owner: Owner | None = None
    current: _Job | None = None
    jail: RemoteJail | None = None
    present: Present = field(default_factory=Present)
    used: bool = False
    """Python code has run in the interpreter, so it has a state."""
    has_state: bool = False
    """It has, unless it has ended meanwhile, what earlier executions left."""
    last_use: float = 0.0
    ending: bool = False
    """It does what it was given, saves itself and ends."""
    waiting: trio.CancelScope | None = None
    """Around the wait for the next job."""
    discarded: bool = False
    """Deleted by its owner: nothing is saved."""
    gone: trio.Event = field(default_factory=trio.Event)
    predecessor: trio.Event | None = None
    """``gone`` of the session of the same id that is still saving itself."""

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return self.jobs.statistics().current_buffer_used


class LiveSessions:
    """The table of lasting sessions. Use :func:`open_live`."""

    def __init__(
        self,
        jailer: JailerClient,
        files: FileService,
        resolver: InputResolver,
        work: InJail,
        admission: Admission,
        limits: LiveLimits,
        nursery: trio.Nursery,
    ) -> None:
        self._jailer = jailer
        self._files = files
        self._resolver = resolver
        self._work = work
        self._admission = admission
        self._limits = limits
        self._nursery = nursery
        self._sessions: dict[SessionId, _Session] = {}
        self._leaving: dict[SessionId, trio.Event] = {}
        self._lost: OrderedDict[SessionId, str] = OrderedDict()
        """Why the variables of a session are gone, until its next use is told."""
        self._stopping = False

    @property
    def count(self) -> int:
        """Sessions that have an interpreter now."""
        return len(self._sessions)

    async def execute(
        self,
        request: ExecutionRequest,
        language: InstalledLanguage,
        listener: Listener | None,
        on_admitted: Callable[[], None] | None = None,
    ) -> ExecutionResult:
        """Run in the session that the request names. A cancelled one is interrupted; the session lives on.

        Raises:
            GaolerError: as :meth:`supervisor.executor.Executor.execute`.
        """
        assert request.session_id is not None
        session = self._session(request.session_id, request.principal)
        job = _Job(request, language, listener, on_admitted)
        try:
            session.jobs.send_nowait(job)
        except trio.WouldBlock:
            raise Busy("the session has too many executions waiting", retry_after_seconds=2.0) from None
        try:
            await job.done.wait()
        except trio.Cancelled:
            job.abandoned = True
            if session.current is job:
                self._nursery.start_soon(self._interrupt, session)
            raise
        if job.error is not None:
            raise job.error
        assert job.result is not None
        return job.result

    def discard(self, session_id: SessionId) -> None:
        """End a session that its owner has deleted, at once and without saving it."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.discarded = True
            self._end(session)
            if session.current is not None:
                self._nursery.start_soon(self._interrupt, session)

    def _session(self, session_id: SessionId, principal: Principal) -> _Session:
        if self._stopping:
            raise Busy("the server is stopping", retry_after_seconds=5.0)
        session = self._sessions.get(session_id)
        if session is not None and not session.discarded:
            # An owner that is not known yet is being looked up by the first job; the others then check themselves.
            if session.owner is not None and not may_use(principal, session.owner):
                raise NotFound("no such session", field="session_id")
            return session
        self._make_room()
        jobs, inbox = trio.open_memory_channel[_Job](QUEUE_LENGTH)
        session = self._sessions[session_id] = _Session(session_id, jobs, inbox, last_use=trio.current_time())
        session.predecessor = self._leaving.get(session_id)
        self._nursery.start_soon(self._serve, session)
        return session

    def _make_room(self) -> None:
        if len(self._sessions) < self._limits.sessions:
            return
        idle = self._idle()
        if not idle:
            raise Busy("all lasting sessions are at work", retry_after_seconds=2.0)
        self._end(idle[0])

    def _idle(self) -> list[_Session]:
        """Sessions without work, the longest unused first."""
        idle = [each for each in self._sessions.values() if each.current is None and not each.queued]
        return sorted(idle, key=lambda each: each.last_use)

    def _end(self, session: _Session) -> None:
        """Have it save itself and end, when its current job is done; a request for it makes a new one meanwhile."""
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]
            self._leaving[session.id] = session.gone
        session.ending = True
        if session.waiting is not None:
            session.waiting.cancel()

    async def _interrupt(self, session: _Session) -> None:
        if session.jail is not None:
            try:
                await session.jail.interrupt()
            except SandboxFailed:
                return

    # -- the task of a session --

    async def _serve(self, session: _Session) -> None:
        """Do the session's jobs. Named boundary: whatever goes wrong ends this session and no other."""
        try:
            if session.predecessor is not None:
                await session.predecessor.wait()
            await self._do_jobs(session)
        except* GaolerError as group:
            log.error("session lost session=%s reason=%s", session.id, ascii(str(group.exceptions[0])))
        except* Exception as group:
            log.error("session lost session=%s", session.id, exc_info=group)
        finally:
            self._end(session)
            self._refuse_rest(session)
            session.gone.set()
            if self._leaving.get(session.id) is session.gone:
                del self._leaving[session.id]

    async def _do_jobs(self, session: _Session) -> None:
        first = await self._next(session)
        if first is None:
            return
        async with self._jailer.open_jail(self._limits.policy, self._limits.profile) as jail:
            session.jail = jail
            job: _Job | None = first
            while job is not None:
                session.current = job
                await self._do(session, job, is_first=job is first)
                session.current = None
                session.last_use = trio.current_time()
                if jail.lost:
                    self._note_loss(session, "the sandbox was lost")
                    return
                job = await self._next(session)
            if session.used and not session.discarded:
                await self._save(session, jail)

    async def _next(self, session: _Session) -> _Job | None:
        """Wait for the next job that somebody still wants; ``None``: it is time to end."""
        while not session.discarded:
            try:
                job = session.inbox.receive_nowait()
            except trio.WouldBlock:
                if session.ending:
                    return None
                job = None
                with trio.move_on_after(self._limits.idle_seconds) as session.waiting:
                    job = await session.inbox.receive()
                session.waiting = None
            if job is None or not job.abandoned:
                return job
        return None

    def _refuse_rest(self, session: _Session) -> None:
        while True:
            try:
                job = session.inbox.receive_nowait()
            except trio.WouldBlock:
                return
            job.error = Busy("the session has just ended", retry_after_seconds=1.0)
            job.done.set()

    async def _do(self, session: _Session, job: _Job, *, is_first: bool) -> None:
        try:
            job.result = await self._execute(session, job, is_first=is_first)
        except GaolerError as error:
            job.error = error
        except BaseException:
            job.error = SandboxFailed("the execution was lost")
            raise
        finally:
            job.done.set()

    async def _execute(self, session: _Session, job: _Job, *, is_first: bool) -> ExecutionResult:
        request, jail = job.request, session.jail
        assert jail is not None
        inputs = await self._resolver.resolve(request)
        if inputs.is_new:
            await self._files.create_session(inputs.owner, inputs.session_id)
        session.owner = inputs.owner
        output = Collector(listener=job.hear)
        results = Results(skipped=list(inputs.skipped))
        async with self._admission.place(request.principal) as standing:
            if job.on_admitted is not None and not job.abandoned:
                job.on_admitted()
            with refusals_typed():
                await jail.weigh(standing.share)
                status = await self._restore(session, jail, results) if is_first else "reused"
                await self._work.place(request, job.language, inputs, jail, session.present)
                session.used = session.used or job.language.profile is not None
                ended = await self._work.run_live(request, job.language, jail, output, self._limits.interrupt_seconds)
                await self._work.collect(jail, inputs, results, session.present)
        self._note_state(session, ended, results)
        await self._work.keep(inputs, results)
        return result_of(inputs, ended, output, results, Runtime(session.id, status, ended.state_lives))

    def _note_state(self, session: _Session, ended: protocol.Ended, results: Results) -> None:
        """Say what became of the variables where that is not what anybody would expect."""
        if ended.state_is_new and session.has_state:
            results.notes.append("the interpreter had ended: the variables of earlier executions are gone")
        session.has_state = session.used and ended.state_lives
        if not ended.state_lives:
            if session.used:
                results.notes.append("the interpreter has ended: its variables are gone, the files are kept")
            session.used = False
        elif session.used and isinstance(ended.outcome, protocol.RunTimedOut):
            results.notes.append("it was interrupted: the variables that it had set so far are kept")

    def _note_loss(self, session: _Session, why: str) -> None:
        if session.used and not session.discarded:
            self._lost[session.id] = why
            while len(self._lost) > REMEMBERED_LOSSES:
                self._lost.popitem(last=False)

    # -- saving --

    async def _restore(self, session: _Session, jail: RemoteJail, results: Results) -> str:
        """Bring the saved namespace back, if there is one; the caller is told."""
        lost = self._lost.pop(session.id, None)
        state = await self._files.saved_state(session.id)
        if state is None or state.profile != self._limits.profile:
            if lost is not None:
                results.notes.append(f"the variables of earlier executions are gone: {lost}")
            return "new"
        try:
            with trio.fail_after(self._limits.save_seconds):
                async with self._files.state_content(state) as content:
                    await jail.restore(state.size_bytes, content)
        except (JailRefused, NotFound, trio.TooSlowError) as error:
            reason = shown_text(str(error) or "it took too long")
            log.warning("state not restored session=%s reason=%s", session.id, ascii(reason))
            results.notes.append(f"the variables of earlier executions could not be restored: {reason}")
            return "new"
        session.used = True
        results.notes.append(restored_note(state.untrusted_unsaved))
        return "restored"

    async def _save(self, session: _Session, jail: RemoteJail) -> None:
        limits = self._limits
        with trio.CancelScope(shield=True), trio.move_on_after(limits.save_seconds) as patience:
            try:
                async with jail.save(limits.state_bytes) as (saved, content):
                    blob = await self._files.store(content, limits.state_bytes)
                await self._files.keep_state(
                    session.id, limits.profile, blob, limits.archive_seconds, saved.untrusted_unsaved
                )
                log.info("session saved session=%s bytes=%d", session.id, saved.size)
            except (JailRefused, GaolerError) as error:
                log.warning("session not saved session=%s reason=%s", session.id, ascii(str(error)))
                self._note_loss(session, f"they could not be saved: {shown_text(str(error))}")
        if patience.cancelled_caught:
            log.warning("session not saved session=%s reason=it took too long", session.id)
            self._note_loss(session, "saving them took too long")

    # -- the table's own tasks --

    async def watch_memory(self) -> None:
        """While the host has too little free memory, end unused sessions, one at a time."""
        while True:
            await trio.sleep(PRESSURE_SECONDS)
            idle = self._idle()
            if idle and available_memory() < self._limits.reserve_memory_bytes:
                log.info("memory is short: ending session=%s", idle[0].id)
                self._end(idle[0])

    def stop(self) -> None:
        """Take no more work; have every session save itself and end."""
        self._stopping = True
        for session in list(self._sessions.values()):
            self._end(session)
            if session.current is not None:
                self._nursery.start_soon(self._interrupt, session)


def restored_note(untrusted_unsaved: tuple[tuple[str, str], ...]) -> str:
    """Say what came back and what did not."""
    note = "the interpreter was started anew and the variables of earlier executions were restored"
    if untrusted_unsaved:
        shown = [f"{shown_text(name)} ({shown_text(why)})" for name, why in untrusted_unsaved[:SHOWN_UNSAVED]]
        more = len(untrusted_unsaved) - len(shown)
        note += ", except " + ", ".join(shown) + (f" and {more} more" if more else "")
    return note


def available_memory() -> int:
    """Give the memory that the host can hand out, in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


@asynccontextmanager
async def open_live(
    jailer: JailerClient,
    files: FileService,
    resolver: InputResolver,
    work: InJail,
    admission: Admission,
    limits: LiveLimits,
) -> AsyncIterator[LiveSessions]:
    """Keep lasting sessions for the block; at its end, and when that is cancelled, they are saved, within a bound."""
    stopping = trio.Event()

    async def hold(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Have a nursery for the sessions that outlives a cancelled daemon by so much as saving takes."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as sessions:
                task_status.started(sessions)
                await stopping.wait()
                sessions.cancel_scope.deadline = trio.current_time() + STOP_SECONDS

    async with trio.open_nursery() as nursery:
        live = LiveSessions(jailer, files, resolver, work, admission, limits, await nursery.start(hold))
        nursery.start_soon(live.watch_memory)
        try:
            yield live
        finally:
            live.stop()
            stopping.set()
            nursery.cancel_scope.cancel()
