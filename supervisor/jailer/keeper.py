"""The keeper: "root" of the jailer's user namespace and of nothing else; starts the jailer, waits, starts it again.

It lives outside the jailer's pid namespace, so that a jailer that dies takes its jails with it by the kernel's hand
and a new one can be made without host root. It ends when the daemon's end of the control pipe closes, however the
daemon ended.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final

from supervisor.jailer import kernel, prison

REFUSED: Final = 78
"""Exit status (sysexits EX_CONFIG) of a jailer that will not start however often one tries."""

GRACE_SECONDS: Final = 5
"""For the jailer to destroy its jails in order, when the daemon ends."""

RESTART_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
STABLE_SECONDS: Final = 60
_NAMESPACES: Final = kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP


def _become_jailer(python: list[str], config_fd: int, listener_fd: int, ready_fd: int) -> None:
    """In the child: take new namespaces and fresh mounts, then execute the jailer. Never returns."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.unshare(_NAMESPACES)
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        for place in (prison.RUN, prison.WORK):
            kernel.mount("jailer", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64m,mode=755")
        roots = Path(prison.RUN, "user")
        roots.mkdir()
        roots.chmod(0o1777)
        for fd in (config_fd, listener_fd, ready_fd):
            os.set_inheritable(fd, True)
        numbers = [str(fd) for fd in (config_fd, listener_fd, ready_fd)]
        os.execve(python[0], [*python, "-m", "supervisor.jailer.server", *numbers], {})
    except OSError as error:
        os.write(2, f"the jailer cannot be started: {error}\n".encode())
    finally:
        os._exit(127)


def _start(python: list[str], fds: tuple[int, int, int]) -> int:
    """Fork a parent for the jailer; return its pid. It ends with the jailer's status.

    A process between is needed because only a child enters a new pid namespace, and the keeper itself could not
    return to its own one: that belongs to the host.
    """
    pid = os.fork()
    if pid == 0:
        try:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            kernel.set_process_name("gaoler-parent")
            kernel.unshare(kernel.CLONE_NEWPID)
            jailer = os.fork()
            if jailer == 0:
                _become_jailer(python, *fds)
            signal.signal(signal.SIGTERM, lambda _number, _frame: os.kill(jailer, signal.SIGTERM))
            status = os.waitstatus_to_exitcode(os.waitpid(jailer, 0)[1])
            os._exit(status if status >= 0 else 128 - status)
        finally:
            os._exit(127)
    return pid


def _wait(pid: int, control_fd: int) -> int | None:
    """Wait for the jailer's end and return its exit status, or for the daemon's end: kill the jailer, return None."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(control_fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if pidfd in ready:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        # Asked to, the jailer removes its cgroups; the next start would have to find them.
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not select.select([pidfd], [], [], GRACE_SECONDS)[0]:
            # The parent-death signal takes the jailer along, and the kernel everything in its pid namespace.
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _wait_for_all()
        return None
    finally:
        os.close(pidfd)


def _wait_for_all() -> None:
    """Wait for every descendant: orphans come to us, the subreaper."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def main() -> None:
    """Run with the control pipe, configuration, listening socket and readiness pipe on the descriptors in argv."""
    kernel.set_process_name("gaoler-keeper")
    control_fd, *rest = (int(number) for number in sys.argv[1:5])
    config_fd, listener_fd, ready_fd = rest
    python = sys.argv[5:]
    for fd in (control_fd, config_fd, listener_fd, ready_fd):
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    failures = 0
    while True:
        started = time.monotonic()
        pid = _start(python, (config_fd, listener_fd, ready_fd))
        status = _wait(pid, control_fd)
        if status is None:
            return
        if status == REFUSED:
            sys.exit(REFUSED)
        failures = 0 if time.monotonic() - started > STABLE_SECONDS else failures + 1
        pause = RESTART_SECONDS[min(failures, len(RESTART_SECONDS)) - 1] if failures else 0.0
        os.write(2, f"ERROR gaoler.keeper jailer ended status={status} restart_in={pause}\n".encode())
        if select.select([control_fd], [], [], pause)[0]:
            return


if __name__ == "__main__":
    main()
