"""Sessions that keep their interpreter: variables, functions, open files, whatever cannot be pickled.

Each has one task (:mod:`supervisor.live.session`). A session that is not used for long, or has to make room, is saved
(inside the sandbox, as bytes that are never read outside one) and ended; at its next use it is restored into another
cell, and the answer says what was not.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import trio

from supervisor.admission.admission import Admission
from supervisor.errors import Busy, Conflict, InvalidRequest, NotFound, TooLarge
from supervisor.execution.in_jail import InJail
from supervisor.execution.inputs import InputResolver
from supervisor.execution.tier import is_below
from supervisor.execution.values import ExecutionRequest, ExecutionResult, Listener, Owner, Principal, SessionId, Tier
from supervisor.files.service import FileService
from supervisor.identity.access import may_use, owner_of
from supervisor.jailer.client import JailerClient
from supervisor.live.lease import Alone, Holds
from supervisor.live.means import LiveLimits, Means
from supervisor.live.processes import BackgroundProcess, CommandLine
from supervisor.live.session import Job, LiveSession, NotBegun
from supervisor.network.grants import Network
from supervisor.runtimes.catalogue import InstalledLanguage
from supervisor.workspace.views import ProcessInfo

log: Final = logging.getLogger("gaoler.live")

PRESSURE_SECONDS: Final = 5.0
STOP_SECONDS: Final = 10.0
REMEMBERED_LOSSES: Final = 1000
ATTEMPTS: Final = 3
"""For a job whose session ends before it comes to it."""

_T = TypeVar("_T")


class LiveSessions:
    """The table of lasting sessions. Use :func:`open_live`."""

    def __init__(
        self,
        jailer: JailerClient,
        files: FileService,
        resolver: InputResolver,
        work: InJail,
        admission: Admission,
        network: Network,
        limits: LiveLimits,
        *,
        nursery: trio.Nursery,
        holds: Holds,
    ) -> None:
        self._means = Means(
            jailer, files, resolver, work, admission, network, limits, self._note_loss, self._take_loss, holds
        )
        self._limits = limits
        self._nursery = nursery
        self._sessions: dict[SessionId, LiveSession] = {}
        self._leaving: dict[SessionId, LiveSession] = {}
        """Those that are saving themselves; a session of the same id begins when they have gone."""
        self._lost: OrderedDict[SessionId, str] = OrderedDict()
        self._stopping = False

    @property
    def saves(self) -> Counter[str]:
        """Interpreters that were written down: ``done`` and ``failed``."""
        return self._means.saves

    @property
    def restores(self) -> Counter[str]:
        """Interpreters that were brought back, or should have been."""
        return self._means.restores

    @property
    def count(self) -> int:
        """Sessions that have an interpreter now."""
        return len(self._sessions)

    # -- work in a session --

    async def execute(
        self,
        request: ExecutionRequest,
        language: InstalledLanguage,
        tier: Tier,
        listener: Listener | None,
        on_admitted: Callable[[], None] | None = None,
    ) -> ExecutionResult:
        """Run in the session that the request names. A cancelled one is interrupted; the session lives on.

        ``tier`` is the least that the sandbox has: a session that lives in a lower one is saved and goes on in this.

        Raises:
            GaolerError: as :meth:`supervisor.execution.executor.Executor.execute`.
        """
        assert request.session_id is not None

        async def execute(session: LiveSession) -> ExecutionResult:
            def interrupt(job: Job) -> None:
                self._nursery.start_soon(session.interrupt, job)

            return await session.execute(request, language, listener, on_admitted, interrupt)

        return await self._have_done(request.principal, request.session_id, tier, execute)

    async def start_process(
        self,
        principal: Principal,
        session_id: SessionId,
        command: str,
        line: CommandLine,
        *,
        tier: Tier,
        asked: Tier | None,
    ) -> ProcessInfo:
        """Start a program in the background of a session. It ends with the session at the latest.

        ``tier`` as of :meth:`execute`; ``asked`` is what the caller has named.

        Raises:
            GaolerError: as :meth:`supervisor.execution.executor.Executor.execute`.
        """

        async def start(session: LiveSession) -> ProcessInfo:
            self._check_processes(session)
            return await session.start_process(principal, command, line, asked)

        return await self._have_done(principal, session_id, tier, start)

    def _check_processes(self, session: LiveSession) -> None:
        owners = [each for each in self._sessions.values() if each.owner is not None and each.owner == session.owner]
        limit = self._limits.processes_per_owner
        if sum(each.running_processes for each in owners) >= limit:
            raise Busy(f"at most {limit} background processes of one user at once", retry_after_seconds=10.0)

    def processes(self, principal: Principal, session_id: SessionId) -> list[ProcessInfo]:
        """List the background programs of a session; one that has no interpreter now has none.

        Raises:
            NotFound: the session is another's.
        """
        session = self._known(principal, session_id)
        return session.processes() if session is not None else []

    def process(self, principal: Principal, session_id: SessionId, process_id: str) -> BackgroundProcess:
        """Give a background program.

        Raises:
            NotFound: there is none, or it is another's.
        """
        session = self._known(principal, session_id)
        if session is None:
            raise NotFound("no such process: the session has no sandbox now", field="process")
        return session.process(process_id)

    async def synchronise(self, session_id: SessionId) -> None:
        """If background programs run in the session, bring its workspace and its kept files together.

        A kept file that has no place in the workspace keeps the two apart until it is gone; executions name it.

        Raises:
            GaolerError: the sandbox is gone, or the session has too much to do.
        """
        session = self._sessions.get(session_id)
        if session is None:
            session = self._leaving.get(session_id)
        if session is not None and session.unsettled:
            try:
                await session.synchronise()
            except NotBegun:
                # One that ends does so by itself.
                await session.gone.wait()
            except (InvalidRequest, TooLarge) as error:
                log.info("session not synchronised session=%s reason=%s", session_id, ascii(error.message))

    def state(self, session_id: SessionId) -> str:
        """Say what a session is doing: ``live``, with an interpreter or programs in memory, or ``resting``."""
        return "live" if session_id in self._sessions else "resting"

    def running_processes(self, session_id: SessionId) -> int:
        """Count the programs that run in the background of a session."""
        session = self._sessions.get(session_id)
        return 0 if session is None else session.running_processes

    def tier(self, session_id: SessionId) -> Tier:
        """Give the tier of a session's sandbox, the lowest if it has none now."""
        session = self._sessions.get(session_id)
        return "nsjail" if session is None else session.tier

    def discard(self, session_id: SessionId) -> None:
        """End a session that its owner has deleted or closed, at once and without saving it."""
        leaving = self._leaving.get(session_id)
        if leaving is not None:
            leaving.discarded = True
        session = self._sessions.get(session_id)
        if session is not None:
            session.discarded = True
            self._end(session)
            self._interrupt(session)

    def lose(self, session_id: SessionId) -> None:
        """Another daemon has this session now: what runs in it is ended, nothing more of it is stored."""
        for session in (self._sessions.get(session_id), self._leaving.get(session_id)):
            if session is not None:
                log.warning("session taken by another worker session=%s", session_id)
                session.lose()

    def _known(self, principal: Principal, session_id: SessionId) -> LiveSession | None:
        session = self._sessions.get(session_id)
        if session is None or session.owner is None:
            return None
        if not may_use(principal, session.owner):
            raise NotFound("no such session", field="session_id")
        return session

    # -- the table --

    async def _have_done(
        self,
        principal: Principal,
        session_id: SessionId,
        tier: Tier,
        work: Callable[[LiveSession], Awaitable[_T]],
    ) -> _T:
        """Have work done by a session; by the next one, if it ends before it comes to it.

        Raises:
            NotFound: the session is another's.
            Busy: one after the other ended.
            GaolerError: what the work raises.
        """
        for _ in range(ATTEMPTS):
            await self._check(session_id, principal)
            try:
                return await work(self._session(session_id, principal, tier))
            except NotBegun:
                log.info("session ended before its next work session=%s", session_id)
        raise Busy("the session has just ended", retry_after_seconds=1.0)

    async def _check(self, session_id: SessionId, principal: Principal) -> None:
        """Refuse a stranger before a sandbox is made, or a lease taken, for a session that is somebody else's.

        Raises:
            NotFound: the session is another's.
        """
        session = self._sessions.get(session_id)
        if session is None or session.owner is None:
            await self._means.files.known_session(principal, session_id)

    def _session(self, session_id: SessionId, principal: Principal, tier: Tier) -> LiveSession:
        if self._stopping:
            raise Busy("the server is stopping", retry_after_seconds=5.0)
        session = self._sessions.get(session_id)
        if session is not None and session.over:
            self._end(session)
        elif session is not None and not session.discarded:
            # An owner that is not known yet is being looked up by the first job; the others then check themselves.
            if session.owner is not None and not may_use(principal, session.owner):
                raise NotFound("no such session", field="session_id")
            if not is_below(session.tier, tier):
                return session
            self._leave_tier(session)
        self._means.admission.pressure.check()
        asker = owner_of(principal)
        self._make_room(asker, tier)
        leaving = self._leaving.get(session_id)
        predecessor = None if leaving is None else leaving.gone
        session = self._sessions[session_id] = LiveSession(session_id, self._means, predecessor, asker, tier, self._end)
        self._nursery.start_soon(self._serve, session)
        return session

    def _leave_tier(self, session: LiveSession) -> None:
        """Have a session saved that has to go on in a higher tier. What runs in the background cannot be taken along.

        Raises:
            Conflict: something does.
        """
        if session.running_processes:
            raise Conflict(
                f"background processes run in this session's sandbox, which is of tier {session.tier}: end them first, "
                "or use another session",
                field="tier",
            )
        self._end(session)

    async def _serve(self, session: LiveSession) -> None:
        try:
            await session.serve()
        finally:
            self._end(session)
            session.refuse_rest()
            session.gone.set()
            if self._leaving.get(session.id) is session:
                del self._leaving[session.id]

    def _make_room(self, asker: Owner, tier: Tier) -> None:
        # What is nobody's in particular is many people's.
        own = [each for each in self._sessions.values() if each.asker == asker and asker.kind == "user"]
        if len(own) >= self._limits.sessions_per_owner:
            mine = [each for each in self._idle() if each in own]
            if not mine:
                raise Busy(f"{len(own)} lasting sessions of yours are at work", retry_after_seconds=2.0)
            self._end(mine[0])
        if tier == "microvm":
            self._make_room_for_machine()
        if len(self._sessions) < self._limits.sessions:
            return
        idle = self._idle()
        if not idle:
            raise Busy("all lasting sessions are at work", retry_after_seconds=2.0)
        self._end(idle[0])

    def _make_room_for_machine(self) -> None:
        """Have a session saved that holds a virtual machine, if there are as many as may be."""
        holding = [each for each in self._sessions.values() if each.tier == "microvm"]
        if len(holding) < self._limits.machines:
            return
        idle = [each for each in self._idle() if each in holding]
        if not idle:
            raise Busy("all lasting sessions with virtual machines are at work", retry_after_seconds=2.0)
        self._end(idle[0])

    def _idle(self) -> list[LiveSession]:
        """Sessions without work: those without background programs first, then the longest unused."""
        idle = [each for each in self._sessions.values() if each.idle]
        return sorted(idle, key=lambda each: (each.running_processes > 0, each.last_use))

    def _end(self, session: LiveSession) -> None:
        """Have it save itself and end; a request for it makes a new one meanwhile."""
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]
            self._leaving[session.id] = session
        session.end()

    def _interrupt(self, session: LiveSession) -> None:
        self._nursery.start_soon(session.interrupt)

    def _note_loss(self, session_id: SessionId, why: str) -> None:
        earlier = self._lost.get(session_id)
        self._lost[session_id] = f"{earlier}; {why}" if earlier else why
        while len(self._lost) > REMEMBERED_LOSSES:
            self._lost.popitem(last=False)

    def _take_loss(self, session_id: SessionId) -> str | None:
        return self._lost.pop(session_id, None)

    # -- the table's own tasks --

    async def watch_memory(self) -> None:
        """While memory is tight, end unused sessions, one at a time."""
        while True:
            await self._means.admission.pressure.wait(tight=True)
            idle = self._idle()
            if idle:
                log.info("memory is tight: ending session=%s", idle[0].id)
                self._end(idle[0])
            await trio.sleep(PRESSURE_SECONDS)

    async def leave(self) -> None:
        """Take no more work, have every session save itself and end, and wait until all have."""
        self.stop()
        for session in [*self._sessions.values(), *self._leaving.values()]:
            await session.gone.wait()

    def stop(self) -> None:
        """Take no more work; have every session save itself and end."""
        self._stopping = True
        for session in list(self._sessions.values()):
            self._end(session)
            self._interrupt(session)


@asynccontextmanager
async def open_live(
    jailer: JailerClient,
    files: FileService,
    resolver: InputResolver,
    work: InJail,
    admission: Admission,
    network: Network,
    limits: LiveLimits,
    holds: Holds | None = None,
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
        sessions = await nursery.start(hold)
        live = LiveSessions(
            jailer, files, resolver, work, admission, network, limits, nursery=sessions, holds=holds or Alone()
        )
        nursery.start_soon(live.watch_memory)
        try:
            yield live
        finally:
            live.stop()
            stopping.set()
            nursery.cancel_scope.cancel()
