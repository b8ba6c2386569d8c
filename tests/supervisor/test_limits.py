"""docs/limits.md names what exists, and kernel memory counts against who makes the kernel use it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from supervisor.settings.loading import leaves
from tests.daemon import Daemon

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "limits.md").read_text()

ABSENT_NAMES = """
import os
for _ in range(300_000):
    try:
        os.stat(f"/usr/lib/{os.urandom(20).hex()}")
    except OSError:
        pass
"""
WATCHED = """
import os, select
polls, events = [select.epoll() for _ in range(400)], [os.eventfd(0) for _ in range(400)]
for poll in polls:
    for event in events:
        poll.register(event)
"""


@pytest.mark.root
@pytest.mark.parametrize(("code", "least"), [(ABSENT_NAMES, 40 << 20), (WATCHED, 20 << 20)], ids=["names", "epoll"])
def test_kernel_memory_is_charged_to_the_sandbox(daemon: Daemon, code: str, least: int) -> None:
    """The peak of its cgroup tells: Python itself takes less."""
    result = daemon.execute(code)
    assert result["code"] == 0, result["stderr"]
    assert result["memory"] > least


def test_the_page_names_only_settings_claims_and_tests_that_exist() -> None:
    keys = {leaf.key for leaf in leaves()}
    named = {name for name in re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE) if not name.endswith(".py")}
    assert named - {"core.rmem"} <= keys | {"configuration.md", "operating.md"}
    claims = tomllib.loads((ROOT / "supervisor" / "attack" / "claims.toml").read_text())["claim"]
    proved = {name for claim in claims for name in (claim["id"], *claim.get("also", []))}
    assert set(re.findall(r"`([A-Z]+[0-9]*(?:-[A-Z]+)*[0-9]*)`", PAGE)) <= proved
    for path in re.findall(r"`((?:tests|benchmarks)/[a-z_/]+\.py)`", PAGE):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(test_[a-z_]+\.py)`", PAGE):
        assert (ROOT / "tests" / "supervisor" / name).exists(), name


@pytest.mark.root
@pytest.mark.parametrize("lang", ["bash", "py"])
def test_a_fork_too_many_is_refused_before_it_costs_anything(daemon: Daemon, lang: str) -> None:
    """By rlimit, for a program and for a waiting interpreter alike; the cgroup's refusal comes after all was copied."""
    code = {"bash": "ulimit -u", "py": "import resource\nprint(resource.getrlimit(resource.RLIMIT_NPROC)[1])"}[lang]
    assert daemon.execute(code, lang)["stdout"] == "127\n"
