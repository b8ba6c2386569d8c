"""Rates of keys: instead of those of the settings, for all who show the key together, in memory and in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from supervisor.admission.key_rates import Counter, RatesByKey
from supervisor.admission.rates import Rate, RateLimiter
from supervisor.connector.dialling import dial_directly
from supervisor.errors import Busy
from supervisor.execution.values import Principal, new_id
from supervisor.fleet.rates import RedisRates
from supervisor.identity.keys import KeyRates
from supervisor.redis_link.link import open_redis
from supervisor.settings.fleet import RedisSettings
from tests.redis_server import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

RULES = {"exec": Rate(1, 600.0), "upload": Rate(1, 600.0)}
OWN = {"quick": KeyRates(exec="off"), "slow": KeyRates(exec="2/600"), "plain": KeyRates()}


@pytest.fixture(params=["memory", "redis"])
async def rates(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[RatesByKey]:
    if request.param == "memory":
        counter: Counter = RateLimiter(RULES)
        yield RatesByKey(counter, OWN.get)
    else:
        async with open_redis(RedisSettings(url=redis_url, prefix=new_id()), dial_directly) as link:
            yield RatesByKey(RedisRates(link, RULES), OWN.get)


async def allowed(rates: RatesByKey, credential: str, user: str | None, kind: str = "exec") -> bool:
    try:
        await rates.check(Principal("t", credential, user), kind)
    except Busy:
        return False
    return True


async def test_who_names_other_users_does_not_get_around_the_rate_of_its_key(rates: RatesByKey) -> None:
    assert [await allowed(rates, "slow", user) for user in ("a", "b", "c", None)] == [True, True, False, False]


async def test_a_key_may_be_freed_of_the_settings_rate(rates: RatesByKey) -> None:
    assert all([await allowed(rates, "quick", "a") for _ in range(5)])


async def test_kinds_and_keys_without_a_rate_have_that_of_the_settings(rates: RatesByKey) -> None:
    assert [await allowed(rates, "slow", "a", "upload") for _ in range(2)] == [True, False]
    for credential in ("plain", "unknown"):
        user = new_id()
        assert [await allowed(rates, credential, user) for _ in range(2)] == [True, False]
        assert await allowed(rates, credential, user, "nothing limits this")


async def test_calls_by_a_key_of_its_own_rate_are_none_of_its_users(rates: RatesByKey) -> None:
    assert [await allowed(rates, "slow", "ann") for _ in range(2)] == [True, True]
    assert await allowed(rates, "other", "ann")
