"""Alive and ready: what a process says of itself to anybody, and that asking costs it nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from supervisor.administration.readiness import ANSWER_SECONDS, ASK_SECONDS, Check, Probes
from supervisor.errors import StoreUnavailable
from tests.daemon import KEY, Daemon, daemon_with, eventually
from tests.fleet_world import Fleet, run_fleet


@pytest.fixture(scope="module")
def mine(image_dir: Path) -> Iterator[Daemon]:
    with daemon_with(image_dir, {}) as running:
        yield running


def checks(daemon: Daemon) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in daemon.request("GET", "/ready", key=None).json["checks"]}


@pytest.mark.root
@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_daemon_that_has_everything_is_alive_and_ready_to_anybody(mine: Daemon, prefix: str) -> None:
    alive, ready = (mine.request("GET", f"{prefix}/{path}", key=None) for path in ("health", "ready"))
    assert (alive.status, alive.json["status"], ready.status, ready.json["ready"]) == (200, "ok", 200, True)
    assert ready.json["role"] == "all"
    assert [each["name"] for each in ready.json["checks"]] == [
        "jailer",
        "image",
        "tier",
        "memory",
        "disk",
        "database",
    ]
    assert KEY.encode() not in ready.body
    assert str(mine.state_dir).encode() not in ready.body
    assert mine.request("POST", f"{prefix}/ready", key=None).status == 405


@pytest.mark.root
def test_without_a_jailer_it_is_alive_and_not_ready_until_there_is_one_again(mine: Daemon) -> None:
    jailer = mine.named("gaoler-jailer")
    keeper = mine.named("gaoler-keeper")
    # Stopped, the keeper starts no other one.
    os.kill(keeper, signal.SIGSTOP)
    try:
        os.kill(jailer, signal.SIGKILL)
        eventually(lambda: not checks(mine)["jailer"]["ok"])
        answer = mine.request("GET", "/ready", key=None)
        assert (answer.status, answer.json["ready"], answer.json["status"]) == (503, False, "unavailable")
        assert "started again" in checks(mine)["jailer"]["reason"]
        health = mine.request("GET", "/health", key=None)
        assert (health.status, health.json["status"]) == (200, "unavailable")
    finally:
        os.kill(keeper, signal.SIGCONT)
    eventually(lambda: mine.request("GET", "/ready", key=None).status == 200)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with run_fleet() as running:
        running.start("worker", "w1")
        running.start("gateway", "g1")
        running.wait_workers(running.gateways[0], 1)
        yield running


@pytest.mark.root
def test_every_role_says_what_it_needs(fleet: Fleet) -> None:
    gateway, worker = fleet.gateways[0].daemon, fleet.members["w1"].daemon
    eventually(lambda: gateway.request("GET", "/ready", key=None).status == 200)
    assert list(checks(gateway)) == ["fleet", "workers", "redis", "s3"]
    assert checks(gateway)["workers"]["reason"] == "1 take work"
    for prefix in ("", "/v1"):
        # A store that stands still for a moment is one that does not answer.
        eventually(lambda path=f"{prefix}/ready": worker.request("GET", path, key=None).status == 200)  # type: ignore[misc]
        assert worker.request("GET", f"{prefix}/ready", key=None).json["role"] == "worker"
        assert worker.request("GET", f"{prefix}/health", key=None).json["status"] == "ok"
    assert list(checks(worker)) == ["jailer", "image", "tier", "memory", "disk", "redis", "s3"]


async def test_a_store_is_asked_at_most_once_in_some_seconds_however_many_want_to_know(
    autojump_clock: MockClock,
) -> None:
    asked = []

    async def probe() -> None:
        asked.append(trio.current_time())
        await trio.sleep(0.5)

    probes = Probes({"redis": probe})
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(probes.checks)
    assert len(asked) == 1
    await trio.sleep(ASK_SECONDS)
    assert await probes.checks() == [Check("redis", ok=True)]
    assert len(asked) == 2


async def test_stores_that_do_not_answer_are_waited_for_together_and_not_long(autojump_clock: MockClock) -> None:
    async def refused() -> None:
        raise StoreUnavailable("Redis does not answer")

    async def broken() -> None:
        raise ZeroDivisionError

    began = trio.current_time()
    found = await Probes({"redis": refused, "s3": trio.sleep_forever, "x": broken, "y": trio.sleep_forever}).checks()
    assert trio.current_time() - began == pytest.approx(ANSWER_SECONDS)
    assert [each.ok for each in found] == [False] * 4
    assert found[0].reason == "Redis does not answer"
    assert found[1].reason == "no answer in 2 s"
