"""Who waits in a jail and is killed before it takes its order: nothing counts as executed. And who is killed at all."""

from __future__ import annotations

import os
import signal
import socket
from subprocess import Popen
from typing import Any, cast

import pytest
import trio
import trio.testing

from supervisor.jailer import inhabitants
from supervisor.jailer.enclosure import Enclosure
from supervisor.jailer.interpreters import Interpreter, InterpreterBroken, control_pair
from supervisor.jailer.launcher import Process


@pytest.mark.parametrize("heard", [False, True], ids=["killed", "executes"])
async def test_an_order_counts_when_it_was_taken(heard: bool) -> None:
    """A process that was killed keeps its socket for a moment: it can be sent to, and its end looks like an execve."""
    ours, theirs = control_pair()
    standby = Interpreter(Process(1), trio.socket.from_stdlib_socket(ours))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    with Popen(["sleep", "60"], pass_fds=[theirs.fileno()]) as dying:  # noqa: ASYNC220

        async def end() -> None:
            await trio.testing.wait_all_tasks_blocked(0.05)
            if heard:
                received, fds, _flags, _address = socket.recv_fds(theirs, 1 << 18, 4)
                assert b"/bin/true" in received
                theirs.send(b"{}")
                for fd in fds:
                    os.close(fd)
            theirs.close()
            dying.kill()

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end)
                if heard:
                    assert await standby.become(["/bin/true"], {}, (null, null, null), "none") is standby.process
                else:
                    with pytest.raises(InterpreterBroken):
                        await standby.become(["/bin/true"], {}, (null, null, null), "none")
    standby.close()
    os.close(null)


def test_who_stops_while_it_is_looked_at_is_not_obstinate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its SIGSTOP is neither waiting nor was it stopped a moment ago: it stopped in between."""
    with Popen(["sleep", "60"]) as process:

        def stops_meanwhile(pid: int) -> bool:
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
            return False

        waited = inhabitants.WAKE_SECONDS * 2
        with monkeypatch.context() as patched:
            patched.setattr(inhabitants, "_is_told_to_stop", lambda _pid: False)
            assert inhabitants.is_obstinate(process.pid, waited)
            patched.setattr(inhabitants, "_is_told_to_stop", stops_meanwhile)
            assert not inhabitants.is_obstinate(process.pid, waited)
        assert not inhabitants.is_obstinate(process.pid, 0.1)
        assert inhabitants.is_obstinate(process.pid, inhabitants.STOP_SECONDS * 2)
        process.kill()


class Crowd(Enclosure):
    """Two processes that are told to stop, on a host that stands still for a minute as soon as they were."""

    def __init__(self, clock: trio.testing.MockClock, *, stop: bool) -> None:
        self._clock = clock
        self._stop = stop
        self.told: list[int] = []

    def inhabitants(self) -> list[int]:
        return [1, 2]

    def signal(self, pid: int, number: int) -> None:
        self.told.append(number)
        if len(self.told) == 4:
            self._clock.jump(60)

    def is_stopped(self, _pid: int) -> bool:
        return self._stop and len(self.told) >= 8

    def note_death(self) -> None:
        """Nobody dies."""


@pytest.mark.parametrize("stop", [True, False], ids=["stop", "wake each other"])
async def test_a_host_that_stood_still_is_not_held_against_them(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, stop: bool
) -> None:
    crowd = Crowd(autojump_clock, stop=stop)
    monkeypatch.setattr(inhabitants, "_is_told_to_stop", lambda _pid: False)
    monkeypatch.setattr(inhabitants, "_is_stopped", crowd.is_stopped)
    with trio.fail_after(600):
        await inhabitants.Inhabitants(crowd, cast("Any", None), cast("Any", None), None).pause()
    assert (signal.SIGKILL in crowd.told) is not stop
    assert len(crowd.told) >= 8
