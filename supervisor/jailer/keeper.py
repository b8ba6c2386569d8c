"""The keeper: "root" of the jailer's user namespace and of nothing else; starts jailer and proxy, and again.

It lives outside the jailer's pid namespace, so that a jailer that dies takes its jails with it by the kernel's hand
and a new one can be made without host root. It ends when the daemon's end of the control pipe closes, however the
daemon ended.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from supervisor.jailer import kernel, prison

REFUSED: Final = 78
"""Exit status (sysexits EX_CONFIG) of a jailer that will not start however often one tries."""

GRACE_SECONDS: Final = 5
"""For the jailer to destroy its jails in order, when the daemon ends."""

RESTART_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
STABLE_SECONDS: Final = 60
PROXY_ID: Final = 1
"""Uid of the egress proxy in the jailer's user namespace: below those of the sandboxes."""
_NAMESPACES: Final = kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWNET
"""Of the jailer. Its network is empty: only the proxy talks to anybody. Its cgroup namespace is ours, of ``setup``."""


def _die_with(parent: int) -> None:
    """In a child: have it killed when its parent ends, whose pidfd is ``parent``; also if that was just now.

    A parent that ended before the request was heard would never be noticed, and in a pid namespace of one's own
    ``getppid`` says nothing of a parent outside.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if select.select([parent], [], [], 0)[0]:
        os._exit(127)


def _become_jailer(python: list[str], fds: list[int], parent: int) -> None:
    """In the child: take new namespaces and fresh mounts, then execute the jailer. Never returns."""
    try:
        _die_with(parent)
        kernel.unshare(_NAMESPACES)
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        for place in (prison.RUN, prison.WORK):
            kernel.mount("jailer", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64m,mode=755")
        roots = Path(prison.RUN, "user")
        roots.mkdir()
        roots.chmod(0o1777)
        for fd in fds:
            if fd >= 0:
                os.set_inheritable(fd, True)
        os.execve(python[0], [*python, "-m", "supervisor.jailer.server", *map(str, fds)], {})
    except OSError as error:
        os.write(2, f"the jailer cannot be started: {error}\n".encode())
    finally:
        os._exit(127)


def start_proxy(python: list[str], program: str, own_filter: bytes, daemon_fd: int, jailer_fd: int, level: str) -> int:
    """Fork the egress proxy, a module: the host's network, and no right but to use it. Return its pid.

    Its uid is one of the range that no sandbox gets.
    """
    keeper = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        try:
            _die_with(keeper)
            kernel.set_process_name("gaoler-egress")
            # What is ignored stays ignored in the program that is executed.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            kernel.drop_bounding_set()
            os.setgroups([])
            os.setresgid(PROXY_ID, PROXY_ID, PROXY_ID)
            os.setresuid(PROXY_ID, PROXY_ID, PROXY_ID)
            kernel.drop_capabilities()
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            # Changing the uid has cleared it.
            _die_with(keeper)
            os.set_inheritable(daemon_fd, True)
            os.set_inheritable(jailer_fd, True)
            told = os.memfd_create("filter", 0)
            os.write(told, own_filter)
            os.lseek(told, 0, os.SEEK_SET)
            os.execve(python[0], [*python, "-m", program, *map(str, (daemon_fd, jailer_fd, told)), level], {})
        except OSError as error:
            os.write(2, f"the egress proxy cannot be started: {error}\n".encode())
        finally:
            os._exit(127)
    os.close(keeper)
    return pid


def _start(python: list[str], fds: list[int]) -> int:
    """Fork a parent for the jailer; return its pid. It ends with the jailer's status.

    A process between is needed because only a child enters a new pid namespace, and the keeper itself could not
    return to its own one: that belongs to the host. The two are a process group, by which the keeper waits for both.
    """
    keeper = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            _die_with(keeper)
            kernel.set_process_name("gaoler-parent")
            parent = os.pidfd_open(os.getpid())
            kernel.unshare(kernel.CLONE_NEWPID)
            jailer = os.fork()
            if jailer == 0:
                _become_jailer(python, fds, parent)
            signal.signal(signal.SIGTERM, lambda _number, _frame: os.kill(jailer, signal.SIGTERM))
            status = os.waitstatus_to_exitcode(os.waitpid(jailer, 0)[1])
            os._exit(status if status >= 0 else 128 - status)
        finally:
            os._exit(127)
    os.close(keeper)
    return pid


@dataclass
class Kept:
    """A process that is started again when it ends, with growing pauses if that goes on."""

    name: str
    start: Callable[[], int]
    pid: int = 0
    pidfd: int = -1
    due: float = 0.0
    _failures: int = 0
    _started: float = 0.0

    def begin(self) -> None:
        """Start it."""
        self._started = time.monotonic()
        self.pid = self.start()
        self.pidfd = os.pidfd_open(self.pid)

    def take_end(self) -> int:
        """It has ended: give its status, and plan the next start."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.pidfd)
        self.pidfd = -1
        _wait_for_all(-self.pid)
        now = time.monotonic()
        self._failures = 0 if now - self._started > STABLE_SECONDS else self._failures + 1
        pause = RESTART_SECONDS[min(self._failures, len(RESTART_SECONDS)) - 1] if self._failures else 0.0
        self.due = now + pause
        os.write(2, f"ERROR gaoler.keeper {self.name} ended status={status} restart_in={pause}\n".encode())
        return status

    def signal(self, number: int) -> None:
        """Signal it, if it runs."""
        if self.pidfd >= 0:
            signal.pidfd_send_signal(self.pidfd, number)


def keep(everybody: list[Kept], control_fd: int) -> int:
    """Keep them until the daemon's end, or until one of them refuses to start; then end all. Give our exit status."""
    for each in everybody:
        each.begin()
    while True:
        poll = select.poll()
        poll.register(control_fd, select.POLLIN)
        waits = [max(0.0, each.due - time.monotonic()) for each in everybody if each.pidfd < 0]
        for each in everybody:
            if each.pidfd >= 0:
                poll.register(each.pidfd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(min(waits) * 1000 + 1 if waits else None)}
        if control_fd in ready:
            _end(everybody)
            return 0
        for each in everybody:
            if each.pidfd in ready and each.take_end() == REFUSED:
                _end(everybody)
                return REFUSED
        for each in everybody:
            if each.pidfd < 0 and time.monotonic() >= each.due:
                each.begin()


def _end(everybody: list[Kept]) -> None:
    """End all: the jailer, asked to, removes its cgroups; the next start would have to find them."""
    for each in everybody:
        each.signal(signal.SIGTERM)
    running = [each.pidfd for each in everybody if each.pidfd >= 0]
    deadline = time.monotonic() + GRACE_SECONDS
    while running and time.monotonic() < deadline:
        done = select.select(running, [], [], max(0.0, deadline - time.monotonic()))[0]
        running = [fd for fd in running if fd not in done]
    for each in everybody:
        # The parent-death signal takes the jailer along, and the kernel everything in its pid namespace.
        each.signal(signal.SIGKILL)
    _wait_for_all(-1)


def _wait_for_all(whom: int) -> None:
    """Wait for every descendant, or those of a process group: orphans come to us, the subreaper.

    A jailer whose parent was killed dies a moment later; the next one would meet cgroups that are still in use.
    """
    while True:
        try:
            os.waitpid(whom, 0)
        except ChildProcessError:
            return


def main() -> None:
    """Keep the jailer, and the egress proxy if there is one.

    In argv: the descriptors of control pipe, configuration, listening socket, readiness pipe and the proxy's seccomp
    program; the daemon's way to the proxy, the file for logging mode (-1: none) and the log level; the module
    that is the proxy; the interpreter.
    """
    kernel.set_process_name("gaoler-keeper")
    control_fd, config_fd, listener_fd, ready_fd, filter_fd, egress_fd, watch_fd = map(int, sys.argv[1:8])
    level, proxy, python = sys.argv[8], sys.argv[9], sys.argv[10:]
    with os.fdopen(filter_fd, "rb") as file:
        file.seek(0)
        own_filter = file.read()
    for fd in (control_fd, config_fd, listener_fd, ready_fd, watch_fd):
        if fd >= 0:
            os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    fds = [config_fd, listener_fd, ready_fd, watch_fd]
    everybody: list[Kept] = []
    if egress_fd >= 0:
        os.set_inheritable(egress_fd, False)
        # Both ends stay here, so that either side can be started anew.
        jailers, proxys = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds.append(jailers.fileno())
        start = partial(start_proxy, python, proxy, own_filter, egress_fd, proxys.fileno(), level)
        everybody.append(Kept("the egress proxy", start))
    everybody.insert(0, Kept("the jailer", partial(_start, python, fds)))
    sys.exit(keep(everybody, control_fd))


if __name__ == "__main__":
    main()
