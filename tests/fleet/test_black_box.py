"""The suites that know Gaoler only by its doors, at the doors of a fleet: three workers, two gateways.

They run in processes of their own, because a session of tests has one daemon: that of ``tests/conftest.py``, which is
then a fleet. HTTP clients are sent to the gateways in turn, connection by connection; MCP clients stay with one, as
their sessions do.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.daemon import ROOT

pytestmark = pytest.mark.root

SUITES = {
    "fleet": (
        "http_api/test_contract.py",
        "http_api/test_live.py",
        "http_api/test_programmatic.py",
        "http_api/test_streaming.py",
    ),
    "gateway": ("mcp_server/test_story.py", "mcp_server/test_files.py", "mcp_server/test_processes.py"),
}


@pytest.mark.parametrize("front", SUITES)
def test_the_black_box_suites_pass_at_the_doors_of_a_fleet(front: str) -> None:
    suites = [f"tests/{name}" for name in SUITES[front]]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not own_host", "-p", "no:cacheprovider", *suites],
        cwd=ROOT,
        env={**os.environ, "GAOLER_TEST_FRONT": front},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert "skipped" not in run.stdout.splitlines()[-1], run.stdout[-1000:]
    print(run.stdout.splitlines()[-1])
