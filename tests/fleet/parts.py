"""A fleet's parts on one real Redis: a prefix of each test's own, a worker that is as alive as one says."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest
import trio

from supervisor.connector.dialling import dial_directly
from supervisor.fleet.delivery import Deliveries, Delivery, open_deliveries
from supervisor.fleet.ledger import Ledger, Line, reap
from supervisor.fleet.queue import JobQueue, Ticket
from supervisor.fleet.registry import Registry, WorkerRecord
from supervisor.fleet.replies import Reply
from supervisor.redis_link.link import RedisLink, open_redis
from supervisor.settings.fleet import FleetSettings, RedisSettings
from tests.redis_server import RedisServer, redis_server, redis_url

__all__ = ["fleet", "mortal", "redis_server", "redis_url"]

QUICK = FleetSettings(heartbeat_seconds=0.05, lost_seconds=20.0, lease_seconds=20.0, ledger_seconds=60.0)
"""Nothing runs out by itself: tests say what has, by :meth:`Fleet.bury` and :meth:`Fleet.calm`."""
MORTAL = msgspec.structs.replace(QUICK, lost_seconds=2.0)
"""For tests that wait until a heartbeat has really been missing for long enough."""
PATIENCE_SECONDS = 30.0
POOL = "pool:p"


def record(name: str, **more: object) -> WorkerRecord:
    given: dict[str, object] = {
        "name": name,
        "pool": "p",
        "places": 4,
        "running": 0,
        "live_sessions": 0,
        "languages": ("python",),
        "tiers": ("nsjail",),
        "policy": "default",
        "version": "1",
        "state": "ready",
        "started_at": 0.0,
    }
    return WorkerRecord(**(given | more))  # type: ignore[arg-type]


@dataclass
class Fleet:
    server: RedisServer
    link: RedisLink
    settings: FleetSettings

    @property
    def queue(self) -> JobQueue:
        return JobQueue(self.link, self.settings, "g")

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.link)

    @property
    def registry(self) -> Registry:
        return Registry(self.link, self.settings)

    async def now(self) -> float:
        return await self.link.time()

    async def submit(self, job: str, lane: str = POOL, *, seconds: float = 60.0, fallback: str | None = None) -> Ticket:
        return await self.queue.submit(
            job, lane, b"signed", b"body of " + job.encode(), expires_at=await self.now() + seconds, fallback=fallback
        )

    async def line(self, job: str) -> Line:
        found = await self.ledger.line(job)
        assert found is not None
        return found

    @asynccontextmanager
    async def worker(self, name: str, *, alive: bool = True) -> AsyncIterator[Deliveries]:
        """Its heartbeat is said once, and lives as long as the test gives it: see :meth:`bury`."""
        if alive:
            # It is there long enough to be made to last.
            await Registry(self.link, QUICK).announce(record(name))
            await self.forever("alive", "worker", name)
        async with open_deliveries(self.link, self.settings, name, ("worker:" + name, POOL)) as deliveries:
            yield deliveries

    async def forever(self, *name: str) -> None:
        key = self.link.key(*name)
        await self.link.call(lambda client: client.persist(key))

    async def calm(self) -> None:
        """Have heartbeats been looked after for long enough, without waiting for it; nor is the next look too late."""
        watch, now = self.link.key("watch"), int((await self.now()) * 1000)
        await self.link.call(
            lambda client: client.hset(watch, mapping={"since": now - 600_000, "last": now + 600_000, "late": 1000})
        )

    async def bury(self, name: str, role: str = "worker") -> None:
        """The heartbeat is missing."""
        key = self.link.key("alive", role, name)
        await self.link.call(lambda client: client.delete(key))

    async def reap(self) -> int:
        await self.calm()
        turn = self.link.key("watch", "turn")
        await self.link.call(lambda client: client.delete(turn))
        return await reap(self.link, self.settings)

    async def keys(self) -> dict[str, int]:
        """Give each key without its prefix, and the seconds that it still lives; -1: for ever."""
        prefix = self.link.key() + ":"

        def work(client: object) -> dict[str, int]:
            names = client.keys(prefix + "*")  # type: ignore[attr-defined]
            lives = {name.decode().removeprefix(prefix): client.ttl(name) for name in names}  # type: ignore[attr-defined]
            # -2: it has ended since it was listed.
            return {name: life for name, life in lives.items() if life != -2}

        return await self.link.call(work)


async def take_one(deliveries: Deliveries, free: int = 1) -> Delivery:
    """Wait for one job."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            found = await deliveries.take(free)
            if found:
                assert len(found) == 1
                return found[0]


async def all_replies(channel: trio.MemoryReceiveChannel[Reply]) -> list[Reply]:
    with trio.fail_after(PATIENCE_SECONDS):
        return [reply async for reply in channel]


@asynccontextmanager
async def fleet_on(server: RedisServer, settings: FleetSettings = QUICK, **redis: object) -> AsyncIterator[Fleet]:
    given = RedisSettings(url=server.url, prefix="t" + secrets.token_hex(6), **redis)  # type: ignore[arg-type]
    async with open_redis(given, dial_directly) as link:
        yield Fleet(server, link, settings)


@pytest.fixture
async def fleet(redis_server: RedisServer) -> AsyncIterator[Fleet]:
    async with fleet_on(redis_server) as made:
        yield made


@pytest.fixture
async def mortal(redis_server: RedisServer) -> AsyncIterator[Fleet]:
    """Where a heartbeat ends that is not renewed."""
    async with fleet_on(redis_server, MORTAL) as made:
        yield made
