"""What is installed from the wheel works, without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from supervisor import __version__
from supervisor.jailer.cgroup_subtree import remove_subtree
from tests.daemon import Daemon, end_daemons, image_path, spawn_daemon, wait_listening

pytestmark = pytest.mark.root


def gaoler(installed: Path, state_dir: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a directory that has nothing of ours."""
    environment = {
        "PATH": os.environ["PATH"],
        "GAOLER_STATE_DIR": str(state_dir),
        "GAOLER_IMAGE_DIR": str(image_path()),
        "PYTHONSAFEPATH": "1",
    }
    return subprocess.run(
        [installed / "gaoler", *arguments], env=environment, cwd=state_dir, capture_output=True, text=True, check=False
    )


def test_it_says_its_version_and_its_commands(installed: Path, state_dir: Path) -> None:
    assert gaoler(installed, state_dir, "--version").stdout == f"gaoler, version {__version__}\n"
    assert "doctor" in gaoler(installed, state_dir, "--help").stdout


def test_its_code_is_where_it_was_installed(installed: Path, state_dir: Path) -> None:
    found = subprocess.run(
        [installed / "python", "-c", "import supervisor, policies; print(supervisor.__file__, policies.__file__)"],
        cwd=state_dir,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(each.startswith(str(installed.parent)) for each in found.stdout.split()), found.stdout


def test_the_doctor_finds_what_a_daemon_needs(installed: Path, state_dir: Path) -> None:
    done = gaoler(installed, state_dir, "doctor", "--json")
    findings = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert findings["sandbox"]["status"] == "ok", done.stdout
    assert [each for each in findings.values() if each["status"] == "fail"] == []


def test_it_runs_a_program(installed: Path, state_dir: Path) -> None:
    (state_dir / "program.py").write_text("import pandas as pd\nprint(pd.Series([1, 2, 3]).mean())\n")
    done = gaoler(installed, state_dir, "run", "program.py")
    assert (done.returncode, done.stdout) == (0, "2.0\n"), done.stderr


def test_it_serves_both_doors(installed: Path, state_dir: Path) -> None:
    process = spawn_daemon(state_dir, image_path(), program=[str(installed / "gaoler")])
    try:
        daemon = Daemon(process, state_dir, wait_listening(process, state_dir))
        assert daemon.execute("print(6 * 7)")["stdout"] == "42\n"
        assert daemon.execute("echo $((6 * 7))", "bash")["stdout"] == "42\n"
        asked = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "a test", "version": "1"},
            },
        }
        accepted = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        answer = daemon.request("POST", "/mcp", json.dumps(asked).encode(), accepted)
        assert answer.status == 200
        assert b'"instructions"' in answer.body
        daemon.stop()
    finally:
        end_daemons(state_dir)
        remove_subtree(state_dir)
