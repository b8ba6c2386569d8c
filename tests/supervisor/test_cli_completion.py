"""Completion, as a real bash, a real zsh and a real fish ask for it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.daemon import PATIENCE_SECONDS, Daemon
from tests.supervisor.command_line import COMMAND, environment, gaoler
from tests.supervisor.terminal import Terminal

needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh: make tools")
needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish: make tools")


PATIENT = (
    "from supervisor.commands import completion\n"
    f"completion.COMPLETE_SECONDS = {PATIENCE_SECONDS}\n"
    "from supervisor.cli import main\n"
    "main(prog_name='gaoler')\n"
)
"""A gaoler that waits for its daemon as long as tests do: a person's shell gets nothing after a second."""


def shells_environment(tmp_path: Path, command: Sequence[str] = COMMAND, **more: str) -> dict[str, str]:
    """What a shell sees: a gaoler in its path, and a home of its own."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    program = tmp_path / "bin" / "gaoler"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o755)
    return {**environment(), "HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", **more}


def completed(*words: str, tmp_path: Path, command: Sequence[str] = COMMAND, **more: str) -> set[str]:
    """What bash offers for the last word."""
    script = (
        'eval "$(gaoler completion bash)"\n'
        f"COMP_WORDS=({' '.join(repr(each) for each in words)}); COMP_CWORD={len(words) - 1}\n"
        "$(complete -p gaoler | sed 's/.*-F \\([^ ]*\\) .*/\\1/') gaoler\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = shells_environment(tmp_path, command, **more)
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True, timeout=120)
    assert not done.stderr, done.stderr
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_names_that_are_kept_here(tmp_path: Path) -> None:
    assert completed("gaoler", "st", tmp_path=tmp_path) == {"status"}
    assert {"list", "show", "delete"} <= completed("gaoler", "sessions", "", tmp_path=tmp_path)
    assert completed("gaoler", "status", "--wa", tmp_path=tmp_path) == {"--watch"}
    assert {"python", "pypy"} & completed("gaoler", "run", "--lang", "py", tmp_path=tmp_path)
    assert "default" in completed("gaoler", "egress", "explain", "--policy", "def", tmp_path=tmp_path)
    for name in ("ann", "anton", "bob"):
        assert gaoler("keys", "add", name, GAOLER_STATE_DIR=str(tmp_path / "state")).returncode == 0
    state = {"GAOLER_STATE_DIR": str(tmp_path / "state")}
    assert completed("gaoler", "keys", "revoke", "an", tmp_path=tmp_path, **state) == {"ann", "anton"}


def test_what_cannot_be_had_is_not_offered_and_nothing_is_said(tmp_path: Path) -> None:
    state = {"GAOLER_STATE_DIR": str(tmp_path), "GAOLER_BIND": "127.0.0.1:1"}
    assert completed("gaoler", "sessions", "show", "", tmp_path=tmp_path, **state) == set()


@pytest.mark.root
def test_sessions_of_a_running_daemon_are_completed(daemon: Daemon, tmp_path: Path) -> None:
    made = daemon.execute("open('f', 'w').write('x')")["session_id"]
    there = environment(daemon)
    there = {name: there[name] for name in ("GAOLER_BIND", "GAOLER_STATE_DIR", "GAOLER_ADMIN_KEY")}
    patient = (sys.executable, "-c", PATIENT)
    assert made in completed("gaoler", "sessions", "show", "", tmp_path=tmp_path, command=patient, **there)


# -- fish: asks for what it would offer, with what explains it --


def fish(line: str, tmp_path: Path, **more: str) -> list[tuple[str, str]]:
    script = "source (gaoler completion fish | psub)\ncomplete --do-complete $line"
    env = shells_environment(tmp_path, line=line, **more)
    command = ["fish", "--no-config", "-c", script]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    assert not done.stderr, done.stderr
    return [(name, words) for name, _, words in (each.partition("\t") for each in done.stdout.splitlines())]


@needs_fish
def test_fish_completes_commands_options_values_and_files_with_what_explains_them(tmp_path: Path) -> None:
    assert [name for name, _ in fish("gaoler st", tmp_path)] == ["status"]
    assert {"list", "show", "delete"} <= {name for name, _ in fish("gaoler sessions ", tmp_path)}
    (tmp_path / "two words.py").touch()
    assert [name for name, _ in fish("gaoler run tw", tmp_path)] == ["two words.py"]
    offered = dict(fish("gaoler status --", tmp_path))
    assert offered["--no-color"] == "No colours, on a terminal either; as NO_COLOR in the environment."
    assert ("python", "Python 3") in fish("gaoler run --lang py", tmp_path)
    assert [name for name, _ in fish("gaoler egress explain \\\n --policy def", tmp_path)] == ["default"]


# -- zsh: on a terminal, for it completes nowhere else --


@pytest.fixture
def zsh(tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "two words.py").touch()
    env = shells_environment(tmp_path, TERM="dumb", GAOLER_STATE_DIR=str(tmp_path / "state"))
    with Terminal(["zsh", "-f", "-i"], env, tmp_path) as terminal:
        terminal.type(
            'PS1="%% "; LISTMAX=0; autoload -Uz compinit; compinit -u -D; eval "$(gaoler completion zsh)"; echo up\'\'set\r'
        )
        terminal.until("upset\r\n")
        yield terminal


@needs_zsh
def test_zsh_completes_commands_options_values_and_files_with_what_explains_them(zsh: Terminal) -> None:
    for typed, wanted in (
        ("gaoler st", "gaoler status "),
        ("gaoler sessions ", "Delete one with all its files"),
        ("gaoler status --wa", "gaoler status --watch "),
        ("gaoler status --", "No colours, on a terminal either; as NO_COLOR in the environment."),
        ("gaoler run --lang pyt", "gaoler run --lang python "),
        ("gaoler egress explain --policy def", "gaoler egress explain --policy default "),
        ("gaoler run tw", "gaoler run two\\ words.py "),
    ):
        zsh.type(f"{typed}\t")
        zsh.until(wanted)
        # Control-U: the line is empty again.
        zsh.type("\x15")


@needs_zsh
def test_zsh_completes_names_that_are_kept_here(zsh: Terminal, tmp_path: Path) -> None:
    assert gaoler("keys", "add", "anton", GAOLER_STATE_DIR=str(tmp_path / "state")).returncode == 0
    zsh.type("gaoler keys revoke an\t")
    zsh.until("gaoler keys revoke anton ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_own(shell: str) -> None:
    done = gaoler("completion", shell)
    assert done.returncode == 0
    assert f"{shell}_complete" in done.stdout
