"""One run of one program in one language: what is sent, what comes back, and several at once ahead of the tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from supervisor.runtimes.catalogue import load_languages
from tests.daemon import Daemon
from tests.http_api.moments import out_of_time

HERE: Final = Path(__file__).resolve().parent
LANGUAGES: Final = {language.name: language for language in load_languages()}
AT_ONCE: Final = 3
"""A sandbox has one core at most; while one waits for the daemon the others compile."""
WAITING: Final = 3
"""Beside them, those that run until their time is over: they sleep. One user has six places by default."""


def suffix_of(language: str) -> str:
    """As the file of a program in it is called: ``.py``."""
    return Path(LANGUAGES[language].source).suffix


@dataclass(frozen=True, slots=True)
class Case:
    """A program and what it is given."""

    language: str
    program: Path
    stdin: str = ""
    arguments: tuple[str, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    """Input files: name and content."""
    timeout_milliseconds: int | None = None
    """It goes on until its time is over; more of it is given if it says nothing in so much."""
    small: bool = False
    """It meets a limit, so it runs where they are small."""
    wanted: tuple[str, ...] = ()
    """Names of the files that it makes."""
    sent_as: str = ""
    """The name of the language that is sent, if it is another one."""
    main: str = ""
    """Which of the files is run, instead of the program as code."""
    sources: tuple[str, ...] = ()
    """Which of the files are compiled with it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of it. All of it comes from the sandbox."""

    stdout: str
    stderr: str
    code: int | None
    signal: str | None
    status: str | None
    phase: str
    made: Mapping[str, bytes] = field(default_factory=dict)


def run(daemon: Daemon, case: Case) -> Ran:
    """Upload the input files, run the program, download what was wanted of the files that it made."""
    sent: dict[str, Any] = {
        "lang": case.sent_as or case.language,
        "stdin": case.stdin,
        "args": list(case.arguments),
        **({"main": case.main} if case.main else {"code": case.program.read_text()}),
        **({"sources": list(case.sources)} if case.sources else {}),
    }
    if case.files:
        answer = daemon.upload(*case.files)
        assert answer.status == 200, answer.body
        session = answer.json["storage_session_id"]
        sent["files"] = [
            {"id": file["fileId"], "name": name, "storage_session_id": session}
            for file, (name, _) in zip(answer.json["files"], case.files, strict=True)
        ]

    def result_of(**more: int) -> dict[str, Any]:
        body = json.dumps(sent | more).encode()
        reply = daemon.request("POST", "/v1/exec", body, {"Content-Type": "application/json"})
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json
        return found

    if case.timeout_milliseconds is None:
        result = result_of()
    else:
        result = out_of_time(lambda milliseconds: result_of(timeout=milliseconds), case.timeout_milliseconds)
    files = {file["name"]: f"/v1/download/{file['storage_session_id']}/{file['id']}" for file in result["files"]}
    return Ran(
        result["stdout"],
        result["stderr"],
        result["code"],
        result["signal"],
        result["status"],
        result["phase"],
        {name: daemon.request("GET", files[name]).body for name in case.wanted if name in files},
    )


class Ahead:
    """Runs cases in the background, a few at once, in the order in which they will be asked for."""

    def __init__(self, runs: Callable[[Case], Ran], cases: Iterable[Case]) -> None:
        self._working = ThreadPoolExecutor(AT_ONCE)
        self._waiting = ThreadPoolExecutor(WAITING)
        self._started: dict[Case, Future[Ran]] = {
            case: (self._waiting if case.timeout_milliseconds else self._working).submit(runs, case) for case in cases
        }

    def __call__(self, case: Case) -> Ran:
        """Wait for what became of a case; what went wrong in the background is raised here."""
        return self._started[case].result()

    def close(self) -> None:
        """Wait for what runs; what nobody will ask for any more does not begin."""
        self._working.shutdown(cancel_futures=True)
        self._waiting.shutdown(cancel_futures=True)
