"""Who is there: each process says so every heartbeat; and which lane a job should take."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Literal, TypeVar, cast

import msgspec
import trio
from msgspec import Meta, Struct

from supervisor.errors import Busy, NotFound, Unsupported
from supervisor.fleet.clock import FleetClock
from supervisor.fleet.going_on import go_on
from supervisor.fleet.lanes import pool_lane, worker_lane
from supervisor.fleet.outage import OUTAGE
from supervisor.fleet.watch_scripts import ANNOUNCE, PRESENT, WITHDRAW
from supervisor.redis_link.link import RedisLink
from supervisor.settings.fleet import FleetSettings

_log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 2.0
_DRAIN_SECONDS: Final = 3600
_CATALOGUE_SECONDS: Final = 86_400


_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
_Word = Annotated[str, Meta(pattern=r"^[ -~]{0,128}\Z")]
_Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class WorkerRecord(Struct, frozen=True):
    """A worker as it says it is, and it may lie. Unknown fields are passed over: other versions may say more."""

    name: _Name
    pool: _Name
    places: _Count
    running: _Count
    live_sessions: _Count
    languages: Annotated[tuple[_Word, ...], Meta(max_length=1000)]
    tiers: Annotated[tuple[_Word, ...], Meta(max_length=16)]
    policy: _Word
    version: _Word
    state: Literal["ready", "draining"]
    started_at: float
    catalogue: Annotated[bytes, Meta(max_length=64)] = b""
    """Its languages, as :mod:`supervisor.fleet.languages` writes them. Many workers have the same ones, so Redis keeps
    them once and in the record their hash stands instead: gateways read all records each heartbeat."""

    @property
    def lanes(self) -> tuple[str, str]:
        """Give the lanes that it reads."""
        return worker_lane(self.name), pool_lane(self.pool)

    @property
    def free(self) -> int:
        """Give how many more executions it has places for."""
        return max(0, self.places - self.running)


class GatewayRecord(Struct, frozen=True):
    """A gateway as it says it is."""

    name: _Name
    inflight: _Count
    version: _Word


def described(record: WorkerRecord) -> dict[str, Any]:
    """Give a worker as plain data, for operators."""
    told = msgspec.to_builtins(record)
    del told["catalogue"]
    return dict(told)


Record = WorkerRecord | GatewayRecord
_T = TypeVar("_T", WorkerRecord, GatewayRecord)


class Registry:
    """Reads and writes who is there."""

    def __init__(self, link: RedisLink, settings: FleetSettings) -> None:
        self._link = link
        self._settings = settings
        self.clock = FleetClock()
        self._told = b""
        self._catalogues: dict[bytes, bytes] = {}

    async def announce(self, record: Record) -> bool:
        """Say that we live, for the next ``fleet.lost_seconds``, and what we are. True: we are asked to leave.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        entry, catalogue, digest, short = record.version, b"", b"", record
        lanes: tuple[str, ...] = ()
        if isinstance(record, WorkerRecord):
            entry, lanes, catalogue = f"{record.state} {pool_lane(record.pool)}", record.lanes, record.catalogue
            digest = _digest(catalogue)
            short = msgspec.structs.replace(record, catalogue=digest)
        if digest != self._told:
            await self._tell(digest, catalogue)
        arguments: list[str | bytes | int] = [
            _role(record),
            record.name,
            msgspec.msgpack.encode(short),
            self._lost(),
            entry,
            _name(digest) if digest else "",
            *lanes,
        ]
        asked_at = self.clock.running()
        now, drain, known = await self._link.run(ANNOUNCE, [self._link.key()], arguments)
        self.clock.hear(asked_at, int(now) / 1000)
        if not known:
            await self._tell(digest, catalogue)
        return isinstance(record, WorkerRecord) and bool(drain)

    async def _tell(self, digest: bytes, catalogue: bytes) -> None:
        name = self._link.key("catalogue", _name(digest))
        await self._link.call(lambda client: client.set(name, catalogue, ex=_CATALOGUE_SECONDS))
        self._told = digest

    async def withdraw(self, record: Record) -> None:
        """Say that we are gone. What we leave undone is the reaper's, from now on.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        await self._link.run(WITHDRAW, [self._link.key()], [_role(record), record.name])

    async def workers(self) -> list[WorkerRecord]:
        """Give the workers that live, by name.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        found = await self._present("worker", WorkerRecord)
        wanted = {each.catalogue for each in found if each.catalogue}
        kept = {digest: self._catalogues[digest] for digest in wanted & self._catalogues.keys()}
        if missing := sorted(wanted - kept.keys()):
            names = [self._link.key("catalogue", _name(digest)) for digest in missing]
            told = await self._link.call(lambda client: cast("list[bytes | None]", client.mget(names)))
            # Kept for as long as anybody names it, so what another has put there under this name is not.
            kept |= {
                digest: each for digest, each in zip(missing, told, strict=True) if each and _digest(each) == digest
            }
        self._catalogues = kept
        return [msgspec.structs.replace(each, catalogue=kept.get(each.catalogue, b"")) for each in found]

    async def gateways(self) -> list[GatewayRecord]:
        """Give the gateways that live, by name.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        return await self._present("gateway", GatewayRecord)

    async def ask_to_leave(self, worker: str) -> None:
        """Have a worker drained: it sees this at its next heartbeat. Asked in vain, it is forgotten in an hour.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        name = self._link.key("drain", worker)
        await self._link.call(lambda client: client.set(name, b"1", ex=_DRAIN_SECONDS))

    async def _present(self, role: str, kind: type[_T]) -> list[_T]:
        found: list[_T] = []
        for each in await self._link.run(PRESENT, [self._link.key()], [role]):
            try:
                found.append(msgspec.msgpack.decode(each, type=kind))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                _log.warning("a %s's record cannot be read: another version's?", role)
        return sorted(found, key=lambda record: record.name)

    def _lost(self) -> int:
        return int(self._settings.lost_seconds * 1000)


async def drain_worker(registry: Registry, name: str) -> None:
    """Have a worker that lives leave.

    Raises:
        NotFound: there is none of this name.
        StoreUnavailable: Redis does not answer.
    """
    if not any(each.name == name for each in await registry.workers()):
        raise NotFound(f"there is no worker {name}: see 'gaoler workers'", field="name")
    await registry.ask_to_leave(name)


def _digest(catalogue: bytes) -> bytes:
    return hashlib.sha256(catalogue).digest() if catalogue else b""


def _name(digest: bytes) -> str:
    return digest.hex()


class Announcer:
    """Use :func:`open_announcer`."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.leave = trio.Event()
        """Set when somebody asked this worker to leave."""

    @property
    def clock(self) -> FleetClock:
        """Redis' clock, as of the last heartbeat."""
        return self.registry.clock


@asynccontextmanager
async def open_announcer(
    link: RedisLink, settings: FleetSettings, make_record: Callable[[], Record]
) -> AsyncIterator[Announcer]:
    """Say that we live every heartbeat of the block, from before it begins; say that we are gone after it.

    Raises:
        StoreUnavailable: Redis does not answer at the beginning.
    """
    announcer = Announcer(Registry(link, settings))

    async def beat() -> None:
        try:
            if await announcer.registry.announce(make_record()):
                announcer.leave.set()
        except OUTAGE as error:
            _log.warning("nobody hears that we live: %s", error.message)

    async def run() -> None:
        while True:
            await trio.sleep(settings.heartbeat_seconds)
            await beat()

    if await announcer.registry.announce(make_record()):
        announcer.leave.set()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on, run)
            yield announcer
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(settings.heartbeat_seconds, shield=True):
            try:
                await announcer.registry.withdraw(make_record())
            except OUTAGE:
                pass  # we are missed soon enough


def choose_lane(workers: Sequence[WorkerRecord], *, language: str | None, tier: str, holder: str | None) -> str:
    """Choose: the lane of the session's holder, if it lives; else of the pool with the most free places that can.

    Raises:
        Unsupported: there are workers, and none has this language in this tier.
        Busy: there is no worker, or those that could are leaving.
    """
    if any(each.name == holder for each in workers):
        return worker_lane(str(holder))
    if not workers:
        raise Busy("no worker is there", retry_after_seconds=_RETRY_SECONDS)
    able = [each for each in workers if tier in each.tiers and (language is None or language in each.languages)]
    if not able:
        raise _unable(workers, language, tier)
    ready = [each for each in able if each.state == "ready"]
    if not ready:
        raise Busy("the workers that could run it are leaving", retry_after_seconds=_RETRY_SECONDS)
    free: dict[str, int] = {}
    for each in ready:
        free[each.pool] = free.get(each.pool, 0) + each.free
    return pool_lane(min(free, key=lambda pool: (-free[pool], pool)))


def _unable(workers: Sequence[WorkerRecord], language: str | None, tier: str) -> Unsupported:
    if not any(tier in each.tiers for each in workers):
        return Unsupported(f"no worker has the tier {tier}", code="unsupported_tier", field="tier")
    return Unsupported(f"no worker runs {language} in the tier {tier}", code="unsupported_language", field="language")


def _role(record: Record) -> str:
    return "worker" if isinstance(record, WorkerRecord) else "gateway"
