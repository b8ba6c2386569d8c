"""The worker: takes jobs that a gateway has signed, begins each at most once, does it, says what became of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import trio

from supervisor.errors import Busy, Forbidden, GaolerError, SandboxFailed, StoreSpoilt
from supervisor.execution.values import Principal, SessionId
from supervisor.fleet.delivery import Deliveries, Delivery
from supervisor.fleet.dispatch import Say, Services, perform
from supervisor.fleet.going_on import go_on
from supervisor.fleet.lanes import pool_lane, worker_lane
from supervisor.fleet.leases import Leases
from supervisor.fleet.manifest import Manifest, Untrusted, Verifier
from supervisor.fleet.messages import (
    NOBODY,
    Admitted,
    Ask,
    Execute,
    Failed,
    Garbled,
    Output,
    ResumeProgram,
    StartProgram,
    decode_ask,
    encode,
    facts_of,
)
from supervisor.fleet.outage import OUTAGE
from supervisor.fleet.told_errors import of_error

log: Final = logging.getLogger("gaoler.worker")

State = Literal["done", "failed"]
_FAILED: Final[State] = "failed"
_CANCELLED: Final = encode(Failed("ExecutionLost", "it was cancelled"))
PINNED: Final = 256
"""Jobs for this worker alone that are done at once: most are short questions about what runs here."""
PINNED_EACH: Final = 64
"""Of one caller: a question may wait for a minute, and others have sessions here too."""
_PAUSE_SECONDS: Final = 0.5
_ADMITTED: Final = encode(Admitted())
_TOO_MANY: Final = encode(
    of_error(Busy(f"at most {PINNED_EACH} questions of one caller about what runs there", retry_after_seconds=2.0))
)
ANNOUNCED_AFTER_SECONDS: Final = 0.1
_ANNOUNCED: Final = (Execute, StartProgram, ResumeProgram)
"""Jobs whose caller wants to know when they are begun."""


@dataclass(frozen=True, slots=True)
class Post:
    """Where a worker stands in its fleet. ``clock``: Redis' own."""

    name: str
    pool: str
    places: int
    verifier: Verifier
    clock: Callable[[], float]


class Worker:
    """Does jobs. :meth:`run` is its task; it ends when it was told to drain and has nothing left."""

    def __init__(self, post: Post, services: Services, leases: Leases, own: Deliveries, pool: Deliveries) -> None:
        self._post = post
        self._services = services
        self._leases = leases
        self._own = own
        self._pool = pool
        self._scopes: dict[str, trio.CancelScope] = {}
        self._pool_jobs = 0
        self._pinned_jobs = 0
        self._pinned_of: Counter[Principal] = Counter()
        self._freed = trio.Event()
        self.draining = trio.Event()

    @property
    def running(self) -> int:
        """Jobs under way."""
        return self._pool_jobs + self._pinned_jobs

    def drain(self) -> None:
        """Take nothing new from the pool; what is for this worker alone is given on, as far as others can do it."""
        if not self.draining.is_set():
            log.info("draining: %d jobs are under way", self.running)
            self.draining.set()
            self._note_freed()

    async def run(self) -> None:
        """Take and do jobs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on, self._take_from_pool, nursery)
            nursery.start_soon(go_on, self._take_own, nursery)
            nursery.start_soon(self._hear_cancellations, self._own)
            nursery.start_soon(self._hear_cancellations, self._pool)

    async def wait_idle(self) -> None:
        """Wait until no job is under way."""
        while self.running:
            await self._freed.wait()

    def _note_freed(self) -> None:
        self._freed.set()
        self._freed = trio.Event()

    # -- taking --

    async def _take_from_pool(self, nursery: trio.Nursery) -> None:
        while not self.draining.is_set():
            free = self._post.places - self._pool_jobs
            if free <= 0:
                await self._freed.wait()
                continue
            taken: list[Delivery] = []
            async with trio.open_nursery() as taking:
                taking.start_soon(_cancel_when, taking.cancel_scope, self.draining)
                taken = await _taken(self._pool, free)
                taking.cancel_scope.cancel()
            for delivery in taken:
                self._pool_jobs += 1
                nursery.start_soon(self._do_of_pool, delivery)

    async def _take_own(self, nursery: trio.Nursery) -> None:
        while True:
            free = PINNED - self._pinned_jobs
            if free <= 0:
                await self._freed.wait()
                continue
            for delivery in await _taken(self._own, free):
                self._pinned_jobs += 1
                nursery.start_soon(self._do_pinned, delivery)

    async def _do_of_pool(self, delivery: Delivery) -> None:
        try:
            await self._handle(self._pool, delivery)
        finally:
            self._pool_jobs -= 1
            self._note_freed()

    async def _do_pinned(self, delivery: Delivery) -> None:
        try:
            await self._handle(self._own, delivery)
        finally:
            self._pinned_jobs -= 1
            self._note_freed()

    async def _hear_cancellations(self, deliveries: Deliveries) -> None:
        async for job in deliveries.cancellations:
            scope = self._scopes.get(job)
            if scope is not None:
                scope.cancel()

    # -- one job --

    async def _handle(self, deliveries: Deliveries, delivery: Delivery) -> None:
        """Named boundary: whatever goes wrong with one job ends no other."""
        try:
            try:
                ask = self._believed(delivery)
            except (Untrusted, Garbled) as error:
                log.error("job refused job=%s reason=%s", ascii(delivery.job), ascii(str(error)))
                refusal = of_error(Forbidden(f"the worker refuses it: {error}"))
                await deliveries.finish(delivery, encode(refusal), state="failed")
                return
            with self._share(deliveries, ask) as share:
                elsewhere = await self._elsewhere(ask, delivery)
                if delivery.job in self._scopes:
                    # The same once more, put there by somebody: the one that runs stays as it is.
                    await deliveries.abandon(delivery)
                elif not share:
                    await deliveries.finish(delivery, _TOO_MANY, state="failed")
                elif elsewhere is not None:
                    await deliveries.hand_back(delivery, elsewhere)
                else:
                    await self._do(deliveries, delivery, ask)
        except StoreSpoilt as error:
            log.error("job dropped job=%s reason=%s", ascii(delivery.job), error)
            await _abandon(deliveries, delivery)
        except OUTAGE as error:
            log.error("job left job=%s reason=%s", ascii(delivery.job), error)
            await self._leave(deliveries, delivery, error)
        except Exception:
            log.exception("job lost job=%s", ascii(delivery.job))
            await self._leave(deliveries, delivery, SandboxFailed("the execution was lost by our own fault"))

    async def _leave(self, deliveries: Deliveries, delivery: Delivery, error: GaolerError) -> None:
        """Say of a job that was not done that it will not be: whether it is ours, only Redis knows.

        Otherwise nobody would ever do or close it: as long as we live, what we were given or have begun is left to us.
        """
        try:
            await deliveries.finish(delivery, encode(of_error(error)), state="failed")
        except Exception:
            log.exception("job left open job=%s", ascii(delivery.job))

    @contextmanager
    def _share(self, deliveries: Deliveries, ask: Ask) -> Iterator[bool]:
        """Count a job that is for this worker alone, for the block; say whether its caller may have one more."""
        who = facts_of(ask).principal
        if deliveries is not self._own or who == NOBODY:
            yield True
            return
        self._pinned_of[who] += 1
        try:
            yield self._pinned_of[who] <= PINNED_EACH
        finally:
            self._pinned_of[who] -= 1
            if not self._pinned_of[who]:
                del self._pinned_of[who]

    def _believed(self, delivery: Delivery) -> Ask:
        """Read a job, if a gateway of ours has signed just this.

        Raises:
            Untrusted, Garbled: it has not.
        """
        manifest = self._post.verifier.verify(delivery.signed, delivery.body, self._post.clock())
        ask = decode_ask(delivery.body)
        _compare(manifest, delivery, ask)
        if manifest.policy != self._services.policy.name:
            raise Untrusted("it is for another policy than this worker's")
        return ask

    async def _elsewhere(self, ask: Ask, delivery: Delivery) -> str | None:
        """Give the lane of the worker that has the session, or of others while we drain; ``None``: it is ours to do."""
        session = self._session(ask)
        if session is not None and session not in self._leases.held:
            holder = await self._leases.holder_of(session)
            if holder not in (None, self._post.name):
                return worker_lane(str(holder))
            if self.draining.is_set():
                return pool_lane(self._post.pool)
        elif session is None and self.draining.is_set() and delivery.lane != worker_lane(self._post.name):
            return delivery.lane
        return None

    def _session(self, ask: Ask) -> SessionId | None:
        try:
            return self._services.session_of(ask)
        except GaolerError:
            # It will be refused for the same reason, in words for its caller.
            return None

    async def _do(self, deliveries: Deliveries, delivery: Delivery, ask: Ask) -> None:
        mute = False

        async def say(news: Output) -> None:
            # Whoever listens hears of the gap and gets the result: no reason to end what runs, or to wait each time.
            nonlocal mute
            if not mute:
                try:
                    await deliveries.event(delivery, encode(news))
                except OUTAGE as error:
                    mute = True
                    log.warning("output is not told on the way job=%s reason=%s", delivery.job, error)

        begun, reply, state = False, _CANCELLED, _FAILED
        # Before it is begun: from then on it may be cancelled.
        with trio.CancelScope() as scope:
            self._scopes[delivery.job] = scope
            try:
                with trio.CancelScope(shield=True):
                    begun = await deliveries.begin(delivery, _ADMITTED if _announced_at_once(ask) else b"")
                if begun:
                    async with trio.open_nursery() as nursery:
                        if isinstance(ask, _ANNOUNCED) and not _announced_at_once(ask):
                            nursery.start_soon(_announce_later, deliveries, delivery)
                        reply, state = await _outcome(self._services, ask, say)
                        nursery.cancel_scope.cancel()
            finally:
                del self._scopes[delivery.job]
        if begun:
            await deliveries.finish(delivery, reply, state=state)


def _announced_at_once(ask: Ask) -> bool:
    """What says something itself on the way has its pieces numbered; the first is that it was begun."""
    return isinstance(ask, Execute) and ask.listens


async def _announce_later(deliveries: Deliveries, delivery: Delivery) -> None:
    """Say that it was begun, unless it is over first: most are, and save Redis and the gateway a message."""
    await trio.sleep(ANNOUNCED_AFTER_SECONDS)
    try:
        await deliveries.event(delivery, _ADMITTED)
    except OUTAGE as error:
        log.warning("not said that it was begun job=%s reason=%s", ascii(delivery.job), error)


async def _abandon(deliveries: Deliveries, delivery: Delivery) -> None:
    try:
        await deliveries.abandon(delivery)
    except OUTAGE as error:
        log.error("job left job=%s reason=%s", ascii(delivery.job), error)


async def _outcome(services: Services, ask: Ask, say: Say) -> tuple[bytes, State]:
    """Do it; give the answer, written down, and how it stands in the ledger."""
    fault = of_error(SandboxFailed("the execution was lost by our own fault"))
    done = b""
    try:
        done = encode(await perform(services, ask, say))
    except* GaolerError as group:
        found: BaseException = group
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        assert isinstance(found, GaolerError)
        fault = of_error(found)
    except* Exception as group:
        log.error("job failed", exc_info=group)
    return (done, "done") if done else (encode(fault), "failed")


def _compare(manifest: Manifest, delivery: Delivery, ask: Ask) -> None:
    """What is signed is what is done: the job, who asked, what, for whom, on what, for how long.

    Raises:
        Untrusted: it is not.
    """
    if manifest.job != delivery.job or manifest.gateway != delivery.gateway:
        raise Untrusted("the manifest is another job's")
    facts = facts_of(ask)
    who = Principal(manifest.tenant, manifest.credential, manifest.user)
    said = (manifest.kind, who, manifest.session, manifest.inputs, manifest.wall_seconds)
    if said != (facts.kind, facts.principal, facts.session, facts.inputs, facts.wall_seconds):
        raise Untrusted("the manifest is for something else than its body")


async def _taken(deliveries: Deliveries, free: int) -> list[Delivery]:
    try:
        return await deliveries.take(free)
    except OUTAGE as error:
        log.warning("no jobs can be taken: %s", error)
        await trio.sleep(_PAUSE_SECONDS)
        return []


async def _cancel_when(scope: trio.CancelScope, event: trio.Event) -> None:
    await event.wait()
    scope.cancel()
