"""``gaoler mcp``: the same server for clients that start a program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import mcp.client.stdio
import pytest
import trio
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from tests.daemon import KEY, Daemon, descendants, eventually, start_daemon
from tests.kept_port import kept_address
from tests.mcp import ERAS, Agent, connected

pytestmark = pytest.mark.root


def command(*arguments: str, **environment: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "supervisor", "mcp", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), **environment},
    )


@pytest.mark.parametrize("mode", ERAS)
async def test_it_passes_on_to_a_running_daemon(daemon: Daemon, mode: str) -> None:
    told: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    server = command("--user", "zoe", GAOLER_BIND=daemon.address, GAOLER_API_KEY=KEY)
    async with Client(server, mode=mode, cache=None) as client:
        agent = Agent(client)
        if mode == "legacy":
            assert "/mnt/data" in (client.instructions or "")
        assert len((await client.list_tools()).tools) == 21
        first = await agent.call("execute_code", code="open('a.txt', 'w').write('x'); kept = 5")
        assert (await agent.call("execute_code", code="kept")).data["stdout"] == "5\n"
        assert first.data["files"][0]["url"].startswith(daemon.base_url)
        await client.call_tool("execute_code", {"code": "print('going', flush=True)"}, progress_callback=note)
        assert "".join(told) == "going\n"
        refused = await agent.call("read_file", path="none")
        assert "there is no file" in refused.refusal
        assert (await client.list_resources()).resources
        uri = first.data["files"][0]["uri"]
        assert (await client.read_resource(uri)).contents[0].uri == uri
    async with connected(daemon, user="zoe") as other:
        session = first.data["session"]
        assert (await other.call("read_file", session=session, path="a.txt")).data["content"] == "x"


async def test_an_error_about_a_session_ends_nobodys_call(daemon: Daemon) -> None:
    async with Client(command("--url", daemon.base_url, GAOLER_API_KEY=KEY), mode="legacy", cache=None) as client:
        said: list[str] = []
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                ran = await Agent(client).call("execute_code", code="import time\ntime.sleep(1)\nprint('whole')")
                said.append(ran.data["stdout"])

            nursery.start_soon(run)
            await trio.sleep(0.3)
            with pytest.raises(MCPError, match="no such session"):
                await client.read_resource("gaoler://session/AAAAAAAAAAAAAAAAAAAAA/files")
        assert said == ["whole\n"]


async def test_it_survives_a_restart_of_the_daemon(image_dir: Path, state_dir: Path) -> None:
    with kept_address() as address:
        running = start_daemon(state_dir, image_dir, settings={"GAOLER_BIND": address})
        async with Client(command("--url", running.base_url, GAOLER_API_KEY=KEY), mode="legacy", cache=None) as client:
            agent = Agent(client)
            await agent.call("execute_code", code="kept = 'still here'; open('f', 'w').write('1')")
            running.stop()
            again = start_daemon(state_dir, image_dir, settings={"GAOLER_BIND": address})
            with trio.fail_after(30):
                after = await agent.call("execute_code", code="print(kept, open('f').read())")
            assert after.data["stdout"] == "still here 1\n"
        again.stop()


def names_in(directory: Path) -> list[str]:
    return [each.name for each in directory.iterdir()]


async def test_without_a_daemon_it_runs_sandboxes_of_its_own(
    image_dir: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client kills what has not ended after two seconds, and who is killed cleans nothing up.
    monkeypatch.setattr(mcp.client.stdio, "PROCESS_TERMINATION_TIMEOUT", 60.0)
    # Other tests have servers of their own, which come and go in the common directory.
    server = command("--embedded", GAOLER_IMAGE_DIR=str(image_dir), TMPDIR=str(state_dir))
    async with Client(server, cache=None) as client:
        agent = Agent(client)
        await agent.call("execute_code", code="x = 20")
        assert (await agent.call("execute_code", code="x + 1")).data["stdout"] == "21\n"
        await agent.call("start_process", command="sleep 1000")
        assert descendants(os.getpid())
        assert [name.partition("mcp-")[0] for name in names_in(state_dir)] == ["gaoler-"]
    assert names_in(state_dir) == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, None])
def test_it_ends_at_once_and_leaves_nothing(image_dir: Path, how: signal.Signals | None) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "mcp", "--embedded"],
        env={"PATH": os.environ["PATH"], "GAOLER_IMAGE_DIR": str(image_dir)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    process.stdin.write(
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode() + b"\n"
    )
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "gaoler"
    family = descendants(process.pid)
    if how is None:
        process.stdin.close()
    else:
        process.send_signal(how)
    process.wait(timeout=20)
    process.stdout.close()
    process.stdin.close()
    # Whoever was orphaned is there until somebody else has taken note of its end.
    eventually(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()])


def test_a_wrong_key_and_no_daemon_are_said_in_words(daemon: Daemon) -> None:
    def said(*arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "supervisor", "mcp", *arguments],
            env={"PATH": os.environ["PATH"], **environment},
            input="",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "GAOLER_API_KEY" in said("--url", daemon.base_url, GAOLER_API_KEY="wrong-key-0123456789")
    assert "cannot be reached" in said("--url", "http://127.0.0.1:1", GAOLER_API_KEY=KEY)
