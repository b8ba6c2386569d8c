"""The objects behind the doors, watched: each execution is in the table while it runs, and can be ended there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from supervisor.activity.activity import Activity, Running
from supervisor.activity.records import Door
from supervisor.execution.protocols import Executor, Programs
from supervisor.execution.values import (
    Cancelled,
    CapturedOutput,
    ExecutionRequest,
    ExecutionResult,
    Listener,
    Principal,
    SessionId,
    Usage,
    new_id,
)
from supervisor.programmatic.tool_calls import CallsWanted, Leg, ProgramRequest, ToolResult

_STOPPED: Final = "An operator of this server has ended this execution."


class WatchedExecutor:
    """An executor that is watched. What it raises and how it is cancelled are the inner one's."""

    def __init__(self, inner: Executor, activity: Activity, door: Door) -> None:
        self._inner = inner
        self._activity = activity
        self._door = door

    async def execute(
        self,
        request: ExecutionRequest,
        listener: Listener | None = None,
        on_admitted: Callable[[], None] | None = None,
    ) -> ExecutionResult:
        """Run a request to its end. One that an operator ends has the outcome ``Cancelled``, and says so in words."""
        with self._activity.watch(request, self._door) as running:
            noted = _noted(self._activity, running, on_admitted)
            with running.scope:
                result = await self._inner.execute(request, listener, noted)
                running.finish(result)
                return result
            running.end_as("stopped", running.stopped_by or "")
            return _stopped(request)


class WatchedPrograms:
    """Programs with tools that are watched, leg by leg."""

    def __init__(self, inner: Programs, activity: Activity, door: Door) -> None:
        self._inner = inner
        self._activity = activity
        self._door = door

    async def start(self, request: ProgramRequest, on_admitted: Callable[[], None] | None = None) -> Leg:
        """Run up to the first calls, or the end."""
        with self._activity.watch(request.execution, self._door, "program") as running:
            with running.scope:
                leg = await self._inner.start(request, _noted(self._activity, running, on_admitted))
                _note_leg(running, leg)
                return leg
            running.end_as("stopped", running.stopped_by or "")
            return _stopped(request.execution)

    async def resume(
        self,
        principal: Principal,
        token: str,
        results: Sequence[ToolResult],
        on_admitted: Callable[[], None] | None = None,
    ) -> Leg:
        """Go on with results."""
        # What it is a leg of is in the token, which only the inner ones read.
        request = ExecutionRequest(principal, "", "")
        with self._activity.watch(request, self._door, "program") as running:
            with running.scope:
                noted = _noted(self._activity, running, on_admitted)
                leg = await self._inner.resume(principal, token, results, noted)
                _note_leg(running, leg)
                return leg
            running.end_as("stopped", running.stopped_by or "")
            return _stopped(request)

    async def cancel(self, principal: Principal, request_id: str) -> bool:
        """End what the caller has started under this name."""
        return await self._inner.cancel(principal, request_id)


def _noted(activity: Activity, running: Running, on_admitted: Callable[[], None] | None) -> Callable[[], None]:
    def noted() -> None:
        activity.note_running(running)
        if on_admitted is not None:
            on_admitted()

    return noted


def _note_leg(running: Running, leg: Leg) -> None:
    if isinstance(leg, ExecutionResult):
        running.finish(leg)
    elif isinstance(leg, CallsWanted):
        running.end_as("waits_for_tools", str(len(leg.calls)))
    else:
        running.end_as("refused", "broken")


def _stopped(request: ExecutionRequest) -> ExecutionResult:
    nothing = CapturedOutput()
    session = request.session_id or SessionId(new_id())
    return ExecutionResult(session, Cancelled(), nothing, nothing, Usage(), notes=(_STOPPED,))
