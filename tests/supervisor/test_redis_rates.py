"""Rates hold in one daemon and in many together, by one rule."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
import redis
import trio

from supervisor.admission.rates import Rate, RateLimiter
from supervisor.connector.dialling import dial_directly
from supervisor.errors import Busy
from supervisor.execution.values import Principal, new_id
from supervisor.fleet.rates import RedisRates
from supervisor.redis_link.link import RedisLink, open_redis
from supervisor.settings.fleet import RedisSettings
from tests.redis_server import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

ANN, BOB = Principal("t", "key", "ann"), Principal("t", "key", "bob")
NOBODY = Principal("t", "key", None)


class Limiter(Protocol):
    async def check(self, principal: Principal, kind: str) -> None: ...


@dataclass
class Limited:
    """A way to make limiters, and a way to have time go by for all of them."""

    make: Callable[[Mapping[str, Rate | None], int], Limiter]
    wait: Callable[[float], Awaitable[None]]


async def age(link: RedisLink, seconds: float) -> None:
    """Have every call that was counted be so much older."""

    def work(client: redis.Redis) -> None:
        for key in client.scan_iter(link.key("rate", "*")):
            times: Any = client.lrange(key, 0, -1)
            for number, each in enumerate(times):
                client.lset(key, number, repr(float(each) - seconds))

    await link.call(work)


@pytest.fixture(params=["alone", "redis"])
async def limited(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Limited]:
    if request.param == "redis":
        async with open_redis(RedisSettings(url=redis_url, prefix=new_id()), dial_directly) as link:
            yield Limited(lambda rates, factor: RedisRates(link, rates, factor), lambda seconds: age(link, seconds))
        return
    now = [100.0]

    async def wait(seconds: float) -> None:
        now[0] += seconds

    yield Limited(lambda rates, factor: RateLimiter(rates, factor, clock=lambda: now[0]), wait)


async def test_calls_are_counted_in_a_window_that_slides(limited: Limited) -> None:
    limiter = limited.make({"exec": Rate(2, 600)}, 1)
    began = time.monotonic()
    await limiter.check(ANN, "exec")
    await limited.wait(400)
    await limiter.check(ANN, "exec")
    for _ in range(3):
        with pytest.raises(Busy, match="at most 2 calls of exec in 600 s") as caught:
            await limiter.check(ANN, "exec")
        # With Redis real time goes by, too.
        assert 199 - (time.monotonic() - began) < caught.value.retry_after_seconds <= 200
    await limited.wait(201)
    await limiter.check(ANN, "exec")
    with pytest.raises(Busy):
        await limiter.check(ANN, "exec")


async def test_callers_tenants_and_kinds_are_apart_and_who_names_no_user_has_more(limited: Limited) -> None:
    limiter = limited.make({"exec": Rate(1, 600), "upload": Rate(1, 600), "listing": None}, 3)
    for principal in (ANN, BOB, Principal("u", "key", "ann")):
        await limiter.check(principal, "exec")
    await limiter.check(ANN, "upload")
    for _ in range(5):
        await limiter.check(ANN, "listing")
        await limiter.check(ANN, "unheard-of")
    for _ in range(3):
        await limiter.check(NOBODY, "exec")
    for principal in (ANN, NOBODY):
        with pytest.raises(Busy):
            await limiter.check(principal, "exec")


async def test_a_key_gets_no_more_calls_by_naming_more_users(limited: Limited) -> None:
    limiter = limited.make({"exec": Rate(2, 600)}, 3)
    for number in range(6):
        await limiter.check(Principal("t", "key", f"user-{number}"), "exec")
    with pytest.raises(Busy, match="at most 6 calls"):
        await limiter.check(Principal("t", "key", "user-7"), "exec")
    with pytest.raises(Busy, match="at most 6 calls"):
        await limiter.check(ANN, "exec")
    await limiter.check(NOBODY, "exec")
    await limiter.check(Principal("t", "another", "ann-2"), "exec")
    await limited.wait(601)
    await limiter.check(ANN, "exec")


async def test_users_of_tokens_are_proven_and_each_is_counted_alone(limited: Limited) -> None:
    limiter = limited.make({"exec": Rate(1, 600)}, 2)
    for number in range(10):
        await limiter.check(Principal("t", "token", f"user-{number}"), "exec")
    with pytest.raises(Busy):
        await limiter.check(Principal("t", "token", "user-1"), "exec")


async def test_many_daemons_count_together_and_their_keys_go(redis_url: str) -> None:
    settings = RedisSettings(url=redis_url, prefix=new_id())
    async with open_redis(settings, dial_directly) as one, open_redis(settings, dial_directly) as other:
        passed: list[int] = []

        async def check(link: RedisLink) -> None:
            try:
                await RedisRates(link, {"exec": Rate(7, 600)}, 3).check(ANN, "exec")
            except Busy:
                return
            passed.append(1)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(check, one)
                nursery.start_soon(check, other)
        assert len(passed) == 7

        def left(client: redis.Redis) -> list[int]:
            return [int(client.pttl(key)) for key in client.scan_iter(one.key("*"))]

        # Ann's window, and that of all whom her key names.
        assert [0 < each <= 600_000 for each in await one.call(left)] == [True, True]
