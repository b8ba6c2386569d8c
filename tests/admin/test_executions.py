"""Operators see what is executed, as it happens, and can end it; nobody else can."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.admin.desk import Running, ask, following, send
from tests.daemon import ADMIN_KEY, KEY, Daemon, daemon_with, eventually

pytestmark = pytest.mark.root

READS = ("overview", "pools", "health", "executions", "egress")
HOSTILE = """
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(15, b"hostile-program")
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
while True:
    time.sleep(1000)
"""


def test_an_overview_tells_what_the_daemon_is_and_does(daemon: Daemon) -> None:
    daemon.execute("print(1)", user="ann")
    found = ask(daemon, "overview")
    assert (found["role"], found["policy"]) == ("all", "default")
    assert found["started_at"] < found["now"]
    assert found["load"]["places"] == 8
    assert found["load"]["running"] == 0
    assert found["load"]["memory_free_bytes"] > 0
    assert {each["profile"] for each in found["pools"]} == {None, "python"}
    assert all(0 <= each["waiting"] <= each["ceiling"] for each in found["pools"])
    assert found["totals"]["outcomes"]["exited"] >= 1
    assert found["latencies"]["whole"]["p99"] >= found["latencies"]["whole"]["p50"] > 0
    assert (len(found["per_minute"]), sum(found["per_minute"])) == (60, found["totals"]["executions"])


def test_pools_are_told_on_their_own_too(daemon: Daemon) -> None:
    found = ask(daemon, "pools")["pools"]
    assert {each["profile"] for each in found} == {None, "python"}
    assert all(0 <= each["floor"] <= each["ceiling"] for each in found)
    kept = [{name: each[name] for name in ("policy", "profile", "floor", "ceiling")} for each in found]
    assert kept == [{name: each[name] for name in kept[0]} for each in ask(daemon, "overview")["pools"]]


def test_all_is_well_with_a_new_daemon(daemon: Daemon) -> None:
    found = ask(daemon, "health")
    assert found["status"] == "ok"
    assert {"jailer", "store", "memory", "disk"} <= {each["name"] for each in found["checks"] if each["ok"]}


def test_who_ran_what_and_how_it_ended_is_told_and_not_its_content(daemon: Daemon) -> None:
    daemon.execute("print('secret-' + 'output'); raise SystemExit(7)", user="bob")
    answer = daemon.request("GET", "/v1/admin/executions?state=recent&limit=1", key=ADMIN_KEY)
    (record,) = answer.json["recent"]
    assert answer.json["running"] == []
    assert (record["user"], record["language"], record["outcome"], record["detail"]) == ("bob", "py", "exited", "7")
    assert (record["tenant"], record["credential"], record["door"]) == ("default", "default", "http")
    assert b"secret-" not in answer.body


def test_a_follower_sees_an_execution_begin_run_and_end(daemon: Daemon) -> None:
    with following(daemon) as stream:
        snapshot = stream.until("snapshot")
        assert snapshot["running"] == []
        daemon.execute("print(1)", user="carol")
        began = stream.until("execution", kind="began")["execution"]
        assert (began["user"], began["state"]) == ("carol", "waiting")
        assert stream.until("execution", kind="runs")["execution"]["id"] == began["id"]
        ended = stream.until("execution", kind="ended")["execution"]
        assert (ended["id"], ended["outcome"]) == (began["id"], "exited")
        assert stream.until("overview")["load"]["running"] == 0


def test_more_followers_than_may_are_refused_and_one_who_leaves_makes_room(daemon: Daemon) -> None:
    def attempt() -> int:
        connection = daemon.connection()
        connection.request("GET", "/v1/admin/executions/events", headers={"X-API-Key": ADMIN_KEY})
        response = connection.getresponse()
        connection.close()
        return response.status

    with following(daemon) as first, following(daemon) as second:
        first.until("snapshot")
        second.until("snapshot")
        assert attempt() == 429
    eventually(lambda: attempt() == 200)


def test_cancelling_kills_a_program_that_forks_and_ignores_signals(daemon: Daemon) -> None:
    with following(daemon) as stream:
        stream.until("snapshot")
        running = Running(daemon, HOSTILE, user="mallory")
        record = stream.until("execution", kind="runs")["execution"]
        name = f"executions/{record['id']}/cancel"
        eventually(lambda: daemon.names().count("hostile-program") >= 20)
        answer = send(daemon, "POST", name)
        assert (answer.status, answer.json) == (202, {"cancelled": True})
        told = running.answer()
        assert told.status == 200
        assert "An operator of this server has ended this execution." in told.body.decode()
        ended = stream.until("execution", kind="ended")["execution"]
    assert (ended["outcome"], ended["detail"]) == ("stopped", "admin_key")
    eventually(lambda: "hostile-program" not in daemon.names())
    assert send(daemon, "POST", name).status == 404


def test_an_execution_that_is_not_there_cannot_be_cancelled(daemon: Daemon) -> None:
    answer = send(daemon, "POST", f"executions/{'x' * 21}/cancel")
    assert (answer.status, answer.json["error"], answer.json["field"]) == (404, "not_found", "execution")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"limit={value}", "limit") for value in ("0", "1001", "-1", "ten", "1e3", "%D9%A3", "")),
        *((f"state={value}", "state") for value in ("RUNNING", "", "done")),
    ],
)
def test_bad_queries_are_told_which_part_is_wrong(daemon: Daemon, query: str, field: str) -> None:
    answer = daemon.request("GET", f"/v1/admin/executions?{query}", key=ADMIN_KEY)
    assert (answer.status, answer.json["field"]) == (400, field)


def test_the_master_key_opens_the_admin_api_and_runs_no_code(daemon: Daemon) -> None:
    refused = daemon.request("POST", "/v1/exec", b'{"lang": "py", "code": "1"}', key=ADMIN_KEY)
    assert (refused.status, refused.json["error"]) == (403, "forbidden")
    assert "running code needs an API key" in refused.json["message"]
    for path in READS:
        for prefix in ("", "/v1"):
            assert daemon.request("GET", f"{prefix}/admin/{path}", key=ADMIN_KEY).status == 200
            assert daemon.request("GET", f"{prefix}/admin/{path}", key=KEY).status == 403
            assert daemon.request("GET", f"{prefix}/admin/{path}", key="nonsense").status == 401
            assert daemon.request("GET", f"{prefix}/admin/{path}", key=None).status == 401
    bearer = {"Authorization": f"Bearer {ADMIN_KEY}"}
    assert daemon.request("GET", "/v1/admin/overview", headers=bearer, key=None).status == 200
    tool_call = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
    assert daemon.request("POST", "/mcp", tool_call, {"Content-Type": "application/json"}, key=ADMIN_KEY).status == 403


def test_without_authentication_operators_are_asked_all_the_same_and_hear_the_end(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_HTTP_AUTHENTICATION": "false", "GAOLER_ADMIN_KEY": ""}) as daemon:
        assert daemon.try_execute("print(1)").status == 200
        kept = daemon.state_dir / "admin_key"
        assert kept.stat().st_mode & 0o777 == 0o600
        master = kept.read_text().strip()
        for path in ("/v1/admin/overview", "/admin/executions/events", "/metrics"):
            assert daemon.request("GET", path, key=None).status == 401
            assert daemon.request("GET", path, key=KEY).status == 403
            assert daemon.request("GET", path, key="nonsense").status == 401
        assert ask(daemon, "overview", key=master)["load"]["running"] == 0
        with following(daemon, key=master) as stream:
            stream.until("snapshot")
            daemon.process.terminate()
            assert all(kind in ("overview", "execution") for kind, _ in stream)
            assert daemon.process.wait(timeout=30) == 0
