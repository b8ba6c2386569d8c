"""Warm cells: what forks share and do not, what hostile code can do to those who wait, and zygotes that come and go."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor.jailer.equality import difference
from tests.daemon import ADMIN_KEY, Daemon, daemon_with, eventually, parent, process_name

pytestmark = pytest.mark.root
POLICIES = Path(__file__).resolve().parent.parent.parent / "policies"


def policies_with(directory: Path, file: str, *changes: tuple[str, str]) -> dict[str, str]:
    """A copy of the policies with some words changed, as a setting."""
    shutil.copytree(POLICIES, directory, ignore=shutil.ignore_patterns("__pycache__"))
    path = directory / file
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return {"GAOLER_JAILER_POLICY_DIR": str(directory)}


@pytest.fixture(scope="module")
def fresh(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose policy wants fresh interpreters."""
    settings = policies_with(
        tmp_path_factory.mktemp("fresh") / "policies", "sandbox/default.toml", ('warm = "fork"', 'warm = "exec"')
    )
    with daemon_with(image_dir, settings) as running:
        yield running


@pytest.fixture(scope="module")
def worn(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose zygotes are replaced after three forks."""
    settings = policies_with(
        tmp_path_factory.mktemp("worn") / "policies", "profiles/python.toml", ("forks = 1000", "forks = 3")
    )
    with daemon_with(image_dir, settings) as running:
        yield running


def test_libraries_are_imported_before_anybodys_code(daemon: Daemon) -> None:
    result = daemon.execute("import sys; print('pandas' in sys.modules, 'matplotlib.pyplot' in sys.modules)")
    assert result["stdout"] == "True True\n"


def test_nothing_of_ours_is_in_the_interpreter(daemon: Daemon) -> None:
    code = (
        "import sys; print([name for name in sys.modules if name.split('.')[0] in ('supervisor', 'msgspec', 'trio')])"
    )
    assert daemon.execute(code)["stdout"] == "[]\n"


def test_what_one_does_to_libraries_files_and_processes_the_next_does_not_see(daemon: Daemon) -> None:
    vandal = (
        "import builtins, json, os, subprocess, sys, numpy\n"
        "numpy.pi = 3; json.dumps = None; builtins.gaoler_was_here = True; os.environ['LEFT'] = '1'\n"
        "for place in ('/tmp', '/dev/shm', '/mnt/data'): open(place + '/left', 'w').write('x')\n"
        "subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "numpy.random.seed(1); import random; random.seed(1)\n"
        "sys.path.append('/left'); sys.setrecursionlimit(77)"
    )
    look = (
        "import builtins, json, os, sys, numpy\n"
        "print(numpy.pi > 3.1, json.dumps([1]), hasattr(builtins, 'gaoler_was_here'), os.environ.get('LEFT'),\n"
        "      [os.path.exists(place + '/left') for place in ('/tmp', '/dev/shm', '/mnt/data')],\n"
        "      '/left' in sys.path, sys.getrecursionlimit() == 77, sum(name.isdigit() for name in os.listdir('/proc')))"
    )
    for _ in range(6):
        assert daemon.execute(vandal)["code"] == 0
        seen = daemon.execute(look)["stdout"]
        assert seen == "True [1] False None [False, False, False] False False 2\n"


def test_no_two_forks_draw_the_same_random_numbers(daemon: Daemon) -> None:
    code = (
        "import random, numpy, tempfile, uuid, os, scipy.stats\n"
        "print(random.random(), numpy.random.rand(), scipy.stats.norm.rvs(), numpy.random.default_rng().random(),\n"
        "      tempfile.mktemp(), uuid.uuid4(), uuid.uuid1().node, os.urandom(4).hex(), sep='\\n')"
    )
    answers = [daemon.execute(code)["stdout"].split() for _ in range(8)]
    for drawn in zip(*answers, strict=True):
        assert len(set(drawn)) == len(answers), drawn


def test_a_program_ends_as_under_an_interpreter_of_its_own(daemon: Daemon) -> None:
    code = (
        "import atexit, threading, time, weakref, sys\n"
        "open_file = open('buffered.txt', 'w'); open_file.write('x' * 100)\n"
        "class Last:\n    def __del__(self): print('deleted', flush=True)\n"
        "last = Last(); ring = [Last()]; ring.append(ring)\n"
        "atexit.register(print, 'at exit')\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\n"
        "import ctypes; ctypes.CDLL(None).printf(b'from C\\n')\n"
        "sys.exit(7)"
    )
    result = daemon.execute(code)
    assert result["code"] == 7
    lines = result["stdout"].splitlines()
    assert sorted(lines) == ["at exit", "deleted", "deleted", "from C", "thread"]
    assert lines.index("thread") < lines.index("at exit") < lines.index("deleted")
    assert [(file["name"], file["size"]) for file in result["files"]] == [("buffered.txt", 100)]


def test_a_program_finds_itself_where_a_script_does(daemon: Daemon) -> None:
    code = (
        "import sys, inspect, pickle, multiprocessing\n"
        "def double(n): return n * 2\n"
        "if __name__ == '__main__':\n"
        "    print(__name__, __file__, sys.argv, sys.path[:2], inspect.getsource(double), end='')\n"
        "    print(pickle.loads(pickle.dumps(double))(4), sys.stdin.read(), sys.stdout.encoding, sys.stdout.isatty())\n"
        "    print(multiprocessing.get_context('spawn').Pool(1).map(double, [1, 2]))\n"
    )
    lines = daemon.execute(code, args=["a", "b"], stdin="in").get("stdout", "").splitlines()
    assert lines == [
        "__main__ /code/main.py ['/code/main.py', 'a', 'b'] ['/code', '/mnt/data'] def double(n): return n * 2",
        "8 in utf-8 False",
        "[2, 4]",
    ]


def test_modules_of_the_workspace_can_be_imported(daemon: Daemon) -> None:
    made = daemon.execute("open('helper.py', 'w').write('VALUE = 42')")
    code = "import helper; print(helper.VALUE)"
    assert daemon.execute(code, session_id=made["session_id"])["stdout"] == "42\n"
    live = daemon.execute("open('other.py', 'w').write('VALUE = 43');", stateful=True)
    code = "import other; print(other.VALUE)"
    assert daemon.execute(code, session_id=live["session_id"], stateful=True)["stdout"] == "43\n"


def test_a_fresh_interpreter_shares_no_hash_seed_and_no_layout(fresh: Daemon, daemon: Daemon) -> None:
    code = "import sys; print(hash('gaoler'), id(object), 'pandas' in sys.modules)"
    assert len({fresh.execute(code)["stdout"] for _ in range(4)}) == 4
    assert fresh.execute(code)["stdout"].endswith("False\n")
    assert (
        fresh.execute("import asyncio\nawait asyncio.sleep(0)\nprint(open(__file__).read()[:6])")["stdout"]
        == "import\n"
    )
    # The known cost of forks, which the documentation states.
    assert len({daemon.execute(code)["stdout"] for _ in range(4)}) < 4


def test_a_fresh_interpreter_can_last_and_be_restored(fresh: Daemon) -> None:
    first = fresh.execute("x = 41", stateful=True)
    assert fresh.execute("x + 1", stateful=True, session_id=first["session_id"])["stdout"] == "42\n"


def test_a_zygote_is_replaced_after_its_forks_and_its_children_live_on(worn: Daemon) -> None:
    live = worn.execute("x = 1; import time", stateful=True)
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda number: worn.execute(f"print({number})")["stdout"], range(40)))
    assert answers == [f"{number}\n" for number in range(40)]
    assert worn.execute("x", stateful=True, session_id=live["session_id"])["stdout"] == "1\n"
    # The one that is used, one that is getting ready, and the one whose child still lives.
    eventually(lambda: worn.names().count("gaoler-warm") <= 4)


def test_a_killed_zygote_is_replaced_and_no_request_fails(image_dir: Path) -> None:
    with daemon_with(image_dir, {}) as daemon:
        eventually(lambda: "gaoler-warm" in daemon.names())
        live = daemon.execute("x = 1", stateful=True)
        answers: list[tuple[int, int]] = []

        def sleep_and_exit() -> None:
            answer = daemon.try_execute("import time; time.sleep(1); raise SystemExit(5)")
            answers.append((answer.status, answer.json.get("code")))

        running = threading.Thread(target=sleep_and_exit)
        running.start()
        for _ in range(3):
            # Killed by the look that has found it: before another one there may be a second.
            found: list[int] = []
            eventually(lambda found=found: only_one(found, zygotes(daemon)))  # type: ignore[misc]
            os.kill(found[0], signal.SIGKILL)
            with ThreadPoolExecutor(4) as clients:
                statuses = list(clients.map(lambda _: daemon.try_execute("print(1)").json["stdout"], range(30)))
            assert set(statuses) == {"1\n"}
        running.join()
        # The true status of a program whose zygote died meanwhile comes from the kernel all the same.
        assert answers == [(200, 5)]
        assert daemon.execute("x", stateful=True, session_id=live["session_id"])["stdout"] == "1\n"


def zygotes(daemon: Daemon) -> list[int]:
    """What one has just forked is called as it is, and is none."""
    return [
        pid
        for pid in daemon.family()
        if process_name(pid) == "gaoler-warm" and process_name(parent(pid)) != "gaoler-warm"
    ]


def only_one(found: list[int], now: list[int]) -> bool:
    found[:] = now
    return len(found) == 1


LATE = """
import ctypes, os, threading, time
LATE_SECONDS = {}
def late():
    time.sleep(LATE_SECONDS)
    open('late.txt', 'w').write('x')
    os._exit(7)
{}
os.closerange(0, 3)
ctypes.CDLL(None).syscall(60, 0)  # exit(2): this thread only
"""


def test_a_thread_that_outlives_a_closed_output_and_the_main_thread_is_waited_for(daemon: Daemon) -> None:
    """The answer does not wait for memory to be given back, but it does for whoever can still run code."""
    result = daemon.execute(LATE.format(0.5, "threading.Thread(target=late).start()"))
    assert (result["code"], [file["name"] for file in result["files"]]) == (7, ["late.txt"])


def test_a_child_that_outlives_a_program_with_closed_output_is_dead_before_the_answer(daemon: Daemon) -> None:
    # So late that it comes to it only if nobody ends it.
    result = daemon.execute(LATE.format(30, "os.fork() or late()"))
    assert (result["code"], result["files"]) == (0, [])


def test_what_runs_weighs_by_who_runs_it(daemon: Daemon) -> None:
    """Read from the kernel: three sleepers of one user, then one of another."""
    users = ["crowd", "crowd", "crowd", "alone"]
    code = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'as {}', 0, 0, 0); time.sleep(60)"
    found: dict[str, list[int]] = {user: [] for user in users}
    seen: set[int] = set()
    with ThreadPoolExecutor(len(users)) as clients:
        for user in users:
            clients.submit(daemon.try_execute, code.format(user), user=user, timeout=60_000)
            eventually(lambda: bool(named_as(daemon, users) - seen))
            for pid in named_as(daemon, users) - seen:
                found[user].append(cpu_weight(pid))
                seen.add(pid)
        for pid in seen:
            os.kill(pid, signal.SIGKILL)
    # A user's later executions share; the other user of the tenant has half of what the tenant has.
    assert found == {"crowd": [1024, 512, 341], "alone": [512]}


def named_as(daemon: Daemon, users: list[str]) -> set[int]:
    return {pid for pid in daemon.family() if process_name(pid).removeprefix("as ") in users}


def cpu_weight(pid: int) -> int:
    for line in (Path("/proc") / str(pid) / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return int(Path(f"/sys/fs/cgroup/cpu{path}/cpu.shares").read_text())
        if not controllers and Path(f"/sys/fs/cgroup{path}/cpu.weight").exists():
            return int(Path(f"/sys/fs/cgroup{path}/cpu.weight").read_text())
    raise AssertionError(pid)


def ready(daemon: Daemon) -> int:
    """Count the interpreters that wait, by the daemon's own word."""
    text = daemon.request("GET", "/metrics", key=ADMIN_KEY).body.decode()
    found = re.search(r'^gaoler_pool_cells\{.*profile="python".*\} (\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def test_waiting_cells_that_are_killed_are_replaced_and_counted_as_lost(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_CELLS_FLOOR": "2", "GAOLER_CELLS_MEMORY_BYTES": str(16 << 20)}) as daemon:
        # One that is still being looked at when it is killed was never one that waits.
        eventually(lambda: ready(daemon) == 2 and daemon.names().count("python3") == 2)
        for pid in daemon.family():
            try:
                name = (Path("/proc") / str(pid) / "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if name == "python3":
                os.kill(pid, signal.SIGKILL)
        # One that is asked for before the kernel has told of its end is a program that was killed.
        eventually(lambda: sum("it died while it waited" in line for line in daemon.lines()) == 2)
        assert daemon.execute("print(1)")["stdout"] == "1\n"
        eventually(lambda: daemon.names().count("python3") == 2)


def test_a_profile_that_cannot_be_imported_or_starts_a_thread_is_never_forked(image_dir: Path, tmp_path: Path) -> None:
    changes = {
        "missing": ('"PIL.Image",', '"no_such_module",', "No module named 'no_such_module'"),
        "threaded": (
            'exercise = """',
            'exercise = """\nimport threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n',
            "has started a thread",
        ),
    }
    for name, (old, new, message) in changes.items():
        settings = policies_with(tmp_path / name, "profiles/python.toml", (old, new))
        with daemon_with(image_dir, settings) as daemon:
            eventually(lambda: any("zygote did not start" in line for line in daemon.lines()))
            assert any(message in line for line in daemon.lines())
            # Other languages do not depend on it.
            assert daemon.execute("echo 1", "bash")["stdout"] == "1\n"


HOSTILE_TO_THE_SOCKET = {
    "closes it": "import os; os.close(3)",
    "talks nonsense": "import socket; socket.socket(fileno=3).send(b'\\xff' * 1000)",
    "answers for itself": 'import socket; s = socket.socket(fileno=3); s.send(b\'{"id": 1, "status": 0}\'); import time; time.sleep(60)',
    "answers twice": 'import socket; s = socket.socket(fileno=3); [s.send(b\'{"id": %d, "status": 0}\' % n) for n in (1, 2, 3)]',
    "answers with a huge number": "import socket; socket.socket(fileno=3).send(b'{\"status\": 1e999}')",
    "sends descriptors": "import socket; s = socket.socket(fileno=3); [socket.send_fds(s, [b'x'], [0, 1, 2]) for _ in range(50)]",
    "fills it": "import socket; s = socket.socket(fileno=3); s.setblocking(False)\nwhile True: s.send(bytes(60000))",
    "sends an empty packet": "import socket; socket.socket(fileno=3).send(b'')",
}


@pytest.mark.parametrize("attack", HOSTILE_TO_THE_SOCKET)
def test_code_that_plays_with_the_control_socket_harms_only_itself(daemon: Daemon, attack: str) -> None:
    bystander = daemon.execute("x = 'untouched'", stateful=True)
    jailer = daemon.named("gaoler-jailer")
    descriptors = len(os.listdir(f"/proc/{jailer}/fd"))
    for _ in range(3):
        mine = daemon.try_execute(HOSTILE_TO_THE_SOCKET[attack], stateful=True, timeout=1000)
        assert mine.status == 200
        after = daemon.try_execute("1 + 1", stateful=True, session_id=mine.json["session_id"], timeout=1000)
        assert after.status == 200
        assert daemon.request("DELETE", f"/v1/sessions/{mine.json['session_id']}").status in (200, 204)
    assert daemon.named("gaoler-jailer") == jailer
    assert daemon.execute("x", stateful=True, session_id=bystander["session_id"])["stdout"] == "'untouched'\n"
    eventually(lambda: len(os.listdir(f"/proc/{jailer}/fd")) < descriptors + 60)


def test_the_join_check_names_whatever_is_different() -> None:
    model = {
        "CapInh": "0000000000000000",
        "CapPrm": "0000000000000000",
        "CapEff": "0000000000000000",
        "CapBnd": "0000000000000000",
        "CapAmb": "0000000000000000",
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "Uid": "1 1 1 1",
        "namespace net": "net:[1]",
    }
    assert difference(model, dict(model)) is None
    for name in model:
        assert name in (difference(model, {**model, name: "x"}) or "")
        assert name in (difference(model, {key: value for key, value in model.items() if key != name}) or "")
    # A language's filter on top of nsjail's is exactly one more.
    counted = {**model, "Seccomp_filters": "1"}
    assert difference(counted, {**model, "Seccomp_filters": "2"}, narrowed=1) is None
    for filters, narrowed in (("1", 1), ("3", 1), ("2", 0), ("0", 0)):
        assert "Seccomp_filters" in (
            difference(counted, {**model, "Seccomp_filters": filters}, narrowed=narrowed) or ""
        )
    # Two that are both wrong are not right.
    weak = {**model, "Seccomp": "0"}
    assert "Seccomp" in (difference(weak, weak) or "")
