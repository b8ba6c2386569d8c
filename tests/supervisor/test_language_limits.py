"""Limits of a language's own: from its file to the end of a program, with a real jailer."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.runtimes.catalogue import LANGUAGES
from tests.daemon import Daemon, end_daemons, spawn_daemon, wait_listening
from tests.mcp import connected
from tests.supervisor.test_compile import ENDLESS

pytestmark = pytest.mark.root

OWN = {
    "python": "wall_seconds = 0.5",
    "bash": "wall_seconds = 0.3",
    # One whose programs are to run is compiled however slow the machine is.
    "c": "wall_seconds = 0.2\ncompile_seconds = 29.5",
    "cpp": "compile_seconds = 1.5",
    "php": "wall_seconds = 86400",
}
SPIN_C = "int main(void) { for (;;) ; }\n"
SPIN = "while True: pass"
BIND = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


@pytest.fixture(scope="module")
def limited(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that sees another catalogue in the place of its own; nobody else does."""
    catalogue = tmp_path_factory.mktemp("catalogue") / "languages"
    shutil.copytree(LANGUAGES, catalogue)
    for name, limits in OWN.items():
        with (catalogue / f"{name}.toml").open("a") as file:
            file.write(f"\n[limits]\n{limits}\n")
    state = Path(tempfile.mkdtemp(prefix="gt-"))
    state.chmod(0o755)
    prefix = ["unshare", "--mount", "sh", "-euc", BIND, "sh", str(catalogue), str(LANGUAGES)]
    try:
        process = spawn_daemon(state, image_dir, prefix=prefix)
        running = Daemon(process, state, wait_listening(process, state))
        yield running
        running.stop()
    finally:
        end_daemons(state)
        remove_subtree(state)
        shutil.rmtree(state)


@pytest.mark.parametrize(
    ("lang", "code", "limit"),
    [("py", SPIN, "0.5"), ("bash", "while :; do :; done", "0.3"), ("c", SPIN_C, "0.2")],
    ids=["interpreter", "script", "compiled"],
)
@pytest.mark.parametrize("lasting", [False, True], ids=["alone", "lasting"])
def test_a_program_ends_at_its_languages_limit_whatever_was_asked(
    limited: Daemon, lang: str, code: str, limit: str, lasting: bool
) -> None:
    answer = limited.execute(code, lang, timeout=30_000, stateful=lasting)
    assert (answer["phase"], answer["status"]) == ("run", "TO")
    assert f"[gaoler] the program timed out after {limit} s" in answer["stderr"]


def test_a_caller_may_ask_for_less(limited: Daemon) -> None:
    assert "timed out after 0.1 s" in limited.execute(SPIN, timeout=100)["stderr"]


def test_a_language_that_lets_more_than_the_policy_gets_what_the_policy_lets(limited: Daemon) -> None:
    shown = limited.request("GET", "/v1/languages/php").json
    assert shown["limits"] == {"wall_seconds": limited.request("GET", "/v1/languages").json["limits"]["wall_seconds"]}
    if shown["installed"]:
        assert limited.execute("<?php echo 6 * 7;", "php")["stdout"] == "42"


def test_its_compiler_has_a_limit_too(limited: Daemon) -> None:
    answer = limited.execute(ENDLESS, "cpp", timeout=60_000)
    assert (answer["phase"], answer["status"]) == ("compile", "TO")
    assert "[gaoler] the compiler timed out after 1.5 s" in answer["stderr"]


@pytest.mark.parametrize(
    ("fields", "limit"),
    [({"code": SPIN}, "0.5"), ({"code": "while :; do :; done", "lang": "bash"}, "0.3")],
    ids=["python", "bash"],
)
def test_programs_with_tools_have_the_limit_of_what_they_are_written_in(
    limited: Daemon, fields: dict[str, str], limit: str
) -> None:
    tools = [{"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}}]
    answer = limited.request("POST", "/v1/exec/programmatic", json.dumps({"tools": tools, **fields}).encode())
    assert answer.status == 200, answer.body
    assert f"timed out after {limit} s" in json.dumps(answer.json)


async def test_both_doors_say_how_long_programs_may_take(limited: Daemon) -> None:
    whole = {each["name"]: each for each in limited.request("GET", "/v1/languages").json["languages"]}
    assert whole["python"]["limits"] == {"wall_seconds": 0.5}
    assert whole["c"]["limits"] == {"wall_seconds": 0.2, "compile_seconds": 29.5}
    assert whole["cpp"]["limits"]["compile_seconds"] == 1.5
    async with connected(limited) as agent:
        listed = await agent.call("list_languages")
        assert {line["name"]: line["limits"] for line in listed.data["languages"]} == {
            name: each["limits"] for name, each in whole.items()
        }
        assert "at most 0.2 s, and 29.5 s to compile" in listed.text
