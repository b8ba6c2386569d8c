"""Whatever is sent, the answer is the right refusal with error, message and field, and nothing is left behind."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.execution.values import new_id
from supervisor.jailer import kernel
from tests.daemon import KEY, Answer, Daemon, eventually, start_daemon
from tests.http_api.moments import refusal

pytestmark = pytest.mark.root
JSON = {"Content-Type": "application/json"}
SOME_ID = "A" * 21


def refused(answer: Answer, status: int, field: str | None = None) -> dict[str, Any]:
    assert answer.status == status, (answer.status, answer.body[:500])
    body: dict[str, Any] = answer.json
    assert set(body) <= {"error", "message", "field", "hint", "retry_after_seconds"}
    assert body["error"]
    assert body["message"]
    assert body.get("field") == field, body
    return body


def incoming(daemon: Daemon) -> list[Path]:
    return list((daemon.state_dir / "data" / "blobs" / "incoming").glob("*"))


def blobs(daemon: Daemon) -> set[Path]:
    # Nobody waits for the answer while what was begun is removed.
    eventually(lambda: not incoming(daemon))
    return {path for path in (daemon.state_dir / "data" / "blobs").rglob("*") if path.is_file()}


BODIES: list[tuple[str, bytes, int, str]] = [
    ("malformed JSON", b'{"lang": "py", "code": ', 400, "body"),
    ("no JSON at all", b"lang=py&code=1", 400, "body"),
    ("an empty body", b"", 400, "body"),
    ("a byte order mark", b'\xef\xbb\xbf{"lang": "py", "code": "1"}', 400, "body"),
    ("UTF-16", '{"lang": "py", "code": "1"}'.encode("utf-16"), 400, "body"),
    ("invalid UTF-8", b'{"lang": "py", "code": "\xff"}', 400, "body"),
    ("NaN", b'{"lang": "py", "code": "1", "timeout": NaN}', 400, "body"),
    ("a huge number", b'{"lang": "py", "code": "1", "timeout": 1e999}', 400, "timeout"),
    ("depth", b'{"lang": "py", "code": "1", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "body"),
    ("a list", b"[]", 400, "body"),
    ("missing code", b'{"lang": "py"}', 400, "code"),
    ("missing lang", b'{"code": "1"}', 400, "lang"),
    ("code of a wrong type", b'{"lang": "py", "code": 7}', 400, "code"),
    ("lang of a wrong type", b'{"lang": ["py"], "code": "1"}', 400, "lang"),
    ("args of a wrong type", b'{"lang": "py", "code": "1", "args": {"a": 1}}', 400, "args"),
    ("a NUL in an argument", b'{"lang": "py", "code": "1", "args": ["a\\u0000"]}', 400, "args[0]"),
    ("files of a wrong type", b'{"lang": "py", "code": "1", "files": "x"}', 400, "files"),
    ("a file without id", b'{"lang": "py", "code": "1", "files": [{"name": "x"}]}', 400, "files[0].id"),
    ("a negative time", b'{"lang": "py", "code": "1", "timeout": -5}', 400, "timeout"),
    ("a malformed session", b'{"lang": "py", "code": "1", "session_id": "../../etc"}', 400, "session_id"),
    ("a malformed user", b'{"lang": "py", "code": "1", "user_id": "a b\\n"}', 400, "user_id"),
    ("code with NULs", json.dumps({"lang": "py", "code": "\0" * 200_000}).encode(), 400, "code"),
    ("a lone surrogate", b'{"lang": "py", "code": "\\ud800"}', 400, "body"),
    ("too much code", json.dumps({"lang": "py", "code": "#" * 1_000_001}).encode(), 400, "code"),
]


@pytest.mark.parametrize(("body", "status", "field"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_a_bad_body_is_refused_with_the_field(daemon: Daemon, body: bytes, status: int, field: str) -> None:
    refused(daemon.request("POST", "/v1/exec", body, JSON), status, field)


def test_an_unknown_language_is_refused_in_the_words_of_the_contract(daemon: Daemon) -> None:
    assert refused(daemon.try_execute("1", "cobol"), 400, "lang")["error"] == "Unsupported language: cobol"


def test_sixty_megabytes_are_refused_whether_announced_or_not(daemon: Daemon) -> None:
    body = b'{"lang": "py", "code": "' + b"x" * (60 << 20) + b'"}'
    with socket.create_connection(tuple(daemon.address.split(":"))) as link:  # type: ignore[arg-type]
        # Announced: refused before a byte of it is sent.
        link.sendall(
            f"POST /exec HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        assert link.recv(4096).startswith(b"HTTP/1.1 413")

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    answer = daemon.request("POST", "/exec", pieces(), {**JSON, "Transfer-Encoding": "chunked"}, chunked=True)
    refused(answer, 413, "body")
    refused(daemon.request("POST", "/exec", body, JSON), 413, "body")
    assert daemon.execute("print(1)")["stdout"] == "1\n"


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": "\u00e9" * 20},
        {"X-API-Key": KEY, "Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Basic ====not base64"},
        {"Authorization": "Basic /w=="},
        {"Authorization": "Digest x"},
        {"Authorization": "Bearer " + "x" * 10_000},
    ],
)
def test_a_credential_that_does_not_hold_is_401(daemon: Daemon, header: dict[str, str]) -> None:
    answer = daemon.request("POST", "/v1/exec", b'{"lang": "py", "code": "1"}', JSON | header, key=None)
    refused(answer, 401)
    assert "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize(
    "header",
    [
        {"X-API-Key": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": "Basic " + base64.b64encode(KEY.encode()).decode()},
        {"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()},
        {"Authorization": "Basic " + base64.b64encode(f":{KEY}".encode()).decode()},
    ],
)
def test_the_key_holds_in_every_form_of_the_clients(daemon: Daemon, header: dict[str, str]) -> None:
    answer = daemon.request("POST", "/exec", b'{"lang": "bash", "code": "echo hi"}', header, key=None)
    assert (answer.status, answer.json["stdout"]) == (200, "hi\n")


NAMES = {
    "dot-dot": "../../etc/passwd",
    "dot-dot inside": "a/../b",
    "absolute": "/etc/passwd",
    "newline": "a\nb",
    "NUL": "a\0b",
    "300 bytes": "\u00fc" * 150,
    "right-to-left mark": "exe.\u202egpj",
    "empty part": "a//b",
    "backslash": "a\\b",
    "drive": "C:x",
    "eleven parts": "/".join("abcdefghijk"),
    "too long": "x" * 257,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_bad_name_is_refused_in_executions_and_uploads(daemon: Daemon, name: str) -> None:
    before = blobs(daemon)
    files = [{"id": SOME_ID, "storage_session_id": SOME_ID, "name": name}]
    refused(daemon.try_execute("1", files=files), 400, "files[0].name")
    answer = daemon.upload((name, b"content"))
    assert answer.status == 400, answer.body
    assert answer.json["field"] in ("file.filename", "body", "file")
    assert blobs(daemon) == before


def test_an_upload_without_a_file_or_form_is_refused(daemon: Daemon) -> None:
    refused(daemon.upload(fields={"kind": "user"}), 400, "file")
    refused(daemon.request("POST", "/upload", b"x", {"Content-Type": "text/plain"}), 400, "Content-Type")
    refused(daemon.request("POST", "/upload", b"x", {"Content-Type": "multipart/form-data"}), 400, "Content-Type")
    refused(daemon.upload(("a", b"1"), fields={"kind": "king", "id": "x"}), 400, "kind")
    refused(daemon.upload(("a", b"1"), fields={"kind": "skill", "id": "x", "version": "two"}), 400, "version")
    refused(daemon.upload(("a", b"1"), fields={"x": "y" * 5000}), 400, "body")


def test_two_files_of_one_name_in_one_upload_are_refused_and_nothing_is_kept(daemon: Daemon) -> None:
    refused(daemon.upload(("a.csv", b"1"), ("a.csv", b"2")), 400, "file.filename")


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_a_name_that_a_file_or_directory_stands_in_the_way_of_is_refused(
    daemon: Daemon, first: str, second: str
) -> None:
    refused(daemon.upload((first, b"1"), (second, b"2")), 409, "file.filename")
    session = daemon.upload((first, b"1")).json["session_id"]
    refused(daemon.multipart(f"/v1/sessions/{session}/files", (second, b"2")), 409, "file.filename")
    assert daemon.execute("print(1)", session_id=session)["stdout"] == "1\n"
    batch = daemon.multipart("/v1/upload/batch", (first, b"1"), (second, b"2")).json["files"]
    assert [row["status"] for row in batch] == ["success", "error"]


def test_two_uploads_of_one_name_are_two_files(daemon: Daemon) -> None:
    first, second = daemon.upload(("a.csv", b"1")).json, daemon.upload(("a.csv", b"2")).json
    for answer, content in ((first, b"1"), (second, b"2")):
        path = f"/v1/download/{answer['session_id']}/{answer['files'][0]['fileId']}"
        assert daemon.request("GET", path).body == content


def test_an_upload_that_is_cut_off_leaves_nothing(daemon: Daemon) -> None:
    before = blobs(daemon)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="cut.bin"\r\n\r\n'
    for _ in range(3):
        with socket.create_connection(tuple(daemon.address.split(":"))) as link:  # type: ignore[arg-type]
            link.sendall(
                f"POST /upload HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                "Content-Length: 90000000\r\n\r\n".encode()
                + head
                + os.urandom(2 << 20)
            )
            eventually(lambda: len(incoming(daemon)) == 1)
        eventually(lambda: not incoming(daemon))
    assert blobs(daemon) == before
    # A body whose end is malformed: answered, and nothing kept.
    body = head + b"x" * 100_000 + b"\r\n--b"
    refused(daemon.request("POST", "/upload", body, {"Content-Type": "multipart/form-data; boundary=b"}), 400, "body")
    assert blobs(daemon) == before


def test_inputs_that_do_not_fit_into_the_workspace_are_413(daemon: Daemon) -> None:
    files = []
    for number in range(3):
        uploaded = daemon.upload((f"{number}.bin", bytes(100 << 20))).json
        files.append(
            {
                "id": uploaded["files"][0]["fileId"],
                "storage_session_id": uploaded["session_id"],
                "name": f"{number}.bin",
            }
        )
    assert refusal(daemon.try_execute("print(1)", files=files), 413, "too_large")["field"] == "files"


def test_a_program_that_fills_its_workspace_is_told_and_its_files_are_kept_within_bounds(daemon: Daemon) -> None:
    result = daemon.execute("head -c 10 /dev/zero > small; head -c 400000000 /dev/zero > big; echo $?", "bash")
    assert result["stdout"] == "1\n"
    assert "File" in result["stderr"] or "space" in result["stderr"]
    assert "small" in [file["name"] for file in result["files"]]
    assert [skip["name"] for skip in result["skipped"]] == ["big"]


UNWATCHED = {f"GAOLER_{name}": "0" for name in ("FILES_RESERVE_BYTES", "HOST_FREE_DISK_BYTES", "HOST_FREE_DISK_INODES")}


def test_a_full_state_disk_is_507_and_nothing_is_half_there(image_dir: Path, state_dir: Path) -> None:
    data = state_dir / "data"
    data.mkdir()
    kernel.mount("full", data, "tmpfs", 0, "size=8m,mode=700,uid=199999,gid=199999")
    try:
        daemon = start_daemon(state_dir, image_dir, settings=UNWATCHED)
        refused(daemon.upload(("big.bin", os.urandom(20 << 20))), 507)
        code = "import os; open('big', 'wb').write(os.urandom(20 << 20))"
        refusal(daemon.try_execute(code), 507, "storage_full")
        assert blobs(daemon) == set()
        kept = daemon.upload(("small.txt", b"fits")).json
        assert daemon.request("GET", f"/download/{kept['session_id']}/{kept['files'][0]['fileId']}").body == b"fits"
        daemon.stop()
    finally:
        kernel.unmount(data)


def lines_about(daemon: Daemon, *requests: str) -> list[str]:
    """What else goes on in the daemon has lines, too."""
    return [line for line in daemon.lines() if line.endswith(tuple(f" request_id={each}" for each in requests))]


def test_every_refusal_is_one_log_line_without_bodies_or_secrets(daemon: Daemon) -> None:
    names = [new_id() for _ in range(3)]
    cobol = json.dumps({"lang": "cobol", "code": "SECRET-CODE"}).encode()
    daemon.request("POST", "/v1/exec", cobol, JSON | {"X-Request-Id": names[0]})
    daemon.request("POST", "/exec", b"SECRET-BODY", JSON | {"X-Request-Id": names[1]})
    daemon.request("POST", "/exec", b"{}", {"X-API-Key": "SECRET-KEY", "X-Request-Id": names[2]}, key=None)
    lines = lines_about(daemon, *names)
    assert len([line for line in lines if " gaoler.access " in line]) == 3
    # A credential that does not hold is a security event besides.
    assert [" gaoler.security " in line for line in lines].count(True) == len(lines) - 3 == 1
    assert not [line for line in daemon.lines() if "SECRET" in line or KEY in line]


def test_unknown_routes_and_wrong_methods_are_answered_in_json(daemon: Daemon) -> None:
    refused(daemon.request("GET", "/nothing"), 404)
    answer = daemon.request("GET", "/v1/exec")
    refused(answer, 405)
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/v1//health", "/v1//exec", f"/v1/files//{SOME_ID}"])
def test_a_doubled_slash_is_no_route_and_no_redirect(daemon: Daemon, path: str) -> None:
    name = new_id()
    refused(daemon.request("GET", path, headers={"X-Request-Id": name}), 404)
    assert len(lines_about(daemon, name)) == 1


def test_serving_needs_root_and_says_so(image_dir: Path, state_dir: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "GAOLER_STATE_DIR": str(state_dir), "GAOLER_IMAGE_DIR": str(image_dir)}
    # The code may lie where that user cannot read, so everything is imported before.
    program = (
        "import os, supervisor.daemon, supervisor.logs.opened, supervisor.preparation.prepare, supervisor.roles\n"
        "import supervisor.service.given, supervisor.service.reload_request\n"
        "from supervisor.cli import main\n"
        "os.setresuid(199999, 199999, 199999)\n"
        "main(['serve'])"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 78, done.stderr
    assert "sudo" in done.stderr
