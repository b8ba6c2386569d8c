"""A fleet among enemies: who writes into Redis, a worker that lies, callers of one gateway against those of another."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from supervisor.connector.dialling import dial_directly
from supervisor.errors import Busy, ExecutionLost, Forbidden, GaolerError
from supervisor.execution.values import ExecutionRequest, Principal, SessionId
from supervisor.fleet.calls import Calls, Errand
from supervisor.fleet.lanes import worker_lane
from supervisor.fleet.manifest import Signer, new_key
from supervisor.fleet.messages import Ask, Done, Execute, Infos, StartProcess, WaitProcess
from supervisor.fleet.queue import JobQueue
from supervisor.fleet.replies import open_replies
from supervisor.fleet.worker import PINNED_EACH
from supervisor.redis_link.link import RedisLink, open_redis
from supervisor.settings.fleet import FleetSettings, RedisSettings
from tests.daemon import GAOLER, ROOT, Daemon, eventually
from tests.fleet.parts import record
from tests.fleet_world import SECRET, SERVICE_TOKEN, Fleet, Member, run_fleet
from tests.s3_server import SECRET_KEY

pytestmark = pytest.mark.root

REDIS_PASSWORD = "redis-password-of-the-tests-0123456789"
ALICE, BOB = "alice", "bob"
POOLED = 12
"""Connections that a process may have made meanwhile, to keep; fewer than there are executions in between."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with run_fleet() as world:
        world.start("worker", "w1", "w2")
        world.start("gateway", "g1", "g2")
        world.wait_workers(world.members["g1"], 2)
        world.wait_workers(world.members["g2"], 2)
        yield world
        # Whatever was done to it: nobody fell.
        assert [each.daemon.process.poll() for each in world.members.values()] == [None] * len(world.members)


@pytest.fixture
def front(fleet: Fleet) -> Daemon:
    return fleet.front()


@pytest.fixture
def writer(fleet: Fleet) -> Iterator[Any]:
    """Whoever can write into Redis."""
    with fleet.redis.client() as client:
        yield client


def empty(writer: Any, stream: str) -> bool:
    return not writer.xlen(stream)


def holder_of(fleet: Fleet, writer: Any, session: str) -> str:
    return str(writer.hget(key(fleet, "lease", session), "holder").decode())


def key(fleet: Fleet, *parts: str) -> str:
    return ":".join((f"{{{fleet.prefix}}}", *parts))


def pool(fleet: Fleet, writer: Any) -> str:
    """The lane that both workers read."""
    entry: Any = writer.hget(key(fleet, "workers"), "w1")
    return str(entry.decode().partition(" ")[2])


def works(front: Daemon) -> bool:
    return front.try_execute("print(1)").status == 200


def well(fleet: Fleet, front: Daemon) -> None:
    """Both gateways answer, both workers live."""
    eventually(lambda: works(front) and works(front))
    for gateway in fleet.gateways:
        fleet.wait_workers(gateway, 2)
    assert [each.daemon.process.poll() for each in fleet.members.values()] == [None] * len(fleet.members)


# -- who can write into Redis --


@pytest.mark.parametrize("what", ["queue", "watch", "replies"])
def test_keys_of_another_type_stop_nothing_for_longer_than_they_are_there(
    fleet: Fleet, front: Daemon, writer: Any, what: str
) -> None:
    well(fleet, front)
    lane = pool(fleet, writer)
    names = {
        "queue": [["due"], ["ledger"], ["waiting", lane], ["lane", lane], ["lane", "worker:w1"], ["running", "w1"]],
        "watch": [["workers"], ["gateways"], ["watch"], ["watch", "turn"], ["changes"], ["states"], ["control", "w1"]],
        "replies": [["replies", "g1"], ["replies", "g2"], ["pools"]],
    }[what]
    kept = {}
    for name in [key(fleet, *each) for each in names]:
        # In one step: the fleet makes it anew at any moment.
        with writer.pipeline() as pipe:
            pipe.dump(name)
            pipe.delete(name)
            if name == key(fleet, "replies", "g2"):
                # A stream that takes no more.
                pipe.xadd(name, {"x": "y"}, id=f"{2**64 - 1}-{2**64 - 1}")
            else:
                pipe.rpush(name, b"\xff")
            kept[name] = pipe.execute()[0]
    said = "Redis holds what is not ours"
    eventually(lambda: any(said in each.daemon.log_path.read_text() for each in fleet.gateways))
    assert front.try_execute("print(1)").status in (200, 429, 503)
    for name, before in kept.items():
        if before is None:
            writer.delete(name)
        else:
            writer.restore(name, 0, before, replace=True)
    well(fleet, front)


def test_values_that_nobody_of_ours_wrote_are_passed_over(fleet: Fleet, front: Daemon, writer: Any) -> None:
    lane = pool(fleet, writer)
    for name in (b"\xff\xfe", b"\x1b[31m\nroot", b"n" * 10_000):
        writer.hset(key(fleet, "workers"), name, b"ready pool:\xff")
        writer.sadd(key(fleet, "running", "w1"), name)
        writer.zadd(key(fleet, "due"), {name: 1})
        writer.zadd(key(fleet, "ledger"), {name: 1})
        writer.zadd(key(fleet, "states"), {name: 1})
        writer.set(b"%b:job:%b" % (key(fleet).encode(), name), b"a string")
    writer.sadd(key(fleet, "pools"), b"pool:\xff")
    writer.hset(key(fleet, "job", "half"), "state", "queued")
    writer.zadd(key(fleet, "due"), {"half": 1})
    writer.hset(key(fleet, "watch"), "since", "for ever")
    for number, written in enumerate(
        (b"\xc1", b"\x91" * 100_000 + b"\x01", b"\x81\xa4\xffame\xa1z", b"\xc6\xff\xff\xff\xff")
    ):
        writer.hset(key(fleet, "workers"), f"false{number}", "ready pool:x")
        writer.set(key(fleet, "alive", "worker", f"false{number}"), written, ex=5)
        writer.hset(key(fleet, "gateways"), f"false{number}", "1")
        writer.set(key(fleet, "alive", "gateway", f"false{number}"), written, ex=5)
    for fields in (
        {"kind": "event", "job": "x"},
        {"kind": "event", "job": "x", "number": "9" * 10_000},
        {"kind": "lost", "job": b"\xff", "payload": b"\xff"},
        {"x": "y" * 1_000_000},
    ):
        for gateway in ("g1", "g2"):
            writer.xadd(key(fleet, "replies", gateway), fields)
    entries: tuple[dict[Any, Any], ...] = (
        {"x": "y"},
        {"job": "a", "signed": b"1", "body": b"", "gateway": "g1", "expires": "9" * 400},
        {"job": b"\xff", "signed": b"1", "body": b"", "gateway": "g1", "expires": "9"},
        {"job": "j" * 100_000, "signed": b"\x92" * 300_000, "body": b"", "gateway": "g1", "expires": "9"},
        {"job": "j", "signed": b"\x91" * 100_000, "body": b"\x91" * 100_000, "gateway": "g1", "expires": "9"},
    )
    for fields in entries:
        for each in (lane, "worker:w1", "worker:w2"):
            writer.xadd(key(fleet, "lane", each), fields)
    eventually(lambda: writer.zcard(key(fleet, "due")) == 0)
    eventually(lambda: writer.xlen(key(fleet, "lane", lane)) == 0)
    well(fleet, front)
    writer.srem(key(fleet, "pools"), b"pool:\xff")
    for member in fleet.members.values():
        text = member.daemon.log_path.read_bytes()
        assert b"\x1b" not in text
        assert max(map(len, text.splitlines())) < 6000


def test_ten_thousand_entries_that_are_no_jobs_are_dropped_and_work_goes_on(
    fleet: Fleet, front: Daemon, writer: Any
) -> None:
    lane = pool(fleet, writer)
    with writer.pipeline(transaction=False) as pipe:
        for number in range(10_000):
            fields = {"job": f"j{number}", "gateway": "g1", "expires": "1", "signed": "", "body": ""}
            given: dict[Any, Any] = {"x": "y"} if number % 10 else dict(fields)
            pipe.xadd(key(fleet, "lane", lane), given)
        pipe.execute()
    eventually(lambda: writer.xlen(key(fleet, "lane", lane)) == 0)
    well(fleet, front)
    refused = [each for each in fleet.members["w1"].daemon.lines() if "job refused" in each]
    assert len(refused) < 200


@asynccontextmanager
async def calls_of(fleet: Fleet, kid: str, pem: bytes, *, policy: str = "default") -> AsyncIterator[Calls]:
    """A gateway of the test's own, with this key."""
    given = RedisSettings(url=fleet.redis.url, prefix=fleet.prefix)
    async with open_redis(given, dial_directly) as link, open_replies(link, "captured", check_seconds=0.2) as replies:
        yield await _calls(link, replies, Signer(kid, pem), policy)


async def _calls(link: RedisLink, replies: Any, signer: Signer, policy: str) -> Calls:
    offset = await link.time() - trio.current_time()
    queue = JobQueue(link, FleetSettings(), "captured")
    clock = lambda: trio.current_time() + offset  # noqa: E731 - a clock
    return Calls(queue, replies, signer, clock, gateway="captured", policy=policy)


def its_key(fleet: Fleet) -> bytes:
    return (fleet.home / "keys" / "test.pem").read_bytes()


def execution(code: str, user: str = ALICE, **more: Any) -> Execute:
    request = ExecutionRequest(Principal("default", "default", user), "python", code, **more)
    return Execute(request, listens=False)


@pytest.mark.parametrize("what", ["another key", "unknown key", "another policy"])
async def test_a_job_that_no_gateway_of_ours_signed_for_this_is_refused(fleet: Fleet, what: str) -> None:
    kid = "unknown" if what == "unknown key" else "test"
    pem = its_key(fleet) if what == "another policy" else new_key()[0]
    async with calls_of(fleet, kid, pem, policy="other" if what == "another policy" else "default") as calls:
        with pytest.raises(Forbidden):
            await calls.ask(Errand(execution("print(1)"), 20.0), worker_lane("w1"))


async def test_a_job_that_was_done_is_not_done_again_by_either_lane_when_the_ledger_forgets_it(
    fleet: Fleet, front: Daemon, writer: Any
) -> None:
    began = front.execute("open('runs', 'w').write('')", user=ALICE, stateful=True)
    session = SessionId(began["session_id"])
    holder = holder_of(fleet, writer, session)
    lane = worker_lane(holder)
    code = "import time; open('runs', 'a').write('x'); time.sleep(4)"
    found: list[dict[bytes, bytes]] = []
    async with calls_of(fleet, "test", its_key(fleet)) as calls, trio.open_nursery() as nursery:
        nursery.start_soon(calls.ask, Errand(execution(code, session_id=session, stateful=True), 20.0), lane)
        with trio.fail_after(20):
            while not found:
                await trio.sleep(0.01)  # it is there until it is done
                found = [each for _, each in writer.xrange(key(fleet, "lane", lane)) if b"'a'" in each[b"body"]]
    (entry,) = found
    job = entry[b"job"].decode()
    for again in (lane, pool(fleet, writer)):
        line: Any = writer.hgetall(key(fleet, "job", job))
        writer.delete(key(fleet, "job", job))
        forged = line | {b"state": b"queued", b"lane": again.encode(), b"entry": b"99999999999999-1"}
        writer.hset(key(fleet, "job", job), mapping=forged)
        writer.xadd(key(fleet, "lane", again), entry, id="99999999999999-1")
        eventually(partial(empty, writer, key(fleet, "lane", again)))
    assert front.execute("print(open('runs').read())", user=ALICE, session_id=session, stateful=True)["stdout"] == "x\n"


# -- a worker that lies --


def test_thousands_of_workers_that_are_none_are_bounded_and_take_no_work(
    fleet: Fleet, front: Daemon, writer: Any
) -> None:
    with writer.pipeline(transaction=False) as pipe:
        for number in range(5000):
            told = record(f"false{number}", policy="another", places=1_000_000, pool=f"p{number}")
            pipe.hset(key(fleet, "workers"), told.name, "gone")
            pipe.set(key(fleet, "alive", "worker", told.name), msgspec.msgpack.encode(told), ex=600)
        for number, lie in enumerate(({"places": -5}, {"places": 1 << 62}, {"name": "a\nb"}, {"pool": "x" * 10_000})):
            name = f"lie{number}"
            pipe.hset(key(fleet, "workers"), name, "gone")
            written = msgspec.to_builtins(record(name, policy="default")) | lie
            pipe.set(key(fleet, "alive", "worker", name), msgspec.msgpack.encode(written), ex=600)
        pipe.execute()
    seen = fleet.members["g1"]
    eventually(lambda: len(seen.internal("workers").json["workers"]) > 4000)
    assert works(front)
    assert not [each for each in seen.internal("workers").json["workers"] if each["name"].startswith("lie")]
    for said in ("false*", "lie*"):
        writer.delete(*writer.scan_iter(match=f"[{{]{fleet.prefix}[}}]:alive:worker:{said}", count=1000))
    eventually(lambda: len(seen.internal("workers").json["workers"]) == 2)
    well(fleet, front)


def test_a_catalogue_under_a_name_that_is_not_its_own_is_not_read(fleet: Fleet, front: Daemon, writer: Any) -> None:
    for name in writer.scan_iter(match=f"[{{]{fleet.prefix}[}}]:catalogue:*"):
        kept: Any = writer.get(name)
        writer.set(name, b"\xff" * 100, ex=600)
        assert works(front)
        writer.set(name, kept, ex=86_400)
    well(fleet, front)


async def test_who_asks_much_of_one_worker_leaves_others_their_part_of_it(
    fleet: Fleet, front: Daemon, writer: Any
) -> None:
    who = Principal("default", "default", ALICE)
    began = front.execute("x = 1", user=ALICE, stateful=True)
    session = SessionId(began["session_id"])
    lane = worker_lane(holder_of(fleet, writer, session))
    refused: list[GaolerError] = []
    async with calls_of(fleet, "test", its_key(fleet)) as calls:
        started = await calls.ask(Errand(StartProcess(who, session, "sleep 60", None), 20.0), lane)
        assert isinstance(started, Infos)
        wait = WaitProcess(who, session, started.infos[0].id, 60.0)
        async with trio.open_nursery() as nursery:
            for _ in range(PINNED_EACH + 20):
                nursery.start_soon(_ask, calls, wait, lane, refused)
            with trio.fail_after(30):
                while len(refused) < 20:  # noqa: ASYNC110 - of other tasks
                    await trio.sleep(0.02)
            other = Principal("default", "default", BOB)
            listed = await calls.ask(Errand(Execute(ExecutionRequest(other, "python", "1"), listens=False), 20.0), lane)
            assert not isinstance(listed, Done)
            nursery.cancel_scope.cancel()
    assert {type(each) for each in refused} == {Busy}


async def _ask(calls: Calls, ask: Ask, lane: str, refused: list[GaolerError]) -> None:
    try:
        await calls.ask(Errand(ask, 20.0), lane)
    except ExecutionLost:
        return
    except GaolerError as error:
        refused.append(error)


# -- callers --


def test_a_stranger_takes_no_lease_makes_no_sandbox_and_learns_nothing(
    fleet: Fleet, front: Daemon, writer: Any
) -> None:
    resting = front.upload(("a.txt", b"1"), user=ALICE).json["session_id"]
    live = front.execute("x = 1", user=ALICE, stateful=True)["session_id"]
    nothing = "A" * 21
    leases = set(writer.scan_iter(match=f"[{{]{fleet.prefix}[}}]:lease:*"))
    holder = writer.hgetall(key(fleet, "lease", live))
    answers = {}
    for name, session in (("resting", resting), ("live", live)):
        answers[name] = front.try_execute("print(1)", user=BOB, stateful=True, session_id=session)
    assert {(each.status, each.body) for each in answers.values()} == {(404, answers["live"].body)}
    assert not writer.exists(key(fleet, "lease", resting))
    assert writer.hgetall(key(fleet, "lease", live)) == holder
    for method, path in (("GET", "/v1/files/{}"), ("DELETE", "/v1/sessions/{}"), ("GET", "/v1/sessions/{}/objects/x")):
        said = [
            front.request(method, path.format(each), headers={"X-User-Id": BOB}) for each in (resting, live, nothing)
        ]
        assert len({(each.status, each.body) for each in said}) == 1, (method, path)
    assert set(writer.scan_iter(match=f"[{{]{fleet.prefix}[}}]:lease:*")) == leases
    assert front.execute("print(x)", user=ALICE, stateful=True, session_id=live)["stdout"] == "1\n"


def test_a_rate_holds_for_all_gateways_together(fleet: Fleet) -> None:
    rated = fleet.start("gateway", "g3", "g4", settings={"GAOLER_RATES_EXEC": "4/600"})
    try:
        said = [rated[number % 2].daemon.try_execute("1", user="carol").status for number in range(6)]
        assert said == [200] * 4 + [429] * 2
        assert rated[0].daemon.try_execute("1", user="dave").status == 200
    finally:
        for member in rated:
            member.daemon.stop()
            del fleet.members[member.name]


def test_a_token_for_a_worker_that_is_none_or_another_leads_nowhere(front: Daemon) -> None:
    headers = {"Content-Type": "application/json"}
    for token in ("w1~x", "w2~", "nobody~x", "~", "w" * 10_000 + "~x", "w1\n~x", "../w1~x", "\ud800~x"):
        body = json.dumps({"continuation_token": token, "tool_results": []}).encode()
        for user in (ALICE, BOB):
            answer = front.request("POST", "/v1/exec/programmatic", body, headers | {"X-User-Id": user})
            assert 400 <= answer.status < 500, (token, answer.body)


# -- /internal --


@pytest.mark.parametrize("name", ["g1", "w1"])
def test_no_spelling_of_a_path_or_token_opens_the_internal_door(fleet: Fleet, name: str) -> None:
    daemon = fleet.members[name].daemon
    shown = ["", SERVICE_TOKEN[:-1], SERVICE_TOKEN + " x", SERVICE_TOKEN.upper(), daemon.api_key, SECRET, "\u00e9" * 40]
    tried = [f"Bearer {each}" for each in shown] + [SERVICE_TOKEN, f"bearer{SERVICE_TOKEN}", f"Basic {SERVICE_TOKEN}"]
    for header in tried:
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"):
            answer = daemon.request(
                method, "/internal/v1/drain", headers={"Authorization": header.encode().decode("latin-1")}
            )
            assert answer.status == 401, (method, header)
    right = {"Authorization": f"Bearer {SERVICE_TOKEN}"}
    for path in (
        "",
        "//internal/v1/status",
        "/internal//v1/status",
        "/INTERNAL/v1/status",
        "/v1/internal/v1/status",
        "/internal%2fv1/status",
        "/%69nternal/v1/status",
        "/internal/v1/status/",
        "/a/../internal/v1/status",
    ):
        answer = daemon.request("GET", path or "/internal/v1/status", key=None)
        assert answer.status in (401, 404), path
        assert b"role" not in answer.body
    big = daemon.request("POST", "/internal/v1/status", b"x" * 1_000_000, {"Authorization": "Bearer no"})
    assert big.status == 401
    if name == "w1":
        for path in ("/v1/exec", "/v1/upload", "/mcp", "/v1/files/x", "/docs", "/openapi.json", "/metrics"):
            assert daemon.request("POST", path, b"{}", right).status in (404, 405), path
    assert fleet.members[name].internal("status").status == 200


# -- secrets --


def test_no_secret_of_the_fleet_is_told_or_lies_where_others_look(fleet: Fleet, front: Daemon) -> None:
    well(fleet, front)
    private = its_key(fleet).splitlines()[1]
    hidden = [SECRET.encode(), SERVICE_TOKEN.encode(), SECRET_KEY.encode(), private]
    for member in fleet.members.values():
        told = [member.daemon.log_path.read_bytes(), *_told(member)]
        for pid in member.daemon.family():
            if pid != member.daemon.process.pid:
                told += [_read(Path("/proc") / str(pid) / "environ")]
            told += [_read(Path("/proc") / str(pid) / "cmdline")]
        for secret in hidden:
            assert not [each for each in told if secret in each], (member.name, secret)
    worker = fleet.members["w1"].daemon
    for pid in worker.family():
        assert not _read(Path(f"/proc/{pid}/root{fleet.home}/keys/test.pem"))


def _told(member: Member) -> list[bytes]:
    return [member.internal(each).body for each in ("status", "workers", "queue", "metrics")]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_settings_are_shown_without_what_is_secret_in_them(fleet: Fleet) -> None:
    given = fleet.settings("gateway", "g9") | {"GAOLER_REDIS_PASSWORD": REDIS_PASSWORD}
    given["GAOLER_REDIS_URL"] = f"redis://:{REDIS_PASSWORD}x@127.0.0.1:1/0"
    shown = subprocess.run(
        [*GAOLER, "settings"],
        env={"PATH": os.environ["PATH"], "GAOLER_API_KEY": "api-key-of-the-tests-0123", **given},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    text = shown.stdout + shown.stderr
    assert b"fleet" in text
    for secret in (SECRET, SERVICE_TOKEN, SECRET_KEY, REDIS_PASSWORD):
        assert secret.encode() not in text


# -- nothing is left --


def test_nothing_grows_with_executions_sessions_cancellations_and_hang_ups(
    fleet: Fleet, front: Daemon, writer: Any
) -> None:
    def use(count: int) -> None:
        for number in range(count):
            front.execute("print(1)", user=ALICE)
            made = front.execute("open('a', 'w').write('1')", user=ALICE, stateful=True)["session_id"]
            assert front.request("DELETE", f"/v1/sessions/{made}", headers={"X-User-Id": ALICE}).status in (200, 204)
            if number % 2:
                _hang_up(front)

    use(3)
    well(fleet, front)
    before, kept = _standing(fleet), _lasting(fleet, writer)
    use(10)
    well(fleet, front)

    def as_before() -> bool:
        now = _standing(fleet)
        return all(now[name] <= before[name] + POOLED for name in before) and _lasting(fleet, writer) <= kept

    try:
        eventually(as_before)
    except AssertionError:
        raise AssertionError((before, _standing(fleet), _lasting(fleet, writer) - kept)) from None


def _hang_up(front: Daemon) -> None:
    connection = front.connection()
    body = json.dumps({"lang": "py", "code": "import time; time.sleep(30)"})
    connection.request("POST", "/v1/exec", body, {"Content-Type": "application/json", "X-API-Key": front.api_key})
    connection.close()


def _standing(fleet: Fleet) -> dict[str, int]:
    """Descriptors of each process, its connections to Redis among them, and sessions in memory."""
    found = {}
    for member in fleet.members.values():
        found[member.name] = len(os.listdir(f"/proc/{member.daemon.process.pid}/fd"))
    for each in fleet.members["g1"].internal("workers").json["workers"]:
        found[each["name"] + " live"] = each["live_sessions"]
    return found


def _lasting(fleet: Fleet, writer: Any) -> set[bytes]:
    """Keys that do not go by themselves."""
    names = writer.scan_iter(match=f"[{{]{fleet.prefix}[}}]:*", count=1000)
    return {
        bytes(name) for name in names if writer.ttl(name) == -1 and not re.search(rb":(ledger|due|pools|waiting)", name)
    }
