"""A record in each of its forms, and where it goes: parts without a daemon."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.errors import ConfigurationError
from supervisor.execution.request_context import begin_request, work_for_session
from supervisor.execution.values import SessionId
from supervisor.logs import security_log
from supervisor.logs.forms import ApartLimit, Hiding, HidingFormatter, json_form, line_form
from supervisor.logs.journal import Journal, connect_journal
from supervisor.logs.relay import LINE_BYTES, Relay
from supervisor.logs.rotating import RotatingFile, open_log_file
from supervisor.logs.taken_apart import take_apart
from tests.journal import fields

SECRET = 'hush-"hush"-0123'


def record(template: str, *arguments: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("gaoler.test", level, __file__, 1, template, arguments, None)


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.Logger("gaoler.test")  # noqa: LOG001 - not in the tree, so no other handler hears it
    yield logger
    for handler in logger.handlers:
        handler.close()


def writing(log: logging.Logger, form: logging.Formatter, secrets: tuple[str, ...] = ()) -> Callable[[], list[str]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HidingFormatter(form, Hiding(secrets)))
    handler.addFilter(ApartLimit())
    log.addHandler(handler)
    return lambda: stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("template", "arguments", "event", "fields"),
    [
        (
            "request method=%s status=%d ms=%.1f",
            ("GET", 200, 1.26),
            "request",
            {"method": "GET", "status": 200, "ms": 1.3},
        ),
        ("swept sessions=%d blobs=%d", (1, 2), "swept", {"sessions": 1, "blobs": 2}),
        ("session lost session=%s", ("abc",), "session lost", {"session_id": "abc"}),
        ("listening on %s state_dir=%s", ("x:1", "/s"), "listening on x:1", {"state_dir": "/s"}),
        ("shedding load: %s (%s)", ("disk", "host"), "shedding load: disk (host)", {}),
        ("all of it 100%% done=%s", (True,), "all of it 100%", {"done": True}),
        ("plain 100% with no=arguments", (), "plain 100% with no=arguments", {}),
        ("level=%s event=%s", ("a", "b"), "", {"level_": "a", "event_": "b"}),
        ("error=%s", (None,), "", {"error": None}),
        ("reason=%s", ("x status=200 forged=1\n",), "", {"reason": "x status=200 forged=1\\n"}),
    ],
)
def test_a_message_is_taken_apart_by_its_template(
    template: str, arguments: tuple[object, ...], event: str, fields: dict[str, Any]
) -> None:
    found = take_apart(record(template, *arguments))
    assert (found.event, found.fields) == (event, fields)


def test_json_is_one_object_a_line_with_time_level_logger_event_request_and_session(log: logging.Logger) -> None:
    lines = writing(log, json_form())
    begin_request("caller-1")
    work_for_session(SessionId("session-1"))
    log.info("request route=%s status=%d", "/v1/exec", 200)
    (line,) = lines()
    said = json.loads(line)
    assert list(said)[:4] == ["time", "level", "logger", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("time"))
    assert said == {
        "level": "INFO",
        "logger": "gaoler.test",
        "event": "request",
        "route": "/v1/exec",
        "status": 200,
        "request_id": "caller-1",
        "session_id": "session-1",
    }


def test_a_traceback_and_controls_stay_within_the_one_line(log: logging.Logger) -> None:
    lines = writing(log, json_form())
    try:
        raise ValueError("a\nb\x1b[2J")
    except ValueError:
        log.exception("failed name=%s \u202e", "\x1b[31m\u2028")
    (line,) = lines()
    assert line.isascii()
    assert line.isprintable()
    said = json.loads(line)
    assert "ValueError" in said["exception"]
    assert (said["name"], said["event"]) == ("\\x1b[31m\\u2028", "failed \\u202e")


def test_a_security_event_has_its_fields_whatever_they_say(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security_log, "log", log)
    lines = writing(log, json_form())
    security_log.tell("authentication_failed", address="::1", count=3, reason='x" event=forged\n')
    (line,) = lines()
    said = json.loads(line)
    assert (said["event"], said["address"], said["count"]) == ("authentication_failed", "::1", 3)
    assert said["reason"] == 'x" event=forged\\n'


def test_text_is_a_line_that_ends_with_what_it_was_written_for(log: logging.Logger) -> None:
    lines = writing(log, line_form())
    begin_request("caller-2")
    log.warning("jail lost reason=%s", "x\ny")
    (line,) = lines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING gaoler\.test jail lost reason=x\\ny request_id=caller-2", line
    )


@pytest.mark.parametrize("form", [json_form, line_form])
def test_a_secret_of_the_settings_is_hidden_wherever_it_turns_up(
    log: logging.Logger, form: Callable[[], logging.Formatter]
) -> None:
    lines = writing(log, form(), (SECRET, "ab"))
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("with %s and key=%s ab", SECRET, SECRET)
    said = "\n".join(lines())
    assert "hush" not in said
    assert said.count("(hidden)") == 3
    assert "ab" in said


# -- files --


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "log"


def rotating(directory: Path, file_bytes: int, kept: int) -> RotatingFile:
    path = directory / "g.log"
    handler = RotatingFile(path, open_log_file(path, os.geteuid()), file_bytes, kept)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


def test_a_full_file_is_put_aside_and_so_many_are_kept(directory: Path, log: logging.Logger) -> None:
    log.addHandler(rotating(directory, 30, 2))
    for number in range(9):
        log.info("line number %d", number)
    assert sorted(each.name for each in directory.iterdir()) == ["g.log", "g.log.1", "g.log.2"]
    assert (directory / "g.log").read_text() == "line number 8\n"
    assert (directory / "g.log.1").read_text() == "line number 6\nline number 7\n"
    assert (directory / "g.log.2").read_text() == "line number 4\nline number 5\n"


def test_with_none_kept_it_begins_anew_and_an_old_file_counts(directory: Path, log: logging.Logger) -> None:
    directory.mkdir(mode=0o700)
    (directory / "g.log").write_text("x" * 29 + "\n")
    log.addHandler(rotating(directory, 30, 0))
    log.info("next")
    assert [each.name for each in directory.iterdir()] == ["g.log"]
    assert (directory / "g.log").read_text() == "next\n"


def test_a_line_after_one_that_was_cut_off_is_a_line_of_its_own(directory: Path, log: logging.Logger) -> None:
    directory.mkdir(mode=0o700)
    (directory / "g.log").write_text("whole\nhal")
    log.addHandler(rotating(directory, 1000, 1))
    log.info("next")
    assert (directory / "g.log").read_text() == "whole\nhal\nnext\n"


def test_a_file_that_cannot_be_put_aside_is_written_on(directory: Path, log: logging.Logger) -> None:
    (directory / "g.log.1").mkdir(parents=True)
    directory.chmod(0o700)
    log.addHandler(rotating(directory, 30, 1))
    for number in range(5):
        log.info("line number %d", number)
    assert (directory / "g.log").read_text().count("\n") == 5


def test_a_full_disk_costs_lines_and_their_number_is_told(
    directory: Path, log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = rotating(directory, 1000, 1)
    log.addHandler(handler)
    with Path("/dev/full").open("wb") as full:
        kept = os.dup(handler._fd)
        os.dup2(full.fileno(), handler._fd)
        log.info("one")
        log.info("two")
        os.dup2(kept, handler._fd)
        os.close(kept)
    log.info("three")
    assert (directory / "g.log").read_text() == "records of the log were lost: 2\nthree\n"
    assert capfd.readouterr().err.count("No space left") == 1


def _symbolic_link(directory: Path) -> None:
    (directory / "g.log").symlink_to("/etc/passwd")


def _pipe(directory: Path) -> None:
    os.mkfifo(directory / "g.log")


def _directory(directory: Path) -> None:
    (directory / "g.log").mkdir()


def _open_to_all(directory: Path) -> None:
    directory.chmod(0o777)


def _link_instead(directory: Path) -> None:
    directory.rmdir()
    directory.symlink_to("/var/log")


@pytest.mark.parametrize("prepare", [_symbolic_link, _pipe, _directory, _open_to_all, _link_instead])
def test_what_somebody_else_could_have_put_there_is_no_log_file(
    directory: Path, prepare: Callable[[Path], None]
) -> None:
    directory.mkdir(mode=0o700)
    prepare(directory)
    with pytest.raises(ConfigurationError, match=r"log\.file"):
        open_log_file(directory / "g.log", os.geteuid())


@pytest.mark.root
def test_a_file_of_another_owner_is_never_given_away(directory: Path) -> None:
    """A captured daemon could have linked to it; root would make it the daemon's."""
    directory.mkdir(mode=0o700)
    os.chown(directory, 199_999, 199_999)
    (directory / "g.log").write_text("root's")
    with pytest.raises(ConfigurationError, match="remove it"):
        open_log_file(directory / "g.log", 199_999)
    assert (directory / "g.log").stat().st_uid == 0


# -- the journal --


def test_the_journal_gets_each_record_with_its_fields(tmp_path: Path, log: logging.Logger) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        handler = Journal(connect_journal(tmp_path / "journal"), Hiding([SECRET]))
        handler.addFilter(ApartLimit())
        log.addHandler(handler)
        begin_request("caller-3")
        log.error("session lost session=%s reason=%s", "abc", f"a\nb {SECRET}")
        found = fields(server.recv(65536))
    assert found == {
        "MESSAGE": "session lost session=abc reason=a\\nb (hidden)",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "gaoler",
        "LOGGER": "gaoler.test",
        "EVENT": "session lost",
        "SESSION_ID": "abc",
        "REASON": "a\\nb (hidden)",
        "REQUEST_ID": "caller-3",
    }


def test_a_journal_that_takes_nothing_stops_nobody(
    tmp_path: Path, log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        log.addHandler(Journal(connect_journal(tmp_path / "journal"), Hiding([])))
        for _ in range(10_000):
            log.info("nobody reads")
        assert capfd.readouterr().err.count("records of the log are lost") == 1
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            while server.recv(65536):
                pass
        log.info("again")
        assert re.fullmatch(r"records of the log were lost: \d+", fields(server.recv(65536))["MESSAGE"])
        assert fields(server.recv(65536))["MESSAGE"] == "again"


def test_without_a_journal_that_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"log\.format = journal"):
        connect_journal(tmp_path / "none")


# -- what other processes say --


@pytest.fixture
def heard() -> Iterator[list[logging.LogRecord]]:
    found: list[logging.LogRecord] = []

    class Hearing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler, ours = Hearing(), logging.getLogger("gaoler")
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel("INFO")
    yield found
    ours.removeHandler(handler)
    ours.setLevel(before)


def said(records: list[logging.LogRecord]) -> list[tuple[str, str, str]]:
    return [(each.levelname, each.name, each.getMessage()) for each in records]


def start_in(relay: Relay, program: str) -> subprocess.Popen[bytes]:
    with relay.as_standard_error():
        return subprocess.Popen([sys.executable, "-c", program])


async def test_what_a_process_says_is_a_record_of_its_logger(heard: list[logging.LogRecord]) -> None:
    relay = Relay()
    program = (
        "import os\n"
        "os.write(2, b'INFO gaoler.jailer jailer ready policies=default\\nDEBUG gaoler.jailer.cells hidden\\n')\n"
        "os.write(2, b'ERROR gaoler.jailer half a')\n"
        "os.write(2, b' line 100% %s\\nTraceback (most recent call last):\\nlast words')\n"
    )
    process = start_in(relay, program)

    async def until_it_ends() -> None:
        await trio.to_thread.run_sync(process.wait)

    await relay.beside(until_it_ends)
    relay.close()
    assert said(heard) == [
        ("INFO", "gaoler.jailer", "jailer ready policies=default"),
        ("ERROR", "gaoler.jailer", "half a line 100% %s"),
        ("WARNING", "gaoler.process", "Traceback (most recent call last):"),
        ("WARNING", "gaoler.process", "last words"),
    ]


def test_when_the_start_fails_what_was_said_is_in_the_log_first(heard: list[logging.LogRecord]) -> None:
    relay = Relay()

    def fail() -> None:
        os.write(2, b"CRITICAL gaoler.jailer refusing to start\n")
        raise ConfigurationError("the jailer refuses to start")

    with pytest.raises(ConfigurationError), relay.as_standard_error():
        fail()
    relay.close()
    assert said(heard) == [("CRITICAL", "gaoler.jailer", "refusing to start")]


def test_a_process_cannot_fill_memory_by_lines_or_names_nor_be_stopped_by_the_pipe(
    heard: list[logging.LogRecord],
) -> None:
    relay = Relay()
    with relay.as_standard_error():
        os.write(2, b"x" * (3 * LINE_BYTES) + b"\n")
        for number in range(200):
            os.write(2, f"INFO gaoler.n{'abcdefghij'[number % 10]}{'klmnopqrstuvwxyzabcd'[number // 10]} x\n".encode())
        relay.drain()
        assert len({each.name for each in heard}) <= 66
        assert all(len(each.getMessage()) <= LINE_BYTES for each in heard)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(2, b"y" * 4096)
    relay.close()
