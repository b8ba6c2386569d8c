"""The worker's end of the queue: take jobs, begin each at most once, say what happens, say what became of it."""

from __future__ import annotations

import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import redis
import trio

from supervisor.errors import StoreSpoilt
from supervisor.fleet.going_on import go_on
from supervisor.fleet.lanes import WORKER
from supervisor.fleet.ledger import reap_worker
from supervisor.fleet.messages import MAX_BYTES
from supervisor.fleet.outage import OUTAGE
from supervisor.fleet.scripts import BEGIN, EVENT, FINISH, GROUP, HAND_BACK, MAKE_LANES, MOST_HOPS, UNDO
from supervisor.fleet.streams import Fields, entries
from supervisor.redis_link.link import Line, RedisLink, Script
from supervisor.settings.fleet import FleetSettings

_log = logging.getLogger(__name__)
_BLOCK_MILLISECONDS: Final = 2000
_PAUSE_SECONDS: Final = 0.5
_MOST_CANCELLATIONS: Final = 10_000
_REMEMBERED: Final = 100_000
_LONGEST_NAME: Final = 128


@dataclass(slots=True, eq=False)
class Delivery:
    """A job as it came. Nothing of it is to be believed before its manifest has been verified."""

    job: str
    lane: str
    signed: bytes
    body: bytes
    gateway: str
    expires_at: float
    """By Redis' clock."""
    entry: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    """Tells this delivery from every other of the same job."""
    number: int = 0
    """Of the latest reply."""


class Deliveries:
    """Use :func:`open_deliveries`. One task takes; any task may do the rest."""

    def __init__(
        self,
        link: RedisLink,
        line: Line,
        settings: FleetSettings,
        worker: str,
        lanes: Sequence[str],
        nursery: trio.Nursery,
        begun: dict[str, str],
    ) -> None:
        self._nursery = nursery
        self._link = link
        self._line = line
        self._keep = int(settings.ledger_seconds * 1000)
        self._worker = worker
        # Our own lane first: nobody else can take from it.
        self._lanes = sorted(lanes, key=lambda lane: not lane.startswith(WORKER))
        self._streams = {link.key("lane", lane): lane for lane in lanes}
        self._open: dict[tuple[str, str], Delivery] = {}  # by stream and entry
        self._begun = begun
        self._unsure = True
        self._cancelled, self._cancellations = trio.open_memory_channel[str](_MOST_CANCELLATIONS)

    @property
    def cancellations(self) -> trio.MemoryReceiveChannel[str]:
        """Jobs whose gateway wants them ended; those that were begun here, and perhaps have ended since."""
        return self._cancellations

    async def take(self, free: int, *, waiting: bool = True) -> list[Delivery]:
        """Give at most ``free`` jobs that nobody has begun; with ``waiting``, wait for the first, for some seconds.

        When it is cancelled, what had been given to us by then comes with the next call.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        before = set(self._open)
        try:
            found = await self._left_over() if self._unsure else []
            if len(found) < free:
                found += await self._read(free - len(found), waiting=waiting and not found)
            for delivery in found[free:]:
                # Each lane gives as many as were asked for. What is too much goes to whoever has a place for it.
                await self._put_back(delivery)
        except BaseException:
            # Nobody will do what was found: it is looked for again.
            self._unsure = True
            for place in set(self._open) - before:
                del self._open[place]
            raise
        return found[:free]

    async def begin(self, delivery: Delivery, news: bytes = b"") -> bool:
        """Make the job ours to run. At most one call in the whole fleet is told True for a job, ever.

        With ``news``, the gateway is told that in the same step, as the first event.

        False: it has been begun, was cancelled, has expired by Redis' clock, or the ledger does not know it; the entry
        is gone then, and whoever waits for the job has been told.

        Raises:
            StoreUnavailable: Redis does not answer. Do not run it: it goes back into its lane when Redis is back.
        """
        if self._begun.get(delivery.job, delivery.token) != delivery.token:
            # Whatever the ledger says: somebody may have made it forget.
            await self.abandon(delivery)
            return False
        if news:
            delivery.number = 1
        arguments = (delivery.job, delivery.lane, delivery.entry, self._worker, delivery.token, self._keep, news)
        try:
            begun = bool(await self._run(BEGIN, *arguments, lasting=True))
        except OUTAGE:
            self._nursery.start_soon(self._undo, delivery)
            raise
        if begun:
            self._begun[delivery.job] = delivery.token
            if len(self._begun) > _REMEMBERED:
                del self._begun[next(iter(self._begun))]
        else:
            self._forget(delivery)
        return begun

    async def abandon(self, delivery: Delivery) -> None:
        """Take the entry of what is no job, or none that can be done, out of its lane. Nobody is told.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        self._forget(delivery)
        await self._drop(self._link.key("lane", delivery.lane), [delivery.entry])

    async def _undo(self, delivery: Delivery) -> None:
        while True:
            try:
                await self._run(UNDO, delivery.job, delivery.entry, delivery.token, self._keep)
                break
            except StoreSpoilt:
                break  # there is nothing to undo in what is no line of the ledger
            except OUTAGE:
                await trio.sleep(_PAUSE_SECONDS)
        self._forget(delivery)

    async def event(self, delivery: Delivery, payload: bytes) -> None:
        """Tell the gateway something on the way; in order, if they are sent one after another.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        delivery.number += 1
        await self._run(EVENT, delivery.gateway, delivery.job, payload, delivery.number)

    async def finish(self, delivery: Delivery, payload: bytes, *, state: Literal["done", "failed"] = "done") -> bool:
        """Keep the result, tell the gateway, take the entry from the queue: one step, tried until it is done.

        Also for a job that is refused before it begins. False: something else has been told already, that we were
        lost, say; or the ledger holds what none of us wrote, and there is nobody to tell. While Redis is away this
        waits for it; the caller cancels it when it does not want to any more.
        """
        delivery.number += 1
        arguments = (delivery.job, delivery.lane, delivery.entry, delivery.token)
        while True:
            try:
                held = await self._run(FINISH, *arguments, state, payload, delivery.number, self._keep, lasting=True)
                break
            except StoreSpoilt:
                held = False
                with suppress(*OUTAGE):
                    await self.abandon(delivery)
                break
            except OUTAGE:
                await trio.sleep(_PAUSE_SECONDS)
        self._forget(delivery)
        return bool(held)

    async def hand_back(self, delivery: Delivery, lane: str) -> bool:
        """Put a job that was not begun into another lane. False: it ended instead, after four hands, say.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        return await self._hand_back(delivery, lane, str(MOST_HOPS))

    async def _put_back(self, delivery: Delivery) -> None:
        await self._hand_back(delivery, delivery.lane, "")

    async def _hand_back(self, delivery: Delivery, lane: str, most: str) -> bool:
        arguments = (delivery.job, delivery.lane, delivery.entry, lane, most, self._keep)
        state: bytes = await self._run(HAND_BACK, *arguments)
        self._forget(delivery)
        return state == b"queued"

    async def _run(self, script: Script, *arguments: str | bytes | int | float, lasting: bool = False) -> Any:
        return await self._link.run(script, [self._link.key()], arguments, lasting=lasting)

    def _forget(self, delivery: Delivery) -> None:
        self._open.pop((self._link.key("lane", delivery.lane), delivery.entry), None)

    async def _read(self, free: int, *, waiting: bool) -> list[Delivery]:
        self._unsure = True
        block = ("BLOCK", _BLOCK_MILLISECONDS) if waiting else ()
        streams = [self._link.key("lane", lane) for lane in self._lanes]
        try:
            answer = await self._line.ask(
                *("XREADGROUP", "GROUP", GROUP, self._worker, "COUNT", free, *block),
                *("STREAMS", *streams, *(">" for _ in streams)),
            )
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            # The server lost what it had, or nobody has been here for a day.
            await self.make_groups()
            return []
        self._unsure = False
        return await self._known(answer)

    async def _left_over(self) -> list[Delivery]:
        """Give what Redis takes for given to us, though we never saw it."""
        streams: dict[Any, Any] = {self._link.key("lane", lane): "0" for lane in self._lanes}
        try:
            answer = await self._link.call(lambda client: client.xreadgroup(GROUP, self._worker, streams))
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            await self.make_groups()
            return []
        found = await self._known(answer)
        self._unsure = False
        return found

    async def _known(self, answer: Any) -> list[Delivery]:
        found: list[Delivery] = []
        garbage: dict[str, list[str]] = defaultdict(list)
        for stream, entry, fields in entries(answer):
            if (stream, entry) in self._open:
                continue
            delivery = _delivery(self._streams[stream], entry, fields)
            if delivery is None:
                garbage[stream].append(entry)
                continue
            self._open[stream, entry] = delivery
            found.append(delivery)
        for stream, dropped in garbage.items():
            _log.warning("entries that are no jobs of ours are dropped lane=%s entries=%d", stream, len(dropped))
            await self._drop(stream, dropped)
        return found

    async def _drop(self, stream: str, dropped: Sequence[str]) -> None:
        def work(client: redis.Redis) -> None:
            client.xack(stream, GROUP, *dropped)
            client.xdel(stream, *dropped)

        await self._link.call(work)

    async def make_groups(self) -> None:
        """Make the streams of our lanes, if they are not there.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        await self._run(MAKE_LANES, *self._lanes)

    async def _listen(self) -> None:
        """Pass on what we are told about running jobs."""
        control = self._link.key("control", self._worker)
        async with self._link.open_line() as line:
            last = "0-0"
            while True:
                try:
                    answer = await line.ask("XREAD", "BLOCK", _BLOCK_MILLISECONDS, "STREAMS", control, last)
                    for _, entry, fields in entries(answer):
                        last = entry
                        self._pass_on(fields)
                except OUTAGE:
                    await trio.sleep(_PAUSE_SECONDS)

    def _pass_on(self, fields: Fields | None) -> None:
        try:
            self._cancelled.send_nowait((fields or {}).get(b"cancel", b"").decode(errors="replace"))
        except trio.WouldBlock:
            _log.warning("more than %d cancellations that nobody looks at: one is dropped", _MOST_CANCELLATIONS)


def _delivery(lane: str, entry: str, fields: Fields | None) -> Delivery | None:
    """Take a job out of an entry; ``None``: nobody of ours has written it."""
    if fields is None:
        return None
    try:
        job, gateway, body = fields[b"job"].decode(), fields[b"gateway"].decode(), fields[b"body"]
        if max(len(job), len(gateway)) > _LONGEST_NAME or len(body) > MAX_BYTES:
            return None
        expires_at = int(fields[b"expires"]) / 1000
        return Delivery(job, lane, fields[b"signed"], body, gateway, expires_at, entry)
    except (ArithmeticError, KeyError, ValueError):
        return None


@asynccontextmanager
async def open_deliveries(
    link: RedisLink,
    settings: FleetSettings,
    worker_name: str,
    lanes: Sequence[str],
    begun: dict[str, str] | None = None,
) -> AsyncIterator[Deliveries]:
    """Read these lanes for the block. What an earlier process of this name had begun is lost, and told so.

    So a worker that opens several does that before it takes from any of them. ``begun``: the tokens of the jobs that
    this process has begun, shared by all that it opens: no lane brings one again, whatever the ledger says by then.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    async with link.open_line() as line, trio.open_nursery() as nursery:
        deliveries = Deliveries(link, line, settings, worker_name, lanes, nursery, {} if begun is None else begun)
        await deliveries.make_groups()
        await reap_worker(link, settings, worker_name, itself=True)
        nursery.start_soon(go_on, deliveries._listen)  # noqa: SLF001 - its task
        yield deliveries
        nursery.cancel_scope.cancel()
