"""Lasting interpreters over HTTP: what survives, what does not, and what the caller is told."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from supervisor.execution.values import is_id
from tests.daemon import Daemon, daemon_with, descendants, eventually, start_daemon
from tests.http_api.moments import leave_when_it_says, out_of_time, refusal, when_stopped

pytestmark = pytest.mark.root
NUMBERS = iter(range(1_000_000))


class Session:
    """One lasting runtime, named by a hint as LibreChat names it."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.hint = f"v2:user:{next(NUMBERS):032x}"

    def __call__(self, code: str, lang: str = "py", **fields: Any) -> dict[str, Any]:
        return self.daemon.execute(code, lang, runtime_session_hint=self.hint, **fields)

    def shown(self, code: str) -> str:
        result = self(code)
        assert result["stderr"] == "", result["stderr"]
        return str(result["stdout"])


@pytest.fixture
def session(daemon: Daemon) -> Session:
    return Session(daemon)


@pytest.fixture(scope="module")
def small(image_dir: Path) -> Iterator[Daemon]:
    """Two lasting sessions at most, so that a third evicts one."""
    with daemon_with(image_dir, {"GAOLER_LIVE_SESSIONS": "2"}) as running:
        yield running


def test_variables_functions_imports_open_files_and_the_unpicklable_survive(session: Session) -> None:
    first = session(
        "import math, threading\n"
        "x = 40\n"
        "def add(n): return x + n\n"
        "lock = threading.Lock(); lock.acquire()\n"
        "generator = (n * n for n in range(10)); next(generator); next(generator)\n"
        "file = open('/tmp/open.txt', 'w+')\n"
    )
    assert (first["runtime_status"], first["stdout"], first["stderr"]) == ("new", "", "")
    again = session("print(add(2), math.pi > 3, lock.locked(), next(generator)); file.write('kept'); file.seek(0)")
    assert again["stdout"] == "42 True True 4\n0\n"
    assert session.shown("print(file.read())") == "kept\n"
    assert again["runtime_status"] == "reused"
    assert again["session_id"] == again["runtime_session_id"] == first["session_id"]
    assert is_id(first["session_id"])


def test_the_last_expression_is_shown_and_a_semicolon_hides_it(session: Session) -> None:
    assert session.shown("1 + 1") == "2\n"
    assert session.shown("x = 3") == ""
    assert session.shown("x;") == ""
    assert session.shown("None") == ""
    assert session.shown("x\nx + 1") == "4\n"
    assert session.shown("_") == "4\n"


def test_a_stateless_program_shows_nothing_that_it_does_not_print(daemon: Daemon) -> None:
    assert daemon.execute("1 + 1")["stdout"] == ""


def test_await_works_at_the_top_level_and_its_loop_lasts(session: Session, daemon: Daemon) -> None:
    assert session.shown("import asyncio\nqueue = asyncio.Queue()\nawait queue.put(7)") == ""
    assert session.shown("await queue.get()") == "7\n"
    assert daemon.execute("import asyncio\nawait asyncio.sleep(0)\nprint('awaited')")["stdout"] == "awaited\n"


def test_an_exception_keeps_what_was_set_and_shows_the_line(session: Session) -> None:
    session("def broken():\n    return 1 / 0")
    failed = session("x = 1\nbroken()\nx = 2")
    assert failed["code"] == 1
    assert "return 1 / 0" in failed["stderr"]
    assert "gaoler_interpreter" not in failed["stderr"]
    assert session.shown("x") == "1\n"


def test_exit_ends_the_execution_and_not_the_session(session: Session) -> None:
    session("x = 5")
    assert session("import sys; sys.exit(3)")["code"] == 3
    assert session.shown("x") == "5\n"


def test_a_timeout_interrupts_and_keeps_the_variables(lenient: Daemon) -> None:
    session = Session(lenient)
    session("x = 1")
    late = out_of_time(lambda time: session("x = 2\nprint('begun')\nwhile True: pass", timeout=time))
    assert (late["status"], late["stdout"]) == ("TO", "begun\n")
    assert late["runtime_state_lives"]
    assert "KeyboardInterrupt" in late["stderr"]
    assert "variables that it had set so far are kept" in late["stderr"]
    assert session.shown("x") == "2\n"


def test_code_that_ignores_the_interrupt_is_killed_and_the_caller_is_told(session: Session) -> None:
    session("x = 1\nopen('kept.txt', 'w').write('still here');")
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('deaf')\nwhile True: pass"
    late = out_of_time(lambda time: session(code, timeout=time))
    assert late["status"] == "TO"
    assert not late["runtime_state_lives"]
    assert "its variables are gone, the files are kept" in late["stderr"]
    assert "NameError" in session("x")["stderr"]
    assert session.shown("open('kept.txt').read()") == "'still here'\n"


@pytest.mark.parametrize(
    "death", ["import os; os._exit(9)", "import os; os.kill(os.getpid(), 9)", "import ctypes; ctypes.string_at(0)"]
)
def test_an_interpreter_that_dies_is_replaced_and_the_caller_is_told(session: Session, death: str) -> None:
    session("x = 1")
    died = session(death)
    assert not died["runtime_state_lives"]
    assert "its variables are gone" in died["stderr"]
    assert "NameError" in session("x")["stderr"]


def test_out_of_memory_ends_the_interpreter_and_not_the_session(session: Session) -> None:
    session("open('kept.txt', 'w').write('x');")
    died = session("x = bytearray(3 << 30)")
    assert "out of memory" in died["stderr"] or "MemoryError" in died["stderr"]
    assert session.shown("import os; os.path.exists('kept.txt')") == "True\n"


def test_a_flood_of_output_ends_the_interpreter_and_not_the_session(session: Session) -> None:
    flood = session("while True: print('x' * 65536)")
    assert flood["status"] == "OL"
    assert len(flood["stdout"]) < 100_000
    assert session.shown("1") == "1\n"


def test_bash_sees_the_files_and_the_processes_of_python_and_the_other_way_round(session: Session) -> None:
    session("import subprocess\nopen('a.txt', 'w').write('from python')\nchild = subprocess.Popen(['sleep', '300'])")
    seen = "until pgrep -x sleep > seen.txt; do :; done; wc -l < seen.txt"  # It may still be on its way there.
    result = session(f"cat a.txt; echo; echo from bash > b.txt; {seen}", "bash")
    assert result["stdout"] == "from python\n1\n"
    assert result["runtime_status"] == "reused"
    assert session.shown("print(open('b.txt').read(), child.poll())") == "from bash\n None\n"


def test_a_compiled_language_runs_beside_the_interpreter(session: Session) -> None:
    session("x = 1")
    assert session("int main(void) { return 5; }", "c")["code"] == 5
    assert session("int main(void) { return }", "c")["code"] != 0
    assert session.shown("x") == "1\n"


def test_nothing_runs_between_two_executions(session: Session) -> None:
    session(
        "import ctypes, threading, time\nticks = 0\n"
        "ctypes.CDLL(None).prctl(15, b'between', 0, 0, 0)\n"
        "def tick():\n    global ticks\n    while True:\n        ticks += 1; time.sleep(0.001)\n"
        "threading.Thread(target=tick, daemon=True).start()\nwhile not ticks: time.sleep(0.001)"
    )
    interpreter = session.daemon.named("between")

    def stands_still() -> bool:
        before = when_stopped(interpreter)
        # A thread that was waiting would have run some hundred times.
        threading.Event().wait(0.3)
        return when_stopped(interpreter) == before

    # A worker of a fleet wakes it once more, to save what it has.
    eventually(stands_still)
    # In the next execution it goes on.
    assert session.shown("was = ticks\nwhile ticks == was: time.sleep(0.001)") == ""


def test_files_come_back_once_changed_and_their_deletion_is_seen(session: Session) -> None:
    made = session("open('a.txt', 'w').write('1'); open('b.txt', 'w').write('1');")
    assert sorted(file["name"] for file in made["files"]) == ["a.txt", "b.txt"]
    assert session("1")["files"] == []
    changed = session("open('a.txt', 'w').write('22'); import os; os.remove('b.txt')")
    assert [file["name"] for file in changed["files"]] == ["a.txt"]
    assert changed["deleted_files"] == ["b.txt"]
    listing = session.daemon.request("GET", f"/v1/files/{made['session_id']}?detail=full").json
    assert [file["metadata"]["original-filename"] for file in listing] == ["a.txt"]


def test_an_input_is_placed_once_and_again_when_it_is_another(session: Session, daemon: Daemon) -> None:
    uploaded = daemon.upload(("in.csv", b"1,2\n")).json
    reference = {
        "id": uploaded["files"][0]["fileId"],
        "storage_session_id": uploaded["storage_session_id"],
        "name": "in.csv",
    }
    first = session("open('in.csv').read()", files=[reference])
    assert first["stdout"] == "'1,2\\n'\n"
    assert first["files"][0]["inherited"]
    assert session.shown("open('in.csv').read()") == "'1,2\\n'\n"
    other = daemon.upload(("in.csv", b"3,4\n")).json
    reference = {"id": other["files"][0]["fileId"], "storage_session_id": other["storage_session_id"], "name": "in.csv"}
    assert session("open('in.csv').read()", files=[reference])["stdout"] == "'3,4\\n'\n"


def test_an_input_that_cannot_be_placed_is_refused_and_the_session_goes_on(session: Session, daemon: Daemon) -> None:
    session("import os; x = 1; os.mkdir('in.csv')")
    uploaded = daemon.upload(("in.csv", b"1\n")).json
    reference = {
        "id": uploaded["files"][0]["fileId"],
        "storage_session_id": uploaded["storage_session_id"],
        "name": "in.csv",
    }
    refused = daemon.try_execute("x", runtime_session_hint=session.hint, files=[reference])
    assert "in.csv" in refusal(refused, 400, "invalid_request")["message"]
    assert session.shown("x") == "1\n"


def test_an_explicit_session_is_live_when_the_request_says_so(daemon: Daemon) -> None:
    first = daemon.execute("x = 1", stateful=True)
    same = daemon.execute("x", session_id=first["session_id"], stateful=True)
    assert same["stdout"] == "1\n"
    without = daemon.execute("print('x' in globals())", session_id=first["session_id"])
    assert without["stdout"] == "False\n"
    assert "runtime_status" not in without


def test_another_user_does_not_get_into_a_session(daemon: Daemon) -> None:
    mine = daemon.execute("secret = 1", stateful=True, user="ann")
    other = daemon.try_execute("secret", stateful=True, user="bob", session_id=mine["session_id"])
    assert (other.status, other.json["error"]) == (404, "not_found")
    hint = "v2:user:shared"
    daemon.execute("secret = 1", runtime_session_hint=hint, user="ann")
    assert daemon.try_execute("secret", runtime_session_hint=hint, user="bob").status == 404


def test_two_at_once_in_one_session_take_turns(session: Session) -> None:
    session("order = []")
    threads = [
        threading.Thread(
            target=lambda: session("import time\norder.append('in'); time.sleep(0.05); order.append('out');")
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.shown("order == ['in', 'out'] * 4") == "True\n"


def test_a_client_that_hangs_up_interrupts_its_execution_and_no_more(lenient: Daemon) -> None:
    session = Session(lenient)
    session("state = 'before'")
    code = "state = 'during'\nprint('begun')\nwhile True: pass"
    leave_when_it_says(lenient, "begun", code, runtime_session_hint=session.hint)
    after = session("state")
    assert after["stdout"] == "'during'\n"
    assert after["runtime_status"] == "reused"


@pytest.mark.own_host
def test_code_for_an_interpreter_that_is_being_killed_runs_in_the_next_one(session: Session, daemon: Daemon) -> None:
    """It is sent to and dies before it reads: held here as by a host that is too busy to let it."""
    session("import os\nx = 1; held = os.memfd_create('held'); open('kept', 'w').close()")
    interpreter = _holder_of(daemon, "/memfd:held (deleted)")
    # What holds it lets go of it before the pool waits for the answer, however the block ends.
    with ThreadPoolExecutor(1) as pool, _held_still(interpreter) as let_die:
        answer = pool.submit(session, "print('x' in globals())")
        eventually(lambda: _is_told_to_go_on(interpreter))
        # From there to the code in its socket it takes the jailer no other step that can be seen.
        threading.Event().wait(0.2)
        let_die()
        result = answer.result()
    assert result["stdout"] == "False\n"
    assert "the variables of earlier executions are gone" in result["stderr"]
    assert session.shown("import os; os.path.exists('kept')") == "True\n"


def _holder_of(daemon: Daemon, name: str) -> int:
    """Find the process of the daemon's that has a file open whose name ends so: one that only itself can open."""
    for pid in descendants(daemon.process.pid):
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                if os.readlink(link).endswith(name):
                    return pid
    raise AssertionError(name)


def _is_told_to_go_on(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(each >> (signal.SIGCONT - 1) & 1 for each in pending)


@contextmanager
def _held_still(pid: int) -> Iterator[Callable[[], None]]:
    """As a debugger, hold a process at where it is, whatever it is told; it can only be let die."""
    seize, interrupt, wait_all = 0x4206, 0x4207, 0x40000000
    trace = ctypes.CDLL(None, use_errno=True).ptrace
    trace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    assert trace(seize, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    assert trace(interrupt, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(pid, wait_all)

    dead = False

    def let_die() -> None:
        nonlocal dead
        if not dead:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, wait_all)
            dead = True

    try:
        yield let_die
    finally:
        let_die()


def test_an_evicted_session_is_saved_and_restored_and_says_what_was_not(small: Daemon) -> None:
    first = Session(small)
    first(
        "import numpy as np, math\nfrom dataclasses import dataclass\n"
        "x = [1]; same = x\narray = np.arange(5)\n"
        "def add(n):\n    global counter\n    counter += n\n    return counter\n"
        "counter = 1\n"
        "@dataclass\nclass Point:\n    a: int\n    def double(self): return self.a * 2\n"
        "point = Point(21); square = lambda n: n * n\n"
        "generator = (n for n in range(3))\n"
        "import os; os.chdir('/tmp')"
    )
    for _ in range(2):
        Session(small)("1")
    back = first(
        "same.append(2)\nprint(x, array.sum(), add(2), counter, point.double(), square(3), math.pi > 3, os.getcwd())"
    )
    assert back["stdout"] == "[1, 2] 10 3 3 42 9 True /tmp\n"
    assert back["runtime_status"] == "new"
    assert back["runtime_restored"]
    assert "were restored, except generator (" in back["stderr"]


def test_a_user_with_many_sessions_makes_room_among_its_own(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_LIVE_SESSIONS": "4", "GAOLER_LIVE_SESSIONS_PER_USER": "2"}) as daemon:
        bob = daemon.execute("x = 1", user="bob", stateful=True)["session_id"]
        ann = [daemon.execute(f"x = {number}", user="ann", stateful=True)["session_id"] for number in range(5)]
        assert daemon.execute("x", user="bob", stateful=True, session_id=bob)["runtime_status"] == "reused"
        again = daemon.execute("x", user="ann", stateful=True, session_id=ann[0])
        assert (again["stdout"], again["runtime_restored"]) == ("0\n", True)


def test_what_is_saved_survives_the_daemon(image_dir: Path, state_dir: Path) -> None:
    daemon = start_daemon(state_dir, image_dir)
    session = Session(daemon)
    session("x = {'a': 1}\nopen('f.txt', 'w').write('file');")
    daemon.stop()
    session.daemon = start_daemon(state_dir, image_dir)
    again = session("x, open('f.txt').read()")
    assert again["stdout"] == "({'a': 1}, 'file')\n"
    assert again["runtime_restored"]
    session.daemon.stop()


def test_a_state_that_is_too_large_leaves_the_largest_behind(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_LIVE_SESSIONS": "1", "GAOLER_LIVE_STATE_BYTES": "100000"}) as daemon:
        session = Session(daemon)
        session("import os\nbig = os.urandom(300_000); small = 'kept'")
        Session(daemon)("1")
        back = session("small, 'big' in globals()")
        assert back["stdout"] == "('kept', False)\n"
        assert "except big (" in back["stderr"]


def test_a_jailer_that_dies_loses_the_variables_and_says_so(image_dir: Path) -> None:
    with daemon_with(image_dir, {}) as daemon:
        session = Session(daemon)
        session("x = 1\nopen('f.txt', 'w').write('file');")
        jailer = daemon.named("gaoler-jailer")
        os.kill(jailer, signal.SIGKILL)
        answers = []

        def served() -> bool:
            look = "open('f.txt').read(), 'x' in globals()"
            answers.append(daemon.try_execute(look, runtime_session_hint=session.hint))
            # A refusal that took long has the status of an answer.
            return answers[-1].status == 200 and "error" not in answers[-1].json

        eventually(served)
        assert answers[-1].json["stdout"] == "('file', False)\n"


def test_a_deleted_session_takes_its_interpreter_along(session: Session, daemon: Daemon) -> None:
    made = session("x = 1\nopen('f.txt', 'w').write('file');")
    assert daemon.request("DELETE", f"/v1/sessions/{made['session_id']}").status in (200, 204)
    after = session("'x' in globals(), __import__('os').listdir()")
    assert after["stdout"] == "(False, [])\n"


def test_a_policy_may_refuse_to_keep_anything_or_keep_for_every_named_session(image_dir: Path, tmp_path: Path) -> None:
    for state, asked, named in (("never", 409, "False\n"), ("session", 200, "True\n")):
        policies = tmp_path / state
        shutil.copytree(Path(__file__).resolve().parent.parent.parent / "policies", policies)
        text = (policies / "sandbox" / "default.toml").read_text().replace('state = "asked"', f'state = "{state}"')
        (policies / "sandbox" / "default.toml").write_text(text)
        with daemon_with(image_dir, {"GAOLER_JAILER_POLICY_DIR": str(policies)}) as daemon:
            answer = daemon.try_execute("1", stateful=True)
            assert answer.status == asked
            if asked == 409:
                assert answer.json["error"] == "stateful_workspace_unsupported"
            made = daemon.execute("open('f', 'w').write('1')\nx = 1")
            daemon.execute("x = 1", session_id=made["session_id"])
            assert daemon.execute("print('x' in globals())", session_id=made["session_id"])["stdout"] == named


def test_bad_hints_are_refused_with_the_field(daemon: Daemon) -> None:
    for hint in ("x" * 129, "a b", "a/b", "é"):
        answer = daemon.try_execute("1", runtime_session_hint=hint)
        assert (answer.status, answer.json["field"]) == (400, "runtime_session_hint")
