"""What an operator asks a running daemon from a shell: how it is, what runs, what is kept."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from supervisor.commands.console import duration, size, visible
from supervisor.commands.running_daemon import listening_uids
from supervisor.commands.status import bars
from tests.admin.desk import Running, ask
from tests.daemon import KEY, ROOT, Daemon, eventually
from tests.supervisor.command_line import COMMAND, environment, gaoler

PYTHON = "/usr/bin/python3"
"""Which others may execute too, wherever the checkout lies."""


def said(*arguments: str, daemon: Daemon) -> Any:
    done = gaoler(*arguments, "--json", daemon=daemon)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- how it is --


@pytest.mark.root
def test_status_says_how_the_daemon_is_and_exits_with_it(daemon: Daemon) -> None:
    daemon.execute("print(1)")
    done = gaoler("status", daemon=daemon)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gaoler is ok: all ")
    assert "of 8 places in use" in done.stdout
    assert "\x1b" not in done.stdout, "colours are for terminals"
    found = said("status", daemon=daemon)
    assert found["status"] == "ok"
    assert {"checks", "load", "pools", "totals", "latencies", "per_minute", "started_at"} <= set(found)


@pytest.mark.root
def test_status_finds_key_and_place_where_the_daemon_keeps_them(image_dir: Path, daemon: Daemon) -> None:
    (daemon.state_dir / "admin_key").write_text("admin-key-0123456789abcdef\n")
    try:
        done = gaoler("status", GAOLER_BIND=daemon.address, GAOLER_STATE_DIR=str(daemon.state_dir))
        assert done.returncode == 0, done.stderr
    finally:
        (daemon.state_dir / "admin_key").unlink()


def test_without_a_daemon_status_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        done = gaoler("status", GAOLER_BIND=address, GAOLER_ADMIN_KEY="admin-key-0123456789abcdef")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == (
        f"gaoler: no daemon answers at {address}: Connection refused\n"
        "  -> start it ('gaoler serve', 'systemctl start gaoler'), or name it with --url\n"
    )


def test_without_a_key_status_says_where_one_is(tmp_path: Path) -> None:
    done = gaoler("status", GAOLER_STATE_DIR=str(tmp_path))
    assert done.returncode == 77
    assert done.stderr.startswith(f"gaoler: there is no {tmp_path}/admin_key: the daemon has not been started yet")


@pytest.mark.root
@pytest.mark.parametrize(("key", "advice"), [("x" * 20, "the key does not hold"), (KEY, "the key is no operator's")])
def test_a_key_that_is_no_operators_is_said_to_be_none(daemon: Daemon, key: str, advice: str) -> None:
    done = gaoler("status", daemon=daemon, GAOLER_ADMIN_KEY=key, GAOLER_API_KEY="")
    assert done.returncode == 77
    assert advice in done.stderr


def test_a_url_that_is_none_is_named(tmp_path: Path) -> None:
    done = gaoler("status", "--url", "ftp://host", GAOLER_ADMIN_KEY="admin-key-0123456789abcdef")
    assert done.returncode == 78
    assert "--url 'ftp://host' is not allowed" in done.stderr


@pytest.mark.root
def test_a_key_is_not_said_to_a_stranger_who_listens_where_the_daemon_should() -> None:
    heard = (
        "import socket,sys\ns=socket.socket()\ns.bind(('127.0.0.1',0))\ns.listen()\nprint(s.getsockname()[1],flush=True)\n"
        "c=s.accept()[0]\nprint(c.recv(65536).decode() or 'nothing')"
    )
    stranger = subprocess.Popen([PYTHON, "-c", heard], user=65_534, stdout=subprocess.PIPE, text=True)
    assert stranger.stdout is not None
    address = f"127.0.0.1:{stranger.stdout.readline().strip()}"
    done = gaoler("status", GAOLER_BIND=address, GAOLER_ADMIN_KEY="admin-key-0123456789abcdef")
    assert done.returncode == 69
    assert "uid 65534" in done.stderr
    assert stranger.communicate()[0].strip() == "nothing"


@pytest.mark.root
def test_a_key_is_not_said_to_a_stranger_at_a_unix_socket_either() -> None:
    heard = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint('listens',flush=True)\n"
        "c=s.accept()[0]\nprint(c.recv(65536).decode() or 'nothing')"
    )
    with tempfile.TemporaryDirectory(prefix="gt-") as directory:
        os.chown(directory, 65_534, 65_534)
        path = f"{directory}/s"
        stranger = subprocess.Popen([PYTHON, "-c", heard, path], user=65_534, stdout=subprocess.PIPE, text=True)
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "listens\n"
        done = gaoler("status", GAOLER_BIND=f"unix:{path}", GAOLER_ADMIN_KEY="admin-key-0123456789abcdef")
        assert done.returncode == 69
        assert "uid 65534" in done.stderr
        assert stranger.communicate()[0].strip() == "nothing"


def test_who_listens_is_read_from_the_kernels_table() -> None:
    lines = [
        "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0",
        "   1: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0",
        "   2: 0100007F:1F40 0100007F:9999 01 00000000:00000000 00:00000000 00000000   777        0 3 1 0 100 0 0 10 0",
        "   3: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000   888        0 4 1 0 100 0 0 10 0",
    ]
    assert list(listening_uids(lines, 8000)) == [1000, 0]


# -- what runs --


@pytest.mark.root
def test_executions_are_listed_shown_and_ended(daemon: Daemon) -> None:
    running = Running(daemon, "import time\ntime.sleep(600)", user="operated")
    eventually(lambda: any(each["user"] == "operated" for each in ask(daemon, "executions")["running"]))
    (one,) = (
        each
        for each in said("executions", "--state", "running", daemon=daemon)["running"]
        if each["user"] == "operated"
    )
    assert one["id"] in gaoler("executions", "list", daemon=daemon).stdout
    assert "py" in gaoler("executions", "show", one["id"], daemon=daemon).stdout
    assert said("executions", "cancel", one["id"], daemon=daemon) == {"cancelled": True}
    assert running.answer().json["message"] == "the execution was cancelled"
    again = gaoler("executions", "cancel", one["id"], daemon=daemon)
    assert (again.returncode, again.stderr) == (1, "gaoler: execution: no such execution runs\n")


@pytest.mark.root
def test_executions_are_followed_one_a_line(daemon: Daemon) -> None:
    with subprocess.Popen(
        [*COMMAND, "executions", "--follow", "--json"],
        env=environment(daemon),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as follower:
        assert follower.stdout is not None
        assert follower.stderr is not None
        assert follower.stderr.readline().startswith(f"following {daemon.address}: ")
        daemon.execute("print(1)", user="followed")
        kinds = []
        for line in follower.stdout:
            event = json.loads(line)
            if event["execution"]["user"] == "followed":
                kinds.append(event["kind"])
                if event["kind"] == "ended":
                    break
        follower.send_signal(2)
        assert follower.wait() == 130
    assert kinds == ["began", "runs", "ended"]


# -- what is kept --


@pytest.mark.root
def test_sessions_are_listed_shown_and_deleted(daemon: Daemon) -> None:
    made = daemon.execute("open('kept.txt', 'w').write('x')", user="sue")["session_id"]
    (one,) = said("sessions", "--user", "sue", daemon=daemon)["sessions"]
    assert (one["id"], one["files"], one["owner"]["id"]) == (made, 1, "sue")
    assert made in gaoler("sessions", daemon=daemon).stdout
    assert "kept.txt" in gaoler("sessions", "show", made, daemon=daemon).stdout
    assert said("sessions", "delete", made, daemon=daemon) == {"deleted": True}
    gone = gaoler("sessions", "show", made, daemon=daemon)
    assert (gone.returncode, gone.stderr) == (1, "gaoler: session: no such session\n")


# -- what was written down --


@pytest.mark.root
def test_usage_is_shown_by_caller_and_day_and_added_up(daemon: Daemon) -> None:
    for user in ("ulla", "udo"):
        daemon.execute("print(1)", user=user)
    daemon.execute("print(2)", user="ulla")
    found = said("usage", daemon=daemon)["days"]
    # Of two days, where midnight comes between them.
    ulla, udo = ([each for each in found if each["user"] == name] for name in ("ulla", "udo"))
    assert [sum(each["executions"] for each in days) for days in (ulla, udo)] == [2, 1]
    assert [each["failed"] for each in udo] == [0]
    lines = gaoler("usage", daemon=daemon).stdout.splitlines()
    rows = [line.split() for line in lines if " ulla " in line]
    assert [(row[0], row[4]) for row in rows] == [(each["day"], str(each["executions"])) for each in ulla]
    assert lines[-1].split()[1] == str(sum(each["executions"] for each in found))
    assert said("usage", "--tenant", "nobodys", daemon=daemon) == {"days": []}
    wrong = gaoler("usage", "--from", "yesterday", daemon=daemon)
    assert (wrong.returncode, wrong.stderr) == (78, "gaoler: from: a day as 2026-01-31\n")


@pytest.mark.root
def test_audit_shows_what_operators_did_and_who_was_refused(daemon: Daemon) -> None:
    assert gaoler("sessions", "delete", "nosuchsession", daemon=daemon).returncode == 1
    assert daemon.request("GET", "/v1/admin/usage", key=KEY).status == 403
    (act,) = said("audit", "--kind", "acts", "--limit", "1", daemon=daemon)["entries"]
    assert (act["act"], act["target"], act["outcome"]) == ("session.delete", "nosuchsession", "refused")
    (refused,) = said("audit", "--kind", "refused", "--limit", "1", daemon=daemon)["entries"]
    assert refused["act"] == "GET /v1/admin/usage"
    shown = gaoler("audit", daemon=daemon).stdout
    assert "session.delete" in shown
    assert "GET /v1/admin/usage" in shown


def test_keys_have_rates_and_are_listed_for_programs(tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path))
    made = json.loads(
        gaoler("keys", "add", "bot", "--rate", "exec=3/10", "--rate", "upload=off", "--json", *state).stdout
    )
    assert made.pop("key").startswith("gk-")
    assert made["rates"] == {"exec": "3/10", "upload": "off"}
    assert json.loads(gaoler("keys", "--json", *state).stdout) == [made]
    assert "exec=3/10" in gaoler("keys", *state).stdout
    wrong = gaoler("keys", "add", "other", "--rate", "exec=fast", *state)
    assert wrong.returncode == 78
    assert "--rate 'exec=fast' is not allowed" in wrong.stderr
    assert json.loads(gaoler("keys", "revoke", "bot", "--json", *state).stdout) == {"revoked": "bot"}


def test_a_command_that_does_not_exist_is_not_taken_for_a_wish_to_list() -> None:
    done = gaoler("sessions", "lst")
    assert done.returncode == 2
    assert "No such command 'lst'" in done.stderr


# -- how it looks --


def test_what_strangers_wrote_cannot_steer_a_terminal() -> None:
    assert visible("a\x1b]0;title\x07\u202eb\n") == "a?]0;title??b?"


def test_figures_are_for_people() -> None:
    assert [size(each) for each in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 MiB",
        "3.0 TiB",
    ]
    assert [duration(each) for each in (0.0123, 1.5, 61, 7260, 90_000)] == [
        "12 ms",
        "1.5 s",
        "1 min 1 s",
        "2 h 1 min",
        "1 d 1 h",
    ]
    assert bars([0, 1, 8]) == " ▁█"


def test_help_needs_little_of_what_the_commands_need() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom supervisor.cli import main\ntry:\n    main(['--help'])\nfinally:\n    print(*sys.modules, file=sys.stderr)",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
    )
    loaded = {name.partition(".")[0] for name in found.stderr.split()}
    heavy = {
        "trio",
        "rich",
        "h11",
        "http",
        "ssl",
        "redis",
        "boto3",
        "cryptography",
        "mcp",
        "quart",
        "hypercorn",
        "structlog",
    }
    assert not loaded & heavy
    sections = [line for line in found.stdout.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert sections[:2] == ["Options:", "Begin:"]
    assert "Other:" not in sections, "each command has its section"
