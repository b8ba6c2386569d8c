"""Starting the connector, before the daemon gives up what this needs."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.connector import wire
from supervisor.connector.allowlist import Allowed
from supervisor.connector.client import Connector
from supervisor.errors import ConfigurationError
from supervisor.jailer import kernel, prison

READY_SECONDS: Final = 60
_MODULE: Final = "supervisor.connector"


@dataclass(frozen=True, slots=True)
class View:
    """What a connector that is started by root becomes and sees, as in :func:`prison.enter_view`."""

    uid: int
    place: Path
    readable: Sequence[Path]
    hosts: Sequence[Path]


@dataclass(frozen=True, slots=True)
class ConnectorPlan:
    """All that starting it needs. ``view``: ``None`` without root, then it stays who it is and sees what it sees."""

    allowed: Allowed
    program: bytes
    """Its seccomp program (BPF)."""
    python: Sequence[str]
    level: str
    view: View | None


def start_connector(plan: ConnectorPlan) -> Connector:
    """Start it in the network that the caller is in; return when it serves. Call while the process has one thread.

    It ends with the caller, however that ends.

    Raises:
        ConfigurationError: it did not start; why is in the log.
    """
    order = os.memfd_create("connector-order")
    os.write(order, wire.encoder.encode(wire.Order(plan.allowed, plan.program, plan.level)))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        _become_connector(plan, theirs.fileno(), order, parent)
    os.close(order)
    os.close(parent)
    theirs.close()
    if not select.select([ours], [], [], READY_SECONDS)[0] or ours.recv(16) != wire.READY:
        ours.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise ConfigurationError("the connector, by which Redis and S3 are reached, does not start; see the log above")
    return Connector(ours, pid)


def _become_connector(plan: ConnectorPlan, channel: int, order: int, parent: int) -> None:
    """In the child: give up all but the network, then execute the program. Never returns."""
    try:
        # Ctrl-C and a supervisor's SIGTERM are for the daemon, which needs connections until its own end.
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        if plan.view is not None:
            enter(plan.view)
        os.umask(0o077)
        kernel.drop_capabilities()
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        # After the change of uid, which clears it.
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([parent], [], [], 0)[0]:
            os._exit(127)
        kernel.close_on_exec_from(3)
        for fd in (channel, order):
            os.set_inheritable(fd, True)
        os.execve(plan.python[0], [*plan.python, "-m", _MODULE, str(channel), str(order)], {})
    except (OSError, ConfigurationError) as error:
        os.write(2, f"CRITICAL gaoler.connector {error}\n".encode())
    finally:
        os._exit(127)


def enter(view: View) -> None:
    """Make the calling process this user, who sees this and has the host's network. For one thread; needs host root.

    Raises:
        OSError: the host refused a step.
        ConfigurationError: a path is no directory.
    """
    prison.enter_view(view.place, view.readable, (), view.hosts, network=True)
    kernel.drop_bounding_set()
    os.setgroups([])
    os.setresgid(view.uid, view.uid, view.uid)
    os.setresuid(view.uid, view.uid, view.uid)
