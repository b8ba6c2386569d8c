"""The small parts of a fleet, at a real Redis: turns, notices of changes, places of programs, keys, languages."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from supervisor.connector.dialling import dial_directly
from supervisor.errors import Busy, ConfigurationError, InvalidRequest
from supervisor.execution.values import Principal, SessionId
from supervisor.files.service import FileService
from supervisor.fleet import turns as turns_module
from supervisor.fleet.changes import Changes
from supervisor.fleet.languages import FleetLanguages, decode_table, encode_table, merged
from supervisor.fleet.program_places import ProgramPlaces, place_in_token, token_with_place, token_without_place
from supervisor.fleet.shared_keys import SharedKeys
from supervisor.fleet.turns import FleetTurns
from supervisor.identity.keys import with_new_key, without_key
from supervisor.redis_link.link import RedisLink, open_redis
from supervisor.runtimes.language_view import LanguageTable, LanguageView, TierView
from supervisor.settings.fleet import RedisSettings
from tests.redis_server import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

S = SessionId("s" * 21)
_numbers = itertools.count()


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with open_redis(RedisSettings(url=redis_url, prefix=f"parts{next(_numbers)}"), dial_directly) as opened:
        yield opened


# -- turns --


async def test_one_change_of_a_session_goes_on_at_a_time(link: RedisLink) -> None:
    turns, order = FleetTurns(link), []

    async def change(name: str) -> None:
        async with turns(S):
            order.append(f"{name} in")
            await trio.sleep(0.01)
            order.append(f"{name} out")

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(change, name)
    assert [each.split()[0] for each in order[::2]] == [each.split()[0] for each in order[1::2]]
    async with turns(S), turns(SessionId("t" * 21)):
        pass


async def test_who_waits_too_long_for_a_turn_is_told(link: RedisLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "WAIT_SECONDS", 0.05)
    turns = FleetTurns(link)
    async with turns(S):
        with pytest.raises(Busy):
            async with turns(S):
                raise AssertionError
    async with turns(S):
        pass


async def test_a_cancelled_change_gives_its_turn_back(link: RedisLink) -> None:
    turns = FleetTurns(link)
    with trio.CancelScope() as scope:
        async with turns(S):
            scope.cancel()
            await trio.sleep_forever()
    with trio.fail_after(5):
        async with turns(S):
            pass


# -- notices of changes --


async def test_changes_are_told_to_others_and_not_to_oneself(link: RedisLink) -> None:
    heard: dict[str, list[SessionId]] = {"a": [], "b": []}
    news = trio.Event()

    def listener(name: str) -> FileService:
        def hear(session_id: SessionId) -> None:
            heard[name].append(session_id)
            news.set()

        return cast("FileService", SimpleNamespace(on_changed_elsewhere=hear))

    one, other = Changes(link, "a"), Changes(link, "b")
    async with trio.open_nursery() as nursery:
        for changes, name in ((one, "a"), (other, "b")):
            nursery.start_soon(changes.tell)
            nursery.start_soon(changes.hear, listener(name))
        with trio.fail_after(10):
            # It is heard from the moment on at which somebody listens, which nobody is told.
            while not news.is_set():
                one.note(S)
                with trio.move_on_after(0.05):
                    await news.wait()
        nursery.cancel_scope.cancel()
    assert set(heard["b"]) == {S}
    assert heard["a"] == []


async def test_a_flood_of_changes_never_makes_anybody_wait(link: RedisLink) -> None:
    changes = Changes(link, "a")
    for _ in range(5000):
        changes.note(S)


# -- programs --


async def test_a_program_is_found_by_its_callers_own_name_and_by_nobody_elses(link: RedisLink) -> None:
    places = ProgramPlaces(link, 60.0)
    ann = Principal("t", "k", "ann")
    await places.note(ann, "id", "w1")
    assert await places.find(ann, "id") == "w1"
    for other in (
        replace(ann, user="bob"),
        replace(ann, user=None),
        replace(ann, tenant="u"),
        replace(ann, credential="l"),
    ):
        assert await places.find(other, "id") is None
    assert await places.find(ann, "other") is None


def test_a_token_names_its_worker_in_front() -> None:
    token = token_with_place("w-1.x", "body.signature")
    assert place_in_token(token) == "w-1.x"
    assert token_without_place(token) == "body.signature"
    for wrong in ("", "body.signature", "~x", f"{'w' * 65}~x"):
        with pytest.raises(InvalidRequest):
            place_in_token(wrong)


# -- keys --


async def test_keys_are_changed_by_two_at_once_and_none_is_lost(link: RedisLink) -> None:
    one, other = SharedKeys(link), SharedKeys(link)

    async def add(keys: SharedKeys, name: str) -> None:
        await keys.change(lambda held: with_new_key(held, name, "t"))

    async with trio.open_nursery() as nursery:
        for number, keys in enumerate((one, other, one, other)):
            nursery.start_soon(add, keys, f"k{number}")
    await one.look()
    assert sorted(key.name for key in one()) == ["k0", "k1", "k2", "k3"]
    await other.change(lambda held: (without_key(held, "k1"), None))
    await one.look()
    assert "k1" not in [key.name for key in one()]
    with pytest.raises(ConfigurationError):
        await one.change(lambda held: with_new_key(held, "k0", "t"))


async def test_spoilt_keys_let_nobody_in(link: RedisLink) -> None:
    keys = SharedKeys(link)
    await keys.change(lambda held: with_new_key(held, "k", "t"))
    await keys.look()
    name = link.key("keys")
    await link.call(lambda client: client.set(name, b'{"keys": [{"name": "k"}]}'))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.follow, 0.01)
        with trio.fail_after(5):
            while keys():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert keys() == ()


# -- languages --


def language(name: str, *, installed: bool) -> LanguageView:
    return LanguageView(name, name.title(), (name[:2],), f".{name}", (f".{name}",), "", {}, installed=installed)


def table(tier_reason: str, *languages: LanguageView) -> LanguageTable:
    tiers = (TierView("nsjail", "n"), TierView("microvm", "m", tier_reason))
    return LanguageTable(languages, (), {"wall_seconds": 1.0}, tiers)


def test_a_fleet_has_what_one_of_its_workers_has() -> None:
    own = table("none", language("go", installed=False), language("rust", installed=False))
    one = table("no KVM", language("go", installed=True), language("rust", installed=False))
    other = table("", language("go", installed=False), language("rust", installed=True))
    assert merged(own, []) is own
    both = FleetLanguages(merged(own, [one, other]))
    assert [each.installed for each in both.languages] == [True, True]
    assert [each.reason for each in both.tiers] == ["", ""]
    found = both.find("go")
    assert found is not None
    assert both.of_file("a.rust") == "rust"
    assert "Unsupported language" in both.refusal("cobol").message


def test_a_table_arrives_as_it_was_and_garbage_is_none() -> None:
    told = table("", language("go", installed=True))
    assert decode_table(encode_table(told)) == told
    assert decode_table(b"\x93garbage") is None
