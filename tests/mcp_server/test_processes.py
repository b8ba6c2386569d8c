"""Background processes: they share the session, are bounded, and leave nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from tests.admin.desk import ask
from tests.daemon import Daemon, daemon_with, eventually
from tests.mcp import connected

pytestmark = pytest.mark.root


async def test_a_server_is_reached_and_its_files_are_kept(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        code = (
            "import http.server\n"
            "class H(http.server.BaseHTTPRequestHandler):\n"
            "    def do_GET(self):\n"
            "        open('hits', 'a').write(self.path)\n"
            "        self.send_response(200); self.end_headers(); self.wfile.write(b'hello')\n"
            "print('ready', flush=True)\n"
            "http.server.HTTPServer(('127.0.0.1', 8123), H).serve_forever()\n"
        )
        await agent.call("write_file", path="server.py", text=code)
        await agent.call("start_process", command="exec python3 server.py")
        await agent.call("read_process", process="p1", wait=20, until="ready", position=0)
        got = await agent.call(
            "execute_code",
            code="import urllib.request as u\nprint(u.urlopen('http://127.0.0.1:8123/a').read().decode())",
        )
        assert got.data["stdout"] == "hello\n"
        assert (await agent.call("read_file", path="hits")).data["content"] == "/a"
        await agent.call("write_file", path="server.py", text="changed")
        assert (await agent.call("run_command", command="cat server.py")).data["stdout"] == "changed"
        listed = (await agent.call("list_processes")).data["processes"]
        assert [(line["process"], line["status"]) for line in listed] == [("p1", "running")]
        killed = await agent.call("signal_process", process="p1", signal="KILL")
        assert (killed.data["process"]["status"], killed.data["process"]["signal"]) == ("signalled", "SIGKILL")
        refused = await agent.call("write_stdin", process="p1", text="x")
        assert "has ended" in refused.refusal


async def test_who_is_busy_while_files_are_looked_at_is_stopped_and_not_killed(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        # More of them than there are processors, below a limit of one: each waits for its turn most of the time.
        spin = "for i in $(seq 12); do while :; do :; done & done; wait"
        await agent.call("start_process", command=spin)
        for number in range(15):
            await agent.call("write_file", path=f"f{number}", text="x")
            await agent.call("list_files")
        # It may have been stopped before it had begun the last of them.
        every = "until [ $(pgrep -c -P $(pgrep -ox bash)) = 12 ]; do :; done; echo counted"
        await agent.call("start_process", command=every)
        counted = await agent.call("read_process", process="p2", wait=30, until="counted", position=0)
        assert "counted" in counted.data["output"]
        listed = (await agent.call("list_processes")).data["processes"]
        assert listed[0]["status"] == "running"
        # All tests share this daemon, and would share its core with them for as long as the session lasts.
        await agent.call("signal_process", process="p1", signal="KILL")


async def test_it_works_while_nothing_else_runs(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("start_process", command="for i in $(seq 5); do sleep 0.1; echo $i >> out; done; exit 4")
        ended = await agent.call("read_process", process="p1", wait=20, until="never")
        assert (ended.data["process"]["status"], ended.data["process"]["exit_code"]) == ("exited", 4)
        assert (await agent.call("read_file", path="out")).data["content"] == "1\n2\n3\n4\n5\n"


async def test_what_a_short_one_has_written_is_there_at_once(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        for number in range(10):
            await agent.call("start_process", command=f"echo {number} > f{number}")
            await agent.call("read_process", process=f"p{number + 1}", wait=20, until="never")
            assert (await agent.call("read_file", path=f"f{number}")).data["content"] == f"{number}\n"


async def test_output_nobody_reads_is_kept_up_to_a_limit(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_LIVE_PROCESS_OUTPUT_BYTES": "10000"}) as daemon:
        async with connected(daemon) as agent:
            await agent.call("start_process", command="exec 2>&1; seq 100000; echo over >&2")
            await agent.call("read_process", process="p1", wait=20, until="over")
            seen = (await agent.call("read_process", process="p1", position=0)).data
            assert seen["omitted_bytes"] > 500_000
            assert seen["output"].endswith("100000\nover\n")
            assert seen["position"] + len(seen["output"]) == seen["next_position"] == seen["process"]["output_bytes"]


async def test_a_flood_does_not_stop_the_others(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("start_process", command="yes")
        with trio.fail_after(20):
            assert (await agent.call("execute_code", code="print(6 * 7)")).data["stdout"] == "42\n"
            async with connected(daemon, user="other") as other:
                assert (await other.call("execute_code", code="print(1)")).data["stdout"] == "1\n"
        await agent.call("close_session")


async def test_there_are_so_many_and_no_more(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        for _ in range(16):
            await agent.call("start_process", command="sleep 100")
        assert "at most 16 processes" in (await agent.call("start_process", command="sleep 100")).refusal
        await agent.call("signal_process", process="p1")
        assert (await agent.call("start_process", command="sleep 100")).data["process"]["process"] == "p17"
        await agent.call("close_session")


async def test_closing_ends_them_and_what_they_have_started(image_dir: Path) -> None:
    with daemon_with(image_dir, {}) as daemon:
        async with connected(daemon) as agent:
            await agent.call("start_process", command="sleep 1234 & setsid sleep 1234 & wait")
            eventually(lambda: sum(name == "sleep" for name in daemon.names()) == 2)
            await agent.call("close_session")
            eventually(lambda: "sleep" not in daemon.names())
            assert (await agent.call("list_processes")).data["processes"] == []


async def test_its_time_is_limited(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_LIVE_PROCESS_MINUTES": "0.01"}) as daemon:
        async with connected(daemon) as agent:
            await agent.call("start_process", command="sleep 100")
            ended = await agent.call("read_process", process="p1", wait=20)
            assert ended.data["process"]["status"] == "killed"
            assert "its time was over" in ended.texts[0]


async def test_what_was_lost_with_the_sandbox_is_said(image_dir: Path) -> None:
    settings = {"GAOLER_LIVE_IDLE_MINUTES": "0.005"}
    with daemon_with(image_dir, settings) as daemon:
        async with connected(daemon) as agent:
            await agent.call("execute_code", code="x = 3")
            await agent.call("start_process", command="sleep 100")
            # Not by its name: it may not have it yet.
            eventually(lambda: ask(daemon, "overview")["load"]["live_sessions"] == 0)
            eventually(lambda: "sleep" not in daemon.names())
            after = await agent.call("execute_code", code="x")
            assert after.data["stdout"] == "3\n"
            assert "1 background process(es) were ended" in "".join(after.data["notes"])


async def test_a_killed_jailer_is_told_of(image_dir: Path) -> None:
    with daemon_with(image_dir, {}) as daemon:
        async with connected(daemon) as agent:
            await agent.call("start_process", command="sleep 100")
            os.kill(daemon.named("gaoler-jailer"), 9)
            with trio.fail_after(60):
                while True:
                    again = await agent.call("start_process", command="echo again")
                    if not again.raw.is_error:
                        break
                    await trio.sleep(0.1)
            assert "again" in (await agent.call("read_process", process="p1", wait=10, position=0)).data["output"]


async def test_input_is_taken_as_it_is_read(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("start_process", command="python3 -i -q 2>&1")
        await agent.call("write_stdin", process="p1", text="print(6 * 7)\n")
        assert (
            "42" in (await agent.call("read_process", process="p1", wait=20, until="42\n", position=0)).data["output"]
        )
        await agent.call("start_process", command="sleep 100")
        stuck = await agent.call("write_stdin", process="p2", text="x" * 65_536)
        full = await agent.call("write_stdin", process="p2", text="y" * 65_536)
        assert stuck.data["complete"]
        assert (full.data["written_bytes"], full.data["complete"]) == (0, False)
        await agent.call("close_session")
