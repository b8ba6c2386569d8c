"""What operators change holds at once, is written down, and says which field is wrong."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.admin.desk import ask, send
from tests.daemon import ADMIN_KEY, KEY, Daemon, eventually
from tests.mcp import connected

pytestmark = pytest.mark.root


def gaoler(daemon: Daemon, *arguments: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", "GAOLER_STATE_DIR": str(daemon.state_dir)}
    command = [sys.executable, "-m", "supervisor", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_key(daemon: Daemon, name: str, **fields: Any) -> str:
    answer = send(daemon, "POST", "keys", {"name": name, **fields})
    assert answer.status == 201, answer.body
    return str(answer.json["key"])


def run_as(daemon: Daemon, key: str, *, user: str = "ann") -> int:
    headers = {"Content-Type": "application/json", "X-User-Id": user}
    body = b'{"lang": "py", "code": "print(1)"}'
    return daemon.request("POST", "/v1/exec", body, headers, key=key).status


def test_a_key_holds_from_when_it_is_made_until_it_is_revoked(daemon: Daemon) -> None:
    key = make_key(daemon, "made", tenant="acme")
    assert run_as(daemon, key) == 200
    assert send(daemon, "GET", "overview", key=key).status == 403
    listed = {each["name"]: each for each in ask(daemon, "keys")["keys"]}
    assert (listed["made"]["tenant"], listed["made"]["origin"], listed["made"]["admin"]) == ("acme", "file", False)
    assert {listed[name]["origin"] for name in ("default", "admin_key")} == {"settings"}
    assert key not in json.dumps(listed)
    assert {each["name"] for each in json.loads(gaoler(daemon, "keys", "list", "--json"))} >= {"made"}
    assert send(daemon, "DELETE", "keys/made").json == {"revoked": True}
    assert run_as(daemon, key) == 401
    answer = send(daemon, "DELETE", "keys/made")
    assert (answer.status, answer.json["field"]) == (404, "name")


def test_a_key_of_an_operator_may_do_what_the_master_key_may(daemon: Daemon) -> None:
    key = make_key(daemon, "second-operator", admin=True)
    assert ask(daemon, "overview", key=key)["role"] == "all"
    assert run_as(daemon, key) == 200
    assert send(daemon, "DELETE", "keys/second-operator", key=key).status == 200
    assert send(daemon, "GET", "overview", key=key).status == 401


def test_keys_of_the_settings_are_not_revoked_here(daemon: Daemon) -> None:
    for name in ("default", "admin_key"):
        assert send(daemon, "DELETE", f"keys/{name}").status == 409
    assert run_as(daemon, KEY) == 200


def test_of_operators_who_make_the_same_key_at_once_one_does(daemon: Daemon) -> None:
    with ThreadPoolExecutor(8) as threads:
        statuses = [
            each.status for each in threads.map(lambda _: send(daemon, "POST", "keys", {"name": "same"}), range(8))
        ]
    assert sorted(statuses) == [201, *[409] * 7]


def test_no_key_is_lost_when_the_daemon_and_the_command_change_them_at_once(daemon: Daemon) -> None:
    with ThreadPoolExecutor(6) as threads:
        made = [threads.submit(make_key, daemon, f"door-{number}") for number in range(12)]
        added = [threads.submit(gaoler, daemon, "keys", "add", f"command-{number}") for number in range(3)]
        keys = [each.result() for each in (*made, *added)]
    names = {each["name"] for each in ask(daemon, "keys")["keys"]}
    assert names >= {*(f"door-{number}" for number in range(12)), *(f"command-{number}" for number in range(3))}
    assert [run_as(daemon, key) for key in (keys[0], keys[-1])] == [200, 200]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "n" * 65}, "name"),
        ({"name": 7}, "name"),
        ({"name": "default"}, "name"),
        ({"name": "admin_key"}, "name"),
        ({"name": "x", "tenant": "../y"}, "tenant"),
        ({"name": "x", "admin": "yes"}, "admin"),
        ({"name": "x", "tier": "vm"}, "tier"),
        ({"name": "x", "tier": "microvm"}, "tier"),
        ({"name": "x", "rates": {"exec": "many"}}, "rates.exec"),
        ({"name": "x", "rates": {"exec": "1/0"}}, "rates.exec"),
        ({"name": "x", "rates": {"exec": "1/1\n"}}, "rates.exec"),
        ({"name": "x", "rates": {"upload": 5}}, "rates.upload"),
        ({"name": "x", "rates": {"all": "1/1"}}, "rates"),
        ({"name": "x", "secret": "mine"}, "body"),
        ([], "body"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_its_field(daemon: Daemon, body: object, field: str) -> None:
    answer = send(daemon, "POST", "keys", body)
    assert (answer.status, answer.json["field"]) == (400, field), answer.body


async def test_the_rates_of_a_key_hold_for_all_who_show_it_at_both_doors(daemon: Daemon) -> None:
    key = make_key(daemon, "slow", rates={"exec": "3/600"})
    listed = {each["name"]: each for each in ask(daemon, "keys")["keys"]}
    assert listed["slow"]["rates"] == {"exec": "3/600"}
    assert [run_as(daemon, key, user=user) for user in ("ann", "bob")] == [200, 200]
    async with connected(daemon, key=key, user="carol") as agent:
        assert (await agent.call("execute_code", code="print(1)")).data
        assert run_as(daemon, key, user="dora") == 429
        assert "at most 3 calls of exec in 600 s" in (await agent.call("execute_code", code="print(1)")).refusal
    assert run_as(daemon, KEY) == 200


def test_sessions_of_all_owners_are_listed_page_after_page(daemon: Daemon) -> None:
    key = make_key(daemon, "paging", tenant="pages")
    body = b'{"lang": "py", "code": "open(\'a.txt\', \'w\').write(\'abc\')"}'
    made = []
    for user in ("u1", "u2", "u1", "u3"):
        headers = {"Content-Type": "application/json", "X-User-Id": user}
        made.append(daemon.request("POST", "/v1/exec", body, headers, key=key).json["session_id"])
    seen, query = [], "sessions?tenant=pages&limit=2"
    page = ask(daemon, query)
    while True:
        assert len(page["sessions"]) <= 2
        seen += page["sessions"]
        if page["next"] is None:
            break
        page = ask(daemon, f"{query}&after={page['next']}")
    assert [each["id"] for each in seen] == made[::-1]
    assert [each["owner"] for each in seen] == [{"kind": "user", "id": user} for user in ("u3", "u1", "u2", "u1")]
    assert {(each["files"], each["size_bytes"], each["live"]) for each in seen} == {(1, 3, False)}
    assert [each["id"] for each in ask(daemon, "sessions?user=u2&tenant=pages")["sessions"]] == [made[1]]
    assert ask(daemon, "sessions?tenant=nobody")["sessions"] == []
    one = ask(daemon, f"sessions/{made[0]}")
    assert [(each["name"], each["size_bytes"]) for each in one["file_list"]] == [("a.txt", 3)]


def test_a_session_that_is_deleted_is_gone_with_what_runs_in_it(daemon: Daemon) -> None:
    headers = {"Content-Type": "application/json", "X-User-Id": "dora"}
    code = "import subprocess, sys; open('a', 'w').write('x'); subprocess.Popen(['sleep', '1000']); x = 1"
    body = json.dumps({"lang": "py", "code": code, "stateful": True}).encode()
    before = ask(daemon, "overview")["load"]["live_sessions"]
    session = daemon.request("POST", "/v1/exec", body, headers).json["session_id"]
    assert ask(daemon, f"sessions/{session}")["live"] is True
    assert send(daemon, "DELETE", f"sessions/{session}").json == {"deleted": True}
    for method in ("GET", "DELETE"):
        answer = send(daemon, method, f"sessions/{session}")
        assert (answer.status, answer.json["field"]) == (404, "session")
    eventually(lambda: ask(daemon, "overview")["load"]["live_sessions"] == before)


@pytest.mark.parametrize("after", ["x", "AAAA", "WyJhIiwiYiJd", "%00", "WzEsIi4uIl0", "a" * 257])
def test_a_place_in_a_listing_that_was_never_given_is_refused(daemon: Daemon, after: str) -> None:
    answer = send(daemon, "GET", f"sessions?after={after}")
    assert (answer.status, answer.json["field"]) == (400, "after")


def test_a_daemon_alone_is_its_own_worker_and_cannot_be_drained(daemon: Daemon) -> None:
    (worker,) = ask(daemon, "workers")["workers"]
    assert (worker["places"], worker["state"], worker["running"]) == (8, "ready", 0)
    answer = send(daemon, "POST", f"workers/{worker['name']}/drain")
    assert (answer.status, answer.json["error"]) == (409, "not_a_worker")


def test_use_is_told_by_day_and_caller(daemon: Daemon) -> None:
    key = make_key(daemon, "counted", tenant="counted")
    for user in ("ann", "ann", "bob"):
        assert run_as(daemon, key, user=user) == 200
    found = ask(daemon, "usage?tenant=counted")["days"]
    # A day may have ended meanwhile.
    counts = Counter[tuple[str, str]]()
    for each in found:
        counts[each["user"], each["credential"]] += each["executions"]
    assert counts == {("ann", "counted"): 2, ("bob", "counted"): 1}
    assert all(each["wall_seconds"] > 0 and each["output_bytes"] > 0 for each in found)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"{name}={value}", name) for name in ("from", "to") for value in ("", "today", "2026-02-30", "20260101")),
        ("from=2026-01-02&to=2026-01-01", "from"),
        ("limit=0", "limit"),
        (f"tenant={'t' * 257}", "tenant"),
    ],
)
def test_days_that_are_none_are_refused(daemon: Daemon, query: str, field: str) -> None:
    answer = send(daemon, "GET", f"usage?{query}")
    assert (answer.status, answer.json["field"]) == (400, field)


def test_every_act_is_written_down_and_who_was_refused(daemon: Daemon) -> None:
    make_key(daemon, "noted", tenant="acme")
    send(daemon, "POST", "keys", {"name": "noted"})
    send(daemon, "POST", f"executions/{'x' * 21}/cancel")
    send(daemon, "DELETE", "keys/no%0Asuch%E2%80%AEkey")
    send(daemon, "DELETE", "keys/noted", key="wrong-" + KEY)
    send(daemon, "GET", "overview", key=KEY)
    refused, also_refused, *acts = ask(daemon, "audit?limit=6")["entries"]
    assert [(each["act"], each["who"], each["detail"]) for each in (refused, also_refused)] == [
        ("GET /v1/admin/overview", "", "Forbidden"),
        ("key.revoke", "", "Unauthenticated"),
    ]
    assert [(each["act"], each["outcome"], each["target"].split()[0]) for each in acts] == [
        ("key.revoke", "refused", "no\\nsuch\\u202ekey"),
        ("execution.cancel", "refused", "x" * 21),
        ("key.make", "refused", "noted"),
        ("key.make", "done", "noted"),
    ]
    assert {(each["who"], each["tenant"], each["address"]) for each in acts} == {("admin_key", "default", "127.0.0.1")}
    assert {each["act"] for each in ask(daemon, "audit?kind=refused&limit=2")["entries"]} == {
        "GET /v1/admin/overview",
        "key.revoke",
    }
    for name in ("admin.jsonl", "admin-refused.jsonl"):
        path = daemon.state_dir / "data" / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = path.read_text()
        assert ADMIN_KEY not in text
        assert KEY not in text
        assert all(line.isprintable() for line in text.splitlines())


def test_without_a_network_there_is_no_log_and_no_rule_to_change(daemon: Daemon) -> None:
    assert ask(daemon, "egress/log")["records"] == []
    rule = {"hosts": ["a.example"], "reason": "there is no set"}
    answer = send(daemon, "POST", "egress/allow", {"set": "packages", "rule": rule})
    assert (answer.status, answer.json["field"]) == (404, "set")
    for body, field in (({"set": "A"}, "set"), ({"set": "a"}, "rule"), ({"set": "a", "rule": []}, "rule")):
        answer = send(daemon, "POST", "egress/allow", body)
        assert (answer.status, answer.json["field"]) == (400, field)
