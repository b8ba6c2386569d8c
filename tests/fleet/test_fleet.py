"""What a fleet's callers and operators see: sessions that move, workers that leave, daemons side by side."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import GAOLER, ROOT, Daemon, daemon_with, eventually, image_path
from tests.fleet_world import SECRET, SERVICE_TOKEN, Fleet, Member, run_fleet

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with run_fleet() as world:
        world.start("worker", "w1", "w2")
        (gateway,) = world.start("gateway", "g1")
        world.wait_workers(gateway, 2)
        yield world


@pytest.fixture
def front(fleet: Fleet) -> Daemon:
    return fleet.front()


def stateful(front: Daemon, code: str, session: str | None = None) -> dict[str, Any]:
    return front.execute(code, stateful=True, **({"session_id": session} if session else {}))


def holder(fleet: Fleet, session: str) -> str | None:
    with fleet.redis.client() as client:
        found = client.hget(f"{{{fleet.prefix}}}:lease:{session}", "holder")
    return None if found is None else bytes(found).decode()


def test_a_session_stays_with_its_worker_and_moves_when_that_is_drained(fleet: Fleet, front: Daemon) -> None:
    began = stateful(front, "x = 41; open('kept.txt', 'w').write('y')\n")
    session = began["session_id"]
    name = holder(fleet, session)
    assert name in ("w1", "w2")
    assert stateful(front, "print(x + 1)", session)["stdout"] == "42\n"
    assert holder(fleet, session) == name
    leaving = fleet.members[str(name)]
    assert leaving.internal("drain", "POST").status == 202
    assert leaving.daemon.process.wait(30) == 0
    moved = stateful(front, "print(x + 1, open('kept.txt').read())", session)
    assert moved["stdout"].startswith("42 y\n"), moved
    assert moved["runtime_restored"]
    # It was handed over: nothing was lost, and nothing is said of a loss.
    assert "is gone" not in moved["stderr"]
    assert holder(fleet, session) not in (None, name)
    fleet.start("worker", str(name))
    fleet.wait_workers(fleet.members["g1"], 2)


def test_what_runs_on_a_worker_that_is_drained_is_finished_and_nothing_new_is_begun_there(fleet: Fleet) -> None:
    gateway = fleet.members["g1"]
    front = fleet.front()
    connection = front.connection()
    body = json.dumps({"lang": "py", "code": "import time; time.sleep(8); print('done')"})
    headers = {"Content-Type": "application/json", "X-API-Key": front.api_key}
    connection.request("POST", "/v1/exec", body, headers)
    busy: list[Member] = []

    def found() -> bool:
        workers = gateway.internal("workers").json["workers"]
        busy[:] = [fleet.members[each["name"]] for each in workers if each["running"]]
        return len(busy) == 1

    eventually(found)
    (worker,) = busy
    assert worker.internal("drain", "POST").status == 202
    eventually(lambda: "draining" in [each["state"] for each in gateway.internal("workers").json["workers"]])
    for _ in range(4):
        assert front.execute("print(1)")["stdout"] == "1\n"
    answer = connection.getresponse()
    assert json.loads(answer.read())["stdout"] == "done\n"
    connection.close()
    assert worker.daemon.process.wait(30) == 0
    fleet.start("worker", worker.name)
    fleet.wait_workers(gateway, 2)


def test_a_session_of_a_killed_worker_goes_on_elsewhere_and_its_caller_is_told(fleet: Fleet, front: Daemon) -> None:
    session = stateful(front, "x = [1, 2]")["session_id"]
    name = str(holder(fleet, session))
    eventually(lambda: f"session saved session={session}" in fleet.members[name].daemon.log_path.read_text())
    fleet.members[name].kill()

    def goes_on() -> bool:
        answer = front.try_execute("print(x)", stateful=True, session_id=session)
        if answer.status == 200:
            told.append(answer.json)
        else:
            assert answer.status in (429, 503), answer.body
        return bool(told)

    told: list[dict[str, Any]] = []
    eventually(goes_on)
    assert told[0]["stdout"].startswith("[1, 2]\n"), told
    assert told[0]["runtime_restored"]
    assert "the worker that had this session is gone" in told[0]["stderr"] + told[0]["stdout"]
    fleet.start("worker", name)
    fleet.wait_workers(fleet.members["g1"], 2)


def test_the_sandbox_of_a_deleted_session_ends_wherever_it_is(fleet: Fleet, front: Daemon) -> None:
    session = stateful(front, "1")["session_id"]
    deleted = front.request("DELETE", f"/v1/sessions/{session}")
    assert deleted.status in (200, 204), deleted.body
    eventually(lambda: holder(fleet, session) is None)


def test_the_internal_door_asks_for_the_service_token_in_every_role(fleet: Fleet) -> None:
    for member in (fleet.members["w1"], fleet.members["g1"]):
        for token in (None, "", SERVICE_TOKEN[:-1], SERVICE_TOKEN + "x", member.daemon.api_key):
            assert member.internal("status", token=token).status == 401
            assert member.internal("nothing", token=token).status == 401
        assert member.internal("status").json["name"] == member.name
        assert member.internal("nothing").status == 404
    assert fleet.members["g1"].internal("drain", "POST").status == 409
    assert fleet.members["w1"].daemon.request("POST", "/v1/exec", b"{}").status == 404


def test_without_a_service_token_nobody_is_let_in(daemon: Daemon) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {daemon.api_key}"}):
        assert daemon.request("GET", "/internal/v1/status", headers=headers).status == 401


def test_figures_of_the_fleet_are_given_to_operators(fleet: Fleet) -> None:
    figures = fleet.members["g1"].internal("metrics").body.decode()
    assert 'gaoler_workers{state="ready"} 2' in figures
    assert "gaoler_queue_length" in figures
    assert "gaoler_redis_reachable 1" in figures


def test_a_key_holds_at_all_gateways_until_it_is_revoked(fleet: Fleet) -> None:
    def keys(*arguments: str) -> str:
        settings = {key: value for key, value in fleet.settings("gateway", "g1").items() if "FLEET_" not in key}
        environment = {"PATH": os.environ["PATH"], "GAOLER_STATE_DIR": str(fleet.home / "operator"), **settings}
        command = [*GAOLER, "keys", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout

    gateway = fleet.members["g1"].daemon
    secret = keys("add", "chat", "--tenant", "chat").strip()

    def status() -> int:
        return gateway.request("GET", "/v1/languages", key=secret).status

    eventually(lambda: status() == 200)
    assert "chat" in keys("list")
    with fleet.redis.client() as client:
        assert secret.encode() not in client.get(f"{{{fleet.prefix}}}:keys")
    keys("revoke", "chat")
    eventually(lambda: status() == 401)


def test_two_whole_daemons_share_sessions_and_files(fleet: Fleet) -> None:
    shared = {
        **{key: value for key, value in fleet.settings("worker", "").items() if "FLEET" not in key},
        "GAOLER_FLEET_SECRET": SECRET,
        "GAOLER_FLEET_HEARTBEAT_SECONDS": "0.5",
        "GAOLER_FLEET_LOST_SECONDS": "6",
        "GAOLER_FLEET_LEASE_SECONDS": "9",
        "GAOLER_REDIS_PREFIX": "daemons",
    }
    with daemon_with(image_path(), shared) as one, daemon_with(image_path(), shared) as other:
        began = stateful(one, "x = 7; open('a.txt', 'w').write('a')\n")
        session = began["session_id"]
        file = began["files"][0]
        assert other.request("GET", f"/v1/download/{session}/{file['id']}").body == b"a"
        refused = other.try_execute("print(x)", stateful=True, session_id=session)
        assert refused.status == 429, refused.body
        assert "lives on" in refused.json["message"]
        assert stateful(one, "print(x)", session)["stdout"] == "7\n"
        one.stop()
        taken = stateful(other, "print(x)", session)
        assert taken["stdout"].startswith("7\n"), taken
        assert taken["runtime_restored"]
        # Ended already.
        one.process.returncode = 0
        one.stop = lambda: None  # type: ignore[method-assign]
