"""A program that is run again whenever it or its inputs change."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.commands.run_again import stamp_of
from tests.daemon import ROOT, descendants, eventually, process_name
from tests.supervisor.command_line import COMMAND, environment, gaoler


@contextmanager
def watching(image_dir: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "run", "--watch", *arguments],
        env=environment(GAOLER_IMAGE_DIR=str(image_dir)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130


def until(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if wanted in line:
            return
    raise AssertionError(f"{wanted!r} did not come: {seen}")


@pytest.mark.root
def test_a_change_of_program_or_input_runs_it_again_and_ends_what_runs(image_dir: Path, tmp_path: Path) -> None:
    program, data = tmp_path / "p.py", tmp_path / "in.txt"
    data.write_text("one")
    program.write_text("print('read', open('in.txt').read())")
    with watching(image_dir, "--file", str(data), str(program)) as process:
        until(process, "read one")
        until(process, "ended with 0; waiting for a change")
        (tmp_path / "new").write_text("two")
        (tmp_path / "new").rename(data)
        until(process, "read two")
        until(process, "ended with 0")
        program.write_text("import sys, time\nprint('endless', flush=True)\ntime.sleep(600)")
        program.write_text("raise SystemExit(3)")
        until(process, "ended with 3")


@pytest.mark.root
def test_ctrl_c_ends_what_runs_and_leaves_nothing(image_dir: Path, state_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text("import time\ntime.sleep(600)")
    process = subprocess.Popen(
        [*COMMAND, "run", str(program)],
        env=environment(GAOLER_IMAGE_DIR=str(image_dir), TMPDIR=str(state_dir)),
        cwd=ROOT,
    )
    eventually(lambda: "catatonit" in map(process_name, descendants(process.pid)))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert list(state_dir.iterdir()) == []


def test_a_pipe_cannot_be_watched() -> None:
    done = gaoler("run", "--watch", "-", stdin="print(1)")
    assert done.returncode == 2
    assert "--watch wants files" in done.stderr


def test_a_file_that_goes_and_one_that_is_replaced_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "f"
    none = stamp_of([path])
    path.write_text("1")
    first = stamp_of([path])
    (tmp_path / "g").write_text("1")
    (tmp_path / "g").rename(path)
    assert len({none, first, stamp_of([path])}) == 3
