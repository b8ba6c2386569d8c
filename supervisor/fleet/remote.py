"""What the doors work with at a gateway: the same protocols, done by workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from supervisor.activity.timeline import steps
from supervisor.admission.admission import Admission
from supervisor.errors import Busy, InvalidRequest, NotFound, SandboxFailed
from supervisor.execution.request_context import current_request
from supervisor.execution.tier import TierRules, is_below
from supervisor.execution.values import (
    MAX_STDIN_BYTES,
    ExecutionRequest,
    ExecutionResult,
    Listener,
    Principal,
    SessionId,
    StoredFile,
    Tier,
)
from supervisor.files.service import FileService
from supervisor.fleet.calls import Calls, Errand
from supervisor.fleet.lanes import worker_lane
from supervisor.fleet.leases import Leases
from supervisor.fleet.messages import (
    Admitted,
    Answer,
    Ask,
    Broke,
    CancelProgram,
    CloseSession,
    Count,
    Discard,
    Done,
    Execute,
    Finished,
    Found,
    Infos,
    ListProcesses,
    Origin,
    Output,
    PictureGiven,
    Pictures,
    Read,
    ReadProcess,
    Reply,
    ResumeProgram,
    Search,
    Shrink,
    SignalProcess,
    StartProcess,
    StartProgram,
    Synchronise,
    WaitProcess,
    Wants,
    WriteProcess,
    leg_of,
    result_of,
)
from supervisor.fleet.program_places import ProgramPlaces, place_in_token
from supervisor.fleet.registry import choose_lane
from supervisor.fleet.roster import Roster
from supervisor.fleet.told_output import Checked
from supervisor.identity.derived import DerivedIds
from supervisor.live.lasting import lasting_session
from supervisor.policy import Policy
from supervisor.programmatic.tool_calls import Leg, ProgramRequest, ToolResult
from supervisor.workspace.views import Picture, ProcessInfo, ProcessOutput, SearchResult

BEGIN_SECONDS: Final = 20.0
"""Longest wait for a worker to take what has no queue of its own: questions about processes and files."""

RETRY_SECONDS: Final = 2.0

_T = TypeVar("_T", bound=Answer)


def _is(reply: Reply, kind: type[_T]) -> _T:
    if not isinstance(reply, kind):
        raise SandboxFailed("the worker said what no worker says")
    return reply


def _origin() -> Origin:
    """Say for which request something is asked, so that what the worker writes and tells of it belongs to that."""
    context = current_request()
    if context is None:
        return Origin()
    return Origin(context.request_id, context.traceparent, context.tracestate)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What all of these work with."""

    calls: Calls
    roster: Roster
    leases: Leases
    admission: Admission
    tiers: TierRules
    policy: Policy
    ids: DerivedIds
    programs: ProgramPlaces
    queue_seconds: float

    def lane(self, language: str | None, tier: Tier, holder: str | None = None) -> str:
        """Choose where something is done.

        Raises:
            Unsupported, Busy: nowhere, for good or for now.
        """
        able = [each for each in self.roster.workers if each.policy == self.policy.name]
        return choose_lane(able, language=language, tier=tier, holder=holder)

    async def ask_holder(self, session_id: SessionId, ask: Ask) -> Reply | None:
        """Ask the worker that has a session; ``None``: no worker has it."""
        holder = await self.leases.holder_of(session_id)
        if holder is None:
            return None
        errand = Errand(ask, BEGIN_SECONDS)
        return await self.calls.ask(errand, worker_lane(holder))


class RemoteExecutor:
    """Runs code on workers."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def execute(
        self,
        request: ExecutionRequest,
        listener: Listener | None = None,
        on_admitted: Callable[[], None] | None = None,
    ) -> ExecutionResult:
        """Run the request to its end, as :meth:`supervisor.execution.executor.Executor.execute`; cancelling kills.

        Raises:
            ExecutionLost: the worker died; nothing is run twice.
            GaolerError: as there.
        """
        if len(request.stdin) > MAX_STDIN_BYTES:
            raise InvalidRequest(f"at most {MAX_STDIN_BYTES} bytes of UTF-8", field="stdin")
        fleet = self._fleet
        language = self._language(request)
        tier = fleet.tiers.choose(request.principal, language, request.tier)
        lasting = lasting_session(request, fleet.policy, fleet.ids)
        if lasting is not None:
            request = replace(request, session_id=lasting)
        errand = Errand(Execute(request, listens=listener is not None, origin=_origin()), fleet.queue_seconds, tier)

        checked = None if listener is None else Checked(listener)

        async def hear(news: Admitted | Output) -> None:
            if isinstance(news, Output) and checked is not None:
                await checked.hear(news)
            elif isinstance(news, Admitted) and on_admitted is not None:
                on_admitted()

        async with fleet.admission.place(request.principal):
            steps().passed("admission")
            holder = None if lasting is None else await fleet.leases.holder_of(lasting)
            lane = fleet.lane(language, tier, holder)
            fallback = None if holder is None else fleet.lane(language, tier)
            reply = await fleet.calls.ask(errand, lane, hear, fallback)
        finished = _is(reply, Finished)
        if checked is not None:
            await checked.end(finished.told)
        return result_of(finished)

    def _language(self, request: ExecutionRequest) -> str:
        """Give the name of the language that is named, or that the main file's name tells."""
        languages = self._fleet.roster.languages
        name = request.language
        if not name and request.main is not None:
            name = languages.of_file(request.main)
        found = languages.find(name)
        if found is None or not found.installed:
            if found is not None and not self._fleet.roster.workers:
                # What is installed is known from workers: that it is not would be an answer for good.
                raise Busy("no worker is there", retry_after_seconds=RETRY_SECONDS)
            raise languages.refusal(name)
        return found.name


class RemotePrograms:
    """Programs that call their caller's tools, on workers."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def start(self, request: ProgramRequest, on_admitted: Callable[[], None] | None = None) -> Leg:
        """Run the program up to its first calls, or its end. Cancelling ends it.

        Raises:
            GaolerError: as :meth:`supervisor.programmatic.programs.Programs.start`.
        """
        fleet, execution = self._fleet, request.execution
        tier = fleet.tiers.choose(execution.principal, request.dialect, execution.tier)
        errand = Errand(StartProgram(request, _origin()), fleet.queue_seconds, tier)
        async with fleet.admission.place(execution.principal):
            steps().passed("admission")
            reply = await fleet.calls.ask(errand, fleet.lane(request.dialect, tier), _admitting(on_admitted))
        return leg_of(_leg(reply))

    async def resume(
        self,
        principal: Principal,
        token: str,
        results: Sequence[ToolResult],
        on_admitted: Callable[[], None] | None = None,
    ) -> Leg:
        """Go on with results, where the program is.

        Raises:
            GaolerError: as :meth:`supervisor.programmatic.programs.Programs.resume`; a program whose worker is gone is
                ``NotFound``, as one that is over.
        """
        worker = place_in_token(token)
        if worker not in {each.name for each in self._fleet.roster.workers}:
            raise NotFound("Execution not found or expired", field="continuation_token")
        errand = Errand(ResumeProgram(principal, token, tuple(results), _origin()), BEGIN_SECONDS)
        reply = await self._fleet.calls.ask(errand, worker_lane(worker), _admitting(on_admitted))
        return leg_of(_leg(reply))

    async def cancel(self, principal: Principal, request_id: str) -> bool:
        """End the programs that the caller started under this name; say whether there were any."""
        worker = await self._fleet.programs.find(principal, request_id)
        if worker is None or worker not in {each.name for each in self._fleet.roster.workers}:
            return False
        errand = Errand(CancelProgram(principal, request_id), BEGIN_SECONDS)
        return _is(await self._fleet.calls.ask(errand, worker_lane(worker)), Count).count > 0


def _admitting(on_admitted: Callable[[], None] | None) -> Callable[[Admitted | Output], Awaitable[None]]:
    async def hear(news: Admitted | Output) -> None:
        if isinstance(news, Admitted) and on_admitted is not None:
            on_admitted()

    return hear


def _leg(reply: Reply) -> Finished | Wants | Broke:
    if not isinstance(reply, Finished | Wants | Broke):
        raise SandboxFailed("the worker said what no worker says")
    return reply


class RemoteProcess:
    """A background program on a worker."""

    def __init__(self, fleet: Fleet, principal: Principal, session_id: SessionId, process_id: str) -> None:
        self._fleet = fleet
        self._who = (principal, session_id, process_id)

    async def read(
        self, *, position: int | None, limit: int, wait_seconds: float, until: bytes | None = None
    ) -> ProcessOutput:
        """Read what it has written."""
        return _is(await self._ask(ReadProcess(*self._who, position, limit, wait_seconds, until)), Read).output

    async def write(self, data: bytes, *, close: bool) -> int:
        """Write to its standard input."""
        return _is(await self._ask(WriteProcess(*self._who, data, close)), Count).count

    async def signal(self, number: int) -> None:
        """Signal it."""
        _is(await self._ask(SignalProcess(*self._who, number)), Done)

    async def wait_ended(self, seconds: float) -> None:
        """Wait for its end."""
        _is(await self._ask(WaitProcess(*self._who, seconds)), Done)

    async def _ask(self, ask: Ask) -> Reply:
        reply = await self._fleet.ask_holder(self._who[1], ask)
        if reply is None:
            raise NotFound("no such process: the session has no sandbox now", field="process")
        return reply


class RemoteProcesses:
    """Background programs on workers."""

    def __init__(self, fleet: Fleet, files: FileService) -> None:
        self._fleet = fleet
        self._files = files

    async def start(
        self, principal: Principal, session_id: SessionId, command: str, tier: Tier | None = None
    ) -> ProcessInfo:
        """Start a command with Bash, where the session lives.

        Raises:
            GaolerError: as :meth:`supervisor.live.background.Background.start`.
        """
        fleet = self._fleet
        chosen = fleet.tiers.choose(principal, "bash", tier)
        holder = await fleet.leases.holder_of(session_id)
        ask = StartProcess(principal, session_id, command, tier)
        errand = Errand(ask, fleet.queue_seconds, chosen)
        fallback = None if holder is None else fleet.lane("bash", chosen)
        reply = await fleet.calls.ask(errand, fleet.lane("bash", chosen, holder), fallback=fallback)
        return _is(reply, Infos).infos[0]

    async def list(self, principal: Principal, session_id: SessionId) -> list[ProcessInfo]:
        """List those of a session; one that no worker has has none."""
        reply = await self._fleet.ask_holder(session_id, ListProcesses(principal, session_id))
        return [] if reply is None else [*_is(reply, Infos).infos]

    async def get(self, principal: Principal, session_id: SessionId, process_id: str) -> RemoteProcess:
        """Give one; whether it is there is seen when it is asked."""
        return RemoteProcess(self._fleet, principal, session_id, process_id)

    async def state(self, session_id: SessionId) -> str:
        """Say ``live`` or ``resting``."""
        return "resting" if await self._fleet.leases.holder_of(session_id) is None else "live"

    async def close(self, principal: Principal, session_id: SessionId) -> None:
        """End a session's sandbox; its variables are forgotten, also saved ones.

        Raises:
            NotFound: the session is another's.
        """
        await self._files.open_session(principal, session_id)
        if await self._fleet.ask_holder(session_id, CloseSession(principal, session_id)) is None:
            await self._files.forget_state(principal, session_id)


class RemoteSandboxes:
    """Where the sandboxes of sessions are: a :class:`supervisor.files.tools.Synchroniser`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def synchronise(self, session_id: SessionId) -> None:
        """Bring workspace and kept files together, if a worker has the session."""
        await self._fleet.ask_holder(session_id, Synchronise(session_id))

    async def discard(self, session_id: SessionId) -> None:
        """End the sandbox of a session that was deleted."""
        await self._fleet.ask_holder(session_id, Discard(session_id))


class RemoteAssistants:
    """Work on hostile content, done in sandboxes of workers."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def search(
        self,
        principal: Principal,
        session_id: SessionId,
        pattern: str,
        *,
        glob: str,
        regex: bool,
        ignore_case: bool,
        limit: int,
    ) -> SearchResult:
        """Find lines, as :meth:`supervisor.execution.assistants.Assistants.search`."""
        ask = Search(principal, session_id, pattern, glob, regex, ignore_case, limit)
        holder = await self._fleet.leases.holder_of(session_id)
        reply = await self._in_sandbox(ask, principal, "nsjail", holder)
        return _is(reply, Found).result

    async def shrink(
        self,
        principal: Principal,
        pictures: Sequence[tuple[str, bytes | StoredFile]],
        *,
        pixels: int,
        limit_bytes: int,
        tier: Tier,
    ) -> list[Picture | None]:
        """Make pictures small enough, as :meth:`supervisor.execution.assistants.Assistants.shrink`."""
        given = tuple(
            PictureGiven(kind, data=each) if isinstance(each, bytes) else PictureGiven(kind, file=each)
            for kind, each in pictures
        )
        reply = await self._in_sandbox(Shrink(principal, given, pixels, limit_bytes, tier), principal, tier)
        return [*_is(reply, Pictures).pictures]

    async def _in_sandbox(self, ask: Ask, principal: Principal, least: Tier, holder: str | None = None) -> Reply:
        fleet = self._fleet
        chosen = fleet.tiers.choose(principal, "python")
        tier = least if is_below(chosen, least) else chosen
        errand = Errand(ask, fleet.queue_seconds, tier)
        fallback = None if holder is None else fleet.lane("python", tier)
        async with fleet.admission.place(principal):
            return await fleet.calls.ask(errand, fleet.lane("python", tier, holder), fallback=fallback)
