"""Who is there is known from heartbeats alone; a job takes the lane of a worker that can run it."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
import trio.testing

from supervisor.errors import Busy, Unsupported
from supervisor.fleet.clock import FleetClock
from supervisor.fleet.lanes import pool_lane, pool_of, worker_lane
from supervisor.fleet.registry import GatewayRecord, WorkerRecord, choose_lane, open_announcer
from supervisor.fleet.roster import Roster
from supervisor.runtimes.language_view import LanguageTable
from tests.fleet.parts import Fleet, fleet, record
from tests.redis_server import redis_server

__all__ = ["fleet", "redis_server"]


async def test_a_worker_is_there_from_before_its_block_until_after_it(fleet: Fleet) -> None:
    me = record("w", catalogue=b"\x00any bytes\xff")
    async with open_announcer(fleet.link, fleet.settings, lambda: me):
        assert await fleet.registry.workers() == [me]
    assert await fleet.registry.workers() == []
    await fleet.reap()
    assert not any("w" in key.split(":") or key == "workers" for key in await fleet.keys())


async def test_gateways_and_workers_are_told_apart(fleet: Fleet) -> None:
    gateway = GatewayRecord("same", 3, "1")
    async with (
        open_announcer(fleet.link, fleet.settings, lambda: gateway),
        open_announcer(fleet.link, fleet.settings, lambda: record("same")),
    ):
        assert await fleet.registry.gateways() == [gateway]
        assert await fleet.registry.workers() == [record("same")]


async def test_each_heartbeat_says_what_the_worker_is_now(fleet: Fleet) -> None:
    running = 0
    async with open_announcer(fleet.link, fleet.settings, lambda: record("w", running=running)):
        running = 3
        with trio.fail_after(10):
            while (await fleet.registry.workers())[0].running != 3:
                await trio.lowlevel.checkpoint()


async def test_a_worker_without_a_heartbeat_is_not_there(fleet: Fleet) -> None:
    await fleet.registry.announce(record("w"))
    assert 0 < (await fleet.keys())["alive:worker:w"] <= fleet.settings.lost_seconds
    await fleet.bury("w")
    assert await fleet.registry.workers() == []


async def test_a_worker_that_is_asked_to_leave_hears_it_with_a_heartbeat(fleet: Fleet) -> None:
    async with open_announcer(fleet.link, fleet.settings, lambda: record("w")) as announcer:
        assert not announcer.leave.is_set()
        await fleet.registry.ask_to_leave("w")
        with trio.fail_after(10):
            await announcer.leave.wait()
    async with open_announcer(fleet.link, fleet.settings, lambda: record("w")) as anew:
        assert not anew.leave.is_set()


async def test_a_record_of_another_version_is_passed_over(fleet: Fleet) -> None:
    await fleet.registry.announce(record("good"))
    await fleet.registry.announce(record("odd"))
    key = fleet.link.key("alive", "worker", "odd")
    await fleet.link.call(lambda client: client.set(key, b"\xc1", ex=10))
    assert [each.name for each in await fleet.registry.workers()] == ["good"]


async def test_the_roster_follows(fleet: Fleet) -> None:
    roster = Roster(fleet.registry, LanguageTable((), (), {}, ()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roster.watch, 0.01)
        async with open_announcer(fleet.link, fleet.settings, lambda: record("w")):
            with trio.fail_after(10):
                while not roster.reachable or not roster.workers:
                    await trio.lowlevel.checkpoint()
            assert [each.name for each in roster.workers] == ["w"]
        with trio.fail_after(10):
            while roster.workers:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert roster.reachable


async def test_the_fleets_clock_is_redis_clock_whatever_the_hosts_is(fleet: Fleet) -> None:
    began = trio.current_time()
    async with open_announcer(fleet.link, fleet.settings, lambda: record("w")) as announcer:
        before = await fleet.now()
        told = announcer.clock.now()
        # Redis said it at some moment between question and answer, in whole milliseconds.
        unsure = (trio.current_time() - began) / 2 + 0.001
        after = await fleet.now()
    assert before - unsure <= told <= after + unsure


def test_the_clock_runs_on_between_heartbeats_by_a_clock_that_nobody_sets() -> None:
    running = 1000.0
    clock = FleetClock(lambda: running)
    asked_at = clock.running()
    running = 1002.0
    clock.hear(asked_at, 500.0)
    assert clock.now() == 501.0
    running = 1010.0
    assert clock.now() == 509.0


PYTHON = record("a")
FLEET = [
    PYTHON,
    record("b", running=4),
    record("c", pool="q", languages=("python", "r"), places=16, running=11),
    record("d", pool="vm", languages=("python",), tiers=("nsjail", "microvm"), places=1),
    record("e", pool="old", languages=("cobol",), state="draining"),
]


@pytest.mark.parametrize(
    ("workers", "language", "tier", "holder", "lane"),
    [
        (FLEET, "python", "nsjail", None, "pool:q"),  # 5 places are free there, 4 in p
        (FLEET[:2], "python", "nsjail", None, "pool:p"),
        (FLEET, "r", "nsjail", None, "pool:q"),
        (FLEET, None, "nsjail", None, "pool:q"),
        (FLEET, "python", "microvm", None, "pool:vm"),
        (FLEET, "python", "nsjail", "b", "worker:b"),  # full, and yet the session is there
        (FLEET, "cobol", "nsjail", "e", "worker:e"),  # leaving, and yet the session is there
        (FLEET, "python", "nsjail", "gone", "pool:q"),
        ([record("x", pool="z"), record("y", pool="y")], "python", "nsjail", None, "pool:y"),
        ([record("x", running=9)], "python", "nsjail", None, "pool:p"),
    ],
)
def test_the_lane_is_the_holders_or_that_of_the_freest_pool_that_can(
    workers: list[WorkerRecord], language: str | None, tier: str, holder: str | None, lane: str
) -> None:
    assert choose_lane(workers, language=language, tier=tier, holder=holder) == lane


def test_what_no_worker_can_is_refused_for_good_and_what_none_can_now_for_a_while() -> None:
    with pytest.raises(Unsupported) as language:
        choose_lane(FLEET, language="ada", tier="nsjail", holder=None)
    assert (language.value.code, language.value.field) == ("unsupported_language", "language")
    with pytest.raises(Unsupported) as tier:
        choose_lane(FLEET[:2], language="python", tier="microvm", holder=None)
    assert (tier.value.code, tier.value.field) == ("unsupported_tier", "tier")
    with pytest.raises(Busy, match="no worker is there"):
        choose_lane([], language="python", tier="nsjail", holder="w")
    with pytest.raises(Busy, match="leaving"):
        choose_lane(FLEET, language="cobol", tier="nsjail", holder=None)


def test_workers_of_equal_capability_share_a_pool_and_others_do_not() -> None:
    one = pool_of(["python", "r"], ["nsjail"], policy="p", version="1", image="i")
    assert pool_of(["r", "python", "r"], ["nsjail"], policy="p", version="1", image="i") == one
    others = {
        pool_of(["python"], ["nsjail"], policy="p", version="1", image="i"),
        pool_of(["python", "r"], ["nsjail", "microvm"], policy="p", version="1", image="i"),
        pool_of(["python", "r"], ["nsjail"], policy="q", version="1", image="i"),
        pool_of(["python", "r"], ["nsjail"], policy="p", version="2", image="i"),
        pool_of(["python", "r"], ["nsjail"], policy="p", version="1", image="j"),
        pool_of(["python"], ["r", "nsjail"], policy="p", version="1", image="i"),
    }
    assert len(others | {one}) == 7
    assert (pool_lane(one), worker_lane("w")) == (f"pool:{one}", "worker:w")


async def test_what_workers_have_in_common_is_kept_once_and_told_again_when_redis_has_lost_it(fleet: Fleet) -> None:
    mine, yours = record("w", catalogue=b"the same"), record("x", catalogue=b"the same")
    worker, other, gateway = fleet.registry, fleet.registry, fleet.registry
    await worker.announce(mine)
    await other.announce(yours)
    assert await gateway.workers() == [mine, yours]
    (name,) = [key for key in await fleet.keys() if key.startswith("catalogue:")]
    await fleet.link.call(lambda client: client.delete(fleet.link.key(name)))
    assert await gateway.workers() == [mine, yours]
    assert await fleet.registry.workers() == [record("w"), record("x")]
    await worker.announce(mine)
    assert await fleet.registry.workers() == [mine, yours]
    await worker.announce(record("w", catalogue=b"another"))
    assert [each.catalogue for each in await gateway.workers()] == [b"another", b"the same"]
