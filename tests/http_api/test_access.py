"""Who gets in, and what of: tokens over HTTP, keys that are revoked, the matrix of every route, and how often."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.daemon import KEY, Answer, Daemon, daemon_with
from tests.tokens import claims_of, mint, public_pem

pytestmark = pytest.mark.root
SIGNING_KEY = Ed25519PrivateKey.generate()
USER = "6650f0c2a1b2c3d4e5f60718"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def token_daemon(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    pem = tmp_path_factory.mktemp("keys") / "librechat.pem"
    pem.write_bytes(public_pem(SIGNING_KEY))
    # As an operator would have it: root only.
    pem.chmod(0o600)
    with daemon_with(image_dir, {"GAOLER_JWT_PUBLIC_KEY": str(pem)}) as daemon:
        yield daemon


def bearer(user: str = USER, **changes: Any) -> dict[str, str]:
    return {"Authorization": "Bearer " + mint(SIGNING_KEY, claims_of(user, time.time(), **changes))}


def call(daemon: Daemon, method: str, path: str, headers: dict[str, str], body: Any = None) -> Answer:
    content = None if body is None else json.dumps(body).encode()
    return daemon.request(method, path, content, {**JSON, **headers}, key=None)


def test_a_token_runs_code_for_its_user(token_daemon: Daemon) -> None:
    made = call(token_daemon, "POST", "/v1/exec", bearer(), {"lang": "py", "code": "open('a', 'w').write('x')"})
    assert made.status == 200
    session, file = made.json["session_id"], made.json["files"][0]["id"]
    assert call(token_daemon, "GET", f"/v1/download/{session}/{file}", bearer()).body == b"x"
    # The body's user id does not count beside a token, a header's that differs is refused.
    other = call(
        token_daemon,
        "POST",
        "/v1/exec",
        bearer("other"),
        {"lang": "py", "code": "1", "user_id": USER, "session_id": session},
    )
    assert other.status == 404
    contradicting = call(token_daemon, "GET", f"/v1/files/{session}", {**bearer(), "User-Id": "other"})
    assert (contradicting.status, contradicting.json["error"], contradicting.json["field"]) == (
        403,
        "forbidden",
        "User-Id",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1_000_000_300.0, "iat": 1_000_000_000.0, "nbf": 1_000_000_000.0},
        {"aud": "x"},
        {"auth_context_hash": "0" * 64},
    ],
    ids=["expired", "audience", "hash"],
)
def test_a_token_that_does_not_hold_is_refused_with_the_reason(token_daemon: Daemon, changes: dict[str, Any]) -> None:
    answer = call(token_daemon, "GET", f"/v1/files/{'A' * 21}", bearer(**changes))
    assert (answer.status, answer.json["error"]) == (401, "unauthenticated")
    assert answer.json["message"].startswith("the token does not hold: ")


def test_keys_go_on_working_beside_tokens_and_a_daemon_without_keys_for_them_takes_none(
    token_daemon: Daemon, daemon: Daemon
) -> None:
    assert token_daemon.execute("print(1)")["stdout"] == "1\n"
    assert call(daemon, "GET", f"/v1/files/{'A' * 21}", bearer()).status == 401


def gaoler(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "GAOLER_STATE_DIR": str(state)}
    command = [sys.executable, "-m", "supervisor", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_key_is_added_and_revoked_while_the_daemon_runs(token_daemon: Daemon) -> None:
    state = token_daemon.state_dir
    added = gaoler(state, "keys", "add", "second", "--tenant", "acme")
    assert added.returncode == 0, added.stderr
    headers = {"X-API-Key": added.stdout.strip()}
    made = call(token_daemon, "POST", "/v1/exec", headers, {"lang": "py", "code": "open('a', 'w').write('x')"})
    assert made.status == 200
    assert "second" in gaoler(state, "keys", "list").stdout
    assert added.stdout.strip() not in gaoler(state, "keys", "list", "--json").stdout
    # Another tenant: what the default key made is not there for it.
    own = token_daemon.execute("open('b', 'w').write('x')")
    assert call(token_daemon, "GET", f"/v1/sessions/{own['session_id']}", headers).status == 404
    assert gaoler(state, "keys", "revoke", "second").returncode == 0
    assert call(token_daemon, "GET", f"/v1/files/{'A' * 21}", headers).status == 401
    again = gaoler(state, "keys", "revoke", "second")
    assert again.returncode == 78
    assert "there is no key named 'second'" in again.stderr


# -- the matrix --


def routes(session: str, file: str) -> dict[str, tuple[str, str, Any]]:
    """Every route that leads to something of somebody: method, path, body."""
    code = {"lang": "py", "code": "1"}
    named = [{"id": file, "storage_session_id": session, "name": "x"}]
    return {
        "exec": ("POST", "/exec", {**code, "session_id": session}),
        "exec, stateful": ("POST", "/exec", {**code, "session_id": session, "stateful": True}),
        "exec with the file": ("POST", "/exec", {**code, "files": named}),
        "freshness": ("GET", f"/sessions/{session}/objects/{file}", None),
        "download": ("GET", f"/download/{session}/{file}", None),
        "base64": ("GET", f"/file/{session}/{file}/content", None),
        "session": ("GET", f"/sessions/{session}", None),
        "file by path": ("GET", f"/sessions/{session}/files/a.txt", None),
        "execute": ("POST", f"/sessions/{session}/execute", {"code": "1"}),
        "delete the file": ("DELETE", f"/files/{session}/{file}", None),
        "delete the object": ("DELETE", f"/sessions/{session}/objects/{file}", None),
        "delete the session": ("DELETE", f"/sessions/{session}", None),
    }


ROUTES = list(routes("", ""))
STRANGERS: dict[str, tuple[Callable[[], dict[str, str]], int]] = {
    "another user": (lambda: bearer("another"), 404),
    "another tenant": (lambda: bearer(tenant_id="elsewhere"), 404),
    "the same user by key, another tenant": (lambda: {"X-API-Key": KEY, "X-User-Id": USER}, 404),
    "no credential": (dict, 401),
    "an expired token": (lambda: bearer(exp=time.time() - 60, iat=time.time() - 300, nbf=time.time() - 300), 401),
    "a wrong key": (lambda: {"X-API-Key": "wrong"}, 401),
}


@pytest.fixture(scope="module")
def belongings(token_daemon: Daemon) -> tuple[str, str]:
    made = call(token_daemon, "POST", "/exec", bearer(), {"lang": "py", "code": "open('a.txt', 'w').write('mine')"})
    return made.json["session_id"], made.json["files"][0]["id"]


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("route", ROUTES)
def test_nothing_is_to_be_had_with(
    token_daemon: Daemon, belongings: tuple[str, str], route: str, stranger: str
) -> None:
    method, path, body = routes(*belongings)[route]
    headers, status = STRANGERS[stranger]
    answer = call(token_daemon, method, path, headers(), body)
    assert answer.status == status, answer.body
    assert b"mine" not in answer.body
    # It is all still there for its owner.
    session, file = belongings
    assert call(token_daemon, "GET", f"/download/{session}/{file}", bearer()).body == b"mine"


@pytest.mark.parametrize("stranger", STRANGERS)
def test_listings_of_others_are_empty(token_daemon: Daemon, belongings: tuple[str, str], stranger: str) -> None:
    headers, status = STRANGERS[stranger]
    answer = call(token_daemon, "GET", f"/files/{belongings[0]}?detail=full", headers())
    assert (answer.status, answer.json) == (200, []) if status == 404 else answer.status == status


@pytest.mark.parametrize("route", ROUTES)
def test_everything_is_to_be_had_by_its_owner(token_daemon: Daemon, route: str) -> None:
    made = call(token_daemon, "POST", "/exec", bearer(), {"lang": "py", "code": "open('a.txt', 'w').write('mine')"})
    method, path, body = routes(made.json["session_id"], made.json["files"][0]["id"])[route]
    assert call(token_daemon, method, path, bearer(), body).status == 200


@pytest.mark.parametrize("path", ["/upload", "/upload/batch"])
def test_uploads_need_a_credential(token_daemon: Daemon, path: str) -> None:
    assert token_daemon.multipart(f"/v1{path}", ("a.txt", b"a"), key=None).status == 401
    assert token_daemon.multipart(f"/v1{path}", ("a.txt", b"a"), key=None, headers=bearer()).status == 200


# -- how often --


def test_too_many_calls_are_told_when_to_come_again_and_others_are_not_concerned(image_dir: Path) -> None:
    rates = {"EXEC": "3/60", "UPLOAD": "2/60", "DOWNLOAD": "2/60", "LISTING": "2/60", "SHARED_FACTOR": "2"}
    with daemon_with(image_dir, {f"GAOLER_RATES_{kind}": rule for kind, rule in rates.items()}) as daemon:
        ann, bob = {"X-User-Id": "ann"}, {"X-User-Id": "bob"}
        body = {"lang": "bash", "code": "echo > f"}
        made = [call(daemon, "POST", "/v1/exec", {**ann, "X-API-Key": KEY}, body) for _ in range(4)]
        assert [answer.status for answer in made] == [200, 200, 200, 429]
        refused = made[-1]
        assert refused.json["error"] == "rate_limited"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.json["retry_after_seconds"] == int(refused.headers["Retry-After"])
        assert call(daemon, "POST", "/v1/exec", {**bob, "X-API-Key": KEY}, body).status == 200
        session, file = made[0].json["session_id"], made[0].json["files"][0]["id"]
        for path in (f"/v1/download/{session}/{file}", f"/v1/files/{session}"):
            statuses = [call(daemon, "GET", path, {**ann, "X-API-Key": KEY}).status for _ in range(3)]
            assert statuses == [200, 200, 429]
        assert [daemon.upload(("a", b"a"), user="ann").status for _ in range(3)] == [200, 200, 429]
        # Who names nobody speaks for many.
        statuses = [call(daemon, "POST", "/v1/exec", {"X-API-Key": KEY}, body).status for _ in range(7)]
        assert statuses == [200] * 6 + [429]


# -- what is never written down --


def test_neither_bodies_nor_credentials_reach_the_log(image_dir: Path) -> None:
    marks = ["mark-code", "mark-stdin", "mark-output", "mark-name.txt", "mark-content", "mark-key", "mark-tool"]
    with daemon_with(image_dir, {"GAOLER_LOG_LEVEL": "DEBUG"}) as daemon:
        code = "print('mark-output'); open('mark-name.txt', 'w').write('mark-content') # mark-code"
        assert daemon.execute(code, stdin="mark-stdin", LIBRECHAT_CODE_API_KEY="mark-key")["files"]
        daemon.try_execute("raise ValueError('mark-output')", stateful=True)
        daemon.try_execute(code, lang="mark-code")
        daemon.upload(("mark-name.txt", b"mark-content"))
        daemon.upload(("../mark-name.txt", b"mark-content"))
        for path in ("/v1/exec", "/v1/exec/programmatic", "/v1/sessions"):
            call(daemon, "POST", path, {"X-API-Key": KEY}, {"code": ["mark-code"], "tools": [{"name": "mark-tool"}]})
            call(daemon, "POST", path, {"X-API-Key": "mark-key"}, {"code": "mark-code"})
            call(daemon, "POST", path, {"Authorization": "Bearer mark-key"}, {"code": "mark-code"})
        log = "\n".join(daemon.lines())
    assert "route=/v1/exec status=200" in log
    assert [mark for mark in [*marks, KEY] if mark in log] == []
