"""What an operator does with the network of a running daemon: routes, figures, and the commands."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor.commands.egress_rules import command_for
from tests.admin.desk import ask, send
from tests.daemon import ADMIN_KEY, eventually
from tests.internet import OTHER_WEB, WEB, Online, online_daemon, open_internet

pytestmark = pytest.mark.root
RULES = '[[rule]]\nname = "web"\nhosts = ["www.example.org"]\nreason = "the only one"\n'
CONNECT = """
import socket
def connect(name):
    with socket.create_connection(("127.0.0.1", 3128), 10) as sock:
        sock.sendall(f"CONNECT {name}:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
        return int(sock.recv(4096).split()[1])
"""


@pytest.fixture(scope="module")
def online(image_dir: Path) -> Iterator[Online]:
    with open_internet() as internet:
        internet.records.update({"www.example.org": [WEB], "new.example.org": [OTHER_WEB]})
        with online_daemon(image_dir, internet, {"e": RULES}) as daemon:
            yield daemon


def gaoler(online: Online, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "GAOLER_STATE_DIR": str(online.state_dir),
        "GAOLER_JAILER_POLICY_DIR": str(online.policies),
    }
    command = [sys.executable, "-m", "supervisor", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def admin(online: Online) -> str:
    done = gaoler(online, "keys", "add", "operator", "--admin")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def put(online: Online, key: str, body: object) -> tuple[int, object]:
    answer = online.request(
        "PUT", "/v1/admin/egress", json.dumps(body).encode(), {"Content-Type": "application/json"}, key=key
    )
    return answer.status, answer.json


def reach(online: Online, name: str) -> str:
    return str(online.execute(f"{CONNECT}print(connect({name!r}))")["stdout"]).strip()


def test_only_an_operators_key_sees_and_changes_rules(online: Online, admin: str) -> None:
    for key in (None, "nonsense", "test-key-0123456789abcdef"):
        for method, path in (
            ("GET", "/v1/admin/egress"),
            ("PUT", "/v1/admin/egress"),
            ("DELETE", "/v1/admin/egress/e"),
            ("GET", "/metrics"),
        ):
            answer = online.request(method, path, b"{}" if method == "PUT" else None, key=key)
            assert answer.status == (403 if key and key != "nonsense" else 401), (key, path)
    answer = online.request("GET", "/v1/admin/egress", key=admin)
    assert answer.json["connected"] is True
    assert answer.json["sets"][0]["rules"][0]["hosts"] == ["www.example.org"]


def test_put_rules_hold_at_once_and_go_with_delete(online: Online, admin: str) -> None:
    assert (reach(online, "www.example.org"), reach(online, "new.example.org")) == ("200", "403")
    rule = {"hosts": ["new.example.org"], "reason": "a new one"}
    status, said = put(online, admin, {"name": "e", "rule": [rule]})
    assert (status, said["origin"]) == (200, "admin")  # type: ignore[index]
    assert (reach(online, "www.example.org"), reach(online, "new.example.org")) == ("403", "200")
    assert online.request("DELETE", "/v1/admin/egress/e", key=admin).json["origin"] == "e.toml"
    assert (reach(online, "www.example.org"), reach(online, "new.example.org")) == ("200", "403")


def test_rules_that_no_proxy_has_taken_are_kept_and_that_is_said(online: Online, admin: str) -> None:
    proxy = online.named("gaoler-egress")
    os.kill(proxy, signal.SIGSTOP)
    try:
        rule = {"hosts": ["new.example.org"], "reason": "a new one"}
        assert put(online, admin, {"name": "e", "rule": [rule]})[1]["applied"] is False  # type: ignore[index]
    finally:
        os.kill(proxy, signal.SIGCONT)
    assert (reach(online, "www.example.org"), reach(online, "new.example.org")) == ("403", "200")
    assert online.request("DELETE", "/v1/admin/egress/e", key=admin).json["applied"] is True


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"name": "e"}, 400, "rule"),
        ({"name": "e", "rule": [{"hosts": ["a b"], "reason": "not a host"}]}, 400, "rule[0]"),
        ({"name": "e", "rule": [{"hosts": ["a.org"]}]}, 400, "rule"),
        ({"name": "../e", "rule": []}, 400, "name"),
        ({"name": "other", "rule": []}, 404, "name"),
        ({"name": "e", "rule": [], "more": 1}, 400, "body"),
    ],
)
def test_wrong_rules_are_refused_with_the_field(
    online: Online, admin: str, body: object, status: int, field: str
) -> None:
    got, said = put(online, admin, body)
    assert got == status, said
    assert said.get("field") == field, said  # type: ignore[attr-defined]


def test_figures_are_told(online: Online, admin: str) -> None:
    reach(online, "www.example.org")
    reach(online, "evil.example.net")
    text = online.request("GET", "/metrics", key=admin).body.decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['gaoler_egress_decisions_total{kind="connect",verdict="allowed"}']) >= 1
    assert float(values['gaoler_egress_decisions_total{kind="connect",verdict="refused"}']) >= 1
    assert float(values['gaoler_egress_refusals_total{code="host"}']) >= 1
    assert values["gaoler_egress_connected"] == "1"
    assert text.count("# TYPE gaoler_egress_decisions_total counter") == 1


def test_explain_says_what_a_sandbox_could_reach(online: Online) -> None:
    allowed = gaoler(online, "egress", "explain", "https://www.example.org/x")
    assert (allowed.returncode, "rule e/web allows it" in allowed.stdout) == (0, True)
    refused = gaoler(online, "egress", "explain", "https://evil.example.net", "--policy", "default")
    assert (refused.returncode, "allows the host evil.example.net" in refused.stdout) == (1, True)
    unknown = gaoler(online, "egress", "explain", "https://a.org", "--policy", "nonsense")
    assert (unknown.returncode, "there is no policy" in unknown.stderr) == (78, True)


def test_log_and_suggest_tell_of_a_session(online: Online) -> None:
    program = f"{CONNECT}print(connect('www.example.org'), connect('evil.example.net'), connect('www.example.org.'))"
    session = online.execute(program)["session_id"]
    # What somebody else has put beside the audit is not read.
    (online.state_dir / "data" / "egress.jsonl.1.gz").write_bytes(b"\x1f\x8b")
    log = gaoler(online, "egress", "log", "--session", session)
    assert sorted(line.split()[1] for line in log.stdout.splitlines()) == ["REFUSED", "ok", "ok"], log.stdout
    refused = gaoler(online, "egress", "log", "--session", session, "--refused", "--json")
    assert json.loads(refused.stdout)["host"] == "evil.example.net"
    suggested = gaoler(online, "egress", "suggest", "--session", session).stdout
    assert 'hosts = ["evil.example.net"]\nschemes = ["https"]\nports = [443]\n' in suggested
    nothing = gaoler(online, "egress", "suggest", "--session", "nobodys")
    assert (nothing.stdout, "Nothing was refused" in nothing.stderr) == ("", True)


def test_a_followed_log_goes_on_as_it_happens(online: Online) -> None:
    environment = {"PATH": os.environ["PATH"], "GAOLER_STATE_DIR": str(online.state_dir)}
    command = [sys.executable, "-m", "supervisor", "egress", "log", "--follow", "--json", "--refused"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            reach(online, "first.example.net")
            assert any("first.example.net" in line for line in process.stdout)
            reach(online, "second.example.net")
            assert any("second.example.net" in line for line in process.stdout)
        finally:
            process.terminate()
    eventually(lambda: process.poll() is not None)


def test_the_mcp_tool_explains_what_holds(online: Online) -> None:
    answer = gaoler(online, "egress", "explain", "http://www.example.org/")
    assert (answer.returncode, "does not allow port 80" in answer.stdout) == (1, True)


def test_operators_see_what_was_refused_and_allow_it_with_what_is_suggested(online: Online) -> None:
    session = online.execute(f"{CONNECT}print(connect('wanted.example.net'), connect('10.1.2.3'))")["session_id"]
    records = [each for each in ask(online, "egress/log?verdict=refused")["records"] if each["session"] == session]
    private, wanted = sorted(records, key=lambda each: str(each["host"]))
    assert (wanted["host"], wanted["verdict"], wanted["code"]) == ("wanted.example.net", "refused", "host")
    assert private["suggestion"] is None
    assert wanted["suggestion"]["set"] == "e"
    assert wanted["suggestion"]["rule"]["hosts"] == ["wanted.example.net"]
    assert online.request("GET", "/v1/admin/egress/log?limit=1", key=ADMIN_KEY).json["records"][0]["time"] > 1e9
    before = ask(online, "egress")["sets"][0]["rules"]
    answer = send(online, "POST", "egress/allow", wanted["suggestion"])
    assert (answer.status, answer.json["applied"]) == (200, True)
    assert answer.json["rules"][: len(before)] == before
    assert answer.json["rules"][-1]["hosts"] == ["wanted.example.net"]
    # Allowed, and there is no such server.
    assert reach(online, "wanted.example.net") != "403"
    assert send(online, "DELETE", "egress/e").status == 200
    assert reach(online, "wanted.example.net") == "403"


def operate(online: Online, *arguments: str, returncode: int = 0) -> subprocess.CompletedProcess[str]:
    """What an operator types, who keeps the key in the environment."""
    environment = {"PATH": os.environ["PATH"], "GAOLER_BIND": online.address, "GAOLER_ADMIN_KEY": ADMIN_KEY}
    environment |= {"GAOLER_STATE_DIR": str(online.state_dir)}
    command = [sys.executable, "-m", "supervisor", "egress", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == returncode, (done.stdout, done.stderr)
    return done


def test_what_was_refused_is_allowed_by_the_command_that_is_shown_and_removed_again(online: Online) -> None:
    host = "typed.example.net"
    assert reach(online, host) == "403"
    (line,) = (line for line in operate(online, "refused", "--limit", "5").stdout.splitlines() if host in line)
    shown = line[line.index("gaoler egress allow") :].split()
    assert shown == ["gaoler", "egress", "allow", host, "--set", "e", "--port", "443"]
    assert operate(online, *shown[2:], "--rule", "typed").stdout == "e/typed holds now\n"
    assert reach(online, host) != "403"
    rules = operate(online, "rules").stdout
    assert [line.split()[0] for line in rules.splitlines()[1:]] == ["e/web", "e/typed"], rules
    (records,) = json.loads(operate(online, "refused", "--limit", "1", "--json").stdout).values()
    assert len(records) == 1
    assert operate(online, "remove", "e/typed").stdout == "e/typed is removed\n"
    assert reach(online, host) == "403"
    assert json.loads(operate(online, "rules", "--json").stdout)["sets"][0]["origin"] == "admin"
    assert operate(online, "reset", "e").stdout == "e: the rules of e.toml hold again\n"
    acts = [(each["act"], each["outcome"]) for each in ask(online, "audit?kind=acts&limit=3")["entries"]]
    assert acts == [("egress.drop", "done"), ("egress.remove", "done"), ("egress.allow", "done")]


def test_a_rule_is_typed_with_all_that_it_asks(online: Online) -> None:
    typed = (
        "allow",
        "plain.example.net",
        "*.files.example.net",
        "--scheme",
        "http",
        "--method",
        "get",
        "--path",
        "/v1",
    )
    found = json.loads(operate(online, *typed, "--reason", "what the test types", "--json").stdout)
    assert found["applied"] is True
    assert found["written"][-1] == {
        "reason": "what the test types",
        "hosts": ["plain.example.net", "*.files.example.net"],
        "schemes": ["http"],
        "methods": ["GET"],
        "paths": ["/v1"],
    }
    label = f"e/{len(found['written'])}"
    explained = gaoler(online, "egress", "explain", "http://plain.example.net/v2")
    assert (explained.returncode, f'paths = ["/v1", "/v2"] in rule {label}' in explained.stdout) == (1, True)
    assert json.loads(operate(online, "remove", label, "--json").stdout)["applied"] is True
    assert send(online, "DELETE", "egress/e").status == 200


def test_what_cannot_be_changed_is_said_with_what_there_is(online: Online) -> None:
    wrong = operate(online, "allow", "not a host", returncode=78)
    assert wrong.stderr.startswith("gaoler: rule.hosts: "), wrong.stderr
    blind = operate(online, "allow", "a.example", "--path", "/x", returncode=78)
    assert "intercept = true" in blind.stderr
    missing = operate(online, "remove", "e/nothing", returncode=78)
    assert missing.stderr == "gaoler: there is no rule 'e/nothing'; there are: e/web\n"
    other = operate(online, "allow", "a.example", "--set", "other", returncode=1)
    assert other.stderr == "gaoler: set: the policy names no such rules; it names: e\n"


def test_a_rule_that_somebody_has_changed_meanwhile_is_not_removed(online: Online) -> None:
    answer = send(online, "POST", "egress/remove", {"set": "e", "rule": {"hosts": ["a.org"], "reason": "not there"}})
    assert (answer.status, answer.json["field"]) == (404, "rule")
    assert send(online, "POST", "egress/remove", {"set": "other", "rule": RULE}).json["field"] == "set"


RULE = {"hosts": ["a.org"], "reason": "a reason of it"}


@pytest.mark.parametrize(
    ("rule", "command"),
    [
        ({"hosts": ["a.org"], "schemes": ["https"], "ports": [443]}, "allow a.org --set e --port 443"),
        ({"hosts": ["a.org"], "schemes": ["raw"], "ports": [22]}, "allow a.org --set e --scheme raw --port 22"),
        ({"hosts": ["::1"], "schemes": ["http"], "ports": [80]}, "allow ::1 --set e --scheme http --port 80"),
    ],
)
def test_a_suggestion_is_a_command(rule: dict[str, object], command: str) -> None:
    assert command_for({"set": "e", "rule": rule}) == f"gaoler egress {command}"
    assert command_for(None) == ""


def test_rules_that_operators_allow_at_once_all_hold(online: Online) -> None:
    hosts = [f"h{number}.example.net" for number in range(8)]

    def allow(host: str) -> int:
        rule = {"hosts": [host], "reason": "one of several"}
        return send(online, "POST", "egress/allow", {"set": "e", "rule": rule}).status

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(allow, hosts)) == {200}
    (rules,) = (each["rules"] for each in ask(online, "egress")["sets"])
    assert {host for each in rules for host in each["hosts"]} >= set(hosts)
    assert send(online, "DELETE", "egress/e").status == 200


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({}, "rule.reason"),
        ({"hosts": ["a.example"]}, "rule.reason"),
        ({"hosts": ["not a host"], "reason": "a reason of it"}, "rule.hosts"),
        ({"hosts": ["a.example"], "reason": "a reason of it", "ports": [0]}, "rule.ports[0]"),
        ({"hosts": ["a.example"], "reason": "a reason of it", "addresses": ["x"]}, "rule.addresses"),
        ({"reason": "a reason of it"}, "rule"),
        ({"hosts": ["a.example"], "reason": "a reason of it", "allow": True}, "rule"),
        (
            {"hosts": ["a.example"], "schemes": ["http"], "reason": "a reason of it", "credential": "none"},
            "rule.credential",
        ),
    ],
)
def test_a_rule_that_is_wrong_is_refused_and_those_before_hold(
    online: Online, rule: dict[str, object], field: str
) -> None:
    before = ask(online, "egress")
    answer = send(online, "POST", "egress/allow", {"set": "e", "rule": rule})
    assert answer.status == 400, answer.body
    assert answer.json["field"] == field, answer.json
    assert ask(online, "egress") == before


def test_rules_that_change_all_the_time_cost_no_execution(online: Online, admin: str) -> None:
    """Each change opens a port of its own in every sandbox, at whatever moment of its life that is."""
    over = threading.Event()

    def change() -> None:
        for number in itertools.count(10_000):
            rule = {"name": "web", "hosts": ["www.example.org"], "ports": [443, number], "reason": "another port"}
            assert put(online, admin, {"name": "e", "rule": [rule]})[0] == 200
            if over.is_set():
                return

    with ThreadPoolExecutor(4) as pool:
        changing = pool.submit(change)
        try:
            running = [pool.submit(online.try_execute, "print(1)") for _ in range(30)]
            assert [each.result().body for each in running if each.result().status != 200] == []
        finally:
            over.set()
        changing.result()
    assert online.request("DELETE", "/v1/admin/egress/e", key=admin).status == 200
