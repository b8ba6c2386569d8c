"""The attacks of groups F and S: at a daemon with its rates, and each of them finds what it is there to find."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from supervisor.attack.case import Broken, Case
from supervisor.attack.cases import (
    files,
    files_inside,
    files_kept,
    files_others,
    files_stored,
    files_tools,
    secrets_environment,
    secrets_told,
)
from supervisor.attack.cases import secrets as keys
from supervisor.attack.suite import attack_one
from supervisor.attack.target import Caller, Target
from supervisor.attack.wire import Answer
from supervisor.identity.keys import KEY_FILE, add_key
from supervisor.policy import load_policies
from supervisor.settings.loading import load
from tests.containment.test_claims import target_of
from tests.daemon import Daemon, daemon_with

MODULES = (files, files_inside, files_kept, files_others, files_stored, keys, secrets_environment, secrets_told)
CASES: list[Case] = [case for module in MODULES for case in module.COLLECTION.cases]
AT_A_DAEMON = [case for case in CASES if case.place == "daemon"]
LISTED = [{"id": "F" * 21, "size": 3, "etag": "0", "metadata": {"original-filename": "own.txt"}}]


@pytest.fixture(scope="module")
def installed(image_dir: Path) -> Iterator[Target]:
    """A daemon as it is installed, with the rates that people have, and three callers."""
    rates = {f"GAOLER_RATES_{kind}": rate for kind, rate in (("EXEC", "20/30"), ("UPLOAD", "30/300"))}
    rates |= {"GAOLER_RATES_DOWNLOAD": "60/60", "GAOLER_RATES_LISTING": "120/60"}
    with daemon_with(image_dir, rates) as daemon:
        target = target_of(daemon)
        path, owner = daemon.state_dir / "data" / KEY_FILE, 199_999
        target.colleague = Caller("colleague", add_key(path, "colleague", "default", owner), "default")
        target.stranger = Caller("stranger", add_key(path, "stranger", "elsewhere", owner), "elsewhere")
        yield target


@pytest.mark.root
@pytest.mark.parametrize("case", AT_A_DAEMON, ids=[f"{case.id} {case.name}" for case in AT_A_DAEMON])
async def test_it_is_held_at_a_daemon_within_its_rates(installed: Target, case: Case) -> None:
    installed.user = f"attack-{AT_A_DAEMON.index(case)}"
    result = await attack_one(case, installed)
    assert result.verdict == "held", result.detail
    await installed.forget()
    assert sessions_in(installed.state_directory) == 0


def sessions_in(state: Path) -> int:
    with closing(sqlite3.connect(f"file:{state}/data/gaoler.sqlite?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM sessions").fetchone()
    return int(count)


# -- what each says when its wall is missing --

Respond = Callable[[str, str, bytes], Answer | None]


class Fake(Target):
    """A daemon that answers as ``respond`` says, else like one in which everything is as it has to be."""

    respond: Respond

    async def request(self, method: str, path: str, body: Any = b"", *_: Any, **__: Any) -> Answer:
        content = body if isinstance(body, bytes) else b"".join(body)
        found = self.respond(method, path, content)
        return found or answer({"error": "not_found", "message": "no such file"}, 404)


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def fake(respond: Respond, state: Path = Path("/nonexistent")) -> Fake:
    me = Caller("me", "gk-" + "0" * 48, "default")
    settings, policy = load(file=None, environment={}, flags={}).settings, load_policies()["default"]
    languages = frozenset({"python", "bash"})
    target = Fake("unix:/nonexistent", state, settings, policy, languages, range(1), me, me, me)
    target.respond = respond
    return target


def usual(method: str, path: str, body: bytes) -> Answer | None:
    """A session with one file; executions print nothing."""
    del body
    if method == "POST" and path == "/v1/upload":
        return answer({"session_id": "S" * 21})
    if method == "GET" and path.startswith("/v1/files/S"):
        return answer(LISTED)
    if method == "GET" and path.startswith(("/v1/download/S", "/v1/sessions/S")) and path.endswith(("FFF", "own.txt")):
        return answer(b"own")
    if method == "POST" and path == "/v1/exec":
        return answer({"session_id": "S" * 21, "stdout": "", "stderr": "", "files": [], "skipped": []})
    return None


def case_named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def running(stdout: str) -> Respond:
    def respond(method: str, path: str, body: bytes) -> Answer | None:
        if path == "/v1/exec":
            return answer({"session_id": "S" * 21, "stdout": stdout, "stderr": "", "files": [], "skipped": []})
        return usual(method, path, body)

    return respond


def leading_out(method: str, path: str, body: bytes) -> Answer | None:
    return answer(b"root:x:0:0:") if "etc/passwd" in unquote(unquote(path)) else usual(method, path, body)


def failing(method: str, path: str, body: bytes) -> Answer | None:
    return answer(b"", 500) if "%2f" in path else usual(method, path, body)


def redirecting(method: str, path: str, body: bytes) -> Answer | None:
    elsewhere = {"location": "//evil.example/"}
    return answer(b"", 308, elsewhere) if "//" in path else usual(method, path, body)


def as_a_page(method: str, path: str, body: bytes) -> Answer | None:
    if path == "/v1/upload/batch":
        return answer({"session_id": "S" * 21, "files": []})
    if "/download/" in path:
        return answer(b"<script>alert(document.domain)</script>", 200, {"content-disposition": "inline"})
    return usual(method, path, body)


def giving_to_anybody(method: str, path: str, body: bytes) -> Answer | None:
    return answer(files_others.SECRET) if "/download/S" in path else usual(method, path, body)


def telling_its_key(method: str, path: str, body: bytes) -> Answer | None:
    return answer({"message": "no key gk-" + "0" * 48}, 401) if path.endswith("metrics") else usual(method, path, body)


def telling_its_place(method: str, path: str, body: bytes) -> Answer | None:
    return answer({"message": "/nonexistent/data"}, 404) if path.endswith("nothing") else usual(method, path, body)


def running_a_start_file(method: str, path: str, body: bytes) -> Answer | None:
    said = secrets_environment.INTRUDER if b"session_id" in body else ""
    return running(f"{said}A=1\0ARGUMENTS\n")(method, path, body)


def taking_arguments_as_variables(method: str, path: str, body: bytes) -> Answer | None:
    given = json.loads(body).get("args", []) if path == "/v1/exec" else []
    more = "LD_PRELOAD=/mnt/data/evil.so\0" if given else ""
    return running(f"A=1\0{more}ARGUMENTS\n" + "".join(each + "\0" for each in given))(method, path, body)


@pytest.mark.parametrize(
    ("name", "respond", "said"),
    [
        ("path games", leading_out, "root:x:0:0:"),
        ("path games", failing, "is answered with 500"),
        ("path games", redirecting, "evil.example"),
        ("path games", lambda _m, _p, _b: None, "an ordinary upload is answered with 404"),
        ("pages and headers", as_a_page, "no nosniff; no sandbox in its policy; Content-Disposition: inline"),
        ("the workspace's root replaced", running("DONE; replaced by a link\n"), "replaced by a link"),
        ("the workspace's root replaced", running("DONE\n"), "the session has the files ['own.txt']"),
        ("what belongs to others", giving_to_anybody, "another's is answered with 200"),
        ("errors and answers", telling_its_key, "has the API key"),
        ("errors and answers", telling_its_place, "has the path of the state directory"),
        ("what a program finds", running(f"gk-{'0' * 48}\nDONE\n"), "the search does not find what is there"),
        ("what a program starts with", running_a_start_file, "something else ran"),
        ("what a program starts with", taking_arguments_as_variables, "the environment is another one"),
        ("what a request may set", running("A=1\0ARGUMENTS\n"), "a request sets something by one of env"),
    ],
)
async def test_a_case_says_broken_when_its_wall_is_missing(name: str, respond: Respond, said: str) -> None:
    result = await attack_one(case_named(name), fake(respond))
    assert result.verdict == "broken", result
    assert said in result.detail


async def test_a_link_that_was_followed_is_seen() -> None:
    target = fake(usual)
    with pytest.raises(Broken, match=r"'own\.txt' is kept, which nobody has written"):
        await files_inside.must_be_mine(target, "S" * 21)
    below = [{**LISTED[0], "metadata": {"original-filename": "d/os-release"}}]

    def following(method: str, path: str, body: bytes) -> Answer | None:
        if path.startswith("/v1/files/"):
            return answer(below)
        return answer(b'PRETTY_NAME="Debian') if "/download/" in path else usual(method, path, body)

    with pytest.raises(Broken, match="has what is behind a link"):
        await files_inside.must_be_mine(fake(following), "S" * 21)


async def test_quotas_that_are_passed_together_are_seen() -> None:
    def generous(method: str, path: str, body: bytes) -> Answer | None:
        if method == "GET" and path.startswith("/v1/files/"):
            return answer([{**LISTED[0], "size": 1 << 30}])
        return answer({}, 201) if path.endswith("/files") else usual(method, path, body)

    with pytest.raises(Broken, match="a session of at most 2097152 bytes holds 1073741824"):
        await files_others.race(fake(generous))


@pytest.mark.parametrize("form", [lambda key: key, base64.b64encode, lambda key: key.hex().encode()])
def test_a_key_is_found_in_every_form(tmp_path: Path, form: Callable[[bytes], bytes]) -> None:
    target = fake(usual, tmp_path)
    hidden = keys.planted(target)
    assert list(keys.found_in([b"x", b"y" + form(target.me.key.encode()) + b"z"], hidden))
    assert not list(keys.found_in([b"gk-", b"nothing"], hidden))


@pytest.mark.parametrize(
    ("line", "is_a_record"),
    [
        ("2026-11-21 18:27:10,539 INFO gaoler.http request method=GET", True),
        ("INFO gaoler.jailer jailer ready policies=default", True),
        ("2026-11-21 18:27:10,539 INFO gaoler.http path=\x1b[31m", False),
        ("2026-11-21 18:27:10,539 INFO gaoler.http path=\u2028x", False),
        ("2026-11-21 18:27:10,539 INFO gaoler.http path=\x9b31m", False),
        ("Traceback (most recent call last):", False),
        ("forged", False),
        ("", False),
    ],
)
def test_a_line_of_the_log_is_a_record_or_a_break(line: str, is_a_record: bool) -> None:
    assert bool(secrets_told.RECORD.fullmatch(line)) == is_a_record


def test_a_picture_bomb_is_small_and_whole() -> None:
    data = files_others.png_bomb()
    assert len(data) < 2 << 20
    assert data[16:24] == (100_000).to_bytes(4, "big") * 2


@pytest.mark.root
async def test_the_tools_are_called_and_refusals_are_told(daemon: Daemon) -> None:
    target = target_of(daemon)
    async with files_tools.open_tools(target) as tools:
        written = await tools.call("write_file", path="a", text="x")
        assert (await tools.try_call("read_file", path="none")).refusal is not None
        with pytest.raises(Broken, match="an ordinary call of read_file is refused"):
            await tools.call("read_file", path="none")
    assert list(target.sessions) == [written["session"]]
    await target.forget()
