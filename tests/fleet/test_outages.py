"""Faults of a whole fleet, with real servers and processes: nothing acknowledged is lost, nothing runs twice, and
everything works again without a restart of any member.

All times are two fifths of their defaults, and so are the outages: twelve seconds stand for thirty. The true ones:
``GAOLER_TRUE_OUTAGE=1``.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.daemon import eventually
from tests.fleet.faults import NONCE, Told, marked, skewed, stream
from tests.fleet.faulty_world import QUICK, World, all_begun, open_world
from tests.fleet_world import remove_cgroups
from tests.redis_server import RedisServer, Sentinel, run_redis, run_sentinel, wait_until

pytestmark = pytest.mark.root

OUTAGE_SECONDS: Final = 12.0
HONEST: Final = {"store_unavailable", "execution_lost", "rate_limited"}


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    shared_world.keep()
    try:
        yield shared_world
    finally:
        # Where a test failed, the next one is not to.
        shared_world.heal()
    shared_world.check()


SLOW: Final = "import time\nfor n in range(30):\n    time.sleep(0.1)\nprint('end', flush=True)"
SLOWER: Final = "\n".join([SLOW] * 4)
"""For what is to run still when something is done to it."""


def all_end(told: list[Told]) -> None:
    """Each has come to its end, and has run once."""
    for each in told:
        assert each.what == "done", each
        assert len(NONCE.findall(each.body["stdout"].encode())) == 1, each
        assert each.body["stdout"].endswith("end\n"), each


def ask_until(world: World, over: Callable[[], bool], gateway: str = "g1") -> list[Told]:
    """Ask for one thing after another until it is over; whatever is told is honest."""
    told: list[Told] = []
    while not told or not over():
        told.append(stream(world.gateway(gateway), marked("1")))
        assert told[-1].what in HONEST | {"done"}, told[-1]
    return told


def lasting(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def test_what_runs_while_redis_is_killed_and_started_again_ends_as_it_should(world: World) -> None:
    session = world.gateway().execute("x = 41", stateful=True)["session_id"]
    asked = [world.ask(name, marked(str(number), SLOW)) for number, name in enumerate(["g1", "g2", "g1", "g2"])]
    asked.append(world.ask("g1", marked("9", SLOW), session_id=session, stateful=True))
    all_begun(asked)
    world.fleet.redis.kill()
    world.fleet.redis.start()
    all_end([each.result() for each in asked])
    # Until heartbeats are heard again nobody knows where to run it.
    world.fleet.wait_workers(world.member("g1"), 2)
    assert world.gateway().execute("print(x + 1)", session_id=session, stateful=True)["stdout"] == "42\n"


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_while_redis_is_gone_callers_are_told_and_after_it_all_is_well(world: World, how: str) -> None:
    a_while(world, how, OUTAGE_SECONDS)


def test_while_redis_is_gone_for_thirty_seconds_with_the_default_times_the_same_holds() -> None:
    defaults = dict.fromkeys(QUICK, "")
    defaults |= {
        "GAOLER_FLEET_HEARTBEAT_SECONDS": "2",
        "GAOLER_FLEET_LOST_SECONDS": "10",
        "GAOLER_FLEET_LEASE_SECONDS": "15",
        "GAOLER_REDIS_SOCKET_SECONDS": "5",
        "GAOLER_REDIS_CONNECT_SECONDS": "5",
        "GAOLER_REDIS_RETRY_SECONDS": "10",
    }
    with open_world({name: value for name, value in defaults.items() if value}) as world:
        world.keep()
        a_while(world, "killed", 30.0)
        world.check()


def a_while(world: World, how: str, seconds: float) -> None:
    asked = [world.ask(name, marked("1", SLOW)) for name in ("g1", "g2", "g1")]
    all_begun(asked)
    redis, before = world.fleet.redis, set(world.fleet.ledger())
    redis.kill() if how == "killed" else redis.pause()
    told = ask_until(world, lasting(seconds))
    redis.start() if how == "killed" else redis.resume()
    assert "store_unavailable" in {each.what for each in told}
    assert all(each.body.get("retry_after_seconds") for each in told if each.what == "store_unavailable")
    all_end([each.result() for each in asked])
    # Who was told that there is no Redis may ask again: nothing of his first question has run.
    eventually(lambda: not world.unended())
    states = [line["state"] for job, line in world.fleet.ledger().items() if job not in before]
    assert states.count("done") == [each.what for each in told].count("done")


def test_a_session_of_a_worker_that_was_cut_off_goes_on_elsewhere_and_the_old_one_can_write_nothing(
    world: World,
) -> None:
    gateway = world.gateway()
    session = gateway.execute("x = 41", stateful=True)["session_id"]
    old = world.holder(session)
    eventually(lambda: any(f"session saved session={session}" in line for line in world.member(old).daemon.lines()))
    code = marked("2", f"x = 0\nopen('/mnt/data/late.txt', 'w').write('late')\n{SLOWER}")
    late = world.ask("g1", code, session_id=session, stateful=True)
    all_begun([late])
    world.wires[old].cut()
    told: list[dict[str, Any]] = []

    def taken() -> bool:
        answer = gateway.try_execute("print(x + 1)", session_id=session, stateful=True)
        if answer.status != 200:
            assert answer.json["error"] in HONEST, answer.body
            return False
        told.append(answer.json)
        return True

    eventually(taken)
    assert told[0]["stdout"] == "42\n"
    assert told[0]["runtime_restored"]
    assert "the worker that had this session is gone: the variables are as they were" in told[0]["stderr"]
    assert late.result().what == "execution_lost"
    assert world.holder(session) != old
    world.wires[old].mend()
    eventually(lambda: old in world.workers())
    eventually(lambda: any("taken by another worker" in line for line in world.member(old).daemon.lines()))
    after = gateway.execute("import os; print(x + 1, os.listdir('.'))", session_id=session, stateful=True)
    assert after["stdout"] == "42 []\n"
    assert "late.txt" not in str(gateway.request("GET", f"/v1/files/{session}?detail=full").json)


def test_a_gateway_that_was_cut_off_says_so_and_the_other_one_serves(world: World) -> None:
    asked = world.ask("g2", marked("3", SLOW))
    all_begun([asked])
    world.wires["g2"].cut()
    cut = world.background(ask_until, world, lasting(6.0), "g2")
    assert {each.what for each in ask_until(world, lasting(6.0))} == {"done"}
    assert {each.what for each in cut.result()} == {"store_unavailable"}
    world.wires["g2"].mend()
    all_end([asked.result()])


def test_a_worker_that_hears_nothing_for_a_moment_loses_nothing(world: World) -> None:
    asked = [world.ask("g1", marked("4", SLOW)) for _ in range(4)]
    all_begun(asked)
    for wire in (world.wires["w1"], world.wires["w2"]):
        wire.stall()
    over = lasting(1.0)
    while not over():
        assert world.gateway().request("GET", "/ready").status == 200
    for wire in (world.wires["w1"], world.wires["w2"]):
        wire.flow()
    all_end([each.result() for each in asked])


def test_while_s3_is_gone_what_needs_no_files_runs_and_what_does_is_refused(world: World) -> None:
    world.s3.go_away()
    assert world.gateway().execute("print(6 * 7)")["stdout"] == "42\n"
    writes = world.gateway().try_execute("open('/mnt/data/a.txt', 'w').write('a')")
    upload = world.gateway().upload(("a.txt", b"a"))
    assert {(each.status, each.json["error"]) for each in (writes, upload)} == {(503, "store_unavailable")}
    assert {each.headers["Retry-After"] for each in (writes, upload)} == {"2"}
    world.s3.come_back()


def test_errors_of_s3_that_pass_are_passed_over_and_others_are_told(world: World) -> None:
    world.s3.proxy.fail = 1
    world.keep()
    world.s3.proxy.fail = 1
    assert world.gateway().execute("open('/mnt/data/a.txt', 'w').write('a')")["files"]
    world.s3.proxy.fail = -1
    upload = world.gateway().upload(("a.txt", b"a"))
    assert (upload.status, upload.json["error"]) == (503, "store_unavailable")
    world.s3.proxy.fail = 0


def test_while_s3_is_slow_nobody_waits_who_does_not_need_it(world: World) -> None:
    world.s3.stall("PUT")
    code = marked("5", "open('/mnt/data/a.txt', 'w').write('a')")
    slow = [world.background(stream, world.gateway(), code) for _ in range(3)]
    eventually(lambda: world.running() == 3)
    for _ in range(10):
        assert world.gateway().execute("print(6 * 7)")["stdout"] == "42\n"
    assert [each.done() for each in slow] == [False] * 3
    world.s3.flow()
    assert {each.result().what for each in slow} <= {"store_unavailable", "done"}


def test_a_session_that_is_deleted_while_it_is_being_saved_ends_when_it_is() -> None:
    with open_world(QUICK | {"GAOLER_STATE_HOT_BYTES": "0"}) as world:

        def puts() -> int:
            return [each.method for each in world.s3.proxy.seen].count("PUT")

        before = puts()
        world.s3.stall("PUT")
        session = world.gateway().execute("x = 41", stateful=True)["session_id"]
        eventually(lambda: puts() > before)
        assert world.holder(session)
        assert world.gateway().request("DELETE", f"/v1/sessions/{session}").status == 200
        world.s3.flow()
        eventually(lambda: not world.holder(session))


def test_a_worker_that_is_killed_loses_what_it_ran_and_nothing_else(world: World) -> None:
    gateway = world.gateway()
    session = gateway.execute("x = 41\nopen('/mnt/data/kept.txt', 'w').write('kept')", stateful=True)["session_id"]
    dying = world.holder(session)
    member = world.member(dying)
    eventually(lambda: any(f"session saved session={session}" in line for line in member.daemon.lines()))
    before = set(world.fleet.ledger())
    pinned = world.ask("g1", marked("6", SLOWER), session_id=session, stateful=True)
    others = [world.ask(name, marked("7", SLOW)) for name in ("g1", "g2") * 6]

    def all_run_some() -> bool:
        busy = Counter(line["worker"] for line in world.fleet.ledger().values() if line["state"] == "running")
        return pinned.has_begun and busy[dying] >= 2 and len(busy) == 2

    eventually(all_run_some)
    family = member.daemon.family()
    member.kill()
    told = [each.result() for each in (pinned, *others)]
    assert told[0].what == "execution_lost"
    all_end([each for each in told if each.what != "execution_lost"])
    # Who is told so had something that ran there, and had it to the end; nothing else is lost.
    lines = [line for job, line in world.fleet.ledger().items() if job not in before]
    assert {line["worker"] for line in lines if line["state"] == "lost"} == {dying}
    assert Counter(line["state"] for line in lines) == Counter(
        "lost" if each.what == "execution_lost" else "done" for each in told
    )
    after = gateway.execute("print(x + 1, open('kept.txt').read())", session_id=session, stateful=True)
    assert after["stdout"] == "42 kept\n"
    assert after["runtime_restored"]
    assert "the worker that had this session is gone: the variables are as they were" in after["stderr"]
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))
    remove_cgroups(member.home)
    world.start("worker", dying)
    world.fleet.wait_workers(world.member("g1"), 2)


def test_what_a_killed_gateway_had_asked_for_comes_to_an_end_and_another_one_serves(world: World) -> None:
    asked = world.ask("g2", marked("8", SLOWER))
    eventually(lambda: world.running() == 1)
    [job] = [job for job, line in world.fleet.ledger().items() if line["state"] == "running"]
    world.member("g2").kill()
    assert asked.result().what == "broken"
    assert stream(world.gateway(), marked("1")).what == "done"
    eventually(lambda: not world.unended())
    assert world.fleet.ledger()[job]["state"] in ("done", "failed", "cancelled")
    world.start("gateway", "g2")
    world.fleet.wait_workers(world.member("g2"), 2)


def test_a_gateway_and_a_worker_whose_clocks_are_an_hour_wrong_do_what_the_others_do(world: World) -> None:
    worker, gateway = skewed(world.fleet.home / "early", 3600.0), skewed(world.fleet.home / "late", -3600.0)
    world.start("worker", "w3", settings=worker)
    world.start("gateway", "g3", settings=gateway)
    world.fleet.wait_workers(world.member("g3"), 3)
    try:
        started = {each["name"]: each["started_at"] for each in world.member("g3").internal("workers").json["workers"]}
        assert started["w3"] - started["w1"] > 3000
        wrong = world.gateway("g3")
        done = [world.background(stream, wrong, marked("1", SLOW)) for _ in range(12)]
        all_end([each.result() for each in done])
        # Whoever is free takes what comes: the others may have taken all of it, but not for ever.
        for _ in range(100):
            if "w3" in {line.get("worker") for line in world.fleet.ledger().values()}:
                break
            all_end([stream(wrong, marked("1", "print('end')"))])
        assert "w3" in {line.get("worker") for line in world.fleet.ledger().values()}
        world.keep("g3")
        sessions: list[str] = []
        while len(sessions) < 8 or (len(sessions) < 100 and "w3" not in map(world.holder, sessions)):
            sessions.append(wrong.execute("x = 41", stateful=True)["session_id"])
        assert "w3" in map(world.holder, sessions)
        for session in sessions:
            again = world.gateway().execute("print(x + 1)", session_id=session, stateful=True)
            assert (again["stdout"], again.get("runtime_status")) == ("42\n", "reused"), again
        world.check()
    finally:
        for name in ("g3", "w3"):
            member = world.fleet.members.pop(name)
            member.daemon.stop()
            remove_cgroups(member.home)
    world.fleet.wait_workers(world.member("g1"), 2)


def test_when_the_primary_of_redis_is_lost_a_replica_has_all_that_was_acknowledged() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gt-redis-") as directory,
        run_redis(Path(directory, "0")) as primary,
        run_redis(Path(directory, "1"), replica_of=primary) as first,
        run_redis(Path(directory, "2"), replica_of=primary) as second,
        run_sentinel(Path(directory, "3"), primary, replicas=2, lost_seconds=4.0) as sentinel,
        open_world(
            QUICK
            | {
                "GAOLER_REDIS_REPLICAS": "1",
                "GAOLER_REDIS_REPLICA_SECONDS": "1",
                "GAOLER_REDIS_NODES": ",".join(f"127.0.0.1:{each.port}" for each in (primary, first, second)),
            },
            primary,
            sentinel.url,
        ) as world,
    ):
        for gateway in ("g1", "g2", "g1", "g2"):
            world.keep(gateway)
        session = world.gateway().execute("x = 41", stateful=True)["session_id"]
        heard: list[list[str]] = [[] for _ in range(4)]
        asked = [world.background(stream, world.gateway(), marked("1", SLOW), on_text=each.append) for each in heard]
        # Those that are only being begun would be refused: no replica may know of them. On a busy machine one already is.
        eventually(lambda: all(said or one.done() for said, one in zip(heard, asked, strict=True)))
        begun = [one for said, one in zip(heard, asked, strict=True) if said]
        primary.kill()
        [world.fleet.redis] = (each for each in (first, second) if _becomes_primary(sentinel, each, primary))
        assert begun
        all_end([each.result() for each in begun])
        assert {each.result().what for each in asked if each not in begun} <= HONEST
        # Until the sentinel has given the other replica to the new primary, nothing new is acknowledged.
        eventually(lambda: _keeps(world))
        # On a busy machine a heartbeat may be late, and then nobody knows where to run it for a moment.
        world.fleet.wait_workers(world.member("g1"), 2)
        again = world.gateway().execute("print(x + 1)", session_id=session, stateful=True)
        assert (again["stdout"], again.get("runtime_status")) == ("42\n", "reused"), again
        other = second if world.fleet.redis is first else first
        before = set(world.fleet.ledger())
        other.pause()
        assert stream(world.gateway(), marked("2", SLOW)).what == "store_unavailable"
        other.resume()
        eventually(lambda: not world.unended())
        states = {line["state"] for job, line in world.fleet.ledger().items() if job not in before}
        assert "done" not in states
        eventually(lambda: _keeps(world))
        world.check()


def _keeps(world: World) -> bool:
    return world.gateway().upload(("a.txt", b"a")).status == 200


def _becomes_primary(sentinel: Sentinel, server: RedisServer, before: RedisServer) -> bool:
    wait_until(lambda: sentinel.primary_port() != before.port, "the sentinel takes nobody else for the primary")
    return sentinel.primary_port() == server.port
