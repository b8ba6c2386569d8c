"""Operators of a fleet ask any gateway: executions that came through it, sessions, keys and usage of all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.admin.desk import Running, ask, following, send
from tests.daemon import ADMIN_KEY, KEY, eventually
from tests.fleet_world import Fleet, Member, run_fleet

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with run_fleet() as running:
        running.start("worker", "w1")
        running.start("gateway", "g1")
        running.start("gateway", "g2", settings={"GAOLER_ADMIN_KEY": ""})
        for gateway in running.gateways:
            running.wait_workers(gateway, 1)
        yield running


@pytest.fixture
def gateway(fleet: Fleet) -> Member:
    return fleet.members["g1"]


@pytest.fixture
def other(fleet: Fleet) -> Member:
    return fleet.members["g2"]


def test_a_gateway_tells_of_what_came_through_it_and_of_the_workers(gateway: Member) -> None:
    gateway.daemon.execute("open('a', 'w').write('x')", user="ann")
    found = ask(gateway.daemon, "overview")
    assert (found["role"], found["name"], found["image"]) == ("gateway", "g1", "")
    assert found["totals"]["outcomes"] == {"exited": 1}
    assert found["pools"] == []
    (worker,) = ask(gateway.daemon, "workers")["workers"]
    assert (worker["name"], worker["state"]) == ("w1", "ready")
    assert ask(gateway.daemon, "health")["status"] == "ok"
    (session,) = ask(gateway.daemon, "sessions")["sessions"]
    assert (session["owner"], session["files"], session["live"]) == ({"kind": "user", "id": "ann"}, 1, None)


def test_an_execution_is_followed_at_the_gateway_and_ended_on_its_worker(fleet: Fleet, gateway: Member) -> None:
    with following(gateway.daemon) as stream:
        stream.until("snapshot")
        running = Running(gateway.daemon, "import time\nwhile True: time.sleep(100)")
        record = stream.until("execution", kind="runs")["execution"]
        assert send(gateway.daemon, "POST", f"executions/{record['id']}/cancel").status == 202
        assert "An operator of this server has ended this execution." in running.answer().body.decode()
        assert stream.until("execution", kind="ended")["execution"]["outcome"] == "stopped"
    eventually(lambda: fleet.members["w1"].internal("status").json["running"] == 0)


def test_a_key_made_at_one_gateway_holds_at_all_and_use_is_added_up(gateway: Member, other: Member) -> None:
    answer = send(gateway.daemon, "POST", "keys", {"name": "shared", "tenant": "acme", "rates": {"exec": "2/600"}})
    assert (answer.status, answer.json["origin"]) == (201, "fleet")
    key = answer.json["key"]
    body = b'{"lang": "py", "code": "print(1)"}'
    headers = {"Content-Type": "application/json"}
    assert gateway.daemon.request("POST", "/v1/exec", body, headers, key=key).status == 200
    eventually(lambda: other.daemon.request("GET", "/v1/languages", key=key).status == 200)
    assert other.daemon.request("POST", "/v1/exec", body, headers, key=key).status == 200
    assert gateway.daemon.request("POST", "/v1/exec", body, headers, key=key).status == 429

    def executions() -> int:
        return sum(each["executions"] for each in ask(gateway.daemon, "usage?tenant=acme")["days"])

    eventually(lambda: executions() == 2)
    assert send(gateway.daemon, "DELETE", "keys/shared").status == 200
    assert gateway.daemon.request("GET", "/v1/languages", key=key).status == 401
    eventually(lambda: other.daemon.request("GET", "/v1/languages", key=key).status == 401)


def test_a_gateway_without_a_master_key_says_so(gateway: Member, other: Member) -> None:
    for key in (None, ADMIN_KEY):
        answer = other.daemon.request("GET", "/v1/admin/overview", key=key)
        assert (answer.status, answer.json["error"]) == (409, "no_admin_key")
    assert other.daemon.request("GET", "/v1/admin/overview", key=KEY).status == 403
    key = send(gateway.daemon, "POST", "keys", {"name": "operator", "admin": True}).json["key"]
    eventually(lambda: other.daemon.request("GET", "/v1/admin/overview", key=key).status == 200)


def test_rules_of_a_fleet_are_files(gateway: Member) -> None:
    assert ask(gateway.daemon, "pools") == {"pools": []}
    for method, path, body in (
        ("POST", "egress/remove", {"set": "a", "rule": {"hosts": ["a.example"], "reason": "a reason of it"}}),
        ("GET", "egress/log", None),
        ("POST", "egress/allow", {"set": "a", "rule": {"hosts": ["a.example"], "reason": "a reason of it"}}),
    ):
        answer = send(gateway.daemon, method, path, body)
        assert (answer.status, answer.json["error"]) == (409, "rules_are_files")


def test_a_worker_is_drained(gateway: Member, fleet: Fleet) -> None:
    assert send(gateway.daemon, "POST", "workers/nobody/drain").status == 404
    assert send(gateway.daemon, "POST", "workers/w1/drain").status == 202
    assert fleet.members["w1"].daemon.process.wait(timeout=60) == 0
    eventually(lambda: ask(gateway.daemon, "workers")["workers"] == [])
    assert ask(gateway.daemon, "health")["status"] == "unavailable"
