"""What a whole daemon writes: one object a line, into a file of its own, without bodies and secrets."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.policy import PACKAGED_POLICIES
from tests.daemon import ADMIN_KEY, KEY, Daemon, end_daemons, eventually, spawn_daemon, started
from tests.journal import fields
from tests.mcp import initialize, post

pytestmark = [pytest.mark.root, pytest.mark.own_host]

OTHER_KEY = "another-key-of-callers-77"
PLANTED = "PLANTED-XYZZY"
FILE_BYTES = 65_536
JOURNAL_HERE = """
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
mount --bind "$1" /run/systemd/journal
shift
exec "$@"
"""
"""Has a directory where the host has its journal's, for a program in a mount namespace of its own."""


class World:
    """A daemon whose log is a file, set by other servers' names where they have one."""

    def __init__(self, state: Path, image: Path) -> None:
        self.log = state / "log" / "gaoler.log"
        settings = {
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "debug",
            "LOG_FILE": str(self.log),
            "LOG_BACKUP_COUNT": "2",
            "GAOLER_LOG_FILE_BYTES": str(FILE_BYTES),
            "API_KEYS": OTHER_KEY,
            "MAX_EXECUTION_TIME": "1",
            "NSJAIL_BINARY": "/usr/bin/nsjail",
        }
        self.process = spawn_daemon(state, image, settings=settings)
        eventually(lambda: self.process.poll() is not None or (self.log.exists() and bool(self._address())))
        self.daemon = Daemon(self.process, state, self._address())

    def _address(self) -> str:
        found = re.search(r"listening on http://(127\.0\.0\.1:\d+)", self.log.read_text())
        return found[1] if found else ""

    def files(self) -> list[Path]:
        return sorted(self.log.parent.iterdir())

    def text(self) -> str:
        return "".join(each.read_text() for each in self.files()) + self.daemon.log_path.read_text()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for each in reversed(self.files()) for line in each.read_text().splitlines()]


@pytest.fixture(scope="module")
def world(image_dir: Path) -> Iterator[World]:
    state = Path(tempfile.mkdtemp(prefix="gt-"))
    state.chmod(0o755)
    try:
        yield World(state, image_dir)
    finally:
        end_daemons(state)
        remove_subtree(state)
        shutil.rmtree(state)


def of_request(world: World, request_id: str) -> list[dict[str, Any]]:
    return [each for each in world.records() if each.get("request_id") == request_id]


def test_every_line_is_an_object_with_what_each_record_has_and_standard_error_is_empty(world: World) -> None:
    for each in world.records():
        assert list(each)[:4] == ["time", "level", "logger", "event"]
    assert world.daemon.log_path.read_text() == ""


def test_what_other_servers_names_were_read_as_is_said_once_at_start(world: World) -> None:
    said = [each["event"] for each in world.records() if each["logger"] == "gaoler.serve"]
    assert "API_KEYS is read as api_keys; GAOLER_API_KEYS is its name here" in said
    assert [each for each in said if each.startswith("NSJAIL_BINARY is not read: ")]
    assert len(said) == len(set(said)) == 7


def test_the_jailer_speaks_in_the_same_log(world: World) -> None:
    (ready,) = (each for each in world.records() if each["event"].startswith("jailer ready"))
    assert (ready["logger"], ready["level"]) == ("gaoler.jailer", "INFO")


def test_a_request_has_one_id_in_its_answer_its_records_and_its_session(world: World) -> None:
    answer = world.daemon.request(
        "POST",
        "/v1/exec",
        json.dumps({"lang": "py", "code": "print(1)"}).encode(),
        {"Content-Type": "application/json", "X-Request-Id": "mine-1"},
    )
    assert answer.headers["X-Request-Id"] == "mine-1"
    (access,) = (each for each in of_request(world, "mine-1") if each["logger"] == "gaoler.access")
    assert access["session_id"] == answer.json["session_id"]
    assert (access["method"], access["route"], access["status"]) == ("POST", "/v1/exec", 200)
    assert access["credential"] == "default"
    made = world.daemon.request("GET", "/v1/health", headers={"X-Request-Id": "not one\tof ours"}).headers[
        "X-Request-Id"
    ]
    assert re.fullmatch(r"[A-Za-z0-9_-]{21}", made)
    assert len(of_request(world, made)) == 1


def test_a_call_over_mcp_has_the_id_of_its_request(world: World) -> None:
    session = initialize(world.daemon)
    call = {"name": "execute_code", "arguments": {"code": "print(1)"}}
    asked = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}
    answer = post(world.daemon, asked, session=session, headers={"X-Request-Id": "mine-2"})
    assert answer.headers["X-Request-Id"] == "mine-2"
    (access,) = (each for each in of_request(world, "mine-2") if each["logger"] == "gaoler.access")
    assert (access["event"], access["name"], access["error"]) == ("tool", "execute_code", False)
    assert access["session_id"]
    refused = post(world.daemon, asked, session=session, key="no-key-of-anybody-77")
    assert refused.status == 401
    assert refused.headers["X-Request-Id"]


def test_keys_and_limits_of_other_servers_names_hold(world: World) -> None:
    body = json.dumps({"lang": "py", "code": "while True: pass"}).encode()
    answer = world.daemon.request("POST", "/v1/exec", body, {"Content-Type": "application/json"}, key=OTHER_KEY)
    assert answer.status == 200
    assert "1 s" in answer.json["stderr"] or "1.0 s" in answer.json["stderr"], answer.json
    assert world.daemon.request("GET", "/v1/files/none", key="no-such-key-at-all-99").status == 401
    assert world.daemon.request("GET", "/v1/admin/egress", key=ADMIN_KEY).status == 200
    assert world.daemon.request("GET", "/v1/admin/egress", key=OTHER_KEY).status == 403
    assert [each["credential"] for each in world.records() if each.get("credential") == "api_keys-1"]
    told = [each for each in world.records() if each["logger"] == "gaoler.security"]
    assert {"event", "address", "request_id"} <= set(told[-1])
    assert told[-1]["event"] == "authentication_failed"


def test_nothing_of_a_body_and_no_secret_is_in_anything_that_is_logged_at_debug_level(world: World) -> None:
    daemon = world.daemon
    code = f"import sys; print('{PLANTED}'); print('{PLANTED}', file=sys.stderr); open('{PLANTED}.txt', 'w').write('{PLANTED}')"
    done = daemon.execute(code, user=PLANTED, args=[PLANTED], env={"VALUE": PLANTED}, stdin=PLANTED)
    assert PLANTED in done["stdout"]
    (file,) = done["files"]
    daemon.request("GET", f"/v1/download/{done['session_id']}/{file['id']}", headers={"X-User-Id": PLANTED})
    daemon.upload((f"{PLANTED}.csv", PLANTED.encode()), user=PLANTED)
    daemon.execute("x = 1", stateful=True, user=PLANTED, session_id=None)
    # Refused in many ways.
    daemon.try_execute(PLANTED, PLANTED)
    daemon.request("POST", "/v1/exec", b'{"lang": "' + PLANTED.encode(), {"Content-Type": "application/json"})
    daemon.request("GET", f"/v1/files/{PLANTED}?x={PLANTED}", headers={"Cookie": PLANTED})
    daemon.request("GET", f"/nowhere/{PLANTED}", key=PLANTED)
    daemon.request("GET", "/v1/files/x", headers={"Authorization": f"Bearer {PLANTED}.{PLANTED}.{PLANTED}"}, key=None)
    daemon.request("POST", "/mcp", json.dumps({"method": PLANTED}).encode(), {"Content-Type": "application/json"})
    said = world.text()
    assert [each for each in (PLANTED, KEY, OTHER_KEY, ADMIN_KEY) if each in said] == []


def test_the_daemon_puts_its_full_file_aside_without_any_rights(world: World) -> None:
    while len(world.files()) < 3:
        assert world.daemon.request("GET", "/v1/health").status == 200
    owner = {each.stat().st_uid for each in world.files()}
    assert owner == {199_999}
    assert all(each.stat().st_size <= FILE_BYTES for each in world.files())
    assert all(each.stat().st_mode & 0o027 == 0 for each in world.files())
    assert world.records()


def test_a_daemon_without_rights_goes_on_speaking_to_the_journal(image_dir: Path, state_dir: Path) -> None:
    """It has connected before: in its own view there is no journal, and its filter lets it connect nowhere."""
    place = state_dir / "journal"
    place.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(place / "socket"))
        journal.settimeout(60)
        prefix = ["unshare", "--mount", "sh", "-euc", JOURNAL_HERE, "sh", str(place)]
        spawn_daemon(state_dir, image_dir, settings={"GAOLER_LOG_FORMAT": "journal"}, prefix=prefix)
        heard: list[dict[str, str]] = []
        while not (found := re.match(r"listening on http://(\S+)", (heard or [{"EVENT": ""}])[-1]["EVENT"])):
            heard.append(fields(journal.recv(65536)))
        assert [each for each in heard if each["LOGGER"] == "gaoler.jailer" and each["PRIORITY"] == "6"]
        daemon = Daemon(started[-1][1], state_dir, found[1])
        daemon.request("GET", "/v1/health", headers={"X-Request-Id": "mine-3"})
        while heard[-1].get("REQUEST_ID") != "mine-3":
            heard.append(fields(journal.recv(65536)))
    assert (heard[-1]["LOGGER"], heard[-1]["STATUS"], heard[-1]["EVENT"]) == ("gaoler.access", "200", "request")
    assert daemon.log_path.read_text() == ""


def test_a_jailer_that_refuses_to_start_says_why_in_the_form_of_the_log(image_dir: Path, state_dir: Path) -> None:
    policies = state_dir / "policies"
    shutil.copytree(PACKAGED_POLICIES, policies)
    broken = policies / "seccomp" / "default.kafel"
    broken.write_text(broken.read_text() + "\nnonsense")
    settings = {"GAOLER_LOG_FORMAT": "json", "GAOLER_JAILER_POLICY_DIR": str(policies)}
    process = spawn_daemon(state_dir, image_dir, settings=settings)
    assert process.wait(60) == os.EX_CONFIG
    *records, last = (state_dir / "test.log").read_text().splitlines()
    said = [json.loads(each) for each in records]
    assert [each for each in said if each["level"] == "CRITICAL" and "seccomp" in each["event"]]
    assert last == "gaoler: the jailer refuses to start; the reason is in the log above"
