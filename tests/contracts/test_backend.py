"""The promises that hold in both tiers: each is written once, and tried in sandboxes on the host's kernel and in virtual
machines. Tests of one tier share a sandbox where they can (``run``); ``alone`` has one of its own. Those that need another
one stand apart, so that it boots meanwhile.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from supervisor.attack.network import RULES
from tests.contracts.backend import Backend, numbers, pixels
from tests.http_api.moments import out_of_time
from tests.http_api.test_programmatic import start, to_the_end
from tests.internet import WEB, online_daemon, open_internet

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=["nsjail", pytest.param("microvm", marks=pytest.mark.emulated)])
def backend(request: pytest.FixtureRequest, image_dir: Path) -> Iterator[Backend]:
    if request.param == "nsjail":
        with open_internet() as internet, online_daemon(image_dir, internet, {"e": RULES}) as daemon:
            yield Backend(daemon, "nsjail")
        return
    made = Backend(request.getfixturevalue("emulated"), "microvm")
    yield made
    made.close()


# -- how a program ends --


def test_an_exit_status_is_told(backend: Backend) -> None:
    ended = backend.run("exit 3", "bash")
    assert (ended["code"], ended["signal"], ended["status"]) == (3, None, None)


def test_a_death_by_a_signal_is_told(backend: Backend) -> None:
    ended = backend.run("kill -TERM $$", "bash")
    assert (ended["signal"], ended["status"]) == ("SIGTERM", "SG")


def test_137_is_no_signal(backend: Backend) -> None:
    ended = backend.run("exit 137", "bash")
    assert (ended["code"], ended["signal"]) == (137, None)


def test_a_program_that_is_too_slow_is_ended(backend: Backend) -> None:
    ended = out_of_time(lambda time: backend.run("echo begun; sleep 300", "bash", timeout=time))
    assert (ended["stdout"], ended["status"]) == ("begun\n", "TO")


def test_a_program_without_memory_is_ended_and_told_why(backend: Backend) -> None:
    ended = backend.run("tail /dev/zero", "bash")
    assert ended["signal"] == "SIGKILL" or "Killed" in ended["stderr"]
    assert "out of memory" in ended["stderr"]
    # Where the kernel takes the whole sandbox, the session goes on in another one.
    assert backend.shown("echo well", "bash") == "well\n"


def test_a_flood_of_output_is_cut_and_ended(backend: Backend) -> None:
    ended = backend.run("exec yes", "bash")
    assert ended["status"] == "OL"
    assert 60_000 < len(ended["stdout"]) < 70_000


def test_so_many_processes_and_no_more(backend: Backend) -> None:
    code = (
        "import os, signal, time\nchildren = []\n"
        "try:\n"
        "    while len(children) < 1000:\n"
        "        child = os.fork()\n"
        "        if child == 0:\n            signal.pause(); os._exit(0)\n"
        "        children.append(child)\n"
        "except BlockingIOError:\n    print(len(children))\n"
        "for child in children:\n    os.kill(child, 9); os.waitpid(child, 0);"
    )
    (count,) = numbers(backend.shown(code))
    assert 64 < count < 128


def test_a_client_that_hangs_up_interrupts_its_program(backend: Backend) -> None:
    backend.shown("state = 'before'")
    backend.hang_up_when("begun", "state = 'during'\nprint('begun', flush=True)\nwhile True: pass")
    assert backend.shown("print(state)") == "during\n"


def test_a_program_calls_its_callers_tools(backend: Backend) -> None:
    code = (
        "a = await get_weather(city='SF')\nopen('/mnt/data/w.txt', 'w').write(a['city'])\nprint(a['tool'], a['city'])"
    )
    leg, batches = to_the_end(backend.daemon, start(backend.daemon, code, tier=backend.tier))
    assert [[call["name"] for call in batch] for batch in batches] == [["get_weather"]]
    assert (leg["status"], leg["stdout"], leg["tier"]) == ("completed", "get_weather SF\n", backend.tier)
    assert backend.content(leg, "w.txt") == b"SF"


# -- what goes in and comes out --


def test_stdout_and_stderr_are_kept_apart_and_are_text(backend: Backend) -> None:
    ended = backend.run("import sys; print('\u00e4 \U0001f600 \u4e2d'); print('\u0142', file=sys.stderr)")
    assert (ended["stdout"], ended["stderr"]) == ("\u00e4 \U0001f600 \u4e2d\n", "\u0142\n")
    assert backend.shown("printf 'a\\377b\\000c'", "bash") == "a\ufffdb\0c"


def test_stdin_arguments_and_variables_arrive(backend: Backend) -> None:
    said = backend.shown('cat; echo "$1|$2|$NAME"', "bash", stdin="in \u00e4\n", args=["a b", "2"], env={"NAME": "x y"})
    assert said == "in \u00e4\na b|2|x y\n"


def test_files_go_in_and_what_was_made_or_changed_comes_out(backend: Backend) -> None:
    binary = bytes(range(256)) * 100
    given = backend.references(backend.daemon.upload(("in.bin", binary), ("changed.txt", b"1"), ("kept.txt", b"2")))
    code = (
        "import os\ndata = open('in.bin', 'rb').read()\n"
        "os.makedirs('deep/er', exist_ok=True)\n"
        "open('deep/er/out.bin', 'wb').write(data[::-1] * 20)\n"
        "open('changed.txt', 'a').write('more');"
    )
    ended = backend.run(code, files=given)
    assert (ended["code"], ended["stderr"]) == (0, "")
    changed = [each["name"] for each in ended["files"] if not each.get("inherited")]
    assert sorted(changed) == ["changed.txt", "deep/er/out.bin"]
    assert backend.content(ended, "deep/er/out.bin") == binary[::-1] * 20
    assert backend.content(ended, "changed.txt") == b"1more"


def test_a_workspace_holds_so_much_and_no_more(backend: Backend) -> None:
    code = (
        "import errno, os\npiece = bytes(1 << 20); written = 0\n"
        "try:\n"
        "    for name in ('a', 'b'):\n"
        "        with open(name, 'wb', buffering=0) as file:\n"
        "            for _ in range(200): written += file.write(piece)\n"
        "except OSError as error: print(errno.errorcode[error.errno], written >> 20)\n"
        "os.remove('a'); os.remove('b')"
    )
    reason, written = backend.shown(code).split()
    assert reason == "ENOSPC"
    assert 250 <= int(written) <= 256


def test_what_was_used_is_told(backend: Backend) -> None:
    code = "x = bytearray(50 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nsum(range(2_000_000)); del x"
    ended = backend.run(code)
    assert ended["wall_time"] > 0
    assert ended["cpu_time"] > 0
    assert ended["memory"] > 50 << 20


# -- languages --


def test_a_compiled_language_compiles_and_runs(backend: Backend) -> None:
    ended = backend.run('#include <stdio.h>\nint main(void) { puts("from C"); return 5; }', "c")
    assert (ended["stdout"], ended["code"], ended["phase"]) == ("from C\n", 5, "run")


def test_what_does_not_compile_is_not_run(backend: Backend) -> None:
    ended = backend.run("int main(void) { return }", "c")
    assert (ended["phase"], ended["stdout"]) == ("compile", "")
    assert ended["code"] != 0
    assert "error: expected expression" in ended["stderr"]


def test_javascript_runs(backend: Backend) -> None:
    code = "require('fs').writeFileSync('j.txt', 'x'); console.log([1, 2, 3].map(n => n * n).join(' '))"
    ended = backend.run(code, "js")
    assert (ended["stdout"], ended["code"]) == ("1 4 9\n", 0), ended
    assert backend.content(ended, "j.txt") == b"x"


def test_a_chart_is_drawn_and_comes_back_as_a_picture(backend: Backend) -> None:
    code = (
        "import matplotlib.pyplot as plt\n"
        "fig, ax = plt.subplots(figsize=(4, 3), dpi=100)\n"
        "ax.bar(['a', 'b'], [1, 2], color='#ff0000'); ax.set_title('A chart')\n"
        "fig.savefig('chart.png')\nprint('drawn')"
    )
    ended = backend.alone(code)
    assert (ended["stdout"], ended["code"]) == ("drawn\n", 0), ended
    assert [each["name"] for each in ended["files"]] == ["chart.png"]
    png = backend.content(ended, "chart.png")
    assert pixels(png) == (400, 300)
    # What was drawn is looked at where pictures are read: in a sandbox.
    given = {"id": ended["files"][0]["id"], "storage_session_id": ended["session_id"], "name": "chart.png"}
    seen = backend.shown(
        "import PIL.Image\nimage = PIL.Image.open('chart.png').convert('RGB')\n"
        "red = sum(image.getpixel((x, y)) == (255, 0, 0) for x in range(400) for y in range(300))\n"
        "print(image.size == (400, 300), red > 10_000, image.getpixel((1, 1)) == (255, 255, 255))",
        files=[given],
    )
    assert seen == "True True True\n"


# -- what lasts --


def test_variables_last_that_cannot_be_pickled_too(backend: Backend) -> None:
    backend.shown(
        "import threading\nlasting = 40\nlock = threading.Lock(); lock.acquire()\n"
        "squares = (n * n for n in range(9)); next(squares); next(squares)\n"
        "def add(n): return lasting + n\nopened = open('/tmp/opened', 'w+');"
    )
    again = backend.run("print(add(2), lock.locked(), next(squares), opened.write('x'))")
    assert (again["stdout"], again["runtime_status"]) == ("42 True 4 1\n", "reused")


def test_an_interpreter_that_dies_is_replaced_and_its_files_stay(backend: Backend) -> None:
    backend.shown("mortal = 1; open('immortal.txt', 'w').write('x');")
    died = backend.run("import os; os.kill(os.getpid(), 9)")
    assert (died["signal"], died["runtime_state_lives"]) == ("SIGKILL", False)
    assert backend.shown("import os; print('mortal' in globals(), os.path.exists('immortal.txt'))") == "False True\n"


async def test_an_agent_runs_code_and_reads_what_it_made(backend: Backend) -> None:
    async with backend.agent() as agent:
        ran = await agent.run("execute_code", code="open('b.bin', 'wb').write(bytes(range(256)));\nprint('said')")
        assert (ran["stdout"], ran["tier"]) == ("said\n", backend.tier)
        assert await agent.read("b.bin") == bytes(range(256))


async def test_a_program_in_the_background_goes_on_between_executions(backend: Backend) -> None:
    async with backend.agent() as agent:
        command = "read line; echo got $line > told.txt; echo ready; exec sleep 300"
        began = await agent.run("start_process", command=command)
        process = began["process"]["process"]
        await agent.use("write_stdin", process=process, text="it\n")
        await agent.use("read_process", process=process, wait=50, until="ready", position=0)
        # It is still bash when it says so.
        command = "cat told.txt; until pgrep -x sleep > named.txt; do :; done; wc -l < named.txt"
        assert (await agent.run("run_command", command=command))["stdout"] == "got it\n1\n"
        assert await agent.read("told.txt") == b"got it\n"
        killed = await agent.use("signal_process", process=process, signal="KILL")
        assert killed["process"]["signal"] == "SIGKILL"


# -- walls --


def test_a_host_that_a_rule_allows_is_reached_and_no_other(backend: Backend) -> None:
    internet = backend.daemon.internet
    internet.forget()
    code = (
        "import ssl, urllib.request, urllib.error\ncontext = ssl._create_unverified_context()\n"
        "for host in ('www.example.org', 'evil.example.net'):\n"
        "    try: print(len(urllib.request.urlopen(f'https://{host}/', context=context, timeout=30).read()) > 0)\n"
        "    except urllib.error.URLError as error: print('refused', error)"
    )
    ended = backend.run(code)
    reached, refused = ended["stdout"].splitlines()
    assert (reached, refused.startswith("refused")) == ("True", True), ended
    assert "no rule of policy 'default' allows the host evil.example.net" in ended["stderr"]
    internet.settle()
    assert {(hit.address, hit.server_name) for hit in internet.hits} == {(WEB, "www.example.org")}
    lines = backend.daemon.audit_of(ended["session_id"], 2)
    assert {(line["verdict"], line["host"]) for line in lines} == {
        ("allowed", "www.example.org"),
        ("refused", "evil.example.net"),
    }


def test_a_request_may_do_without_the_network(backend: Backend) -> None:
    code = "import socket\ntry: socket.create_connection(('www.example.org', 443), 5)\nexcept OSError: print('none')"
    assert backend.run(code, egress=[])["stdout"] == "none\n"


def began() -> float:
    """Say when this kernel was started."""
    while True:
        earlier, now, later = (
            time.clock_gettime(time.CLOCK_BOOTTIME),
            time.time(),
            time.clock_gettime(time.CLOCK_BOOTTIME),
        )
        # Who stood still between two clocks looks again.
        if later - earlier < 0.1:
            return now - later


async def test_two_sessions_share_nothing(backend: Backend) -> None:
    look = (
        "import os, time\n"
        f"{inspect.getsource(began)}print(began())\n"
        "print(sorted(os.listdir('/tmp') + os.listdir('/dev/shm') + os.listdir('/mnt/data')).count('mine'))\n"
        "print(any(b'named-of-mine' in open(f'/proc/{each}/cmdline', 'rb').read()"
        " for each in os.listdir('/proc') if each.isdigit()))"
    )
    backend.shown("touch /tmp/mine /dev/shm/mine /mnt/data/mine", "bash")
    # Who is being executed has no command line for a moment; who has answered has one.
    backend.shown(
        "import subprocess; to = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}\n"
        "named = subprocess.Popen(['bash', '-c', 'exec -a named-of-mine cat'], **to)\n"
        "named.stdin.write(b'there?\\n'); named.stdin.flush(); line = named.stdout.readline()"
    )
    mine, there, seen = backend.shown(look).split()
    assert (there, seen) == ("3", "True")
    async with backend.agent() as agent:
        other, there, seen = (await agent.run("execute_code", code=look))["stdout"].split()
    assert (there, seen) == ("0", "False")
    # Each kernel was started at a moment of its own.
    kernels = sorted([float(mine), float(other), began()])
    apart = [later - earlier > 1 for earlier, later in pairwise(kernels)]
    assert apart == [backend.tier == "microvm"] * 2
