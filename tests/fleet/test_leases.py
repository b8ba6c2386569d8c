"""A session is one worker's; each lease has a higher number than all before; who was cut off learns that it lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from supervisor.errors import StoreUnavailable
from supervisor.execution.values import SessionId
from supervisor.fleet.leases import Lease, Leases
from tests.fleet.parts import Fleet, fleet, fleet_on, record
from tests.redis_server import LASTING, RedisServer, redis_server, run_redis

__all__ = ["fleet", "redis_server"]
S = SessionId("s")


def of(fleet: Fleet, name: str) -> Leases:
    return Leases(fleet.link, fleet.settings, name)


async def alive(fleet: Fleet, *names: str) -> None:
    for name in names:
        await fleet.registry.announce(record(name))
        await fleet.forever("alive", "worker", name)
    await fleet.calm()


async def fence(fleet: Fleet) -> int:
    key = fleet.link.key("fence", S)
    return int(await fleet.link.call(lambda client: client.get(key)) or 0)


async def expire(fleet: Fleet) -> None:
    """The lease's time is over."""
    key = fleet.link.key("lease", S)
    await fleet.link.call(lambda client: client.delete(key))


async def test_a_session_is_one_workers_until_it_lets_it_go(fleet: Fleet) -> None:
    await alive(fleet, "a", "b")
    a, b = of(fleet, "a"), of(fleet, "b")
    lease = await a.acquire(S)
    assert isinstance(lease, Lease)
    assert await a.acquire(S) == lease
    assert await b.acquire(S) == "a"
    assert await b.holder_of(S) == "a"
    await a.release(lease)
    assert await b.holder_of(S) is None
    second = await b.acquire(S)
    assert isinstance(second, Lease)
    assert second.number > lease.number
    assert await fence(fleet) == second.number


async def test_who_takes_a_session_over_is_told_from_whom_and_only_if_it_was_not_given_up(fleet: Fleet) -> None:
    await alive(fleet, "a", "b")
    first = await of(fleet, "a").acquire(S)
    assert isinstance(first, Lease)
    assert first.taken_from is None
    # An earlier process of the same name, which is gone.
    again = of(fleet, "a")
    second = await again.acquire(S)
    assert isinstance(second, Lease)
    assert second.taken_from == "a"
    await again.release(second)
    third = await of(fleet, "b").acquire(S)
    assert isinstance(third, Lease)
    assert third.taken_from is None


async def test_of_all_who_ask_at_once_one_gets_it(fleet: Fleet) -> None:
    names = [f"w{number}" for number in range(8)]
    await alive(fleet, *names)
    got: list[Lease | str] = []

    async def ask(name: str) -> None:
        got.append(await of(fleet, name).acquire(S))

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(ask, name)
    (lease,) = [each for each in got if isinstance(each, Lease)]
    assert got.count(lease.holder) == 7


async def test_the_keys_are_as_the_stores_know_them(fleet: Fleet) -> None:
    await alive(fleet, "a")
    lease = await of(fleet, "a").acquire(S)
    assert isinstance(lease, Lease)
    key = fleet.link.key("lease", S)
    kept = await fleet.link.call(lambda client: client.hgetall(key))
    assert kept == {b"holder": b"a", b"number": str(lease.number).encode()}
    assert await fence(fleet) == lease.number
    keys = await fleet.keys()
    assert 0 < keys["lease:s"] <= fleet.settings.lease_seconds
    assert 6 * 86_400 < keys["fence:s"] <= 7 * 86_400


async def test_the_lease_of_a_dead_worker_is_taken_at_once(fleet: Fleet) -> None:
    await alive(fleet, "a", "b")
    a, b = of(fleet, "a"), of(fleet, "b")
    first = await a.acquire(S)
    await fleet.forever("lease", S)
    assert await b.acquire(S) == "a"
    assert await b.holder_of(S) == "a"
    await fleet.bury("a")
    # Whoever asks where to send a job is not sent to the dead, who would never hand it back.
    assert await b.holder_of(S) is None
    second = await b.acquire(S)
    assert isinstance(first, Lease)
    assert isinstance(second, Lease)
    assert second.number > first.number
    assert await a.renew() == [S]
    assert a.held == {}


async def test_nobody_is_taken_for_dead_right_after_an_outage(fleet: Fleet) -> None:
    await alive(fleet, "a", "b")
    await of(fleet, "a").acquire(S)
    await fleet.forever("lease", S)
    await fleet.bury("a")
    watch, now = fleet.link.key("watch"), int(await fleet.now() * 1000)
    await fleet.link.call(lambda client: client.hset(watch, "since", now + 60_000))
    assert await of(fleet, "b").acquire(S) == "a"
    assert await of(fleet, "b").holder_of(S) == "a"


async def test_nor_by_who_asks_before_anybody_has_looked_after_heartbeats_again(fleet: Fleet) -> None:
    await alive(fleet, "a", "b")
    await of(fleet, "a").acquire(S)
    await fleet.bury("a")
    watch, now = fleet.link.key("watch"), int(await fleet.now() * 1000)
    # As it was when Redis went away: all was calm.
    await fleet.link.call(lambda client: client.hset(watch, mapping={"since": now - 600_000, "last": now - 30_000}))
    assert await of(fleet, "b").holder_of(S) == "a"
    assert await of(fleet, "b").acquire(S) == "a"
    await expire(fleet)
    assert await of(fleet, "b").holder_of(S) == "a"
    await fleet.calm()
    assert await of(fleet, "b").holder_of(S) is None


async def test_after_an_outage_that_outlasts_a_lease_jobs_still_go_where_the_session_is(fleet: Fleet) -> None:
    await alive(fleet, "a", "b")
    lease = await of(fleet, "a").acquire(S)
    assert isinstance(lease, Lease)
    await expire(fleet)
    assert await of(fleet, "b").holder_of(S) == "a"
    await fleet.bury("a")
    assert await of(fleet, "b").holder_of(S) is None


async def test_a_worker_that_begins_anew_gets_a_new_number_for_its_own_session(fleet: Fleet) -> None:
    await alive(fleet, "a")
    before, after = of(fleet, "a"), of(fleet, "a")
    first, second = await before.acquire(S), await after.acquire(S)
    assert isinstance(first, Lease)
    assert isinstance(second, Lease)
    assert second.number > first.number
    assert await before.renew() == [S]
    await before.release(first)
    assert await after.holder_of(S) == "a"


async def test_a_lease_that_ran_out_is_ours_again_if_nobody_took_it(fleet: Fleet) -> None:
    await alive(fleet, "a", "b")
    a, b = of(fleet, "a"), of(fleet, "b")
    lease = await a.acquire(S)
    await expire(fleet)
    assert await a.renew() == []
    assert await b.acquire(S) == "a"
    assert a.held == {S: lease}


async def test_a_lease_that_ran_out_and_was_taken_is_lost_even_if_it_was_let_go_again(fleet: Fleet) -> None:
    await alive(fleet, "a", "b")
    a, b = of(fleet, "a"), of(fleet, "b")
    await a.acquire(S)
    await expire(fleet)
    other = await b.acquire(S)
    assert isinstance(other, Lease)
    await b.release(other)
    assert await a.renew() == [S]


async def test_the_renewing_task_says_at_once_which_sessions_are_anothers(fleet: Fleet) -> None:
    await alive(fleet, "a", "b")
    a, b = of(fleet, "a"), of(fleet, "b")
    send, receive = trio.open_memory_channel[SessionId](10)
    kept = SessionId("kept")
    await a.acquire(S)
    await a.acquire(kept)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.run_renewals, send.send_nowait)
        await fleet.bury("a")
        while isinstance(await b.acquire(S), str):
            await trio.lowlevel.checkpoint()
        with trio.fail_after(10):
            assert await receive.receive() == S
        nursery.cancel_scope.cancel()
    assert set(a.held) == {kept}


async def test_renewing_a_thousand_leases_keeps_them_all(fleet: Fleet) -> None:
    a = of(fleet, "a")
    sessions = [SessionId(f"s{number}") for number in range(1000)]
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(a.acquire, session)
    assert await a.renew() == []
    assert set(a.held) == set(sessions)
    assert len({each.number for each in a.held.values()}) == 1000


async def test_numbers_rise_even_if_redis_forgot_the_latest(fleet: Fleet) -> None:
    a, b = of(fleet, "a"), of(fleet, "b")
    first = await a.acquire(S)
    for key in await fleet.keys():
        name = fleet.link.key(key)
        await fleet.link.call(lambda client, name=name: client.delete(name))  # type: ignore[misc]
    second = await b.acquire(S)
    assert isinstance(first, Lease)
    assert isinstance(second, Lease)
    assert second.number > first.number


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with run_redis(Path(tmp_path_factory.mktemp("r")), options=LASTING) as server:
        yield server


async def test_leases_outlive_a_restart_of_redis(own_server: RedisServer) -> None:
    async with fleet_on(own_server, retry_seconds=0.0) as fleet:
        a = of(fleet, "a")
        lease = await a.acquire(S)
        await trio.to_thread.run_sync(own_server.kill)
        with pytest.raises(StoreUnavailable):
            await a.renew()
        assert a.held == {S: lease}
        await trio.to_thread.run_sync(own_server.start)
        assert await a.renew() == []
        assert await a.holder_of(S) == "a"
