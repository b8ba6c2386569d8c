"""What runs code and what counts calls, as those see it who ask: the doors, what watches them, a worker's dispatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from supervisor.execution.values import ExecutionRequest, ExecutionResult, Listener, Principal
from supervisor.programmatic.tool_calls import Leg, ProgramRequest, ToolResult


class Executor(Protocol):
    """Runs code, as :class:`supervisor.execution.executor.Executor`."""

    async def execute(
        self,
        request: ExecutionRequest,
        listener: Listener | None = None,
        on_admitted: Callable[[], None] | None = None,
    ) -> ExecutionResult:
        """Run a request to its end; cancelling kills. ``listener`` is told output as it is produced.

        ``on_admitted`` is called when it has got its place: from then on it will not be refused for lack of one.

        Raises:
            GaolerError: a refusal or our own fault.
        """


class Programs(Protocol):
    """Programs that call their caller's tools, as :class:`supervisor.programmatic.programs.Programs`."""

    async def start(self, request: ProgramRequest, on_admitted: Callable[[], None] | None = None) -> Leg:
        """Run up to the first calls, or the end; cancelling ends the program. ``on_admitted`` as for an executor.

        Raises:
            GaolerError: a refusal or our own fault.
        """

    async def resume(
        self,
        principal: Principal,
        token: str,
        results: Sequence[ToolResult],
        on_admitted: Callable[[], None] | None = None,
    ) -> Leg:
        """Go on with results; cancelling ends the program.

        Raises:
            GaolerError: a refusal or our own fault.
        """

    async def cancel(self, principal: Principal, request_id: str) -> bool:
        """End what the caller has started under this name, and say whether there was anything."""


class Rates(Protocol):
    """Counts how often everybody calls, as :class:`supervisor.admission.rates.RateLimiter`."""

    async def check(self, principal: Principal, kind: str) -> None:
        """Count a call.

        Raises:
            Busy: it is one too many.
        """
