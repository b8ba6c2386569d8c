"""Every job is accounted for: what dead workers leave is closed or passed on, once, and only when they are dead."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

import trio
import trio.lowlevel

from supervisor.fleet.delivery import Deliveries, Delivery
from supervisor.fleet.ledger import OPEN, reap, reap_worker, run_reaper
from supervisor.fleet.registry import GatewayRecord, open_announcer
from supervisor.fleet.replies import Lost, Replies, Result, open_replies
from tests.fleet.parts import POOL, Fleet, all_replies, fleet, mortal, record, take_one
from tests.redis_server import redis_server

__all__ = ["fleet", "mortal", "redis_server"]


async def test_what_a_dead_worker_ran_is_lost_and_what_it_had_not_begun_goes_to_another(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g", check_seconds=60) as replies, fleet.worker("b") as b:
        async with replies.expect("ran") as ran, replies.expect("taken") as taken:
            async with fleet.worker("a") as a:
                await fleet.submit("ran")
                await fleet.submit("taken")
                given = {each.job: each for each in await a.take(5)}
                assert await a.begin(given["ran"])
                await fleet.bury("a")
                assert await fleet.reap() == 2
                assert await all_replies(ran) == [Lost("its worker is gone", began=True)]
                other = await take_one(b)
                assert other.job == "taken"
                assert not await a.begin(given["taken"])
                assert await b.begin(other)
                await b.finish(other, b"x")
                assert await all_replies(taken) == [Result(b"x")]
                # It comes back, and is not listened to.
                assert not await a.finish(given["ran"], b"too late")
                assert not await a.finish(given["taken"], b"never ran")
    assert (await fleet.line("ran")).state == "lost"
    assert await fleet.ledger.result("ran") is None
    assert "running:a" not in await fleet.keys()


async def test_what_waited_for_a_dead_worker_goes_to_the_fallback_or_is_told_that_it_never_began(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g", check_seconds=60) as replies, fleet.worker("b") as b:
        await fleet.registry.announce(record("a"))
        async with replies.expect("stuck") as stuck:
            await fleet.submit("moves", "worker:a", fallback=POOL)
            await fleet.submit("stuck", "worker:a")
            await fleet.bury("a")
            assert await fleet.reap() == 2
            assert await all_replies(stuck) == [Lost("its worker is gone", began=False)]
        other = await take_one(b)
        assert (other.job, other.lane) == ("moves", POOL)
        assert await b.begin(other)
    assert not any("a" in key.split(":") for key in await fleet.keys())


async def test_a_living_worker_is_left_alone(fleet: Fleet) -> None:
    async with fleet.worker("a") as a:
        await fleet.submit("ran")
        await fleet.submit("taken")
        given = await a.take(5)
        assert await a.begin(given[0])
        assert await fleet.reap() == 0
        await fleet.calm()
        assert await reap_worker(fleet.link, fleet.settings, "a") == 0
        assert await a.begin(given[1])
        assert await a.finish(given[0], b"x")


async def test_after_an_outage_nobody_is_dead_before_all_had_the_time_to_say_that_they_live(fleet: Fleet) -> None:
    async with fleet.worker("a") as a:
        await fleet.submit("j")
        delivery = await take_one(a)
        await a.begin(delivery)
        await fleet.bury("a")
        watch, now = fleet.link.key("watch"), int(await fleet.now() * 1000)
        await fleet.link.call(lambda client: client.hset(watch, mapping={"since": now - 60_000, "last": now - 30_000}))
        assert await reap(fleet.link, fleet.settings) == 0
        assert (await fleet.line("j")).state == "running"
        assert await a.finish(delivery, b"x")


async def test_many_reapers_tell_each_loss_once(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g", check_seconds=60):
        async with fleet.worker("a") as a:
            for number in range(30):
                await fleet.submit(f"j{number}")
            given = await a.take(30)
            for each in given[:20]:
                assert await a.begin(each)
            await fleet.bury("a")
            await fleet.calm()
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(reap_worker, fleet.link, fleet.settings, "a")
            stream = fleet.link.key("replies", "g")
            told = await fleet.link.call(lambda client: client.xrange(stream)) or []
            assert Counter((fields or {})[b"job"] for _, fields in told) == Counter(f"j{n}".encode() for n in range(20))
            lane = fleet.link.key("lane", POOL)
            assert await fleet.link.call(lambda client: client.xlen(lane)) == 10


async def test_what_waited_too_long_has_expired_without_a_worker_looking_at_it(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g", check_seconds=60) as replies, replies.expect("j") as channel:
        async with fleet.worker("a"):
            await fleet.submit("j")
            await _expire(fleet, "j")
            assert await fleet.reap() == 1
            assert await all_replies(channel) == [Lost("it waited too long", began=False)]
    assert (await fleet.line("j")).state == "expired"
    assert "due" not in await fleet.keys()


async def _expire(fleet: Fleet, job: str) -> None:
    due, hash_key, past = fleet.link.key("due"), fleet.link.key("job", job), int(await fleet.now() * 1000) - 1

    def work(client: object) -> None:
        client.zadd(due, {job: past})  # type: ignore[attr-defined]
        client.hset(hash_key, "expires", past)  # type: ignore[attr-defined]

    await fleet.link.call(work)


async def test_what_waits_for_a_kind_of_worker_that_is_gone_is_told_so(mortal: Fleet) -> None:
    fleet = mortal
    async with open_replies(fleet.link, "g", check_seconds=60) as replies, replies.expect("j") as channel:
        await fleet.registry.announce(record("leaving", pool="old", state="draining"))
        async with fleet.worker("a"):
            await fleet.submit("j", "pool:old")
            await fleet.submit("k")
            assert await fleet.reap() == 0  # another may come in a moment
            with trio.fail_after(10):
                while not await fleet.reap():
                    await trio.lowlevel.checkpoint()
            assert await all_replies(channel) == [Lost("no worker of its kind is left", began=False)]
            assert (await fleet.line("k")).state == "queued"
    pools = fleet.link.key("pools")
    assert await fleet.link.call(lambda client: client.smembers(pools)) == {POOL.encode()}


async def test_what_a_worker_that_left_had_taken_and_not_begun_goes_to_another(fleet: Fleet) -> None:
    async with fleet.worker("b") as b:
        async with open_announcer(fleet.link, fleet.settings, lambda: record("a")), fleet.worker("a") as a:
            await fleet.submit("j")
            await take_one(a)
        await fleet.reap()
        await fleet.reap()
        assert await b.begin(await take_one(b))
    workers = fleet.link.key("workers")
    assert set(await fleet.link.call(lambda client: client.hkeys(workers))) == {b"b"}


async def test_a_worker_that_was_taken_for_dead_and_dies_later_is_looked_after_again(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g", check_seconds=60) as replies, replies.expect("j") as channel:
        async with fleet.worker("a") as a:
            await fleet.bury("a")
            await fleet.reap()
            await fleet.submit("j")
            assert await a.begin(await take_one(a))
            await fleet.reap()
            assert await all_replies(channel) == [Lost("its worker is gone", began=True)]


async def test_the_stream_of_a_gateway_that_is_gone_goes_and_its_jobs_end_all_the_same(fleet: Fleet) -> None:
    await fleet.registry.announce(GatewayRecord("g", 1, "1"))
    async with fleet.worker("a") as a:
        await fleet.submit("j")
        delivery = await take_one(a)
        await a.begin(delivery)
        await a.event(delivery, b"e")
        await fleet.bury("g", "gateway")
        await fleet.reap()
        assert "replies:g" not in await fleet.keys()
        assert await a.finish(delivery, b"x")
    assert await fleet.ledger.result("j") == b"x"


async def test_the_ledger_forgets_lines_whose_time_is_over(fleet: Fleet) -> None:
    async with fleet.worker("a"):
        await fleet.submit("old")
        await fleet.submit("new")
        ledger, job = fleet.link.key("ledger"), fleet.link.key("job", "old")
        await fleet.link.call(lambda client: client.zadd(ledger, {"old": 1}))
        await fleet.link.call(lambda client: client.delete(job))
        assert [each.job for each in await fleet.ledger.latest()] == ["new"]
        await fleet.reap()
        assert await fleet.link.call(lambda client: client.zrange(ledger, 0, -1)) == [b"new"]


async def test_the_reaping_task_does_it_by_itself_when_a_heartbeat_is_missing(mortal: Fleet) -> None:
    fleet = mortal
    async with open_replies(fleet.link, "g", check_seconds=60) as replies, replies.expect("j") as channel:
        async with fleet.worker("a") as a, trio.open_nursery() as nursery:
            await fleet.submit("j")
            await a.begin(await take_one(a))
            await fleet.bury("a")
            nursery.start_soon(run_reaper, fleet.link, fleet.settings)
            nursery.start_soon(run_reaper, fleet.link, fleet.settings)
            assert await all_replies(channel) == [Lost("its worker is gone", began=True)]
            nursery.cancel_scope.cancel()


@dataclass
class Story:
    """Workers that take, begin, hand on, finish and die as the dice fall; and who waits for their jobs."""

    fleet: Fleet
    jobs: list[str]
    dice: random.Random
    begun: Counter[str] = field(default_factory=Counter)
    ends: dict[str, Result | Lost] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return len(self.ends) == len(self.jobs)

    async def wait_for(self, replies: Replies, job: str, lane: str) -> None:
        async with replies.expect(job) as channel:
            await self.fleet.submit(job, lane, fallback=POOL)
            reply = (await all_replies(channel))[-1]
            assert isinstance(reply, Result | Lost)
            self.ends[job] = reply

    async def lives(self, slot: int) -> None:
        for number in itertools.count():
            if self.over:
                return
            await self.life(f"w{slot}.{number}")

    async def life(self, name: str) -> None:
        """Work until something kills it: nothing more is said, and the heartbeat ends."""
        async with self.fleet.worker(name) as worker:
            while not self.over:
                for delivery in await worker.take(4, waiting=False):
                    if await self.dies_of(worker, delivery):
                        await self.fleet.bury(name)
                        return
                await trio.lowlevel.checkpoint()

    async def dies_of(self, worker: Deliveries, delivery: Delivery) -> bool:
        fate = self.dice.random()
        if fate < 0.04:
            return True  # with what it was given
        if fate < 0.10:
            await worker.hand_back(delivery, POOL)
            return False
        if not await worker.begin(delivery):
            return False
        self.begun[delivery.job] += 1
        if fate < 0.16:
            return True  # in the middle of it
        await worker.event(delivery, b"e")
        await worker.finish(delivery, delivery.job.encode())
        return fate < 0.20  # just after it

    async def look_after(self) -> None:
        while not self.over:
            await self.fleet.reap()
            await trio.lowlevel.checkpoint()


async def test_whatever_workers_do_and_whenever_they_die_every_job_is_accounted_for_and_none_begins_twice(
    fleet: Fleet,
) -> None:
    story = Story(fleet, [f"j{number}" for number in range(150)], random.Random(7))
    with trio.fail_after(60):
        async with open_replies(fleet.link, "g", check_seconds=60) as replies, trio.open_nursery() as nursery:
            for slot in range(3):
                nursery.start_soon(story.lives, slot)
            nursery.start_soon(story.look_after)
            for number, job in enumerate(story.jobs):
                nursery.start_soon(story.wait_for, replies, job, POOL if number % 3 else f"worker:w{number % 2}.0")
    assert max(story.begun.values()) == 1
    for job in story.jobs:
        line, end = await fleet.line(job), story.ends[job]
        assert line.state not in OPEN
        match end:
            case Result(payload):
                assert (line.state, payload, story.begun[job]) == ("done", job.encode(), 1)
            case Lost(_, began):
                assert line.state in {"lost", "failed"}
                assert began == bool(story.begun[job])
    assert {"done", "lost"} <= {each.state for each in await fleet.ledger.latest()}
