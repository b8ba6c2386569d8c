"""A subtree that is taken away while its jailer still lives and fills it: nothing of it stays."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from supervisor.jailer.cgroup_subtree import JAILER_LEAF, Leftovers, make_subtree, mount_points, remove_subtree

JAILER = """
import pathlib, sys
home, *others = map(pathlib.Path, sys.argv[1:])
(home / "cgroup.procs").write_text("0")
print("lives", flush=True)
number = 0
while True:
    number += 1
    for other in others:
        (other / f"jail-{number % 7}").mkdir(exist_ok=True)
    for other in others:
        try:
            (other / f"jail-{(number + 3) % 7}").rmdir()
        except FileNotFoundError:
            pass
"""


@pytest.mark.root
def test_the_jailer_dies_before_what_it_fills_is_emptied() -> None:
    with tempfile.TemporaryDirectory(prefix="gt-") as state:
        # To take over what is there, and to take all away, at once: each meets the other's living jailer.
        for _ in range(5):
            layout = make_subtree(Path(state), 0)
            hierarchies = sorted({Path(each) for each in layout.directories.values()})
            home = Path(layout.directories["unified" if layout.version == 2 else "pids"]) / JAILER_LEAF
            home.mkdir()
            left = Leftovers()
            command = [sys.executable, "-c", JAILER, *map(str, (home, *hierarchies))]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as jailer:
                assert jailer.stdout is not None
                jailer.stdout.readline()
                make_subtree(Path(state), 0, left)
                assert str(jailer.pid) in left.processes
                assert [each for path in hierarchies for each in path.iterdir() if each.is_dir()] == []
            home.mkdir()
            with subprocess.Popen(command, stdout=subprocess.PIPE) as jailer:
                assert jailer.stdout is not None
                jailer.stdout.readline()
                remove_subtree(Path(state))
            assert not any(path.exists() for path in hierarchies)
    assert mount_points()
