"""How a gateway has something done by a worker: signed, queued, followed to its end, cancelled with its caller."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.errors import Busy, ExecutionLost, GaolerError, SandboxFailed, StoreUnavailable
from supervisor.execution.values import new_id
from supervisor.fleet.manifest import VERSION, Manifest, Signer, body_digest
from supervisor.fleet.messages import Admitted, Ask, Failed, Garbled, Output, Reply, decode_reply, encode, facts_of
from supervisor.fleet.queue import JobQueue, Ticket
from supervisor.fleet.replies import Event, Lost, Replies, Result
from supervisor.fleet.replies import Reply as Incoming
from supervisor.fleet.told_errors import error_of

log: Final = logging.getLogger("gaoler.fleet")

CANCEL_SECONDS: Final = 5.0
WITHDRAW_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to be asked of a worker. It has to be begun within ``seconds``."""

    ask: Ask
    seconds: float
    tier: str = "nsjail"


async def _ignore(_reply: Admitted | Output) -> None:
    return


class Calls:
    """Asks workers. One for a gateway. ``clock``: Redis' own."""

    def __init__(
        self,
        queue: JobQueue,
        replies: Replies,
        signer: Signer,
        clock: Callable[[], float],
        *,
        gateway: str,
        policy: str,
    ) -> None:
        self._queue = queue
        self._replies = replies
        self._signer = signer
        self._clock = clock
        self._gateway = gateway
        self._policy = policy
        self._doubtful: dict[str, float] = {}
        """Jobs of whose submission nothing was heard, and when they expire, by Redis' clock."""
        self.under_way = 0

    async def ask(
        self,
        errand: Errand,
        lane: str,
        on_news: Callable[[Admitted | Output], Awaitable[None]] = _ignore,
        fallback: str | None = None,
    ) -> Reply:
        """Have it done and give the answer. Cancelling cancels it on the worker too.

        ``fallback``: another lane, for when the only reader of this one is gone before it has begun.

        Raises:
            Busy: the queue is full, or nobody took it in time.
            ExecutionLost: the worker that had it is gone; it may have run.
            StoreUnavailable: Redis does not answer.
            GaolerError: what the worker says.
        """
        job, body = new_id(), encode(errand.ask)
        now = self._clock()
        signed = self._signer.sign(self._manifest(errand, job, body, now))
        self.under_way += 1
        try:
            async with self._replies.expect(job) as incoming:
                ends, by = now + errand.seconds, now + self._queue.patience_seconds
                with self._doubting(job, ends):
                    ticket = await self._queue.submit(
                        job, lane, signed, body, expires_at=ends, fallback=fallback, submit_by=by
                    )
                try:
                    return await self._follow(incoming, on_news)
                except trio.Cancelled:
                    with trio.CancelScope(shield=True), trio.move_on_after(CANCEL_SECONDS):
                        await self._cancel(ticket)
                    raise
        finally:
            self.under_way -= 1

    @contextmanager
    def _doubting(self, job: str, ends: float) -> Iterator[None]:
        """Have a job withdrawn if its submission is not answered.

        It may be in the queue all the same, and its caller, who is told that it is not, may ask again.
        """
        try:
            yield
        except StoreUnavailable:
            self._doubtful[job] = ends
            raise

    async def run(self) -> None:
        """Cancel, until cancelled, what may have been submitted though nobody answered."""
        while True:
            await trio.sleep(WITHDRAW_SECONDS)
            for job, ends in list(self._doubtful.items()):
                try:
                    found = await self._queue.cancel(Ticket(job, ""))
                except GaolerError:
                    if self._clock() < ends:
                        break
                else:
                    log.info("withdrawn job=%s found=%s", job, found)
                self._doubtful.pop(job, None)

    async def _cancel(self, ticket: Ticket) -> None:
        try:
            await self._queue.cancel(ticket)
        except GaolerError as error:
            log.warning("not cancelled job=%s reason=%s", ticket.job, error)

    def _manifest(self, errand: Errand, job: str, body: bytes, now: float) -> Manifest:
        facts = facts_of(errand.ask)
        return Manifest(
            version=VERSION,
            kid=self._signer.kid,
            job=job,
            gateway=self._gateway,
            kind=facts.kind,
            tenant=facts.principal.tenant,
            credential=facts.principal.credential,
            user=facts.principal.user,
            policy=self._policy,
            tier=errand.tier,
            session=facts.session,
            inputs=facts.inputs,
            wall_seconds=facts.wall_seconds,
            issued_at=now,
            expires_at=now + errand.seconds,
            body_sha256=body_digest(body),
        )

    async def _follow(
        self, incoming: trio.MemoryReceiveChannel[Incoming], on_news: Callable[[Admitted | Output], Awaitable[None]]
    ) -> Reply:
        async for each in incoming:
            match each:
                case Event(payload):
                    news = _decoded(payload)
                    if isinstance(news, Admitted | Output):
                        await on_news(news)
                case Result(payload):
                    reply = _decoded(payload)
                    if isinstance(reply, Failed):
                        raise error_of(reply)
                    return reply
                case Lost(reason, began):
                    raise _lost(reason, began=began)
        raise ExecutionLost("nothing more is known of it")


def _decoded(payload: bytes) -> Reply:
    try:
        return decode_reply(payload)
    except Garbled as error:
        log.error("a worker said what no worker says: %s", error)
        raise SandboxFailed("the worker said what no worker says") from None


def _lost(reason: str, *, began: bool) -> GaolerError:
    if began:
        return ExecutionLost(
            f"nothing more will be heard of it ({reason}): it may have run, whole or in part, and nobody runs it again "
            "by himself"
        )
    return Busy(f"no worker took it in time ({reason})", retry_after_seconds=5.0)
