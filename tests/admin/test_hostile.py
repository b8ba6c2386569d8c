"""What an attacker has of the things that operation brought: the master key, refusals, figures. A real daemon."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.admin.desk import ask, send
from tests.daemon import ADMIN_KEY, KEY, Daemon

pytestmark = pytest.mark.root
JSON = {"Content-Type": "application/json"}
NAMED = "a-name-that-nobody-else-has"


def operations(daemon: Daemon) -> list[tuple[str, str]]:
    """Every method and path of the API but the operators', with something in each place of a path."""
    document: dict[str, Any] = daemon.request("GET", "/openapi.json", key=None).json
    found = []
    for path, methods in document["paths"].items():
        filled = "/".join("x" * 21 if part.startswith("{") else part for part in path.split("/"))
        if "/admin/" not in path and not path.endswith("/metrics"):
            found += [(method.upper(), filled) for method in methods if method in ("get", "post", "put", "delete")]
    return found


def test_the_master_key_opens_nothing_that_callers_have(daemon: Daemon) -> None:
    tried = operations(daemon)
    assert ("POST", "/exec") in tried
    refused = 0
    for method, path in tried:
        body = b'{"lang": "py", "code": "print(1)"}' if method in ("POST", "PUT") else None
        stranger = daemon.request(method, path, body, JSON, key=None).status
        master = daemon.request(method, path, body, JSON, key=ADMIN_KEY).status
        # What is open to strangers is open to it; nothing else is.
        assert (master == 403) if stranger == 401 else (master == stranger), (method, path, stranger, master)
        refused += master == 403
    assert refused > 10


def test_a_key_that_was_made_with_the_master_key_is_in_the_audit_before_it_runs_anything(daemon: Daemon) -> None:
    """The master key runs no code, and can make a key that does: that cannot be done unseen."""
    key = send(daemon, "POST", "keys", {"name": "from-the-master", "tenant": "acme"}).json["key"]
    newest = ask(daemon, "audit?kind=acts&limit=1")["entries"][0]
    assert (newest["act"], newest["who"], newest["target"].split()[0]) == ("key.make", "admin_key", "from-the-master")
    assert daemon.request("POST", "/v1/exec", b'{"lang": "py", "code": "print(1)"}', JSON, key=key).status == 200
    assert key not in (daemon.state_dir / "data" / "admin.jsonl").read_text()


def test_strangers_fill_neither_the_record_of_acts_nor_say_anything_in_that_of_refusals(daemon: Daemon) -> None:
    data = daemon.state_dir / "data"
    before = (data / "admin.jsonl").read_bytes()
    guesses = [f"guess-{number}-{NAMED}" for number in range(8)]
    for guess in guesses:
        # Their address is shut out meanwhile: that is refused too, and is no line here.
        assert send(daemon, "POST", "keys", {"name": NAMED}, key=guess).status in (401, 429)
    assert (data / "admin.jsonl").read_bytes() == before
    refused = (data / "admin-refused.jsonl").read_text()
    assert NAMED not in refused, "neither what was shown nor what was asked for"
    entry = json.loads(refused.splitlines()[-1])
    assert (entry["act"], entry["who"], entry["outcome"]) == ("key.make", "", "refused")


def test_figures_name_nobody_and_nothing_that_a_caller_chose(daemon: Daemon) -> None:
    body = json.dumps({"lang": NAMED, "code": f"print('{NAMED}')", "user_id": NAMED, "files": []}).encode()
    assert daemon.request("POST", "/v1/exec", body, {**JSON, "X-Request-Id": NAMED}).status == 400
    made = daemon.execute(f"open('{NAMED}', 'w').write('x')", user=NAMED)
    send(daemon, "POST", "keys", {"name": NAMED})
    figures = daemon.request("GET", "/metrics", key=ADMIN_KEY).body.decode()
    assert 'gaoler_executions_total{door="http",language="python",outcome="exited"}' in figures
    for secret in (NAMED, made["session_id"], KEY, ADMIN_KEY, "acme"):
        assert secret not in figures
