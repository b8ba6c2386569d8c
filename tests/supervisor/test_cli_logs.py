"""The daemon's log as a person reads it: files that are put aside, the record of operators, the journal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import IO

import pytest

from supervisor.errors import ConfigurationError
from supervisor.logs.turned_over import read_lines
from tests.admin.desk import send
from tests.daemon import ROOT, Daemon
from tests.supervisor.command_line import COMMAND, environment, gaoler

RECORD = (
    '{"time": "2026-01-01T00:00:00.000Z", "level": "WARNING", "logger": "gaoler.x", "event": "a\\u001b[31mb", "n": 7}'
)


def test_the_latest_lines_reach_back_into_files_that_were_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.2").write_text("1\n2\n")
    (tmp_path / "log.1").write_text("3\n4\n")
    path.write_text("5\n6\nhalf")
    assert list(read_lines(path, 4, follow=False)) == ["3", "4", "5", "6"]
    assert list(read_lines(path, 100, follow=False)) == ["1", "2", "3", "4", "5", "6"]
    assert list(read_lines(path, 0, follow=False)) == []


def test_following_goes_on_in_the_next_file_and_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("1\nha")
    lines = read_lines(path, 10, follow=True)
    assert next(lines) == "1"
    with path.open("a") as file:
        file.write("lf\n")
    assert next(lines) == "half"
    with path.open("a") as file:
        file.write("last\n")
    path.rename(tmp_path / "log.1")
    path.write_text("new\n")
    assert [next(lines), next(lines)] == ["last", "new"]


def test_what_a_daemon_could_have_put_there_instead_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "none"):
        with pytest.raises(ConfigurationError):
            list(read_lines(tmp_path / name, 1, follow=False))


def test_a_log_of_json_is_laid_out_for_people_and_kept_for_programs(tmp_path: Path) -> None:
    path = tmp_path / "gaoler.log"
    path.write_text(f"{RECORD}\n")

    def shown(*arguments: str) -> str:
        return gaoler(*arguments, GAOLER_LOG_FILE=str(path), GAOLER_LOG_FORMAT="json").stdout

    assert shown("logs") == "2026-01-01T00:00:00.000Z WARNING gaoler.x a?[31mb n=7\n"
    assert shown("logs", "--json") == f"{RECORD}\n"
    path.write_text("plain\x07 line\n")
    assert gaoler("logs", GAOLER_LOG_FILE=str(path)).stdout == "plain? line\n"
    assert json.loads(gaoler("logs", "--json", GAOLER_LOG_FILE=str(path)).stdout) == {"line": "plain\x07 line"}


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = gaoler("logs", GAOLER_LOG_FILE=str(tmp_path / "none.log"))
    assert done.returncode == 78
    assert done.stderr == f"gaoler: {tmp_path}/none.log cannot be read: No such file or directory\n"


def test_without_a_file_the_journal_is_asked(tmp_path: Path) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text('#!/bin/sh\necho "$@"\n')
    journalctl.chmod(0o755)
    done = gaoler("logs", "-n", "7", "--json", "-f", PATH=f"{tmp_path}:/bin")
    assert done.stdout == "--unit=gaoler.service --lines=7 --output=json --follow\n"
    nowhere = gaoler("logs", PATH="/nowhere")
    assert nowhere.returncode == 78
    assert "set log.file" in nowhere.stderr


@pytest.mark.root
def test_what_operators_did_is_shown_and_followed(daemon: Daemon) -> None:
    assert send(daemon, "DELETE", "sessions/-not-there-before----").status == 404
    with subprocess.Popen(
        [*COMMAND, "logs", "--audit", "--json", "-f"],
        env=environment(daemon),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        assert follower.stdout is not None
        assert until(follower.stdout, "-not-there-before----")["act"] == "session.delete"
        assert send(daemon, "DELETE", "sessions/-not-there-after-----").status == 404
        assert until(follower.stdout, "-not-there-after-----")["who"] == "admin_key"
        follower.send_signal(signal.SIGINT)
        assert follower.wait() == 130
    shown = gaoler("logs", "--audit", daemon=daemon).stdout
    assert "session.delete" in shown
    assert "admin_key (127.0.0.1)" in shown


def until(stream: IO[str], wanted: str) -> dict[str, str]:
    for line in stream:
        if wanted in line:
            found: dict[str, str] = json.loads(line)
            return found
    raise AssertionError(f"it ended before {wanted}")
