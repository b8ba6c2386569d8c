"""``gaoler languages``, and what ``gaoler run`` takes beside a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.runtimes.catalogue import load_languages
from tests.supervisor.test_cli import gaoler


def test_commands_are_listed_in_the_order_in_which_they_are_met() -> None:
    text = gaoler("--help").stdout
    places = [
        text.index(f"\n  {name} ")
        for name in ("doctor", "image", "serve", "run", "mcp", "keys", "status", "languages", "attack")
    ]
    assert places == sorted(places)


def test_every_language_is_in_the_table(image_dir: Path) -> None:
    done = gaoler("languages", GAOLER_IMAGE_DIR=str(image_dir), COLUMNS="200")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert set(lines) >= {each.name for each in load_languages()}
    assert "warm" in lines["python"]
    plain = json.loads(gaoler("languages", "--json", GAOLER_IMAGE_DIR=str(image_dir)).stdout)
    missing = [each["name"] for each in plain["languages"] if not each["installed"]]
    assert [name for name, line in lines.items() if "not installed" in line][: len(missing)] == missing
    assert ("gaoler image build --languages " + ",".join(missing) in done.stdout) == bool(missing)
    assert lines["python"].split()[1].startswith("3.")
    assert "\ntier nsjail: " in done.stdout
    assert "; not to be had here: this server's settings do not switch it on" in done.stdout


def test_one_language_is_told_whole(image_dir: Path) -> None:
    done = gaoler("languages", "golang", GAOLER_IMAGE_DIR=str(image_dir))
    assert (
        "names      go, golang\nmain file  *.go\ntime       at most 60 s, and 30 s to compile\ntier       nsjail at least\n"
        in done.stdout
    )
    plain = json.loads(gaoler("languages", "py", "--json", GAOLER_IMAGE_DIR=str(image_dir)).stdout)
    assert plain["name"] == "python"
    unknown = gaoler("languages", "cobol", GAOLER_IMAGE_DIR=str(image_dir))
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "there is no language 'cobol'" in unknown.stderr


def test_without_an_image_it_says_what_makes_one(tmp_path: Path) -> None:
    done = gaoler("languages", GAOLER_IMAGE_DIR=str(tmp_path))
    assert done.returncode == 78
    assert "gaoler image build" in done.stderr


@pytest.mark.parametrize("command", ["run", "languages"])
def test_a_shell_completes_the_names_of_languages(command: str) -> None:
    option = ["--lang"] if command == "run" else []
    words = ["gaoler", command, *option, "j"]
    asked = {"_GAOLER_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    # The completion belongs to the program's own name.
    program = Path(sys.executable).with_name("gaoler")
    done = subprocess.run(
        [program], env={**os.environ, **asked}, capture_output=True, text=True, check=True, timeout=60
    )
    assert sorted(done.stdout.split()) == ["plain,java", "plain,javascript"]


@pytest.mark.root
def test_run_takes_a_project_variables_and_standard_input(image_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import helper, os, sys\nprint(helper.x, os.environ['A'], input(), __file__)\n")
    (tmp_path / "helper.py").write_text("x = 5\n")
    (tmp_path / "in.txt").write_text("line\n")
    done = gaoler(
        "run",
        "--file",
        str(tmp_path / "helper.py"),
        "--env",
        "A=b=c",
        "--stdin",
        str(tmp_path / "in.txt"),
        str(tmp_path / "app.py"),
        GAOLER_IMAGE_DIR=str(image_dir),
    )
    assert (done.returncode, done.stdout) == (0, "5 b=c line /mnt/data/app.py\n"), done.stderr
    (tmp_path / "main.c").write_text("int f(void);\nint main(void) { return f(); }\n")
    (tmp_path / "f.c").write_text("int f(void) { return 7; }\n")
    linked = gaoler("run", "--source", str(tmp_path / "f.c"), str(tmp_path / "main.c"), GAOLER_IMAGE_DIR=str(image_dir))
    assert linked.returncode == 7, linked.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [("A", "--env wants NAME=VALUE, not 'A'"), ("1A=x", "begins with no digit"), ("GAOLER_X=1", "the server's own")],
)
def test_what_cannot_be_a_variable_is_one_line(tmp_path: Path, option: str, said: str) -> None:
    (tmp_path / "p.py").write_text("1")
    done = gaoler("run", "--env", option, str(tmp_path / "p.py"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert said in done.stderr
