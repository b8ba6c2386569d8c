"""Put a forked child into a jail that nsjail made, with exactly the rights that nsjail gives its own child.

Runs after the fork in a single-threaded process, under whatever Python the runtime has: only its standard library is
used here. The order is the security: first the child makes itself
non-dumpable, so that hostile code already in the jail can neither trace nor open it while it still has rights (the
classic race of every ``exec`` into a container); then it enters, gives everything up, and only then becomes a program.
``tests/contracts/test_join_equality.py`` compares the result with a process that nsjail started itself.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from supervisor.jailer import kernel

NAMESPACES: Final = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
"""All but the pid namespace: that one takes effect at the next fork, so the parent enters it."""

FIRST_PASSED_FD: Final = 3


@dataclass(frozen=True, slots=True)
class JoinSpec:
    """What a joining process becomes. ``rlimits`` is (soft, hard) by name, ``None``: the hard limit."""

    inside_id: int
    working_directory: str
    rlimits: Mapping[str, tuple[int, int] | None]
    seccomp: str
    """Name of a program that the process knows: the policy's, or one for logging mode."""
    language: str | None = None
    """Name of the program that is installed on top of it, if the process becomes what it is to be at once."""
    watched: bool = False
    """Logging mode: the program asks; the last of the passed descriptors is where its listener goes."""


def enter(jail_pidfd: int, spec: JoinSpec) -> None:
    """Enter all namespaces of the jail but the pid namespace and give up every right, seccomp excepted.

    Raises:
        OSError: a step failed; the caller ends at once.
    """
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    os.setsid()
    for name, value in spec.rlimits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        resource.setrlimit(number, (hard, hard) if value is None else (value[0], value[1]))
    kernel.setns(jail_pidfd, NAMESPACES)
    os.chdir(spec.working_directory)
    os.umask(0o022)
    os.setgroups([])
    os.setresgid(spec.inside_id, spec.inside_id, spec.inside_id)
    os.setresuid(spec.inside_id, spec.inside_id, spec.inside_id)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def arrange_descriptors(stdio: tuple[int, int, int], passed: list[int]) -> None:
    """Put three descriptors at 0 to 2 and ``passed`` from 3 on; mark every other one close-on-exec."""
    high = FIRST_PASSED_FD + len(passed) + 1
    moved = [_above(fd, high) for fd in (*stdio, *passed)]
    for target, fd in enumerate(moved):
        os.dup2(fd, target, inheritable=True)
    kernel.close_on_exec_from(FIRST_PASSED_FD + len(passed))


def default_signals() -> None:
    """Undo what the Python start-up did to signals: programs expect SIGPIPE and SIGXFSZ to work."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _above(fd: int, lowest: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
