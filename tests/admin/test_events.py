"""The stream of executions: bounded for who reads slowly, ended when its credential no longer holds."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
import trio
import trio.testing

from http_api.admin.events import OVERVIEW_SECONDS, QUIET_SECONDS, EventStream
from http_api.admin.services import Administration
from supervisor.activity.activity import FOLLOWED, Activity
from supervisor.administration.followers import Followers
from supervisor.execution.values import ExecutionRequest, Principal

REQUEST = ExecutionRequest(Principal("t", "key", "ann"), "py", "")


class Desk:
    """What a stream uses of an administration."""

    def __init__(self, most: int = 1) -> None:
        self.activity = Activity()
        self.followers = Followers(most)
        self.stopping = trio.Event()

    async def overview(self) -> dict[str, Any]:
        return {"executions": sum(self.activity.totals.outcomes.values())}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def stream_of(desk: Desk, *, holds: bool = True) -> EventStream:
    return EventStream(cast("Administration", desk), lambda: holds)


def execute(desk: Desk, times: int) -> None:
    for _ in range(times):
        with desk.activity.watch(REQUEST, "http") as running:
            running.end_as("exited", "0")


async def read(pieces: AsyncGenerator[bytes, None]) -> tuple[str, Any]:
    piece = (await anext(pieces)).decode()
    if piece.startswith(":"):
        return "comment", None
    event, data = piece.removesuffix("\n\n").split("\n")
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def test_who_reads_slowly_misses_some_is_told_and_given_how_things_stand(desk: Desk) -> None:
    async with stream_of(desk) as stream:
        pieces = aiter(stream)
        assert (await read(pieces))[0] == "snapshot"
        execute(desk, 1000)
        kept = [await read(pieces) for _ in range(FOLLOWED)]
        assert {(name, data["missed"]) for name, data in kept} == {("execution", 0)}
        execute(desk, 1)
        name, data = await read(pieces)
        assert (name, data["missed"]) == ("execution", 2000 - FOLLOWED)
        name, data = await read(pieces)
        assert (name, data) == ("snapshot", {"overview": {"executions": 1001}, "running": []})


async def test_a_stream_ends_soon_after_its_credential_no_longer_holds(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with stream_of(desk, holds=False) as stream:
        began = trio.current_time()
        names = [(await read(_one(piece)))[0] async for piece in stream]
        assert trio.current_time() - began <= QUIET_SECONDS
        assert names == ["snapshot", *["overview"] * int(QUIET_SECONDS // OVERVIEW_SECONDS)]


async def _one(piece: bytes) -> AsyncGenerator[bytes, None]:
    yield piece


async def test_a_quiet_stream_shows_that_it_lives(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    async with stream_of(desk) as stream:
        pieces = aiter(stream)
        found = [(await read(pieces))[0] for _ in range(20)]
        assert "comment" in found
        assert found.count("overview") > 10


async def test_a_stream_ends_when_the_server_stops(desk: Desk) -> None:
    async with stream_of(desk) as stream, trio.open_nursery() as nursery:
        pieces = aiter(stream)
        await read(pieces)
        ended = trio.Event()

        async def follow() -> None:
            assert [piece async for piece in pieces] == []
            ended.set()

        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        desk.stopping.set()
        await ended.wait()


async def test_one_too_many_ends_at_once_and_a_place_is_given_back_however_a_stream_ends(desk: Desk) -> None:
    async with stream_of(desk) as first:
        await read(aiter(first))
        async with stream_of(desk) as second:
            assert [piece async for piece in second] == []
        assert desk.followers.full
    assert desk.followers.count == 0
    with trio.CancelScope() as scope:
        async with stream_of(desk) as third:
            scope.cancel()
            await read(aiter(third))
            async for _ in third:
                pass
    assert desk.followers.count == 0
