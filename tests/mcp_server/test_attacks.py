"""What attackers of this door have found, tried again: nobody else's sandbox is lost, nothing of one's own vanishes."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from supervisor.errors import InvalidRequest
from supervisor.execution.shown import read_shown
from supervisor.programmatic.tool_calls import SandboxBabbles, decode_calls
from supervisor.workspace.views import FileView, matching
from tests.admin.desk import ask
from tests.daemon import Daemon, daemon_with, eventually
from tests.mcp import connected, initialize, post

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("execute_code", {"code": "print(1)", "stdin": "€" * 65_000}, "stdin: at most 65536 bytes"),
        ("run_command", {"command": "cat", "stdin": "\N{GRINNING FACE}" * 65_000}, "stdin: at most 65536 bytes"),
        ("start_process", {"command": "echo " + "€" * 99_000}, "command: at most 100000 bytes"),
    ],
)
async def test_what_is_too_long_in_bytes_costs_nobody_a_sandbox(
    daemon: Daemon, tool: str, arguments: dict[str, str], said: str
) -> None:
    async with connected(daemon, user="victim") as victim, connected(daemon, user="attacker") as attacker:
        await victim.call("execute_code", code="kept = 1")
        await attacker.call("execute_code", code="mine = 2")
        assert said in (await attacker.call(tool, **arguments)).refusal
        assert (await victim.call("execute_code", code="kept")).data["stdout"] == "1\n"
        assert (await attacker.call("execute_code", code="mine")).data["stdout"] == "2\n"
    answer = daemon.try_execute("print(1)", stdin="€" * 65_000)
    assert answer.status == 400


async def test_a_workspace_that_cannot_be_listed_in_a_frame_costs_nobody_a_sandbox(daemon: Daemon) -> None:
    async with connected(daemon, user="victim") as victim, connected(daemon, user="attacker") as attacker:
        await victim.call("execute_code", code="kept = 1")
        fill = "import os\nos.mkdir('a' * 250)\nfor i in range(330): open('a' * 250 + '/' + str(i).zfill(3) + 'n' * 247, 'w').close()"
        await attacker.call("execute_code", code=fill)
        await attacker.call("execute_code", code="os.rename('a' * 250, 'b' * 250)")
        assert (await victim.call("execute_code", code="kept")).data["stdout"] == "1\n"


async def test_a_forged_answer_at_saving_costs_only_its_own_state(image_dir: Path) -> None:
    forge = (
        "import sys, socket\nframe = sys._getframe()\nwhile 'save' not in frame.f_globals: frame = frame.f_back\n"
        "def lie(namespace, file, limit):\n    return {'unsaved': [['a' * 700, 'b' * 700]] * 200, 'names': 1}\n"
        "frame.f_globals['save'].__code__ = lie.__code__\n"
        "socket.socket(fileno=__import__('os').dup(3)).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)"
    )
    with daemon_with(image_dir, {"GAOLER_LIVE_SESSIONS": "2"}) as daemon:
        async with connected(daemon, user="victim") as victim, connected(daemon, user="attacker") as attacker:
            await attacker.call("execute_code", code=forge)
            await victim.call("execute_code", code="kept = 1")
            async with connected(daemon, user="third") as third:
                await third.call("execute_code", code="1")
                assert (await victim.call("execute_code", code="kept")).data["stdout"] == "1\n"
        assert not [line for line in daemon.lines() if "jailer ended" in line]


async def test_a_file_that_cannot_be_placed_is_named_and_not_lost(daemon: Daemon) -> None:
    async with connected(daemon, user="victim") as victim, connected(daemon) as agent:
        await victim.call("execute_code", code="kept = 1")
        await agent.call("execute_code", code="import os; os.mkfifo('foo'); mine = 2")
        started = await agent.call("start_process", command="while true; do echo tick; sleep 0.05; done")
        process = started.data["process"]["process"]
        written = await agent.call("write_file", path="foo/bar", text="precious")
        for _ in range(3):
            refused = await agent.call("execute_code", code="print(1)")
            assert "foo/bar" in refused.refusal
        assert not written.raw.is_error
        ticking = await agent.call("read_process", process=process, wait=10, until="tick")
        assert ticking.data["process"]["status"] == "running"
        await agent.call("signal_process", process=process, signal="KILL")
        await agent.call("delete_file", path="foo", recursive=True)
        assert (await agent.call("execute_code", code="mine")).data["stdout"] == "2\n"
        assert (await victim.call("execute_code", code="kept")).data["stdout"] == "1\n"


async def test_a_full_workspace_does_not_shorten_what_is_kept(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        fill = "import os\nos.mkdir('.cache')\nf = open('.cache/blob', 'wb')\ntry:\n    while True: f.write(bytes(1 << 20))\nexcept OSError: pass\ntry: f.close()\nexcept OSError: pass"
        await agent.call("execute_code", code=fill)
        await agent.call("write_file", path="data.txt", text="x" * 80_000)
        assert "do not fit" in (await agent.call("execute_code", code="1")).refusal
        await agent.call("run_command", command="true")
        stat = await agent.call("stat_file", path="data.txt")
        assert stat.data["file"]["size"] == 80_000
        await agent.call("close_session", delete_files=True)


async def test_a_session_that_is_full_loses_nothing(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_FILES_FILES_PER_SESSION": "20"}) as daemon:
        async with connected(daemon) as agent:
            code = "import os\nfor i in range(12): open(f'f{i}', 'w').write('x')\nfor i in range(20): os.mkdir(f'd{i}')"
            await agent.call("execute_code", code=code)
            seen = await agent.call("execute_code", code="print(sum(os.path.isfile(n) for n in os.listdir()))")
            assert seen.data["stdout"] == "12\n"
            files = [entry for entry in (await agent.call("list_files")).data["entries"] if entry["kind"] == "file"]
            assert len(files) == 12


async def test_an_edit_does_not_blow_up(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("write_file", path="a", text="a" * 2_000_000)
        blown = await agent.call("edit_file", path="a", old_text="a", new_text="b" * 1000, replace_all=True)
        assert "new_text: the file would have 2000000000 bytes" in blown.refusal


def test_long_ids_are_refused_and_short_ones_are_not_held_for_ever(image_dir: Path) -> None:
    with daemon_with(image_dir, {}) as daemon:
        session = initialize(daemon)
        ping = {"jsonrpc": "2.0", "method": "ping"}
        assert post(daemon, {**ping, "id": "x" * 1_000_000}, session=session).status == 400
        for number in range(600):
            assert post(daemon, {**ping, "id": f"{number}" * 40}, session=session).status == 200


async def test_what_waits_and_is_given_up_does_not_run(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_EXECUTION_CONCURRENT": "1"}) as daemon:
        async with connected(daemon, user="busy") as busy, connected(daemon) as agent:
            await agent.call("execute_code", code="import os")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: busy.call("run_command", command="sleep 50"))
                await all_that_run(daemon, ["running"])
                async with trio.open_nursery() as waiting:
                    waiting.start_soon(lambda: agent.call("execute_code", code="open('late', 'w')"))
                    await all_that_run(daemon, ["running", "waiting"])
                    waiting.cancel_scope.cancel()
                # It is the daemon that has to have given it up, before it would be its turn.
                await all_that_run(daemon, ["running"])
                nursery.cancel_scope.cancel()
            seen = await agent.call("execute_code", code="os.listdir()")
            assert seen.data["stdout"] == "[]\n"


async def all_that_run(daemon: Daemon, states: list[str]) -> None:
    """Wait until these are the states of all executions, the oldest first."""

    def found() -> bool:
        return [each["state"] for each in ask(daemon, "executions?state=running")["running"]] == states

    await trio.to_thread.run_sync(eventually, found)


async def test_closing_forgets_variables_that_are_being_saved(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_LIVE_SESSIONS": "1"}) as daemon:
        async with connected(daemon) as agent, connected(daemon, user="other") as other:
            await agent.call("execute_code", code="big = __import__('os').urandom(60_000_000)")
            await other.call("execute_code", code="1")
            await agent.call("close_session")
            assert "NameError" in (await agent.call("execute_code", code="len(big)")).data["stderr"]


async def test_input_that_a_process_took_to_its_end_is_no_error(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        for number in range(8):
            await agent.call("start_process", command="read x")
            written = await agent.call("write_stdin", process=f"p{number + 1}", text="a\n", close=True)
            assert written.data["complete"]


async def test_crumbs_are_braked_and_users_have_so_many_processes(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_LIVE_PROCESSES_PER_USER": "3"}) as daemon:
        async with connected(daemon) as agent:
            crumbs = "import fcntl\nfcntl.fcntl(1, 1031, 4096)\nwhile True: print('x' * 100, flush=True)"
            await agent.call("write_file", path="c.py", text=crumbs)
            first = await agent.call("start_process", command="python3 c.py")
            session = first.data["session"]
            before = (await agent.call("list_processes")).data["processes"][0]
            await trio.sleep(1)
            after = (await agent.call("list_processes")).data["processes"][0]
            seconds = after["seconds"] - before["seconds"]
            assert (after["output_bytes"] - before["output_bytes"]) / seconds < 2_000_000
            other = (await agent.call("create_session")).data["session"]
            await agent.call("start_process", command="sleep 100", session=other)
            await agent.call("start_process", command="sleep 100")
            assert "at most 3 background processes" in (await agent.call("start_process", command="sleep 1")).refusal
            await agent.call("close_session", session=session)


async def test_programs_that_wake_each_other_are_stopped_all_the_same(daemon: Daemon) -> None:
    code = (
        "import os, signal, time\n"
        "for _ in range(3):\n    pid = os.fork()\n    if pid == 0:\n        os.setsid()\n        while True:\n"
        "            for name in os.listdir('/proc'):\n"
        "                if name.isdigit() and int(name) > 2:\n"
        "                    try: os.kill(int(name), signal.SIGCONT)\n                    except OSError: pass\n"
    )
    async with connected(daemon) as agent:
        await agent.call("execute_code", code=code)
        for _ in range(5):
            await agent.call("run_command", command="true")
            with trio.fail_after(10):
                while [pid for pid in daemon.family() if awake_sandbox_process(pid)]:  # noqa: ASYNC110
                    await trio.sleep(0.02)
        await agent.call("close_session", delete_files=True)


def awake_sandbox_process(pid: int) -> bool:
    """It is called python3, as what runs in a sandbox is, and runs."""
    try:
        stat = (Path("/proc") / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "(python3)" in stat and stat.rpartition(")")[2].split()[0] == "R"


def test_tool_calls_that_are_nested_too_deep_are_refused() -> None:
    deep = b'{"calls": [{"name": "t", "input": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}]}"
    with pytest.raises(SandboxBabbles, match="nested"):
        decode_calls(deep, frozenset({"t"}), 0)
    fine = b'{"calls": [{"name": "t", "input": {"a": "' + b"{[" * 300 + b'\\\\\\""}}]}'
    assert len(decode_calls(fine, frozenset({"t"}), 0)) == 1


def test_millions_of_lines_that_show_nothing_cost_nothing() -> None:
    shown, note = read_shown(b"ab\n" * 8_000_000, 24 << 20)
    assert shown == ()
    assert note is not None


def test_patterns_of_many_parts_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="at most 20 parts"):
        matching([], "a/" * 30 + "b", None)
    views = [FileView("/".join(["a" * 25] * 8), directory=False)] * 800
    assert matching(views, "**/" * 60 + "*a*a*b", None) == []
