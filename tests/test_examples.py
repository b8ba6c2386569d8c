"""The examples do what they say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from tests.daemon import KEY, Daemon
from tests.mcp import Agent

POLICIES = Path(__file__).resolve().parent.parent / "policies"
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
pytestmark = pytest.mark.root


def test_the_python_agent_keeps_variables_and_pictures(daemon: Daemon, tmp_path: Path) -> None:
    programs = ["x = 6", "print(x * 7)", "import matplotlib.pyplot as plt; _ = plt.plot([1, 2]); plt.show()"]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "mcp" / "agent.py", f"{daemon.base_url}/mcp", *programs],
        env={"PATH": os.environ["PATH"], "GAOLER_API_KEY": KEY},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "stdout:\n42\n" in done.stdout
    pictures = list(tmp_path.glob("picture_2_*.png"))
    assert len(pictures) == 1
    assert pictures[0].read_bytes().startswith(b"\x89PNG")


async def test_the_program_of_claude_desktops_configuration_serves(daemon: Daemon) -> None:
    server = json.loads((EXAMPLES / "mcp" / "claude_desktop_config.json").read_text())["mcpServers"]["gaoler"]
    program = Path(sys.executable).parent / server["command"]
    environment = {"PATH": os.environ["PATH"], "GAOLER_BIND": daemon.address, "GAOLER_API_KEY": KEY}
    async with Client(StdioServerParameters(command=str(program), args=server["args"], env=environment)) as client:
        assert (await Agent(client).call("execute_code", code="print(1)")).data["stdout"] == "1\n"


async def test_vs_codes_configuration_leads_to_the_door(daemon: Daemon) -> None:
    server = json.loads((EXAMPLES / "mcp" / "vscode-mcp.json").read_text())["servers"]["gaoler"]
    assert server["type"] == "http"
    assert server["url"].endswith("/mcp")
    assert server["headers"]["Authorization"].startswith("Bearer ")


def test_librechats_configuration_names_what_the_door_reads() -> None:
    text = (EXAMPLES / "mcp" / "librechat.yaml").read_text()
    for line in ('url: "http://code:8000/mcp"', "X-User-Id", "X-Conversation-Id", "Authorization", "streamable-http"):
        assert line in text


def test_the_network_of_your_own_allows_what_its_story_says(tmp_path: Path) -> None:
    shutil.copytree(POLICIES, tmp_path / "policies")
    shutil.copy(EXAMPLES / "network" / "company.toml", tmp_path / "policies" / "egress")
    shutil.copy(EXAMPLES / "network" / "online.toml", tmp_path / "policies" / "sandbox")
    environment = {
        "PATH": os.environ["PATH"],
        "GAOLER_STATE_DIR": str(tmp_path / "state"),
        "GAOLER_JAILER_POLICY_DIR": str(tmp_path / "policies"),
        "GAOLER_EXECUTION_POLICY": "online",
    }
    for url, status in (
        ("https://api.example.com/v1/reports", 0),
        ("https://a.files.example.com/x", 0),
        ("https://files.example.com/x", 1),
        ("http://api.example.com/v1/reports", 1),
        ("https://example.com/", 1),
    ):
        command = [sys.executable, "-m", "supervisor", "egress", "explain", url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, (url, done.stdout, done.stderr)
