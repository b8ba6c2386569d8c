"""Completion, as a real bash asks for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.supervisor.command_line import COMMAND, environment, gaoler


def completed(*words: str, tmp_path: Path, **more: str) -> set[str]:
    """What bash offers for the last word."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    program = tmp_path / "bin" / "gaoler"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(gaoler completion bash)"\n'
        f"COMP_WORDS=({' '.join(repr(each) for each in words)}); COMP_CWORD={len(words) - 1}\n"
        "$(complete -p gaoler | sed 's/.*-F \\([^ ]*\\) .*/\\1/') gaoler\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {**environment(), **more, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
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
    assert made in completed("gaoler", "sessions", "show", "", tmp_path=tmp_path, **there)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_own(shell: str) -> None:
    done = gaoler("completion", shell)
    assert done.returncode == 0
    assert f"{shell}_complete" in done.stdout
