"""The other dialects of the same door: sessions by name, files as base64, batches, profiles, other origins."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Answer, Daemon, daemon_with

pytestmark = pytest.mark.root
JSON = {"Content-Type": "application/json"}


def post(daemon: Daemon, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
    return daemon.request("POST", path, json.dumps(body).encode(), {**JSON, **(headers or {})})


# -- sessions --


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_session_is_made_filled_used_listed_and_deleted(daemon: Daemon, prefix: str) -> None:
    made = post(daemon, f"{prefix}/sessions", {"language": "bash"})
    assert made.status == 201
    session = made.json["session_id"]
    up = daemon.multipart(f"{prefix}/sessions/{session}/files", ("in/a b.txt", b"alpha"), ("\u00fc.txt", b"beta"))
    assert (up.status, up.json["files"]) == (201, ["in/a b.txt", "\u00fc.txt"])
    code = "cat 'in/a b.txt'; cat; echo oops >&2; echo made > out.txt; exit 3"
    ran = post(daemon, f"{prefix}/sessions/{session}/execute", {"code": code, "stdin": "from stdin"}).json
    assert ran["stdout"] == "alphafrom stdin"
    assert ran["stderr"].startswith("oops\n")
    assert (ran["exit_code"], ran["timed_out"], ran["signal"]) == (3, False, None)
    assert sorted(ran["files"]) == ["in/a b.txt", "out.txt", "\u00fc.txt"]
    assert ran["duration"] > 0
    python = post(
        daemon, f"{prefix}/sessions/{session}/execute", {"code": "print(open('out.txt').read())", "language": "python"}
    )
    assert python.json["stdout"] == "made\n\n"
    described = daemon.request("GET", f"{prefix}/sessions/{session}").json
    assert described["language"] == "bash"
    assert {file["path"]: file["size"] for file in described["files"]} == {
        "in/a b.txt": 5,
        "out.txt": 5,
        "\u00fc.txt": 4,
    }
    for name, content in (("in/a b.txt", b"alpha"), ("\u00fc.txt", b"beta"), ("out.txt", b"made\n")):
        got = daemon.request("GET", f"{prefix}/sessions/{session}/files/{urllib.parse.quote(name)}")
        assert (got.status, got.body) == (200, content)
    assert daemon.request("DELETE", f"{prefix}/sessions/{session}").status == 200
    for path in ("", "/files/out.txt"):
        assert daemon.request("GET", f"{prefix}/sessions/{session}{path}").status == 404
    assert post(daemon, f"{prefix}/sessions/{session}/execute", {"code": "true"}).status == 404


def test_what_killed_a_program_is_said_there_too(daemon: Daemon) -> None:
    session = post(daemon, "/v1/sessions", {}).json["session_id"]
    ran = post(daemon, f"/v1/sessions/{session}/execute", {"code": "import time; time.sleep(60)", "timeout": 0.3}).json
    assert (ran["exit_code"], ran["timed_out"], ran["signal"]) == (137, True, "SIGKILL")
    assert "timed out after 0.3 s" in ran["stderr"]


REFUSED = [
    ("POST", "/sessions", {"language": "cobol"}, 400, "language"),
    ("POST", "/sessions", {"language": 7}, 400, "language"),
    ("POST", "/sessions/{s}/execute", {}, 400, "code"),
    ("POST", "/sessions/{s}/execute", {"code": "a\0b"}, 400, "code"),
    ("POST", "/sessions/{s}/execute", {"code": "1", "timeout": -1}, 400, "timeout"),
    ("POST", "/sessions/{s}/execute", {"code": "1", "args": ["\0"]}, 400, "args[0]"),
    ("POST", "/sessions/{s}/execute", {"code": "1", "language": "cobol"}, 400, "lang"),
    ("POST", "/sessions/nosuch/execute", {"code": "1"}, 404, "session_id"),
    ("GET", "/sessions/nosuch", None, 404, "session_id"),
    ("GET", "/sessions/{s}/files/nothing.txt", None, 404, "path"),
    ("GET", "/sessions/{s}/files/..%2F..%2Fetc%2Fpasswd", None, 400, "path"),
    ("GET", "/sessions/{s}/files/a%00b", None, 400, "path"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "field"), REFUSED)
def test_bad_input_names_the_field(daemon: Daemon, method: str, path: str, body: Any, status: int, field: str) -> None:
    session = post(daemon, "/v1/sessions", {}).json["session_id"]
    content = None if body is None else json.dumps(body).encode()
    answer = daemon.request(method, "/v1" + path.format(s=session), content, JSON)
    assert (answer.status, answer.json["field"]) == (status, field), answer.body


def test_another_user_does_not_see_the_session(daemon: Daemon) -> None:
    ann, bob = {"X-User-Id": "ann"}, {"X-User-Id": "bob"}
    session = post(daemon, "/v1/sessions", {}, ann).json["session_id"]
    assert daemon.multipart(f"/v1/sessions/{session}/files", ("a.txt", b"a"), user="ann").status == 201
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/files/a.txt", None),
        ("POST", "/execute", b'{"code": "1"}'),
        ("DELETE", "", None),
    ):
        assert daemon.request(method, f"/v1/sessions/{session}{path}", body, {**JSON, **bob}).status == 404
    assert daemon.multipart(f"/v1/sessions/{session}/files", ("b.txt", b"b"), user="bob").status == 404
    assert [file["path"] for file in daemon.request("GET", f"/v1/sessions/{session}", headers=ann).json["files"]] == [
        "a.txt"
    ]


def test_a_failing_upload_into_a_session_leaves_what_was_there(daemon: Daemon) -> None:
    session = post(daemon, "/v1/sessions", {}).json["session_id"]
    assert daemon.multipart(f"/v1/sessions/{session}/files", ("keep.txt", b"k")).status == 201
    assert daemon.multipart(f"/v1/sessions/{session}/files", ("new.txt", b"n"), ("../x", b"x")).status == 400
    described = daemon.request("GET", f"/v1/sessions/{session}").json
    assert [file["path"] for file in described["files"]] == ["keep.txt"]


# -- base64 --


def test_a_file_comes_as_base64(daemon: Daemon) -> None:
    made = daemon.execute("open('pic.bin', 'wb').write(bytes(range(256)) * 3)")
    file = made["files"][0]
    got = daemon.request("GET", f"/file/{made['session_id']}/{file['id']}/content").json
    assert base64.b64decode(got["content"], validate=True) == bytes(range(256)) * 3
    assert (got["encoding"], got["filename"], got["size"]) == ("base64", "pic.bin", 768)


def test_a_file_that_is_too_large_for_it_is_refused_with_the_way_out(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_HTTP_BASE64_BYTES": "1000"}) as daemon:
        made = daemon.execute("open('a', 'w').write('x' * 1000); open('b', 'w').write('x' * 1001)")
        ids = {file["name"]: file["id"] for file in made["files"]}
        assert daemon.request("GET", f"/v1/file/{made['session_id']}/{ids['a']}/content").json["size"] == 1000
        refused = daemon.request("GET", f"/v1/file/{made['session_id']}/{ids['b']}/content")
        assert (refused.status, refused.json["error"]) == (413, "too_large")
        assert "download" in refused.json["message"]


def test_a_users_uploads_are_in_all_of_his_workspaces_and_in_nobody_elses(daemon: Daemon) -> None:
    fields = {"entity_id": "user-123"}
    first = daemon.upload(("template.txt", b"one"), fields=fields)
    second = daemon.upload(("data.csv", b"1,2"), fields=fields)
    assert first.json["session_id"] == second.json["session_id"]
    look = "import os; print(sorted(os.listdir('/mnt/data')), os.listdir('/workspace') == os.listdir('/mnt/data'))"
    for _ in range(2):
        seen = daemon.execute(look, entity_id="user-123")
        assert seen["stdout"] == "['data.csv', 'template.txt'] True\n"
        assert seen["files"] == []
        assert seen["session_id"] != first.json["session_id"]
    # The same name again is the new version.
    assert daemon.upload(("template.txt", b"two"), fields=fields).status == 200
    assert daemon.execute("print(open('template.txt').read())", entity_id="user-123")["stdout"] == "two\n"
    # What code makes of it belongs to the execution; the user's own file stays.
    changed = daemon.execute("open('template.txt', 'w').write('three')", entity_id="user-123")
    assert [file["name"] for file in changed["files"]] == ["template.txt"]
    assert daemon.execute("print(open('template.txt').read())", entity_id="user-123")["stdout"] == "two\n"
    assert daemon.execute(look, entity_id="user-456")["stdout"] == "[] True\n"
    assert daemon.execute(look)["stdout"] == "[] True\n"
    # A failing upload takes nothing away.
    assert daemon.upload(("ok.txt", b"x"), ("../bad", b"x"), fields=fields).status == 400
    assert daemon.execute(look, entity_id="user-123")["stdout"] == "['data.csv', 'template.txt'] True\n"


# -- batches --


def test_a_batch_keeps_what_it_can_and_says_what_not(daemon: Daemon) -> None:
    fields = {"kind": "skill", "id": "6650f0c2a1b2c3d4e5f60799", "version": "3", "read_only": "true"}
    answer = daemon.multipart(
        "/v1/upload/batch",
        ("skills/pptx/SKILL.md", b"# skill"),
        ("../evil", b"x"),
        ("skills/pptx/scripts/__init__.py", b""),
        ("skills/pptx/SKILL.md", b"again"),
        fields=fields,
    )
    body = answer.json
    assert (answer.status, body["message"], body["succeeded"], body["failed"]) == (200, "partial_success", 2, 2)
    assert [(row["status"], row["filename"]) for row in body["files"]] == [
        ("success", "skills/pptx/SKILL.md"),
        ("error", "../evil"),
        ("success", "skills/pptx/scripts/__init__.py"),
        ("error", "skills/pptx/SKILL.md"),
    ]
    assert body["session_id"] == body["storage_session_id"]
    references = [
        {
            "id": row["fileId"],
            "resource_id": fields["id"],
            "storage_session_id": body["storage_session_id"],
            "name": row["filename"],
            "kind": "skill",
            "version": 3,
        }
        for row in body["files"]
        if row["status"] == "success"
    ]
    code = "import os; print(open('skills/pptx/SKILL.md').read(), os.path.getsize('skills/pptx/scripts/__init__.py'))"
    ran = daemon.execute(code, files=references)
    assert ran["stdout"] == "# skill 0\n"
    assert all(file["inherited"] and file["version"] == 3 for file in ran["files"])


def test_a_batch_of_which_nothing_can_be_kept_is_refused_and_leaves_nothing(daemon: Daemon) -> None:
    answer = daemon.multipart("/v1/upload/batch", ("../a", b"x"), ("/b", b"y"), fields={"kind": "user", "id": "u"})
    assert (answer.status, answer.json["message"], answer.json["failed"]) == (400, "error", 2)
    assert daemon.request("GET", f"/v1/files/{answer.json['session_id']}").json == []


def test_a_batch_ends_at_two_hundred_files(daemon: Daemon) -> None:
    files = [(f"f{number}.txt", b"x") for number in range(203)]
    body = daemon.multipart("/v1/upload/batch", *files, fields={"kind": "user", "id": "u"}).json
    assert (body["succeeded"], body["filesLimitReached"], body["maxFiles"]) == (200, True, 200)
    assert len(daemon.request("GET", f"/v1/files/{body['session_id']}").json) == 200


# -- profiles and prewarming --


def test_profiles_are_checked_and_told(daemon: Daemon) -> None:
    body = {"lang": "bash", "code": "true", "runtime_session_hint": "v2:user:75f1cc12a8dd7c7821996c96c33fe193"}
    for profile in ("default", "stateful"):
        answer = post(daemon, "/v1/exec", body, {"X-CodeAPI-Expected-Profile": profile})
        assert answer.status == 200
        assert answer.headers["X-CodeAPI-Execution-Profile"] == profile
    assert "X-CodeAPI-Execution-Profile" not in post(daemon, "/v1/exec", body).headers
    refused = post(daemon, "/v1/exec", body, {"X-CodeAPI-Expected-Profile": "quantum"})
    assert refused.status == 409
    assert refused.json["error"] == "execution_profile_mismatch"
    assert (refused.json["expected_profile"], refused.json["actual_profile"]) == ("quantum", "default")


def test_prewarming_makes_the_session_that_the_next_call_finds(daemon: Daemon) -> None:
    hint = "v2:conversation:0123456789abcdef0123456789abcdef"
    warmed = post(daemon, "/v1/exec", {"lang": "bash", "code": "true", "runtime_session_hint": hint}).json
    used = post(daemon, "/v1/exec", {"lang": "py", "code": "1 + 1", "runtime_session_hint": hint}).json
    assert (used["session_id"], used["runtime_status"], used["stdout"]) == (warmed["session_id"], "reused", "2\n")


# -- other origins --


@pytest.fixture(scope="module")
def browser_daemon(image_dir: Path) -> Iterator[Daemon]:
    origins = "http://localhost:3080,https://chat.example.org"
    with daemon_with(image_dir, {"GAOLER_HTTP_CORS_ORIGINS": origins}) as daemon:
        yield daemon


def test_pages_of_allowed_origins_may_call(browser_daemon: Daemon) -> None:
    asked = {"Origin": "https://chat.example.org", "Access-Control-Request-Method": "POST"}
    preflight = browser_daemon.request("OPTIONS", "/v1/exec", headers=asked, key=None)
    assert preflight.status == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://chat.example.org"
    assert "X-API-Key" in preflight.headers["Access-Control-Allow-Headers"]
    answer = post(browser_daemon, "/v1/exec", {"lang": "py", "code": "print(1)"}, {"Origin": "http://localhost:3080"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3080"
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://chat.example.org.evil", "http://chat.example.org"]
)
def test_others_may_not(browser_daemon: Daemon, origin: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert "Access-Control-Allow-Origin" not in browser_daemon.request("OPTIONS", "/v1/exec", headers=asked).headers


def test_without_the_setting_nothing_is_said(daemon: Daemon) -> None:
    answer = daemon.request("GET", "/v1/health", headers={"Origin": "http://localhost:3080"})
    assert "Access-Control-Allow-Origin" not in answer.headers
