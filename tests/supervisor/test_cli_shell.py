"""A person's shell in a sandbox, at a real terminal and through a pipe."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.shell.entry import is_whole
from supervisor.shell.terminal_text import TerminalText
from tests.daemon import Daemon
from tests.supervisor.command_line import COMMAND, environment, gaoler
from tests.supervisor.terminal import Terminal


@pytest.mark.root
def test_lines_share_their_variables_and_files_go_in_and_out(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("from outside")
    lines = [
        "x = 20",
        "for _ in range(2):",
        "    x += 1",
        "",
        "x",
        f":put {tmp_path}/in.txt",
        "open('in.txt').read().upper()",
        "open('out.txt', 'w').write('from inside')",
        f":get out.txt {tmp_path}/out.txt",
        f":get out.txt {tmp_path}/out.txt",
        ":files",
        "open('lost.txt', 'w').write('x')",
    ]
    done = gaoler("shell", daemon=daemon, stdin="\n".join(lines))
    assert done.stdout.splitlines()[:2] == ["22", "'FROM OUTSIDE'"], done.stderr
    assert "12 B  in.txt" in done.stdout
    assert (tmp_path / "out.txt").read_text() == "from inside"
    assert "out.txt is there already; :get! out.txt replaces it" in done.stderr
    assert "not kept, with the session: lost.txt" in done.stderr
    assert done.returncode == 0


@pytest.mark.root
def test_bash_keeps_directory_variables_and_functions(daemon: Daemon) -> None:
    lines = [
        "cd /tmp; A='two\nlines'",
        'f() { echo "$A in $PWD: $1"; }',
        "if true; then",
        "f x",
        "fi",
        "readonly R=1; exit 3",
    ]
    done = gaoler("shell", "--lang", "bash", daemon=daemon, stdin="\n".join(lines))
    assert done.stdout == "two\nlines in /tmp: x\n", done.stderr
    assert done.returncode == 3


@pytest.mark.root
def test_a_session_that_is_kept_goes_on_later(daemon: Daemon) -> None:
    first = gaoler("shell", "--keep", daemon=daemon, stdin="answer = 42\n:session\n")
    session = first.stdout.strip()
    assert f"gaoler shell --session {session}" in first.stderr
    again = gaoler("shell", "--session", session, daemon=daemon, stdin="answer\n")
    assert again.stdout == "42\n", again.stderr


@pytest.mark.root
def test_at_a_terminal_ctrl_c_interrupts_and_ctrl_d_ends(daemon: Daemon) -> None:
    with Terminal([*COMMAND, "shell", "--no-history"], environment(daemon)) as terminal:
        terminal.until(">>> ")
        terminal.type("kept = 'still ' + 'here'\n")
        terminal.until(">>> ")
        terminal.type("import time; print('be' + 'gun', flush=True); time.sleep(600)\n")
        terminal.until("begun")
        terminal.type("\x03")
        terminal.until("gaoler: interrupted; what was set so far is kept")
        terminal.until(">>> ")
        terminal.type("print(kept)\n")
        terminal.until("still here")
        terminal.until(">>> ")
        terminal.type("def f(:")
        terminal.until("def f(:")
        terminal.interrupt(">>> ")
        terminal.type("print('\\x1b]0;ti' + 'tle\\x07', '\\x1b[31mred\\x1b[0m')\n")
        terminal.until("\\x1b]0;title\\x07 \x1b[31mred\x1b[0m")
        terminal.until(">>> ")
        terminal.type("\x04")
        assert terminal.end() == 0


@pytest.mark.root
def test_without_a_daemon_it_has_one_of_its_own_that_leaves_nothing(image_dir: Path, state_dir: Path) -> None:
    typed = "print('from', 'inside')\n"
    done = gaoler("shell", "--embedded", stdin=typed, GAOLER_IMAGE_DIR=str(image_dir), TMPDIR=str(state_dir))
    assert done.stdout == "from inside\n", done.stderr
    assert list(state_dir.iterdir()) == []
    assert not [pid for pid in processes() if str(state_dir).encode() in pid]


def processes() -> list[bytes]:
    """The environments of all processes; of one that ends meanwhile nothing."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            found.append(path.read_bytes())
    return found


@pytest.mark.root
def test_a_language_that_is_not_there_is_named(daemon: Daemon) -> None:
    done = gaoler("shell", "--lang", "klingon", daemon=daemon, stdin="x\n")
    assert done.returncode in (1, 78)
    assert "klingon" in done.stderr


@pytest.mark.parametrize(
    ("language", "text", "whole"),
    [
        ("python", "x = 1\n", True),
        ("python", "def f():\n", False),
        ("python", "def f():\n  pass\n", False),
        ("python", "def f():\n  pass\n\n", True),
        ("python", "await x\n", True),
        ("python", "x = (\n", False),
        ("python", "def f(:\n", True),
        ("bash", "echo 1\n", True),
        ("bash", "for i in 1; do\n", False),
        ("bash", "echo 'a\n", False),
        ("bash", "cat <<X\n", False),
        ("bash", "cat <<X\nX\n", True),
        ("bash", "echo \\\n", False),
        ("bash", "fi\n", True),
        ("go", "package main\n", False),
        ("go", "package main\n\n", True),
    ],
)
def test_an_entry_is_whole_when_nothing_more_has_to_come(language: str, text: str, whole: bool) -> None:
    assert is_whole(language, text) is whole


def test_reading_an_entry_runs_nothing_of_it(tmp_path: Path) -> None:
    assert is_whole("bash", f"touch {tmp_path}/made $(touch {tmp_path}/made)\n")
    assert not (tmp_path / "made").exists()


def test_a_terminal_is_shown_colours_and_nothing_else_to_obey() -> None:
    text = TerminalText()
    assert text.feed("a\x1b[1;3") == "a"
    assert (
        text.feed("1mred\x1b[0m\tb\r\n\x1b]52;c;x\x07\x9b2J\x00é")
        == "\x1b[1;31mred\x1b[0m\tb\r\n\\x1b]52;c;x\\x07\\x9b2J\\x00é"
    )
    assert text.feed("\x1b") == ""
    assert text.end() == "\\x1b"
