"""One session that lasts: its task owns its jail and does one job after the other.

Between jobs everything in the jail is stopped, unless a background program runs there; then it is stopped only while
files are looked at. A session that ends is saved first, inside its sandbox.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar, cast

import trio

from supervisor.activity.timeline import Timeline, steps
from supervisor.errors import Busy, Conflict, ExecutionLost, GaolerError, InvalidRequest, NotFound, SandboxFailed
from supervisor.execution.hints import give_hint
from supervisor.execution.in_jail import Present, outcome_of, refusals_typed, result_of
from supervisor.execution.results import Collector, Inputs, Results
from supervisor.execution.tier import highest, is_below, state_tier
from supervisor.execution.values import (
    ExecutionRequest,
    ExecutionResult,
    Listener,
    OutputPiece,
    Owner,
    Principal,
    Runtime,
    SessionId,
    Tier,
)
from supervisor.jailer import protocol
from supervisor.jailer.client import JailRefused, RemoteJail
from supervisor.live.lease import Hold
from supervisor.live.means import Means
from supervisor.live.processes import BackgroundProcess, CommandLine
from supervisor.live.state import restore, save
from supervisor.network.grants import Grant
from supervisor.runtimes.catalogue import InstalledLanguage
from supervisor.workspace.views import ProcessInfo

log: Final = logging.getLogger("gaoler.live")

QUEUE_LENGTH: Final = 16
"""Jobs that wait for their turn in one session."""
KEPT_PROCESSES: Final = 32
"""Records of background programs; the oldest that has ended goes first."""
BACKGROUND_SHARE: Final = 0.25
"""Of one caller's part of the CPU, for what runs while nobody waits for it."""


class NotBegun(GaolerError):
    """The session ended before it came to this job: it can be done by the next one. No caller is told so."""


_TAKEN: Final = "the session was ended, or another worker has it now, while this ran"
NOBODY: Final = Principal("", "gaoler")

_T = TypeVar("_T")


@dataclass(eq=False, slots=True)
class Job:
    """Something to be done in a session's turn; ``abandoned``: nobody waits for it any more."""

    work: Callable[[Job], Awaitable[Any]]
    done: trio.Event = field(default_factory=trio.Event)
    result: Any = None
    error: GaolerError | None = None
    abandoned: bool = False


class LiveSession:
    """Made and kept by :class:`supervisor.live.sessions.LiveSessions`, which runs :meth:`serve`."""

    def __init__(
        self,
        session_id: SessionId,
        means: Means,
        predecessor: trio.Event | None,
        asker: Owner,
        tier: Tier,
        on_leaving: Callable[[LiveSession], None],
    ) -> None:
        self.id = session_id
        self.tier = tier
        """Of its sandbox. It only rises, and only until that is made: see :meth:`_choose_tier`."""
        self.asker = asker
        """Who had it made; known before it is looked up whose it is."""
        self._means = means
        self._on_leaving = on_leaving
        """Called when it does nothing more but save itself and end: whoever has work for it needs another."""
        self._jobs, self._inbox = trio.open_memory_channel[Job](QUEUE_LENGTH)
        self._predecessor = predecessor
        self._current: Job | None = None
        self._running: Job | None = None
        """The current one, while its code runs."""
        self._jail: RemoteJail | None = None
        self._grant: Grant | None = None
        self._wanted: tuple[str, ...] | None = None
        """What the last execution narrowed the network down to."""
        self._present = Present()
        self._hold = Hold()
        self._unsaved = False
        """Code has run since the variables were last saved."""
        self._fresh = True
        """Nothing was restored yet."""
        self.over = False
        """The kernel has ended the sandbox, for memory: only its files were left."""
        self._used = False
        """Python code has run in the interpreter, so it has a state."""
        self._has_state = False
        """It has, unless it has ended meanwhile, what earlier executions left."""
        self._waiting: trio.CancelScope | None = None
        self._nursery: trio.Nursery | None = None
        """Of the background programs; it ends with the jail."""
        self._processes: dict[str, BackgroundProcess] = {}
        self._made = 0
        self.unsettled = False
        """Background programs may have written what is not kept yet."""
        self.owner: Owner | None = None
        """Known from the first job on."""
        self.last_use = trio.current_time()
        self.ending = False
        """It does what it was given, saves itself and ends."""
        self.discarded = False
        """Deleted by its owner: nothing is saved."""
        self.gone = trio.Event()

    # -- asked from outside its task --

    @property
    def idle(self) -> bool:
        """It has no work."""
        return self._current is None and not self._jobs.statistics().current_buffer_used

    @property
    def running_processes(self) -> int:
        """Background programs that have not ended."""
        return sum(process.running for process in self._processes.values())

    def processes(self) -> list[ProcessInfo]:
        """List the background programs."""
        return [process.info() for process in self._processes.values()]

    def process(self, process_id: str) -> BackgroundProcess:
        """Give a background program.

        Raises:
            NotFound: there is none of this id.
        """
        try:
            return self._processes[process_id]
        except KeyError:
            raise NotFound("no such process in this session", field="process") from None

    def end(self) -> None:
        """Have it save itself and end, when its current job is done."""
        self.ending = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def interrupt(self, job: Job | None = None) -> None:
        """Interrupt what runs, if it is this job's."""
        if self._jail is not None and self._running is not None and job in (None, self._running):
            try:
                await self._jail.interrupt()
            except SandboxFailed:
                return

    async def submit(
        self, work: Callable[[Job], Awaitable[_T]], on_abandoned: Callable[[Job], None] = lambda _job: None
    ) -> _T:
        """Have a job done. Cancelling leaves it undone, or calls ``on_abandoned`` if it is being done.

        Raises:
            Busy: too many wait already.
            NotBegun: the session has ended, and nothing of it was done.
            GaolerError: what the job raises.
        """
        job = Job(work)
        try:
            self._jobs.send_nowait(job)
        except trio.WouldBlock:
            raise Busy("the session has too many executions waiting", retry_after_seconds=2.0) from None
        try:
            await job.done.wait()
        except trio.Cancelled:
            job.abandoned = True
            if self._current is job:
                on_abandoned(job)
            raise
        if job.error is not None:
            raise job.error
        return cast("_T", job.result)

    # -- its task --

    async def serve(self) -> None:
        """Do the jobs. Named boundary: whatever goes wrong ends this session and no other."""
        try:
            if self._predecessor is not None:
                await self._predecessor.wait()
            await self._do_jobs()
        except* GaolerError as group:
            found: BaseException = group
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            log.error("session lost session=%s reason=%s", self.id, ascii(str(found)))
        except* Exception as group:
            log.error("session lost session=%s", self.id, exc_info=group)
        finally:
            with trio.CancelScope(shield=True):
                await self._means.holds.give_up(self.id)

    def refuse_rest(self) -> None:
        """Answer those who wait, after :meth:`serve`."""
        if self._current is not None and not self._current.done.is_set():
            # It was to be the first, and there is no sandbox.
            self._current.error = SandboxFailed("the sandbox could not be made")
            self._current.done.set()
        while True:
            try:
                job = self._inbox.receive_nowait()
            except trio.WouldBlock:
                return
            job.error = NotBegun("the session has just ended")
            job.done.set()

    async def _do_jobs(self) -> None:
        job = await self._next()
        if job is None:
            return
        limits = self._means.limits
        self._current = job
        if not await self._take_hold(job):
            return
        await self._choose_tier()
        async with (
            self._means.jailer.open_jail(limits.policy, limits.profile, tier=self.tier) as jail,
            # Whose it is, and what they want, is known with each job.
            self._means.network.open_grant(jail, NOBODY, self.id, ()) as self._grant,
            trio.open_nursery() as self._nursery,
        ):
            self._jail = jail
            while job is not None:
                self._current = job
                await self._do(job)
                self._current = None
                self.last_use = trio.current_time()
                if jail.lost:
                    self._note_loss("the sandbox was lost")
                    break
                if self.over:
                    # Nothing can be run in it any more; the next job has another one.
                    break
                job = await self._next()
            self._on_leaving(self)
            if job is None:
                await self._leave(jail)
            self._nursery.cancel_scope.cancel()

    async def _take_hold(self, job: Job) -> bool:
        """Have the session for ourselves, where there are others; say whether we do. If not, the job is refused."""
        try:
            self._hold = await self._means.holds.take(self.id)
        except GaolerError as error:
            job.error = error
            job.done.set()
            return False
        return True

    def lose(self) -> None:
        """Another worker has the session: end all at once and store nothing more."""
        self.discarded = True
        self.end()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _choose_tier(self) -> None:
        """Go on in the tier of the saved namespace, if that is higher: what has lived apart never meets our kernel."""
        state = await self._means.files.saved_state(self.id)
        kept = self.tier if state is None else state_tier(state.profile)
        if not is_below(self._means.limits.best_tier, kept):
            self.tier = highest(self.tier, kept)

    async def _leave(self, jail: RemoteJail) -> None:
        """Save what can be saved."""
        if self.discarded:
            return
        running = self.running_processes
        if running:
            await self._look_after(jail)
        if self._used:
            why = await self._save(jail)
            if why is not None:
                self._note_loss(why)
        if running:
            self._means.note_loss(self.id, f"{running} background process(es) were ended")

    async def _save(self, jail: RemoteJail) -> str | None:
        self._unsaved = False
        return await save(self._means, self.id, self.tier, jail, self._hold, lambda: not self.discarded)

    async def _await_job(self) -> Job | None:
        """Wait for a job; meanwhile the variables are saved, where they could get lost with this daemon."""
        limits = self._means.limits
        wait = limits.idle_seconds
        if limits.snapshot_seconds is not None and self._unsaved and self._used and not self.running_processes:
            with trio.move_on_after(limits.snapshot_seconds) as self._waiting:
                return await self._inbox.receive()
            if not self.ending:
                assert self._jail is not None
                await self._save(self._jail)
            # It may have been told so while it was being saved, too.
            if self.ending:
                return None
            wait -= limits.snapshot_seconds
        with trio.move_on_after(wait) as self._waiting:
            return await self._inbox.receive()
        return None

    async def _next(self) -> Job | None:
        """Wait for the next job that somebody still wants; ``None``: it is time to end."""
        while not self.discarded:
            job: Job | None
            try:
                job = self._inbox.receive_nowait()
            except trio.WouldBlock:
                if self.ending:
                    return None
                job = await self._await_job()
                self._waiting = None
            if job is None or not job.abandoned:
                return job
        return None

    async def _do(self, job: Job) -> None:
        try:
            job.result = await job.work(job)
        except GaolerError as error:
            job.error = error
        except BaseException:
            job.error = ExecutionLost(_TAKEN) if self.discarded else SandboxFailed("the execution was lost")
            raise
        finally:
            job.done.set()

    # -- executions --

    async def execute(
        self,
        request: ExecutionRequest,
        language: InstalledLanguage,
        listener: Listener | None,
        on_admitted: Callable[[], None] | None,
        on_abandoned: Callable[[Job], None],
    ) -> ExecutionResult:
        """Run code.

        Raises:
            GaolerError: as :meth:`supervisor.execution.executor.Executor.execute`.
        """
        # The work is done by this session's task, for the task that asks.
        timeline = steps()

        async def work(job: Job) -> ExecutionResult:
            async def hear(piece: OutputPiece) -> None:
                if listener is not None and not job.abandoned:
                    await listener(piece)

            def admitted() -> None:
                if on_admitted is not None and not job.abandoned:
                    on_admitted()

            result = await self._execute(job, request, language, hear, admitted, timeline)
            timeline.passed("export")
            return replace(result, spent=timeline.spent)

        return await self.submit(work, on_abandoned)

    async def _execute(
        self,
        job: Job,
        request: ExecutionRequest,
        language: InstalledLanguage,
        hear: Listener,
        on_admitted: Callable[[], None],
        timeline: Timeline,
    ) -> ExecutionResult:
        means, jail, grant = self._means, self._jail, self._grant
        assert jail is not None
        assert grant is not None
        timeline.passed("cell")
        inputs = await self._enter(request)
        timeline.passed("inputs")
        self._refuse_lower(request.tier)
        output = Collector(listener=hear)
        results = Results(skipped=list(inputs.skipped))
        try:
            async with means.admission.place(request.principal) as standing:
                timeline.passed("admission")
                on_admitted()
                with refusals_typed(), self._minding_refusals(jail):
                    await jail.weigh(standing.share)
                    status = await self._make_ready(results)
                    await means.work.place(request, language, inputs, jail, self._present)
                    if job.abandoned:
                        raise Busy("nobody waits for it any more", retry_after_seconds=1.0)
                    self._used = self._used or (language.profile is not None and request.main is None)
                    self._unsaved = True
                    self._wanted = request.egress
                    await grant.use(request.principal, self._wanted)
                    self._running = job
                    timeline.passed("inputs")
                    ended = await means.work.run_live(request, language, jail, output, means.limits.interrupt_seconds)
                    timeline.passed("code")
                    self._running = None
                    await grant.ask()
                    await means.work.collect(jail, inputs, results, self._present)
                    await means.work.take_shown(request, language, jail, results)
                    for refusal in await grant.explanations():
                        await output.add(refusal)
                    await give_hint(output, outcome_of(ended.outcome), network=means.network.reaches(request.egress))
            self._note_state(ended, results)
            self.over = not ended.jail_lives
        finally:
            self._running = None
            await self._go_on(jail)
        await means.work.keep(inputs, results, self._present, fence=self._hold.fence)
        result = result_of(inputs, ended, output, results, Runtime(self.id, status, ended.state_lives))
        return replace(result, tier=self.tier)

    def _refuse_lower(self, asked: Tier | None) -> None:
        if asked is not None and is_below(asked, self.tier):
            raise InvalidRequest(
                f"this session's sandbox is of tier {self.tier}; a request may only raise it", field="tier"
            )

    async def _enter(self, request: ExecutionRequest) -> Inputs:
        """Look the session up, or make it, for this caller."""
        inputs = await self._means.resolver.resolve(request)
        if inputs.is_new:
            await self._means.files.create_session(inputs.owner, inputs.session_id)
        self.owner = inputs.owner
        return inputs

    async def _make_ready(self, results: Results) -> str:
        """Bring back what was saved, at the first job; stop what runs in the background, so that files can be put."""
        assert self._jail is not None
        if self._fresh:
            self._fresh = False
            self._used = await restore(self._means, self.id, self.tier, self._jail, results, self._hold)
            return "restored" if self._used else "new"
        if self.running_processes:
            await self._jail.pause()
        return "reused"

    async def _go_on(self, jail: RemoteJail) -> None:
        """Let what runs in the background go on."""
        if self.running_processes and not jail.lost:
            try:
                await jail.weigh(BACKGROUND_SHARE)
                await jail.resume()
            except JailRefused:
                # What was refused is told by whoever asked for it.
                self._present.forget(map(_named, jail.take_refused_names()))

    @contextmanager
    def _minding_refusals(self, jail: RemoteJail) -> Iterator[None]:
        """What the jail did not take is not there: the next one to look puts it anew, and is told again."""
        try:
            yield
        except JailRefused:
            self._present.forget(map(_named, jail.take_refused_names()))
            raise

    def _note_state(self, ended: protocol.Ended, results: Results) -> None:
        """Say what became of the variables where that is not what anybody would expect."""
        if ended.state_is_new and self._has_state:
            results.notes.append("the interpreter had ended: the variables of earlier executions are gone")
        self._has_state = self._used and ended.state_lives
        if not ended.state_lives:
            if self._used:
                results.notes.append("the interpreter has ended: its variables are gone, the files are kept")
            self._used = False
        elif self._used and isinstance(ended.outcome, protocol.RunTimedOut):
            results.notes.append("it was interrupted: the variables that it had set so far are kept")

    def _note_loss(self, why: str) -> None:
        if self._used and not self.discarded:
            self._means.note_loss(self.id, f"the variables of earlier executions are gone: {why}")

    # -- background programs --

    async def start_process(
        self, principal: Principal, command: str, line: CommandLine, asked: Tier | None
    ) -> ProcessInfo:
        """Start a program that runs until it ends, beside all that the session does.

        Raises:
            GaolerError: as :meth:`supervisor.execution.executor.Executor.execute`.
        """

        async def work(_job: Job) -> ProcessInfo:
            jail, nursery, grant = self._jail, self._nursery, self._grant
            assert jail is not None
            assert grant is not None
            assert nursery is not None
            inputs = await self._enter(self._bare_request(principal))
            self._refuse_lower(asked)
            if self.running_processes >= protocol.MAX_PROGRAMS:
                raise Conflict(
                    f"at most {protocol.MAX_PROGRAMS} processes at once: end one of them first", field="command"
                )
            self._forget_old_processes()
            self._made += 1
            process = BackgroundProcess(f"p{self._made}", command, self._means.limits.process)
            try:
                async with self._means.admission.place(principal):
                    with refusals_typed(), self._minding_refusals(jail):
                        await self._make_ready(Results())
                        await self._means.work.place_inputs(inputs, jail, self._present)
                        await grant.use(principal, self._wanted)
                        self.unsettled = True
                        await nursery.start(self._run_process, process, jail, line)
                self._processes[process.id] = process
            finally:
                await self._go_on(jail)
            return process.info()

        return await self.submit(work)

    async def _run_process(
        self,
        process: BackgroundProcess,
        jail: RemoteJail,
        line: CommandLine,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        await process.run(jail, line, task_status=task_status)
        if not self.running_processes:
            try:
                self._jobs.send_nowait(Job(self._settle))
            except trio.WouldBlock:
                return  # one of those who wait does the same

    async def _settle(self, _job: Job) -> None:
        """The last process has ended: everything is stopped again, and its files are kept."""
        if self._jail is not None and self.unsettled:
            try:
                await self._look_after(self._jail)
            finally:
                await self._go_on(self._jail)

    def _forget_old_processes(self) -> None:
        ended = [each.id for each in self._processes.values() if not each.running]
        for process_id in ended[: max(0, len(self._processes) - KEPT_PROCESSES + 1)]:
            del self._processes[process_id]

    async def synchronise(self) -> None:
        """Bring workspace and kept files together while background programs run.

        What was changed from outside goes in, what the programs have written comes out.

        Raises:
            GaolerError: the session is gone, or the files do not fit.
        """
        await self.submit(self._settle)

    async def _look_after(self, jail: RemoteJail) -> None:
        """Stop everything, put what changed outside, keep what changed inside."""
        if self.owner is None or jail.lost:
            return
        owner = self.owner
        user = owner.id if owner.kind == "user" else None
        inputs = await self._means.resolver.resolve(self._bare_request(Principal(owner.tenant, "gaoler", user)))
        results = Results()
        with refusals_typed(), self._minding_refusals(jail):
            await jail.pause()
            await self._means.work.place_inputs(inputs, jail, self._present)
            await self._means.work.collect(jail, inputs, results, self._present)
        self.unsettled = self.running_processes > 0
        await self._means.work.keep(inputs, results, self._present, fence=self._hold.fence)

    def _bare_request(self, principal: Principal) -> ExecutionRequest:
        return ExecutionRequest(principal, language="", code="", session_id=self.id)


def _named(name: bytes) -> str:
    """As whoever put it calls it."""
    return name.decode("utf-8", "surrogateescape")
