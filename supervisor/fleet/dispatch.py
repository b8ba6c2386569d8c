"""What a worker does with what it is asked: each message is one call of the objects that an embedded daemon has too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import structs

from supervisor.errors import NotFound
from supervisor.execution.assistants import Assistants
from supervisor.execution.protocols import Executor, Programs
from supervisor.execution.request_context import begin_request
from supervisor.execution.values import SessionId, StoredFile
from supervisor.fleet.messages import (
    Ask,
    CancelProgram,
    CloseSession,
    Count,
    Discard,
    Done,
    Execute,
    Found,
    Infos,
    ListProcesses,
    Message,
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
    WriteProcess,
    of_leg,
    of_result,
)
from supervisor.fleet.program_places import ProgramPlaces, token_with_place, token_without_place
from supervisor.fleet.told_output import Counted
from supervisor.identity.derived import DerivedIds
from supervisor.live.background import Background
from supervisor.live.lasting import lasting_session
from supervisor.live.sessions import LiveSessions
from supervisor.policy import Policy
from supervisor.programmatic.tool_calls import CallsWanted, Leg

MAX_WAIT_SECONDS: Final = 60.0
"""Longest that a question may wait for something to happen."""

Say = Callable[[Output], Awaitable[None]]
"""Tell the gateway something before the end."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker works with."""

    name: str
    executor: Executor
    programs: Programs
    processes: Background
    assistants: Assistants
    live: LiveSessions
    places: ProgramPlaces
    policy: Policy
    ids: DerivedIds

    def session_of(self, ask: Ask) -> SessionId | None:
        """Name the lasting session whose sandbox this is about; ``None``: any worker can do it.

        Raises:
            Unsupported: it asks for one that the policy does not have.
        """
        if isinstance(ask, Execute):
            return lasting_session(ask.request, self.policy, self.ids) if ask.request.session_id is not None else None
        if isinstance(ask, StartProgram | ResumeProgram | CancelProgram | Search | Shrink):
            return None
        return ask.session_id


async def perform(services: Services, ask: Ask, say: Say) -> Reply:
    """Do what is asked and give the answer. Cancelling kills, as everywhere.

    Raises:
        GaolerError: what the objects behind raise.
    """
    if isinstance(ask, Execute | StartProgram | ResumeProgram):
        begin_request(ask.origin.request_id, ask.origin.traceparent, ask.origin.tracestate)
    return await _WORK[type(ask)](services, ask, say)


async def _execute(services: Services, ask: Execute, say: Say) -> Reply:
    counted = Counted(say)
    result = await services.executor.execute(ask.request, counted.hear if ask.listens else None)
    return structs.replace(of_result(result), told=counted.totals)


async def _start_program(services: Services, ask: StartProgram, _say: Say) -> Reply:
    request = ask.request
    if request.request_id is not None:
        await services.places.note(request.caller, request.request_id, services.name)
    return of_leg(_placed(services, await services.programs.start(request)))


async def _resume_program(services: Services, ask: ResumeProgram, _say: Say) -> Reply:
    token = token_without_place(ask.token)
    return of_leg(_placed(services, await services.programs.resume(ask.principal, token, ask.results)))


def _placed(services: Services, leg: Leg) -> Leg:
    return replace(leg, token=token_with_place(services.name, leg.token)) if isinstance(leg, CallsWanted) else leg


async def _cancel_program(services: Services, ask: CancelProgram, _say: Say) -> Reply:
    return Count(int(await services.programs.cancel(ask.principal, ask.request_id)))


async def _start_process(services: Services, ask: StartProcess, _say: Say) -> Reply:
    return Infos((await services.processes.start(ask.principal, ask.session_id, ask.command, ask.tier),))


async def _list_processes(services: Services, ask: ListProcesses, _say: Say) -> Reply:
    return Infos(tuple(await services.processes.list(ask.principal, ask.session_id)))


async def _read_process(services: Services, ask: ReadProcess, _say: Say) -> Reply:
    process = await services.processes.get(ask.principal, ask.session_id, ask.process_id)
    wait = min(ask.wait_seconds, MAX_WAIT_SECONDS)
    return Read(await process.read(position=ask.position, limit=ask.limit, wait_seconds=wait, until=ask.until))


async def _write_process(services: Services, ask: WriteProcess, _say: Say) -> Reply:
    process = await services.processes.get(ask.principal, ask.session_id, ask.process_id)
    return Count(await process.write(ask.data, close=ask.close))


async def _signal_process(services: Services, ask: SignalProcess, _say: Say) -> Reply:
    process = await services.processes.get(ask.principal, ask.session_id, ask.process_id)
    await process.signal(ask.number)
    return Done()


async def _wait_process(services: Services, ask: WaitProcess, _say: Say) -> Reply:
    process = await services.processes.get(ask.principal, ask.session_id, ask.process_id)
    await process.wait_ended(min(ask.seconds, MAX_WAIT_SECONDS))
    return Done()


async def _synchronise(services: Services, ask: Synchronise, _say: Say) -> Reply:
    await services.live.synchronise(ask.session_id)
    return Done()


async def _discard(services: Services, ask: Discard, _say: Say) -> Reply:
    services.live.discard(ask.session_id)
    return Done()


async def _close(services: Services, ask: CloseSession, _say: Say) -> Reply:
    # It may have been deleted meanwhile: then there is nothing left to forget.
    with suppress(NotFound):
        await services.processes.close(ask.principal, ask.session_id)
    return Done()


async def _search(services: Services, ask: Search, _say: Say) -> Reply:
    found = await services.assistants.search(
        ask.principal,
        ask.session_id,
        ask.pattern,
        glob=ask.glob,
        regex=ask.regex,
        ignore_case=ask.ignore_case,
        limit=ask.limit,
    )
    return Found(found)


async def _shrink(services: Services, ask: Shrink, _say: Say) -> Reply:
    pictures = [(each.media_type, _content(each)) for each in ask.pictures]
    made = await services.assistants.shrink(
        ask.principal, pictures, pixels=ask.pixels, limit_bytes=ask.limit_bytes, tier=ask.tier
    )
    return Pictures(tuple(made))


def _content(picture: PictureGiven) -> bytes | StoredFile:
    return picture.data if picture.file is None else picture.file


_WORK: Final[Mapping[type[Message], Callable[[Services, Any, Say], Awaitable[Reply]]]] = {
    Execute: _execute,
    StartProgram: _start_program,
    ResumeProgram: _resume_program,
    CancelProgram: _cancel_program,
    StartProcess: _start_process,
    ListProcesses: _list_processes,
    ReadProcess: _read_process,
    WriteProcess: _write_process,
    SignalProcess: _signal_process,
    WaitProcess: _wait_process,
    Synchronise: _synchronise,
    Discard: _discard,
    CloseSession: _close,
    Search: _search,
    Shrink: _shrink,
}
