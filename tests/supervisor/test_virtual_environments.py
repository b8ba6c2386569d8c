"""``python3 -m venv`` in a sandbox, whose workspace follows no links."""

from __future__ import annotations

import pytest

from tests.daemon import Daemon

pytestmark = pytest.mark.root

MAKE = """
python3 -m venv --without-pip {place} && {place}/bin/python -c 'import sys; print(sys.prefix, sys.base_prefix)'
for name in python python3; do test -L {place}/bin/$name && echo link || echo copy; done
"""


@pytest.mark.parametrize(
    ("place", "kind"), [("/mnt/data/env", "copy"), ("/mnt/data/deep/env", "copy"), ("/tmp/env", "link")]
)
def test_an_environment_works_wherever_it_is_made(daemon: Daemon, place: str, kind: str) -> None:
    answer = daemon.execute(MAKE.format(place=place), "bash")
    assert answer["stdout"] == f"{place} /usr\n{kind}\n{kind}\n"
    # A link of its own, which is kept nowhere and needed by nobody.
    note = f"[gaoler] not kept: {place.removeprefix('/mnt/data/')}/lib64 (symbolic link)\n"
    assert answer["stderr"] == (note if kind == "copy" else "")


def test_one_that_a_python_program_starts_works_too_and_has_pip(daemon: Daemon) -> None:
    code = """import subprocess, sys
subprocess.run(["python3", "-B", "-m", "venv", "/mnt/data/env"], check=True)
subprocess.run(["/mnt/data/env/bin/pip", "--version"], check=True)
"""
    answer = daemon.execute(code)
    assert answer["code"] == 0, answer["stderr"]
    assert answer["stdout"].startswith("pip ")
    assert "from /mnt/data/env/lib/" in answer["stdout"]


def test_who_asks_for_links_explicitly_in_a_program_is_told_that_they_cannot_be_followed(daemon: Daemon) -> None:
    code = "import venv\nvenv.create('/mnt/data/env', symlinks=True)\nopen('/mnt/data/env/bin/python3')"
    answer = daemon.execute(code)
    assert answer["code"] == 1
    assert "Too many levels of symbolic links" in answer["stderr"]
