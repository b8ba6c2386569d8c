"""Who follows a daemon follows it beyond its restarts; what is not there at first is said at once."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.commands.api_client import Api, NotRunning, Place, Refused
from supervisor.commands.api_follow import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, SILENT_SECONDS, Listener, follow
from supervisor.jailer.cgroup_subtree import remove_subtree
from tests.admin.desk import Running
from tests.daemon import ROOT, Daemon, end_daemons, start_daemon
from tests.supervisor.command_line import COMMAND, environment
from tests.supervisor.terminal import Terminal

Start = Callable[[], Daemon]


@pytest.fixture
def start(image_dir: Path) -> Iterator[Start]:
    """Starts a daemon at the same place each time."""
    state = Path(tempfile.mkdtemp(prefix="gt-"))
    state.chmod(0o755)
    try:
        yield lambda: start_daemon(state, image_dir, settings={"GAOLER_BIND": f"unix:{state}/run/door.sock"})
    finally:
        end_daemons(state)
        remove_subtree(state)
        shutil.rmtree(state)


def kill(daemon: Daemon) -> None:
    daemon.process.kill()
    daemon.process.wait()


def follower(daemon: Daemon, *arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*COMMAND, *arguments], env=environment(daemon), cwd=ROOT, stdout=pipe, stderr=pipe, text=True
    )


@pytest.mark.root
def test_followed_executions_go_on_after_a_restart_and_ctrl_c_ends_the_waiting(start: Start) -> None:
    daemon = start()
    with follower(daemon, "executions", "--follow", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline().endswith("run; Ctrl-C ends it\n")
        daemon.stop()
        assert process.stderr.readline().endswith(f"waiting for {daemon.address} to come back; Ctrl-C ends it\n")
        daemon = start()
        assert process.stderr.readline().endswith("0 run; what happened meanwhile is not known\n")
        daemon.execute("print(1)", user="again")
        assert json.loads(process.stdout.readline())["execution"]["user"] == "again"
        kill(daemon)
        assert "waiting for" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


@pytest.mark.root
def test_top_says_that_it_hears_nothing_and_goes_on_after_a_restart(start: Start) -> None:
    daemon = start()
    with Terminal([*COMMAND, "top"], environment(daemon)) as terminal:
        terminal.until("0/8 run")
        kill(daemon)
        terminal.until("NOT HEARD, tried again in")
        daemon = start()
        running = Running(daemon, "import time\ntime.sleep(600)", user="afterwards")
        terminal.until("afterwards")
        kill(daemon)
        terminal.until("NOT HEARD")
        terminal.type("q")
        terminal.until("\x1b[?1049l")
        assert terminal.end() == 0
    running.give_up()


@pytest.mark.root
def test_for_programs_top_has_an_event_for_it(start: Start) -> None:
    daemon = start()
    with follower(daemon, "top", "--json") as process:
        assert process.stdout is not None
        events = (json.loads(line) for line in process.stdout)
        assert next(events)["event"] == "snapshot"
        kill(daemon)
        lost = next(each for each in events if each["event"] == "lost")["data"]
        assert lost["retry_seconds"] == FIRST_WAIT_SECONDS
        start()
        assert next(each for each in events if each["event"] != "lost")["event"] == "snapshot"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


# -- how long it waits, by a clock of the test's --

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
EVENT = b'event: overview\ndata: {"now": 1}\n\n'


def refusal(status: int) -> bytes:
    return f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\n{{}}".encode()


class Visits:
    """A server that answers each visit with the next of some answers; where they end nobody listens any more."""

    def __init__(self, answers: list[bytes], path: Path) -> None:
        self.told: list[Any] = []
        self._answers = answers
        self._path = path

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(str(self._path))
            listener.listen()
            task_status.started()
            for answer in self._answers:
                visit, _ = await listener.accept()
                with visit:
                    await visit.recv(65_536)
                    await visit.send(answer)
                    if answer.endswith(b"(and stays)"):
                        await trio.sleep_forever()

    async def followed(self) -> None:
        """Follow until it is refused, or has waited seven times."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.serve)

            def lost(_why: str, seconds: float) -> None:
                self.told.append(seconds)
                if len(self.told) == 7:
                    nursery.cancel_scope.cancel()

            listener = Listener(lambda name, _data: self.told.append(name), lost)
            try:
                await follow(Api(Place("here", path=str(self._path))), "/events", listener)
            finally:
                nursery.cancel_scope.cancel()


@pytest.fixture
def patient_clock(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    """What the kernel and threads do takes a moment in which everybody waits: the clock jumps only after that."""
    autojump_clock.autojump_threshold = 0.25
    return autojump_clock  # pytest-trio runs a test by the clock that is among its arguments


async def test_it_waits_longer_and_longer_but_not_for_ever(
    patient_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    visits = Visits([HEAD + EVENT, refusal(503)], tmp_path / "s")
    await visits.followed()
    assert visits.told == ["overview", 0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_WAIT_SECONDS]


async def test_what_is_heard_again_is_soon_asked_again(patient_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    visits = Visits([HEAD + EVENT, refusal(503), HEAD + EVENT], tmp_path / "s")
    await visits.followed()
    assert visits.told == ["overview", 0.5, 1.0, "overview", 0.5, 1.0, 2.0]


async def test_a_stream_that_says_nothing_any_more_is_dead(
    patient_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    visits = Visits([HEAD + EVENT + b": (and stays)"], tmp_path / "s")
    began = trio.current_time()
    with trio.move_on_after(SILENT_SECONDS + FIRST_WAIT_SECONDS / 2):
        await visits.followed()
    assert visits.told == ["overview", FIRST_WAIT_SECONDS]
    assert trio.current_time() - began >= SILENT_SECONDS


@pytest.mark.parametrize("status", [401, 403, 409])
async def test_a_key_that_no_longer_holds_ends_it(
    patient_clock: trio.testing.MockClock, tmp_path: Path, status: int
) -> None:
    visits = Visits([HEAD + EVENT, refusal(status)], tmp_path / "s")
    with pytest.RaisesGroup(pytest.RaisesExc(Refused, check=lambda error: error.status == status)):
        await visits.followed()
    assert visits.told == ["overview", FIRST_WAIT_SECONDS]


@pytest.mark.parametrize(("answers", "expected"), [([], NotRunning), ([refusal(503)], Refused)])
async def test_what_is_not_there_at_first_is_said_at_once(
    patient_clock: trio.testing.MockClock, tmp_path: Path, answers: list[bytes], expected: type[Exception]
) -> None:
    with pytest.RaisesGroup(expected):
        await Visits(answers, tmp_path / "s").followed()
