"""Programs that call their caller's tools: the program waits in its cell while the caller runs them.

A program is a task of its own; each HTTP request is one leg of it, from its start or a batch of results to the next
batch of calls or its end. Between legs the program is stopped, holds no place in the queue, and waits for its token
to come back: signed, for one use, for the principal that got it, for a while. Who hangs up in the middle of a leg ends
the program.

When the cell is lost while the caller works (a jailer that died), the program is run again in another one: the calls
that were answered already get the same answers, and the caller notices nothing if the program does the same again.
"""

from __future__ import annotations

import base64
import binascii
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import trio
from msgspec import Struct

from supervisor.admission.admission import Admission
from supervisor.admission.fair_queue import Standing
from supervisor.errors import Busy, Conflict, Forbidden, GaolerError, InvalidRequest, NotFound, SandboxFailed, TooLarge
from supervisor.execution.hints import give_hint
from supervisor.execution.in_jail import InJail, Present, outcome_of, refusals_typed, result_of
from supervisor.execution.inputs import InputResolver
from supervisor.execution.results import Collector, Inputs, Results
from supervisor.execution.tier import TierRules
from supervisor.execution.values import MAX_STDIN_BYTES, Principal, Tier, new_id
from supervisor.identity.derived import DerivedIds
from supervisor.jailer import protocol
from supervisor.jailer.client import JailerClient, RemoteJail
from supervisor.network.grants import Network
from supervisor.policy import Policy
from supervisor.programmatic.tool_calls import (
    MAX_HISTORY_BYTES,
    Broken,
    CallsWanted,
    Leg,
    ProgramRequest,
    SandboxBabbles,
    ToolCall,
    ToolResult,
    decode_calls,
    encode_results,
    in_order,
    specification,
)
from supervisor.runtimes.catalogue import InstalledLanguage

log: Final = logging.getLogger("gaoler.programmatic")

MAX_REPLAYS: Final = 2
_GONE: Final = "Execution not found or expired"


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """Bounds of programs with tools. ``waiting``: programs at once, of everybody and of one principal."""

    waiting: int = 64
    waiting_per_principal: int = 16
    token_seconds: float = 600.0
    held_bytes: int = 256 << 20
    """Results of all programs together that are held for a replay."""


class _Token(Struct, frozen=True, forbid_unknown_fields=True):
    program: str
    nonce: str
    expires: float


@dataclass(eq=False, slots=True)
class _Program:
    id: str
    request: ProgramRequest
    specification: bytes
    tier: Tier
    on_admitted: Callable[[], None] | None
    """Of the leg that is on its way."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    history: list[tuple[tuple[ToolCall, ...], bytes]] = field(default_factory=list)
    """The answered batches and their results as the sandbox got them."""
    pending: tuple[ToolCall, ...] = ()
    nonce: str = ""
    busy: bool = True
    """A leg is on its way: nobody else may continue it."""
    outcome: Leg | GaolerError | None = None
    leg_over: trio.Event = field(default_factory=trio.Event)
    answer: bytes | None = None
    answered: trio.Event = field(default_factory=trio.Event)

    @property
    def principal(self) -> Principal:
        return self.request.caller

    def take_answer(self) -> bytes | None:
        """Give what has come for the pending calls, which are pending no more."""
        answer, self.answer, self.pending = self.answer, None, ()
        return answer

    def end_leg(self, outcome: Leg | GaolerError) -> None:
        self.outcome = outcome
        self.leg_over.set()


class Programs:
    """All programs with tools. Use :func:`open_programs`."""

    def __init__(
        self,
        jailer: JailerClient,
        resolver: InputResolver,
        work: InJail,
        admission: Admission,
        network: Network,
        policy: Policy,
        languages: Mapping[str, InstalledLanguage],
        *,
        ids: DerivedIds,
        limits: ProgramLimits,
        tiers: TierRules,
        nursery: trio.Nursery,
    ) -> None:
        self.jailer = jailer
        self.resolver = resolver
        self.work = work
        self.admission = admission
        self.network = network
        self.policy = policy
        self.languages = languages
        self._ids = ids
        self.limits = limits
        self._tiers = tiers
        self._nursery = nursery
        self._programs: dict[str, _Program] = {}

    @property
    def count(self) -> int:
        """Programs that live, most of which wait for their caller."""
        return len(self._programs)

    async def start(self, request: ProgramRequest, on_admitted: Callable[[], None] | None = None) -> Leg:
        """Run the program up to its first batch of calls, or its end. Cancelling ends it.

        Raises:
            GaolerError: as :meth:`supervisor.execution.executor.Executor.execute`; tools that cannot be; too many
            programs wait.
        """
        if len(request.execution.stdin) > MAX_STDIN_BYTES:
            raise InvalidRequest(f"at most {MAX_STDIN_BYTES} bytes of UTF-8", field="stdin")
        tier = self._tiers.choose(request.execution.principal, request.dialect, request.execution.tier)
        self.network.check(request.execution.egress)
        written = specification(request.tools, request.dialect)
        of_principal = sum(each.principal == request.caller for each in self._programs.values())
        limits = self.limits
        if len(self._programs) >= limits.waiting or of_principal >= limits.waiting_per_principal:
            raise Busy("too many programs wait for their tools", retry_after_seconds=5.0)
        program = _Program(new_id(), request, written, tier, on_admitted)
        self._programs[program.id] = program
        self._nursery.start_soon(self._live, program)
        return await self._leg(program)

    async def resume(
        self,
        principal: Principal,
        token: str,
        results: Sequence[ToolResult],
        on_admitted: Callable[[], None] | None = None,
    ) -> Leg:
        """Give the program the results of its calls and run it up to the next ones, or its end. Cancelling ends it.

        Raises:
            InvalidRequest: the token is not one of ours, or a result does not fit.
            NotFound: the program is over, or the token's time.
            Forbidden: it is another's token.
            Conflict: the token has been used.
            Busy: too much is held; the token goes on holding.
            TooLarge: all results together are too much.
        """
        program = self._by_token(principal, token)
        answer = encode_results(in_order(program.pending, results))
        if sum(len(kept) for _, kept in program.history) + len(answer) > MAX_HISTORY_BYTES:
            raise TooLarge(f"the results of one program have at most {MAX_HISTORY_BYTES} bytes", field="tool_results")
        held = sum(len(kept) for each in self._programs.values() for _, kept in each.history)
        if held + len(answer) > self.limits.held_bytes:
            raise Busy("too many results are held for programs that wait", retry_after_seconds=5.0)
        program.busy, program.nonce = True, ""
        program.leg_over = trio.Event()
        program.history.append((program.pending, answer))
        program.answer, program.on_admitted = answer, on_admitted
        program.answered.set()
        return await self._leg(program)

    async def cancel(self, principal: Principal, request_id: str) -> bool:
        """End the programs that the caller started under this name; say whether there were any."""
        found = [
            program
            for program in self._programs.values()
            if program.request.request_id == request_id and program.principal == principal
        ]
        for program in found:
            program.scope.cancel()
        return bool(found)

    # -- legs --

    async def _leg(self, program: _Program) -> Leg:
        try:
            await program.leg_over.wait()
        except trio.Cancelled:
            program.scope.cancel()
            raise
        outcome, program.outcome = program.outcome, None
        if isinstance(outcome, GaolerError):
            raise outcome
        assert outcome is not None
        return outcome

    def _by_token(self, principal: Principal, token: str) -> _Program:
        found = self._decoded(token)
        program = self._programs.get(found.program)
        if program is None or time.time() > found.expires:
            raise NotFound(_GONE, field="continuation_token")
        if program.principal != principal:
            raise Forbidden("this token was given to another caller", field="continuation_token")
        if program.busy or found.nonce != program.nonce:
            raise Conflict("this token has been used", field="continuation_token")
        return program

    def _decoded(self, token: str) -> _Token:
        body, _, signature = token.partition(".")
        if not self._ids.signed("continuation", body, signature):
            raise InvalidRequest("it is not a token of this server", field="continuation_token")
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(body), type=_Token)
        except (msgspec.DecodeError, binascii.Error, ValueError):
            raise InvalidRequest("it is not a token of this server", field="continuation_token") from None

    def new_token(self, program: _Program) -> str:
        """Make the token that continues the program, and the only one that does."""
        program.nonce = new_id()
        expires = time.time() + self.limits.token_seconds
        body = base64.urlsafe_b64encode(msgspec.json.encode(_Token(program.id, program.nonce, expires))).decode()
        return f"{body}.{self._ids.signature('continuation', body)}"

    # -- a program's task --

    async def _live(self, program: _Program) -> None:
        """Run it to its end. Named boundary: whatever goes wrong ends this program and no other."""
        outcome: Leg | GaolerError = NotFound(_GONE, field="continuation_token")
        try:
            with program.scope:
                outcome = await self._run(program)
        except* GaolerError as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            assert isinstance(error, GaolerError)
            outcome = error
        except* Exception as group:
            log.error("program lost", exc_info=group)
            outcome = SandboxFailed("the program was lost")
        finally:
            del self._programs[program.id]
            program.end_leg(outcome)

    async def _run(self, program: _Program) -> Leg:
        for attempt in range(MAX_REPLAYS + 1):
            attempted = _Attempt(self, program)
            try:
                return await attempted.run()
            except _BrokenProgram as error:
                return Broken(error.message)
            except SandboxFailed:
                # Before the first call nothing has been seen of it: the caller may try again by himself.
                if attempt == MAX_REPLAYS or not (program.history or program.pending):
                    raise
                log.warning("program is run again calls_answered=%d", len(program.history))
        raise AssertionError


class _Attempt:
    """One run of a program in one cell; what was answered before is answered from its history."""

    def __init__(self, programs: Programs, program: _Program) -> None:
        self._programs = programs
        self._program = program
        self._place = AsyncExitStack()
        self._output = Collector()
        self._made = 0
        self._batches = 0
        self._inputs: Inputs | None = None

    async def run(self) -> Leg:
        programs, request = self._programs, self._program.request
        execution, languages = request.execution, programs.languages
        inputs = self._inputs = await programs.resolver.resolve(execution)
        results = Results(skipped=list(inputs.skipped))
        try:
            standing = await self._take_place(goes_on=bool(self._program.history))
            with refusals_typed():
                async with (
                    programs.jailer.open_jail(
                        programs.policy.name,
                        languages["python"].profile,
                        share=standing.share,
                        modest=standing.modest,
                        tier=self._program.tier,
                    ) as jail,
                    programs.network.open_grant(
                        jail, execution.principal, inputs.session_id, execution.egress
                    ) as grant,
                ):
                    present = Present()
                    source = b"main.py" if request.dialect == "python" else b"main.sh"
                    await _put_code(jail, source, execution.code.encode())
                    await _put_code(jail, b"tools.json", self._program.specification)
                    await programs.work.place_inputs(inputs, jail, present)
                    script = protocol.RunScript(
                        arguments=list(execution.arguments),
                        wall_seconds=languages[request.dialect].wall_seconds(execution.wall_seconds),
                        stdin=execution.stdin,
                        tools=request.dialect,
                        environment=dict(execution.environment),
                    )
                    ended = await jail.run(script, self._output.take, scan=True, on_calls=self._answer_calls)
                    await programs.work.collect(jail, inputs, results, present)
                    for refusal in await grant.explanations():
                        await self._output.add(refusal)
                    reaches = programs.network.reaches(execution.egress)
                    await give_hint(self._output, outcome_of(ended.outcome), network=reaches)
        finally:
            await self._place.aclose()
        await programs.work.keep(inputs, results)
        return replace(result_of(inputs, ended, self._output, results), tier=self._program.tier)

    async def _take_place(self, *, goes_on: bool = False) -> Standing:
        self._place = AsyncExitStack()
        standing = await self._place.enter_async_context(
            self._programs.admission.place(self._program.request.execution.principal, goes_on=goes_on)
        )
        on_admitted, self._program.on_admitted = self._program.on_admitted, None
        if on_admitted is not None:
            on_admitted()
        return standing

    async def _answer_calls(self, untrusted_line: bytes) -> bytes:
        program = self._program
        names = frozenset(tool.name for tool in program.request.tools)
        try:
            calls = decode_calls(untrusted_line, names, self._made)
        except SandboxBabbles as error:
            raise _BrokenProgram(str(error)) from None
        self._made += len(calls)
        self._batches += 1
        if self._batches <= len(program.history):
            recorded, answer = program.history[self._batches - 1]
            if recorded != calls:
                raise _BrokenProgram("the sandbox was lost, and the program does not do the same when it is run again")
            return answer
        return await self._ask(calls)

    async def _ask(self, calls: tuple[ToolCall, ...]) -> bytes:
        """Let go of the place, end the leg with the calls, and wait for their results."""
        program, inputs = self._program, self._inputs
        assert inputs is not None
        await self._place.aclose()
        program.pending, program.answer, program.answered = calls, None, trio.Event()
        token = self._programs.new_token(program)
        stdout, stderr = (self._output.captured(name).text() for name in ("stdout", "stderr"))
        program.busy = False
        program.end_leg(CallsWanted(inputs.session_id, token, calls, stdout, stderr))
        with trio.move_on_after(self._programs.limits.token_seconds):
            await program.answered.wait()
        answer = program.take_answer()
        if answer is None:
            raise NotFound(_GONE, field="continuation_token")
        await self._take_place(goes_on=True)
        return answer


class _BrokenProgram(GaolerError):
    """It is ended, and its caller told why."""


async def _put_code(jail: RemoteJail, name: bytes, content: bytes) -> None:
    await jail.put_file(name, len(content), _once(content), area="code", read_only=True)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


@asynccontextmanager
async def open_programs(make: Callable[[trio.Nursery], Programs]) -> AsyncIterator[Programs]:
    """Keep programs for the block; at its end all are ended."""
    async with trio.open_nursery() as nursery:
        yield make(nursery)
        nursery.cancel_scope.cancel()
