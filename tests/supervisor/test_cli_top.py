"""Executions as they happen, on a real terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from supervisor.top.board import MOST_RUNNING, Board, keys_of
from tests.admin.desk import Running, ask
from tests.daemon import ROOT, Daemon, eventually
from tests.supervisor.command_line import COMMAND, environment, gaoler
from tests.supervisor.terminal import Terminal


@pytest.mark.root
def test_top_shows_what_runs_cancels_it_after_a_question_and_gives_the_terminal_back(daemon: Daemon) -> None:
    # Chosen is what has run longest: nothing that a test before has hung up on.
    eventually(lambda: ask(daemon, "executions")["running"] == [])
    with Terminal([*COMMAND, "top"], environment(daemon)) as terminal:
        terminal.until("q quits")
        assert terminal.attributes() != terminal.at_first, "keys come one by one"
        running = Running(daemon, "import time\ntime.sleep(600)", user="topmost")
        terminal.until("topmost")
        terminal.type("k")
        terminal.until("y: yes, any other key: no")
        terminal.type("n")
        terminal.until("q quits")
        assert any(each["user"] == "topmost" for each in ask(daemon, "executions")["running"])
        terminal.type("k")
        terminal.until("y: yes")
        terminal.type("y")
        assert running.answer().json["message"] == "the execution was cancelled"
        terminal.until("stopped")
        terminal.type("q")
        terminal.until("\x1b[?1049l")
        assert terminal.end() == 0
        assert terminal.attributes() == terminal.at_first


@pytest.mark.root
def test_a_signal_gives_the_terminal_back_too(daemon: Daemon) -> None:
    with Terminal([*COMMAND, "top"], environment(daemon)) as terminal:
        terminal.until("q quits")
        os.kill(terminal.pid, signal.SIGTERM)
        terminal.until("\x1b[?1049l")
        assert terminal.end() == 0
        assert terminal.attributes() == terminal.at_first


@pytest.mark.root
def test_for_programs_top_gives_events_one_a_line_and_without_a_terminal_it_lists_once(daemon: Daemon) -> None:
    with subprocess.Popen(
        [*COMMAND, "top", "--json"], env=environment(daemon), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as events:
        assert events.stdout is not None
        first = json.loads(events.stdout.readline())
        assert (first["event"], set(first["data"])) == ("snapshot", {"overview", "running"})
        events.send_signal(signal.SIGINT)
        assert events.wait() == 130
    running = Running(daemon, "import time\ntime.sleep(600)", user="listed")
    eventually(lambda: any(each["user"] == "listed" for each in ask(daemon, "executions")["running"]))
    listed = gaoler("top", daemon=daemon)
    (one,) = (line.split()[0] for line in listed.stdout.splitlines() if "listed" in line)
    assert gaoler("executions", "cancel", one, daemon=daemon).returncode == 0
    running.answer()


def record(name: str, state: str = "running", began_at: float = 100.0) -> dict[str, Any]:
    return {"id": name, "state": state, "began_at": began_at, "seconds": 7.0}


def event(kind: str, one: dict[str, Any], missed: int = 0) -> dict[str, Any]:
    return {"kind": kind, "execution": one, "missed": missed}


def test_the_board_follows_what_begins_and_ends_by_the_daemons_clock() -> None:
    board = Board()
    board.take("snapshot", {"overview": {"now": 110.0}, "running": [record("a"), record("b", began_at=90)]}, now=10.0)
    assert [each["id"] for each in board.rows()] == ["b", "a"]
    assert board.seconds(record("a"), now=12.0) == 12.0
    board.take("execution", event("ended", record("b", "ended"), missed=2), now=12.0)
    assert [each["id"] for each in board.rows()] == ["a"]
    assert (board.ended[0]["id"], board.missed, board.seconds(board.ended[0], now=99.0)) == ("b", 2, 7.0)
    for number in range(MOST_RUNNING + 50):
        board.take("execution", event("began", record(f"n{number}")), now=12.0)
    assert len(board.running) == MOST_RUNNING


def test_only_yes_cancels_and_only_the_chosen_one() -> None:
    board = Board()
    board.take(
        "snapshot", {"overview": {"now": 0.0}, "running": [record("a", began_at=1), record("b", began_at=2)]}, now=0.0
    )
    assert [board.press(key) for key in ("down", "k", "n")] == ["", "", ""]
    assert (board.press("k"), board.asked, board.press("q"), board.asked) == ("", "b", "", "")
    assert (board.press("k"), board.press("y"), board.asked) == ("", "cancel", "b")
    assert Board().press("k") == ""
    assert keys_of(b"k\x1b[A\x1bOBq") == ["k", "up", "down", "q"]
