"""What ``gaoler logs`` finds by request and session, in files that are put aside meanwhile, cut off or hostile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.logs.turned_over import read_lines
from tests.daemon import ROOT
from tests.supervisor.command_line import COMMAND, environment, gaoler
from tests.supervisor.terminal import Terminal

HOSTILE = "\x1b]0;title\x07\x9b31m\u202eevil\x7f"
TIME = "2026-01-01T00:00:00.000Z"
STAMP = "2026-01-01 00:00:00,000 INFO gaoler.x"


def put_aside(path: Path, *lines: str) -> None:
    """As the daemon does it: the oldest first, then a new file."""
    for number in range(8, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))
    path.write_text("".join(f"{line}\n" for line in lines))


# -- files that are put aside --


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_file_put_aside_while_it_is_read_gives_each_line_once(tmp_path: Path, times: int) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.2").write_text("1\n2\n")
    (tmp_path / "log.1").write_text("3\n4\n")
    path.write_text("5\n6\n")

    def turning() -> Callable[[str], bool]:
        def see(line: str) -> bool:
            if line == "6":
                for number in range(times):
                    put_aside(path, f"later {number}")
            return True

        return see

    given = list(read_lines(path, 100, follow=False, picks=turning))
    assert [each for each in given if not each.startswith("later")] == ["1", "2", "3", "4", "5", "6"]
    assert len(set(given)) == len(given)


def test_a_number_that_is_missing_for_a_moment_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "log.3").write_text("1\n")
    (tmp_path / "log.1").write_text("2\n")
    (tmp_path / "log").write_text("3\n")
    assert list(read_lines(tmp_path / "log", 9, follow=False)) == ["1", "2", "3"]


def test_following_loses_no_file_that_came_and_went_between_two_looks(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("1\n")
    lines = read_lines(path, 10, follow=True)
    assert next(lines) == "1"
    with path.open("a") as file:
        file.write("2\n")
    for number in (3, 4, 5):
        put_aside(path, str(number))
    assert [next(lines) for _ in range(4)] == ["2", "3", "4", "5"]


# -- by request and session --


def record(number: int, **more: str) -> str:
    return json.dumps({"time": TIME, "level": "INFO", "logger": "gaoler.x", "event": f"e{number}", **more})


def files_of(directory: Path, lines: list[str]) -> Path:
    """A log of three files, the latest with half a line at its end."""
    path = directory / "gaoler.log"
    for name, part in (("gaoler.log.2", lines[:2]), ("gaoler.log.1", lines[2:4]), ("gaoler.log", lines[4:])):
        (directory / name).write_bytes("".join(f"{line}\n" for line in part).encode())
    with path.open("ab") as file:
        file.write(lines[0].encode()[:-3])
    return path


def test_what_was_written_for_a_request_or_session_is_found_over_all_files_of_json(tmp_path: Path) -> None:
    lines = [
        record(0, request_id="r-1", session_id="s-1"),
        record(1, request_id="r-1.1", session_id="s-1"),
        record(2, request_id="r-1"),
        "[" * 100_000 + "r-1",
        '{"request_id": "r-1", "event": "half',
        record(5, request_id="r-1", session_id="s-1"),
        record(6, request_id="r-2", told="r-1 request_id=r-1"),
    ]
    path = files_of(tmp_path, lines)

    def events(*arguments: str) -> list[str]:
        done = gaoler("logs", "--json", *arguments, GAOLER_LOG_FILE=str(path), GAOLER_LOG_FORMAT="json")
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line)["event"] for line in done.stdout.splitlines()]

    assert events("--request", "r-1") == ["e0", "e2", "e5"]
    assert events("--request", "r-1", "-n", "2") == ["e2", "e5"]
    assert events("--session", "s-1") == ["e0", "e1", "e5"]
    assert events("--request", "r-1", "--session", "s-1") == ["e0", "e5"]
    assert events("--request", "r-9") == []
    whole = gaoler("logs", GAOLER_LOG_FILE=str(path), GAOLER_LOG_FORMAT="json")
    assert (whole.returncode, len(whole.stdout.splitlines())) == (0, len(lines))


def test_what_was_written_for_a_request_or_session_is_found_over_all_files_of_text(tmp_path: Path) -> None:
    path = files_of(
        tmp_path,
        [
            f"{STAMP} a request_id=r-1 session_id=s-1",
            f"{STAMP} b request_id=r-10",
            f"{STAMP} c failed request_id=r-1",
            "Traceback (most recent call last):",
            f"{STAMP} d session=s-1",
            f"{STAMP} e",
            "request_id=r-1",
        ],
    )

    def shown(*arguments: str) -> list[str]:
        done = gaoler("logs", *arguments, GAOLER_LOG_FILE=str(path))
        assert (done.returncode, done.stderr) == (0, "")
        return [line.removeprefix(f"{STAMP} ") for line in done.stdout.splitlines()]

    assert shown("--request", "r-1") == [
        "a request_id=r-1 session_id=s-1",
        "c failed request_id=r-1",
        "Traceback (most recent call last):",
    ]
    assert shown("--session", "s-1") == ["a request_id=r-1 session_id=s-1", "d session=s-1"]


def test_the_journal_is_asked_by_field_or_by_text(tmp_path: Path) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    journalctl.chmod(0o755)
    path, wanted = f"{tmp_path}:/bin", ("--request", "r.1", "--session", "-s")
    by_field = gaoler("logs", *wanted, PATH=path, GAOLER_LOG_FORMAT="journal").stdout.splitlines()
    assert by_field[-2:] == ["REQUEST_ID=r.1", "SESSION_ID=-s"]
    by_text = gaoler("logs", *wanted, PATH=path).stdout.splitlines()
    assert by_text[-2:] == [
        r"--grep=^(?=.*(?<![\w.-])r[.]1(?![\w.-]))(?=.*(?<![\w.-])-s(?![\w.-]))",
        "--case-sensitive=yes",
    ]


def test_an_id_that_is_none_is_refused_before_anybody_is_asked() -> None:
    for wrong in ("", "a b", "x" * 129, "a/b", "a\nb"):
        done = gaoler("logs", f"--request={wrong}", PATH="/nowhere")
        assert done.returncode == 2
        assert "--request: an id has 1 to 128 characters" in done.stderr
    both = gaoler("logs", "--audit", "--session", "s-1")
    assert both.returncode == 2
    assert "--audit takes none of --request and --session" in both.stderr


# -- hostile text --


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--request", "r-1"], ["--json", "--request", "r-1"]])
def test_what_a_terminal_would_obey_is_never_printed(tmp_path: Path, form: str, arguments: list[str]) -> None:
    path = tmp_path / "gaoler.log"
    raw = f"{STAMP} {HOSTILE} request_id=r-1"
    escaped = record(1, request_id="r-1", told=HOSTILE, exception=f"a\n{HOSTILE}")
    unescaped = '{"event": "\x9b\u202e\x7f", "request_id": "r-1", "\x9b": 1}'
    path.write_bytes(f"{raw}\n{escaped}\n{unescaped}\n".encode() + b"\xff\x1b[2J\n")
    settings = {"GAOLER_LOG_FILE": str(path), "GAOLER_LOG_FORMAT": form}
    with Terminal([*COMMAND, "logs", "--no-color", *arguments], {**environment(), **settings}, ROOT) as terminal:
        assert terminal.end() == 0
    assert "r-1" in terminal.text
    assert [each for each in terminal.text.replace("\r\n", "") if not each.isprintable()] == []
    done = gaoler("logs", *arguments, GAOLER_LOG_FILE=str(path), GAOLER_LOG_FORMAT=form)
    assert [each for each in done.stdout.replace("\n", "") if not each.isprintable()] == []


def test_an_object_that_is_written_otherwise_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "gaoler.log"
    path.write_text('{"event": "\x9b\u202e\U000e0001"}\n')
    done = gaoler("logs", "--json", GAOLER_LOG_FILE=str(path), GAOLER_LOG_FORMAT="json")
    assert done.stdout.isascii()
    assert json.loads(done.stdout) == {"event": "\x9b\u202e\U000e0001"}
