"""The real jailer, told all kinds of things by whoever has captured the daemon: one connection ends, nothing else."""

from __future__ import annotations

import socket
from pathlib import Path
from random import Random

import pytest

from supervisor.jailer import protocol
from supervisor.jailer.channels import DATA, MESSAGE
from tests.daemon import Daemon, eventually
from tests.fuzz import inputs
from tests.fuzz.jailer import frame

pytestmark = pytest.mark.root
ROUNDS = 60
MAY_GROW = 32 << 20
OPEN = protocol.encode(protocol.OpenJail(policy="default"))


def resident(pid: int) -> int:
    return int((Path("/proc") / str(pid) / "status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def talk(daemon: Daemon, data: bytes) -> bytes:
    """Say all of it, hang up, and give what came back."""
    taken = b""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(daemon.state_dir / "run" / "jailer.sock"))
        link.settimeout(30)
        try:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            while piece := link.recv(65_536):
                taken += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    return taken


def conversation(rng: Random) -> bytes:
    """Messages in any order, data where none is due, several jails, cut off at the end."""
    frames = [frame(number, MESSAGE, OPEN) for number in (1, 2)] if rng.random() < 0.9 else []
    for _ in range(rng.randint(1, 30)):
        number = rng.choice([1, 1, 1, 2, 3])
        if rng.random() < 0.15:
            frames.append(frame(number, DATA, rng.randbytes(rng.randint(0, 100))))
        elif rng.random() < 0.3:
            frames.append(frame(number, MESSAGE, inputs.fresh("requests", rng)))
        else:
            frames.append(frame(number, MESSAGE, protocol.encode(rng.choice(inputs.REQUESTS))))
    data = b"".join(frames)
    return data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data


def test_whatever_is_said_to_the_jailer_it_lives_and_others_are_served(daemon: Daemon) -> None:
    assert daemon.execute("kept = 1", stateful=True)["code"] == 0
    jailer, before, rng = daemon.named("gaoler-jailer"), len(daemon.lines()), Random("a captured daemon")
    memory = resident(jailer)
    for number in range(ROUNDS):
        talk(daemon, conversation(rng))
        if number % 20 == 0:
            assert daemon.execute("echo fine", "bash")["stdout"] == "fine\n"
    assert daemon.named("gaoler-jailer") == jailer
    assert daemon.execute("echo fine", "bash")["stdout"] == "fine\n"
    assert resident(jailer) - memory < MAY_GROW
    assert not [line for line in daemon.lines()[before:] if "Traceback" in line]


def test_questions_behind_a_run_are_bounded(daemon: Daemon) -> None:
    run = protocol.encode(protocol.Run(arguments=["/bin/sleep", "30"], environment={}, seccomp="bash"))
    flood = frame(1, MESSAGE, protocol.encode(protocol.Scan())) * 2000
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(daemon.state_dir / "run" / "jailer.sock"))
        link.settimeout(30)
        link.sendall(frame(1, MESSAGE, OPEN) + frame(1, MESSAGE, run) + flood)
        taken = b""
        while b"too much behind a run" not in taken:
            piece = link.recv(65_536)
            assert piece, taken
            taken += piece
    eventually(lambda: "sleep" not in daemon.names())
