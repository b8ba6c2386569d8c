"""Which virtual machines boot and wait, and who gets one; the machines themselves are stand-ins that boot when told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from supervisor.jailer.cells import Workload
from supervisor.jailer.enclosure import JailError
from supervisor.microvm import machines as module
from supervisor.microvm.machines import Machines, open_machines

BOOT_SECONDS = 5.0


class Stand:
    """In the place of a machine: boots after :data:`BOOT_SECONDS`, or fails."""

    born: list[Stand]
    fails: bool

    def __init__(self, *_plan: Any) -> None:
        self.settled, self.released, self.ended = trio.Event(), trio.Event(), trio.Event()
        self.failure: str | None = None
        self.begun = self.booted = self.dead = False
        self.born.append(self)

    @property
    def usable(self) -> bool:
        return self.settled.is_set() and self.failure is None and not self.ended.is_set() and not self.dead

    async def live(self) -> None:
        self.begun = True
        with trio.move_on_after(BOOT_SECONDS):
            await self.released.wait()
        if self.fails:
            self.failure = "it does not boot"
            self.settled.set()
        else:
            self.booted = True
            self.settled.set()
            await self.released.wait()
        self.ended.set()


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch) -> type[Stand]:
    kind = type("Fresh", (Stand,), {"born": [], "fails": False})
    monkeypatch.setattr(module, "Machine", kind)
    return kind


@asynccontextmanager
async def pool(waiting: int, most: int) -> AsyncIterator[tuple[Machines, Workload]]:
    plan = SimpleNamespace(waiting=waiting, most=most, boot_seconds=20.0)
    work = Workload()
    async with open_machines(cast("Any", None), cast("Any", plan), (), work) as machines:
        yield machines, work


def alive(stands: type[Stand]) -> int:
    return sum(each.begun and not each.ended.is_set() for each in stands.born)


async def test_so_many_wait_and_who_takes_one_has_it_replaced(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    async with pool(waiting=2, most=8) as (machines, _work):
        await trio.sleep(30)
        assert len(stands.born) == 2
        started = trio.current_time()
        async with machines.claim() as machine:
            assert cast("Any", machine) is stands.born[0]
            assert trio.current_time() == started
            await trio.sleep(30)
            assert len(stands.born) == 3
        await trio.sleep(1)
        assert alive(stands) == 2


async def test_no_more_than_may_be_and_who_comes_too_many_waits_in_turn(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    async with pool(waiting=0, most=2) as (machines, _work), trio.open_nursery() as nursery:
        order: list[int] = []

        async def use(number: int, seconds: float) -> None:
            async with machines.claim():
                order.append(number)
                assert alive(stands) <= 2
                await trio.sleep(seconds)

        for number in range(4):
            nursery.start_soon(use, number, 3.0 + number)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(60)
        # The first two boot in the same moment.
        assert (sorted(order[:2]), order[2:]) == ([0, 1], [2, 3])


async def test_who_waits_too_long_is_refused_with_the_reason(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    async with pool(waiting=0, most=1) as (machines, _work), machines.claim():
        with pytest.raises(JailError, match="all 1 virtual machines that may be are in use"):
            async with machines.claim():
                pass
        assert len(stands.born) == 2


async def test_a_host_where_none_boots_tries_with_growing_pauses_and_tells_who_asks(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    stands.fails = True
    async with pool(waiting=1, most=4) as (machines, _work):
        await trio.sleep(120)
        assert 3 < len(stands.born) < 20
        with pytest.raises(JailError, match="it did not boot"):
            async with machines.claim():
                pass


async def test_while_memory_is_tight_none_waits(stands: type[Stand], autojump_clock: trio.testing.MockClock) -> None:
    async with pool(waiting=2, most=4) as (machines, work):
        await trio.sleep(30)
        assert alive(stands) == 2
        work.spared += 1
        machines.look_again()
        await trio.sleep(1)
        assert alive(stands) == 0
        work.spared -= 1
        machines.look_again()
        await trio.sleep(30)
        assert alive(stands) == 2


async def test_those_who_have_much_already_leave_places_to_others(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    async with pool(waiting=0, most=4) as (machines, _work), trio.open_nursery() as nursery:

        async def hold() -> None:
            async with machines.claim(modest=True):
                await trio.sleep_forever()

        for _ in range(3):
            nursery.start_soon(hold)
        await trio.sleep(30)
        with pytest.raises(JailError, match="all 3 virtual machines that may be are in use"):
            async with machines.claim(modest=True):
                pass
        async with machines.claim():
            assert alive(stands) == 4
        nursery.cancel_scope.cancel()


async def test_who_gives_up_while_it_boots_gives_the_place_back(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    async with pool(waiting=0, most=1) as (machines, _work):
        with trio.move_on_after(1):
            async with machines.claim():
                pass
        async with machines.claim():
            assert alive(stands) == 1


async def test_requests_do_not_shorten_the_pauses_after_failures(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    stands.fails = True
    async with pool(waiting=1, most=4) as (machines, _work):
        await trio.sleep(300)
        born = len(stands.born)
        for _ in range(100):
            machines.look_again()
            await trio.sleep(0.01)
        assert len(stands.born) <= born + 1


async def test_when_memory_becomes_tight_in_a_pause_none_is_begun_after_it(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    stands.fails = True
    async with pool(waiting=1, most=4) as (machines, work):
        await trio.sleep(100)
        work.spared += 1
        machines.look_again()
        await trio.sleep(30)
        born = len(stands.born)
        await trio.sleep(300)
        assert len(stands.born) == born


async def test_one_that_has_died_while_it_waited_is_given_to_nobody(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    async with pool(waiting=1, most=4) as (machines, _work):
        await trio.sleep(30)
        # Dead, and not cleaned up yet.
        stands.born[0].dead = True
        async with machines.claim() as machine:
            assert cast("Any", machine) is not stands.born[0]


async def test_one_that_boots_for_somebody_ends_the_pauses(
    stands: type[Stand], autojump_clock: trio.testing.MockClock
) -> None:
    stands.fails = True
    async with pool(waiting=1, most=4) as (machines, _work):
        while alive(stands) or len(stands.born) < 6:  # noqa: ASYNC110 - on a clock of the test's own
            await trio.sleep(0.5)
        # A pause of twenty seconds has begun.
        stands.fails = False
        async with machines.claim():
            await trio.sleep(BOOT_SECONDS + 1)
            assert any(each.usable and not each.released.is_set() for each in machines._waiting)
