"""Programs whose time is over, whose caller leaves, or who stand still: each once it is known how far they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.daemon import Answer, Daemon, eventually


def out_of_time(run: Callable[[int], dict[str, Any]], milliseconds: int = 300) -> dict[str, Any]:
    """Give what becomes of a program that says something and goes on until its time is over.

    ``run`` is given the time. Nobody promises a program how far it gets in it: one that has said nothing has more.
    """
    while milliseconds < 60_000:
        ended = run(milliseconds)
        if ended["stdout"]:
            return ended
        milliseconds *= 4
    raise AssertionError("it said nothing in its time")


def leave_when_it_says(daemon: Daemon, said: str, code: str, **fields: Any) -> str:
    """Run Python, and hang up as soon as it has said something; give all that it had said."""
    link = daemon.connection()
    try:
        body = {"lang": "py", "code": code, **fields}
        link.request("POST", "/v1/exec?stream=1", json.dumps(body), {"X-API-Key": daemon.api_key})
        with link.getresponse() as response:
            text = ""
            while said not in text:
                line = response.readline()
                assert line, "it ended, and had said only " + text
                if line.startswith(b"data: "):
                    text += str(json.loads(line.removeprefix(b"data: ")).get("text", ""))
            return text
    finally:
        link.close()


def when_stopped(pid: int) -> list[str]:
    """Wait until every thread of a process is stopped; give how often each has left the processor so far.

    Who has not run in between gives the same again.
    """
    threads = Path("/proc") / str(pid) / "task"

    def statuses() -> list[str]:
        return [(each / "status").read_text() for each in sorted(threads.iterdir())]

    eventually(lambda: all("State:\tT" in each for each in statuses()))
    return [line for each in statuses() for line in each.splitlines() if "ctxt_switches" in line]


def refusal(answer: Answer, status: int, error: str) -> dict[str, Any]:
    """Give what an execution was refused with. What came late has the status of an answer, whose head was sent before."""
    assert answer.status == (200 if answer.body.startswith(b" ") else status), (answer.status, answer.body[:500])
    found: dict[str, Any] = answer.json
    assert found["error"] == error, found
    return found
