"""A job is begun at most once, whatever happens; what was acknowledged is not lost; who waits is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from supervisor.connector.dialling import dial_directly
from supervisor.errors import Busy, InvalidRequest, StoreUnavailable
from supervisor.execution.values import SessionId
from supervisor.fleet.delivery import Deliveries, Delivery, open_deliveries
from supervisor.fleet.leases import Lease, Leases
from supervisor.fleet.queue import Ticket
from supervisor.fleet.registry import open_announcer
from supervisor.fleet.replies import Event, Lost, Result, open_replies
from supervisor.fleet.scripts import GROUP
from supervisor.redis_link.link import open_redis
from supervisor.settings.fleet import FleetSettings, RedisSettings
from tests.fleet.parts import POOL, QUICK, Fleet, all_replies, fleet, fleet_on, record, take_one
from tests.redis_server import LASTING, RedisServer, redis_server, run_cluster, run_redis

__all__ = ["fleet", "redis_server"]


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that a test may harm."""
    with run_redis(Path(tmp_path_factory.mktemp("r")), options=LASTING) as server:
        yield server


async def test_events_then_the_result_come_back_in_order(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g") as replies, fleet.worker("w") as worker, replies.expect("j") as channel:
        ticket = await fleet.submit("j")
        delivery = await take_one(worker)
        assert (delivery.job, delivery.lane, delivery.gateway) == ("j", POOL, "g")
        assert (delivery.signed, delivery.body) == (b"signed", b"body of j")
        assert await worker.begin(delivery)
        for number in range(20):
            await worker.event(delivery, b"%d" % number)
        assert await worker.finish(delivery, b"done")
        assert await all_replies(channel) == [*(Event(b"%d" % number) for number in range(20)), Result(b"done")]
    assert ticket == Ticket("j", POOL)
    assert (await fleet.line("j")).state == "done"


async def test_the_ledger_tells_each_step_with_times_of_redis(fleet: Fleet) -> None:
    async with fleet.worker("w") as worker:
        before = await fleet.now()
        await fleet.submit("j")
        assert (await fleet.line("j")).state == "queued"
        delivery = await take_one(worker)
        await worker.begin(delivery)
        line = await fleet.line("j")
        assert (line.state, line.worker, line.ended_at) == ("running", "w", None)
        await worker.finish(delivery, b"x", state="failed")
        line = await fleet.line("j")
        assert line.state == "failed"
        assert line.began_at is not None
        assert line.ended_at is not None
        assert before - 0.001 <= line.queued_at <= line.began_at <= line.ended_at <= await fleet.now()


async def test_the_same_job_submitted_twice_is_one_job(fleet: Fleet) -> None:
    async with fleet.worker("w") as worker:
        await fleet.submit("j")
        assert await fleet.submit("j", "pool:other") == Ticket("j", POOL)
        delivery = await take_one(worker, 5)
        assert await worker.begin(delivery)
        await fleet.submit("j")
        await worker.finish(delivery, b"x")
        await fleet.submit("j")
        assert await worker.take(5, waiting=False) == []


async def test_many_workers_share_the_jobs_and_each_job_begins_once(fleet: Fleet) -> None:
    begun: Counter[str] = Counter()
    jobs = {f"j{number}" for number in range(60)}

    async def work(name: str) -> None:
        async with fleet.worker(name) as worker:
            while len(begun) < len(jobs):
                for delivery in await worker.take(3, waiting=False):
                    begun[delivery.job] += await worker.begin(delivery)
                    await worker.finish(delivery, b"x")

    for job in jobs:
        await fleet.submit(job)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(work, f"w{number}")
    assert begun == Counter(jobs)


async def test_of_all_who_try_to_begin_the_same_delivery_one_may(fleet: Fleet) -> None:
    async with fleet.worker("a") as a, fleet.worker("b") as b:
        await fleet.submit("j")
        first = await take_one(a)
        copies = [_copy(first) for _ in range(10)]
        won: list[bool] = []

        async def begin(worker: Deliveries, delivery: Delivery) -> None:
            won.append(await worker.begin(delivery))

        async with trio.open_nursery() as nursery:
            for number, copy in enumerate([first, *copies]):
                nursery.start_soon(begin, (a, b)[number % 2], copy)
        assert sorted(won) == [False] * 10 + [True]


def _copy(delivery: Delivery) -> Delivery:
    return Delivery(
        delivery.job,
        delivery.lane,
        delivery.signed,
        delivery.body,
        delivery.gateway,
        delivery.expires_at,
        delivery.entry,
    )


async def test_a_begin_whose_answer_was_lost_may_be_asked_again(fleet: Fleet) -> None:
    async with fleet.worker("w") as worker:
        await fleet.submit("j")
        delivery = await take_one(worker)
        assert await worker.begin(delivery)
        assert await worker.begin(delivery)
        assert await worker.finish(delivery, b"x")
        assert await worker.finish(delivery, b"x")
        assert not await worker.begin(delivery)


async def test_who_can_write_to_the_ledger_too_cannot_have_a_worker_run_the_same_job_again(fleet: Fleet) -> None:
    async with fleet.worker("w") as worker:
        await fleet.submit("j")
        first = await take_one(worker)
        assert await worker.begin(first)
        await worker.finish(first, b"x")
        job = fleet.link.key("job", "j")
        await fleet.link.call(lambda client: client.delete(job))
        await fleet.submit("j")
        assert not await worker.begin(await take_one(worker))


@pytest.mark.parametrize("when", ["queued", "running", "done", "forgotten"])
async def test_the_same_bytes_put_into_a_stream_again_are_not_run_again(fleet: Fleet, when: str) -> None:
    async with fleet.worker("w") as worker:
        await fleet.submit("j")
        stream = fleet.link.key("lane", POOL)
        found = await fleet.link.call(lambda client: client.xrange(stream))
        assert found
        fields = found[0][1]
        delivery = await take_one(worker)
        if when != "queued":
            assert await worker.begin(delivery)
        if when in {"done", "forgotten"}:
            await worker.finish(delivery, b"x")
        if when == "forgotten":
            job = fleet.link.key("job", "j")
            await fleet.link.call(lambda client: client.delete(job))
        for lane in (POOL, "worker:w"):
            to = fleet.link.key("lane", lane)
            await fleet.link.call(lambda client, to=to: client.xadd(to, fields))  # type: ignore[misc]
            again = await take_one(worker, 5)
            assert again.job == "j"
            assert not await worker.begin(again)
        if when == "queued":
            assert await worker.begin(delivery)
        if when in {"queued", "running"}:
            await worker.finish(delivery, b"x")
        assert await fleet.link.call(lambda client: client.xlen(stream)) == 0


async def test_an_entry_that_is_no_job_is_dropped(fleet: Fleet) -> None:
    async with fleet.worker("w") as worker:
        stream = fleet.link.key("lane", POOL)
        await fleet.link.call(lambda client: client.xadd(stream, {"job": "x", "noise": b"\xff"}))
        assert await worker.take(5) == []
        assert await fleet.link.call(lambda client: client.xlen(stream)) == 0


async def test_nothing_begins_after_its_deadline_by_redis_clock(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g") as replies, fleet.worker("w") as worker, replies.expect("j") as channel:
        await fleet.submit("j")
        delivery = await take_one(worker)
        job, now = fleet.link.key("job", "j"), await fleet.now()
        await fleet.link.call(lambda client: client.hset(job, "expires", int(now * 1000)))
        delivery.expires_at = now + 1e6  # what the worker believes plays no part
        assert not await worker.begin(delivery)
        assert await all_replies(channel) == [Lost("it waited too long", began=False)]
    assert (await fleet.line("j")).state == "expired"


async def test_a_job_whose_time_is_over_is_not_queued(fleet: Fleet) -> None:
    with pytest.raises(InvalidRequest):
        await fleet.submit("j", seconds=-1)
    assert await fleet.ledger.line("j") is None


async def test_a_cancelled_job_never_begins_before_and_after_it_was_delivered(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g") as replies, fleet.worker("w") as worker:
        for job in ("before", "after"):
            async with replies.expect(job) as channel:
                ticket = await fleet.submit(job)
                delivery = await take_one(worker) if job == "after" else None
                assert await fleet.queue.cancel(ticket) == "queued"
                assert await all_replies(channel) == [Lost("cancelled", began=False)]
                if delivery is None:
                    assert await worker.take(5, waiting=False) == []
                else:
                    assert not await worker.begin(delivery)
            assert (await fleet.line(job)).state == "cancelled"


async def test_a_job_cancelled_before_its_submission_arrives_never_begins(fleet: Fleet) -> None:
    async with fleet.worker("w") as worker:
        assert await fleet.queue.cancel(Ticket("j", POOL)) == "unknown"
        await fleet.submit("j")
        assert await worker.take(5, waiting=False) == []
    assert (await fleet.line("j")).state == "cancelled"


async def test_the_worker_is_told_when_a_running_job_is_cancelled(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g") as replies, fleet.worker("w") as worker, replies.expect("j") as channel:
        ticket = await fleet.submit("j")
        delivery = await take_one(worker)
        await worker.begin(delivery)
        assert await fleet.queue.cancel(ticket) == "running"
        with trio.fail_after(10):
            assert await worker.cancellations.receive() == "j"
        await worker.finish(delivery, b"cancelled while it ran", state="failed")
        assert await all_replies(channel) == [Result(b"cancelled while it ran")]
        assert await fleet.queue.cancel(ticket) == "failed"
        assert (await fleet.line("j")).state == "failed"


async def test_too_many_waiting_jobs_in_all_pools_are_refused(redis_server: RedisServer) -> None:
    settings = msgspec.structs.replace(QUICK, queue_length=3)
    async with fleet_on(redis_server, settings) as fleet, fleet.worker("w") as worker:
        for number, lane in enumerate([POOL, "pool:other", POOL]):
            await fleet.submit(f"j{number}", lane)
        with pytest.raises(Busy) as caught:
            await fleet.submit("more")
        assert caught.value.retry_after_seconds > 0
        assert await fleet.ledger.line("more") is None
        assert (await fleet.queue.backlog()).length == 3
        delivery = await take_one(worker)
        with pytest.raises(Busy):
            await fleet.submit("more")  # taken is not begun
        assert await worker.begin(delivery)
        await fleet.submit("more")


async def test_when_the_oldest_waits_too_long_more_are_refused(redis_server: RedisServer) -> None:
    async with fleet_on(redis_server) as fleet, fleet.worker("w") as worker:
        await fleet.submit("j")
        waiting, now = fleet.link.key("waiting", POOL), (await fleet.now()) * 1000
        await fleet.link.call(lambda client: client.zadd(waiting, {"j": now - 30_000}))
        with pytest.raises(Busy):
            await fleet.submit("more")
        backlog = (await fleet.queue.backlog()).lanes[POOL]
        assert backlog.length == 1
        assert 29 <= backlog.oldest_seconds < 60
        await fleet.submit("elsewhere", "pool:other")
        assert await worker.begin(await take_one(worker))
        await fleet.submit("more")


async def test_a_worker_takes_no_more_than_it_has_places_for(fleet: Fleet) -> None:
    async with fleet.worker("a") as a, fleet.worker("b") as b:
        for number in range(4):
            await fleet.submit(f"pool{number}")
            await fleet.submit(f"own{number}", "worker:a")
        taken = await a.take(4)
        assert [each.job for each in taken] == [f"own{number}" for number in range(4)]
        assert {each.job for each in await b.take(10)} == {f"pool{number}" for number in range(4)}


async def test_a_job_goes_on_to_the_lane_of_the_worker_that_holds_its_session(fleet: Fleet) -> None:
    async with fleet.worker("a") as a, fleet.worker("b") as b:
        await fleet.submit("j")
        first = await take_one(a)
        assert await a.hand_back(first, "worker:b")
        assert not await a.begin(first)
        second = await take_one(b)
        assert (second.job, second.lane) == ("j", "worker:b")
        assert await b.begin(second)
        assert (await fleet.line("j")).hops == 1


async def test_a_job_that_is_handed_on_for_ever_fails_after_four_hands(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g") as replies, fleet.worker("a") as worker, replies.expect("j") as channel:
        await fleet.submit("j")
        handed = 0
        while await worker.hand_back(await take_one(worker), POOL):
            handed += 1
        assert handed == 4
        assert await all_replies(channel) == [Lost("it was handed on too often", began=False)]
    assert (await fleet.line("j")).state == "failed"


async def test_the_lane_of_a_worker_that_left_is_the_fallback_or_none(fleet: Fleet) -> None:
    async with fleet.worker("a") as worker:
        assert await fleet.submit("j", "worker:gone", fallback=POOL) == Ticket("j", POOL)
        with pytest.raises(Busy):
            await fleet.submit("k", "worker:gone")
        delivery = await take_one(worker)
        assert not await worker.hand_back(delivery, "worker:gone") or (await fleet.line("j")).lane == POOL


async def test_what_a_cancelled_take_was_given_comes_with_the_next(fleet: Fleet) -> None:
    async with fleet.worker("w") as worker:
        stream = fleet.link.key("lane", POOL)
        await worker.take(1, waiting=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.take, 1)
            await trio.testing.wait_all_tasks_blocked(0.02)
            nursery.cancel_scope.cancel()
        await fleet.submit("j")
        # As if the server had answered just when nobody listened any more.
        await fleet.link.call(lambda client: client.xreadgroup(GROUP, "w", {stream: ">"}))
        assert await worker.begin(await take_one(worker))


async def test_what_a_take_had_when_it_was_cancelled_late_comes_with_the_next(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet.worker("w") as worker:
        await fleet.submit("j", "worker:w")
        await fleet.submit("k")
        with trio.CancelScope() as scope, monkeypatch.context() as patch:

            async def cancelled(_delivery: Delivery) -> None:
                scope.cancel()
                await trio.lowlevel.checkpoint()

            patch.setattr(worker, "_put_back", cancelled)
            await worker.take(1)
        assert scope.cancelled_caught
        given = [await take_one(worker), await take_one(worker)]
        assert {each.job for each in given} == {"j", "k"}
        for each in given:
            assert await worker.begin(each)


async def test_a_worker_that_begins_anew_has_lost_what_ran_and_runs_what_had_not_begun(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g") as replies:
        async with replies.expect("ran") as ran, replies.expect("taken") as taken, replies.expect("own") as own:
            for job, lane in (("ran", POOL), ("taken", POOL), ("own", "worker:w")):
                if job == "own":
                    await fleet.registry.announce(record("w"))
                await fleet.submit(job, lane)
            async with fleet.worker("w") as worker:
                given = {each.job: each for each in await worker.take(10)}
                assert set(given) == {"ran", "taken", "own"}
                assert await worker.begin(given["ran"])
            async with fleet.worker("w") as worker:
                assert await all_replies(ran) == [Lost("its worker is gone", began=True)]
                again = await worker.take(10)
                assert {each.job for each in again} == {"taken", "own"}
                for each in again:
                    assert await worker.begin(each)
                    await worker.finish(each, b"x")
                assert not await worker.finish(given["ran"], b"too late")
            assert await all_replies(taken) == await all_replies(own) == [Result(b"x")]
    assert (await fleet.line("ran")).state == "lost"


async def test_a_result_of_while_the_gateway_was_away_is_in_the_ledger(fleet: Fleet) -> None:
    async with fleet.worker("w") as worker:
        await fleet.submit("j")
        delivery = await take_one(worker)
        await worker.begin(delivery)
        await worker.finish(delivery, b"the answer")
        replies_key = fleet.link.key("replies", "g")
        await fleet.link.call(lambda client: client.delete(replies_key))
    assert await fleet.ledger.result("j") == b"the answer"
    async with open_replies(fleet.link, "g", check_seconds=0.02) as replies, replies.expect("j") as channel:
        assert await all_replies(channel) == [Result(b"the answer")]


async def test_a_job_that_redis_has_forgotten_is_told_lost(redis_server: RedisServer) -> None:
    async with (
        fleet_on(redis_server) as fleet,
        open_replies(fleet.link, "g", check_seconds=0.02) as replies,
        replies.expect("j") as channel,
    ):
        await fleet.submit("j")
        await replies.check()
        job = fleet.link.key("job", "j")
        await fleet.link.call(lambda client: client.delete(job))
        assert await all_replies(channel) == [Lost("the queue has lost it")]


async def test_who_reads_slowly_loses_events_but_not_the_result_and_stops_nobody(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g") as replies, fleet.worker("w") as worker:
        async with replies.expect("slow") as slow, replies.expect("other") as other:
            await fleet.submit("slow")
            await fleet.submit("other")
            given = {each.job: each for each in await worker.take(2)}
            for each in given.values():
                assert await worker.begin(each)
            for number in range(300):
                await worker.event(given["slow"], b"%d" % number)
            await worker.finish(given["slow"], b"x")
            await worker.finish(given["other"], b"y")
            assert await all_replies(other) == [Result(b"y")]
            got = await all_replies(slow)
            assert got == [*(Event(b"%d" % number) for number in range(256)), Result(b"x")]


async def test_large_events_that_nobody_reads_are_few(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g") as replies, fleet.worker("w") as worker, replies.expect("j") as channel:
        await fleet.submit("j")
        delivery = await take_one(worker)
        await worker.begin(delivery)
        for _ in range(40):
            await worker.event(delivery, bytes(65_536))
        await worker.finish(delivery, b"x")
        assert await all_replies(channel) == [Event(bytes(65_536))] * 16 + [Result(b"x")]


async def test_who_has_read_on_hears_events_again_and_each_gap_is_long(fleet: Fleet) -> None:
    async with (
        open_replies(fleet.link, "g") as replies,
        fleet.worker("w") as worker,
        replies.expect("j") as channel,
        replies.expect("other") as other,
    ):
        await fleet.submit("j")
        await fleet.submit("other")
        given = {each.job: each for each in await worker.take(2)}
        for each in given.values():
            assert await worker.begin(each)

        async def say(first: int, last: int) -> None:
            for number in range(first, last):
                await worker.event(given["j"], b"%d" % number)
            # What comes on the same stream after them has been heard, so these have.
            await worker.event(given["other"], b"%d" % last)
            await other.receive()

        await say(0, 300)
        got = [await channel.receive() for _ in range(10)]
        await say(300, 310)
        got += [await channel.receive() for _ in range(128)]
        await say(310, 312)
        await worker.finish(given["j"], b"x")
        got += await all_replies(channel)
        heard = [*range(256), 310, 311]
        assert got == [*(Event(b"%d" % number) for number in heard), Result(b"x")]


async def test_an_event_that_was_sent_twice_is_heard_once(fleet: Fleet) -> None:
    async with open_replies(fleet.link, "g") as replies, fleet.worker("w") as worker, replies.expect("j") as channel:
        await fleet.submit("j")
        delivery = await take_one(worker)
        await worker.begin(delivery)
        await worker.event(delivery, b"1")
        delivery.number -= 1
        await worker.event(delivery, b"1")
        await worker.finish(delivery, b"x")
        assert await all_replies(channel) == [Event(b"1"), Result(b"x")]


async def test_a_restart_of_redis_loses_nothing_and_lets_nothing_begin_twice(own_server: RedisServer) -> None:
    async with fleet_on(own_server) as fleet, fleet.worker("w") as worker:
        async with open_replies(fleet.link, "g", check_seconds=0.05) as replies:
            async with replies.expect("j") as j, replies.expect("k") as k:
                await fleet.submit("j")
                await _restart(own_server)
                first = await take_one(worker)
                assert await worker.begin(first)
                await fleet.submit("k")
                await _restart(own_server)
                assert not await worker.begin(_copy(first))
                await _restart(own_server)
                assert await worker.finish(first, b"x")
                await _restart(own_server)
                second = await take_one(worker)
                assert second.job == "k"
                assert await worker.begin(second)
                assert await worker.finish(second, b"y")
                assert await all_replies(j) == [Result(b"x")]
                assert await all_replies(k) == [Result(b"y")]


async def _restart(server: RedisServer) -> None:
    await trio.to_thread.run_sync(server.kill)
    await trio.to_thread.run_sync(server.start)


async def test_a_result_is_kept_back_while_redis_is_away_and_told_when_it_is_back(own_server: RedisServer) -> None:
    async with fleet_on(own_server, retry_seconds=0.0) as fleet:
        async with open_replies(fleet.link, "g", check_seconds=0.05) as replies, replies.expect("j") as channel:
            async with fleet.worker("w") as worker, trio.open_nursery() as nursery:
                await fleet.submit("j")
                delivery = await take_one(worker)
                await worker.begin(delivery)
                await trio.to_thread.run_sync(own_server.kill)
                nursery.start_soon(worker.finish, delivery, b"x")
                with pytest.raises(StoreUnavailable):
                    await fleet.queue.cancel(Ticket("j", POOL))
                await trio.to_thread.run_sync(own_server.start)
                assert await all_replies(channel) == [Result(b"x")]


@pytest.mark.parametrize("heard", [False, True])
async def test_a_job_whose_begin_was_never_answered_is_not_stuck_but_goes_back_into_its_lane(
    own_server: RedisServer, *, heard: bool
) -> None:
    async with fleet_on(own_server, retry_seconds=0.0, socket_seconds=4.0) as fleet, fleet.worker("w") as worker:
        await fleet.submit("j")
        delivery = await take_one(worker)
        own_server.pause()  # what is sent now waits there, and is done when it goes on
        if not heard:
            await trio.to_thread.run_sync(own_server.kill)
        with pytest.raises(StoreUnavailable):
            await worker.begin(delivery)
        if heard:
            own_server.resume()
        else:
            await trio.to_thread.run_sync(own_server.start)
        with trio.fail_after(60):
            while True:
                try:
                    again = await take_one(worker)
                    if await worker.begin(again):
                        break
                except StoreUnavailable:
                    continue
        assert await worker.finish(again, b"x")
        assert (await fleet.line("j")).state == "done"


async def test_a_server_that_forgot_all_is_worked_with_anew(redis_server: RedisServer) -> None:
    async with fleet_on(redis_server) as fleet, fleet.worker("w") as worker:
        for key in await fleet.keys():
            name = fleet.link.key(key)
            await fleet.link.call(lambda client, name=name: client.delete(name))  # type: ignore[misc]
        await worker.take(1, waiting=False)
        await fleet.submit("j")
        assert await worker.begin(await take_one(worker))


async def test_after_all_is_done_what_stays_in_redis_has_an_end_or_is_fixed(fleet: Fleet) -> None:
    me = record("w")
    async with open_announcer(fleet.link, fleet.settings, lambda: me), open_replies(fleet.link, "g") as replies:
        async with open_deliveries(fleet.link, fleet.settings, "w", me.lanes) as worker:
            for number in range(10):
                async with replies.expect(f"j{number}") as channel:
                    await fleet.submit(f"j{number}", me.lanes[number % 2])
                    delivery = await take_one(worker)
                    await worker.begin(delivery)
                    await worker.event(delivery, b"e")
                    await worker.finish(delivery, b"x" * 1000)
                    await all_replies(channel)
            ticket = await fleet.submit("cancelled")
            await fleet.queue.cancel(ticket)
        await replies.check()
    await fleet.reap()
    keys = await fleet.keys()
    assert {key for key, life in keys.items() if life < 0} <= {"ledger", "pools", "watch"}
    assert max(keys.values()) <= 86_400
    # What the gateway has received is kept a minute more, not for all the time of the ledger.
    assert all(life <= 60 for key, life in keys.items() if key.startswith("result:"))
    replies_key = fleet.link.key("replies", "g")
    assert await fleet.link.call(lambda client: client.xlen(replies_key)) <= 2


async def test_an_execution_costs_redis_few_requests(own_server: RedisServer) -> None:
    jobs = 50
    async with fleet_on(own_server, FleetSettings()) as fleet, fleet.worker("w") as worker:
        async with open_replies(fleet.link, "g") as replies:
            own_server.command("CONFIG", "RESETSTAT")
            for number in range(jobs):
                async with replies.expect(f"j{number}") as channel:
                    await fleet.queue.submit(f"j{number}", POOL, b"s", b"b", expires_at=4e9)
                    delivery = await take_one(worker, 4)
                    await worker.begin(delivery)
                    await worker.finish(delivery, b"x")
                    await all_replies(channel)
    with own_server.client() as client:
        calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in client.info("commandstats").items()}
    asked = {name: calls[name] / jobs for name in ("eval", "evalsha", "xreadgroup", "xread") if name in calls}
    print("requests per execution:", asked, "commands in all:", sum(calls.values()) / jobs)
    assert sum(asked.values()) <= 6


async def test_all_of_it_works_in_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    with run_cluster(Path(tmp_path_factory.mktemp("c"))) as cluster:
        given = RedisSettings(url=cluster.url, prefix="in-a-cluster")
        async with open_redis(given, dial_directly) as link:
            fleet = Fleet(cluster.primaries[0], link, QUICK)
            async with open_replies(link, "g") as replies, fleet.worker("w") as worker:
                async with replies.expect("j") as channel, replies.expect("k") as lost:
                    await fleet.submit("j")
                    await fleet.submit("k")
                    given_to = await worker.take(2)
                    for each in given_to:
                        assert await worker.begin(each)
                    await worker.event(given_to[0], b"e")
                    await worker.finish(given_to[0], b"x")
                    assert await all_replies(channel) == [Event(b"e"), Result(b"x")]
                    await fleet.bury("w")
                    await fleet.reap()
                    assert await all_replies(lost) == [Lost("its worker is gone", began=True)]
                assert [each.state for each in await fleet.ledger.latest()] == ["lost", "done"]
                assert isinstance(await Leases(link, QUICK, "w").acquire(SessionId("s")), Lease)


async def test_the_lanes_of_a_worker_that_dies_before_its_first_heartbeat_end_by_themselves(fleet: Fleet) -> None:
    lanes = [POOL, "worker:w"]
    for _ in range(2):
        # Also when they are there already, with what waits in them.
        async with open_deliveries(fleet.link, fleet.settings, "w", lanes):
            await fleet.submit("j")
    with fleet.server.client() as client:
        lives = [client.pttl(fleet.link.key("lane", lane)) for lane in lanes]
        assert all(0 < life <= 86_400_000 for life in lives)
        assert client.xlen(fleet.link.key("lane", POOL)) == 1
