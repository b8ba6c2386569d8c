"""Callers who fail: when an address is shut out, for how long, what it still may, and what is told of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from supervisor.admission.rates import Rate, RateLimiter
from supervisor.admission.told_rates import TOLD_SECONDS, ToldRates
from supervisor.errors import Busy, Unauthenticated
from supervisor.execution.values import Principal
from supervisor.identity import attempts as module
from supervisor.identity.attempts import AttemptRules, Attempts
from supervisor.identity.credentials import Credentials
from supervisor.identity.keys import ApiKey, KeyRing, digest_of

GOOD, OTHER = "gk-good-0123456789", "gk-other-0123456789"
HERE, THERE = "192.0.2.1", "192.0.2.2"


class World:
    """Credentials, their attempts, and a clock that is turned by hand."""

    def __init__(self, rules: AttemptRules | None) -> None:
        self.now = 1000.0
        self.attempts = Attempts(rules, clock=lambda: self.now)
        keys = [ApiKey(name, "default", digest_of(secret)) for name, secret in (("good", GOOD), ("other", OTHER))]
        self.credentials = Credentials(KeyRing(keys, None), None, attempts=self.attempts)

    def show(self, secret: str, address: str = HERE) -> str:
        """Say how it is answered."""
        try:
            self.credentials.authenticate({"X-API-Key": secret}, address)
        except Unauthenticated:
            return "no"
        except Busy as error:
            return f"in {error.retry_after_seconds:g}"
        return "yes"

    def guess(self, times: int, address: str = HERE) -> list[str]:
        return [self.show(f"guess-{number}", address) for number in range(times)]


@pytest.fixture
def world() -> World:
    return World(AttemptRules(failures=3, seconds=60, first_seconds=30, longest_seconds=100))


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "gaoler.security")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "gaoler.security"]


def test_after_so_many_failures_nothing_is_looked_at_and_a_right_guess_learns_nothing(world: World) -> None:
    assert world.guess(5) == ["no", "no", "no", "in 30", "in 30"]
    assert world.show(GOOD) == world.show("wrong") == "in 30"
    assert world.show(GOOD, THERE) == "yes", "others are not concerned"


def test_each_further_failure_shuts_out_for_twice_as_long_up_to_the_longest(world: World) -> None:
    world.guess(3)
    waits = []
    for _ in range(4):
        waits.append(float(world.show("x").removeprefix("in ")))
        world.now += waits[-1]
        assert world.show("x") == "no"
    assert waits == [30, 60, 100, 100]


def test_failures_that_are_far_apart_count_for_nothing(world: World) -> None:
    for _ in range(9):
        assert world.guess(2) == ["no", "no"]
        world.now += 61


def test_a_long_calm_makes_it_forgotten_a_good_credential_does_not(world: World) -> None:
    world.guess(3)
    world.now += 31
    assert world.show(GOOD) == "yes"
    assert world.show("x") == "no"
    assert world.show("x") == "in 60", "a caller with a key of its own cannot wipe its guesses off"
    world.now += 60 + 101
    assert world.guess(3) == ["no", "no", "no"]


def test_what_has_held_from_the_same_address_goes_on_to_hold(world: World) -> None:
    assert world.show(GOOD) == "yes"
    assert world.show(OTHER, THERE) == "yes"
    world.guess(3)
    assert world.show(GOOD) == "yes"
    assert world.show(OTHER) == "in 30", "that was from elsewhere"


def test_what_has_held_and_was_revoked_is_refused_and_then_no_longer_looked_at() -> None:
    keys = [ApiKey("good", "default", digest_of(GOOD))]
    attempts = Attempts(AttemptRules(failures=2), clock=lambda: 0.0)
    credentials = Credentials(KeyRing([], None, lambda: keys), None, attempts=attempts)
    credentials.authenticate({"X-API-Key": GOOD}, HERE)
    for number in range(2):
        with pytest.raises(Unauthenticated):
            credentials.authenticate({"X-API-Key": f"{number}"}, HERE)
    keys.clear()
    with pytest.raises(Unauthenticated):
        credentials.authenticate({"X-API-Key": GOOD}, HERE)
    with pytest.raises(Busy):
        credentials.authenticate({"X-API-Key": GOOD}, HERE)


def test_no_credential_is_no_attempt(world: World) -> None:
    for _ in range(9):
        with pytest.raises(Unauthenticated):
            world.credentials.authenticate({}, HERE)
    assert world.show(OTHER) == "yes"
    world.guess(3)
    with pytest.raises(Unauthenticated):
        world.credentials.authenticate({}, HERE)


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("uid 1", "uid 2", False),
    ],
)
def test_who_has_one_address_of_an_ipv6_network_has_all_of_it(world: World, one: str, another: str, same: bool) -> None:
    world.guess(3, one)
    assert (world.show(GOOD, another) == "in 30") is same


def test_memory_is_bounded_whatever_addresses_there_are(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ADDRESSES", 10)
    monkeypatch.setattr(module, "MAX_KNOWN", 10)
    for number in range(100):
        world.show(GOOD, f"10.0.0.{number}")
        world.show("wrong", f"10.0.1.{number}")
    assert len(world.attempts._records) == len(world.attempts._known) == 10


def test_off_shuts_nobody_out_and_still_tells(told: Callable[[], list[str]]) -> None:
    assert set(World(None).guess(50)) == {"no"}
    assert len(told()) == 50


def test_events_say_who_and_how_often_and_never_what_was_shown(world: World, told: Callable[[], list[str]]) -> None:
    world.guess(10)
    world.now += 31
    world.guess(1)
    reason = 'reason="this API key does not hold here"'
    assert told() == [
        f"event=authentication_failed address=192.0.2.1 {reason} count=1 refused=0",
        f"event=authentication_failed address=192.0.2.1 {reason} count=2 refused=0",
        f"event=authentication_failed address=192.0.2.1 {reason} count=3 refused=0",
        "event=address_shut_out address=192.0.2.1 counted_as=192.0.2.1 seconds=30 count=3",
        "event=authentication_refused address=192.0.2.1 seconds=30 count=3",
        f"event=authentication_failed address=192.0.2.1 {reason} count=4 refused=7",
        "event=address_shut_out address=192.0.2.1 counted_as=192.0.2.1 seconds=60 count=4",
    ]
    assert world.attempts.counts == {"failed": 4, "refused": 7, "shut_out": 2}


async def test_the_first_refusal_of_a_caller_who_calls_too_often_is_told_then_their_number(
    told: Callable[[], list[str]],
) -> None:
    now = [1000.0]
    rates = ToldRates(RateLimiter({"exec": Rate(1, 1e9)}, clock=lambda: now[0]), clock=lambda: now[0])
    who = Principal("acme", "bot", "anna")
    await rates.check(who, "exec")
    for _ in range(5):
        with pytest.raises(Busy):
            await rates.check(who, "exec")
    now[0] += TOLD_SECONDS
    with pytest.raises(Busy):
        await rates.check(who, "exec")
    line = "event=rate_limited kind=exec tenant=acme credential=bot user=anna count="
    assert told() == [f"{line}1", f"{line}5"]
