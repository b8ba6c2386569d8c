"""The zygote: a small single-threaded process that forks everything which runs for a jail.

The jailer asks over a ``SOCK_SEQPACKET`` pair, one JSON object a packet; descriptors travel beside it. The zygote
enters the jail's pid namespace, forks (0.2 ms: it has imported next to nothing) and returns to its own; the child joins
the rest of the jail (:mod:`supervisor.jailer.join`) and becomes the program. As the parent it gets the program's true
wait status from the kernel, which nothing inside the jail can forge. It also starts nsjail itself, moved into its
cgroup first. It never runs a line of user code and holds no secret. When the socket ends, so does it.

This one is bare; :mod:`supervisor.jailer.interpreter_zygote` is the same with a runtime's libraries imported, and runs
under that runtime's Python. So only the standard library is used here.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from supervisor.jailer import kernel, seccomp_listener
from supervisor.jailer.join import FIRST_PASSED_FD, JoinSpec, arrange_descriptors, default_signals, enter

MAX_PACKET_BYTES: Final = 192 * 1024
MAX_DESCRIPTORS: Final = 16
FIRST_TO_GO: Final = 500
"""As if a process had half of the host's memory more than it has; lowering it again needs a capability of the host."""
CONTROL: Final = 3
"""Descriptor of the control socket, in a zygote and in a child that waits."""

Request = Mapping[str, Any]
Become = Callable[["Zygote", Request, list[int]], None]
"""What a forked child does for its request; when it returns, the child ends."""


class Zygote:
    """The state of the process: who its children are, and the seccomp programs it knows.

    A request names its ``type``, an ``id``, and which of the descriptors are the pidfd of the ``jail`` to fork into and
    the pipe for an ``error`` before the child has become what it should (an index each, or nothing).
    """

    def __init__(self, control: socket.socket, becomes: Mapping[str, Become]) -> None:
        self._control = control
        self._becomes = becomes
        self._children: dict[int, int] = {}
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self.programs: dict[str, bytes] = {}
        """Seccomp programs by name."""

    def serve(self) -> None:
        """Answer requests and report ended children until the jailer closes its end."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                try:
                    if wake_read in ready:
                        os.read(wake_read, 4096)
                        self._reap()
                    if self._control in ready and not self._answer():
                        return
                except BrokenPipeError:
                    return  # the jailer has ended

    def forget_control(self) -> None:
        """In a child that executes nothing: let go of the socket, whose number is about to be used for another."""
        self._control.detach()

    def _answer(self) -> bool:
        try:
            payload, fds, _flags, _address = socket.recv_fds(self._control, MAX_PACKET_BYTES, MAX_DESCRIPTORS)
        except ConnectionResetError:
            # The jailer has ended with something unread.
            return False
        if not payload:
            return False
        try:
            request = json.loads(payload)
            if request["type"] == "program":
                self.programs[request["name"]] = base64.b64decode(request["code"])
            else:
                self._fork(request, fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, request: Request, fds: list[int]) -> None:
        jail = None if request["jail"] is None else fds[request["jail"]]
        if jail is not None:
            try:
                kernel.setns(jail, kernel.CLONE_NEWPID)
            except OSError as error:
                self._refuse(request, fds, error)
                return
        try:
            pid = kernel.fork()
            if pid == 0:
                self._become(request, fds)
        except OSError as error:
            # The jail's init may die between the two calls; nobody forks into a dead pid namespace.
            self._refuse(request, fds, error)
            return
        finally:
            if jail is not None:
                kernel.setns(self._own_pid_namespace, kernel.CLONE_NEWPID)
        self._children[pid] = request["id"]
        pidfd = os.pidfd_open(pid)
        try:
            socket.send_fds(self._control, [_encode("launched", id=request["id"], pid=pid)], [pidfd])
        finally:
            os.close(pidfd)

    def _refuse(self, request: Request, fds: list[int], error: OSError) -> None:
        """The jail is gone before the fork: tell it as a child that could not start."""
        _complain(request, fds, f"joining: {error}")
        self._control.send(_encode("ended", id=request["id"], status=127 << 8))

    def _become(self, request: Request, fds: list[int]) -> None:
        """In the child: never return."""
        try:
            self._becomes[request["type"]](self, request, fds)
        except (OSError, ValueError, KeyError) as error:
            _complain(request, fds, str(error))
        finally:
            os._exit(127)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._children.pop(pid, None)
            if number is not None:
                self._control.send(_encode("ended", id=number, status=status))


def _encode(kind: str, **fields: int) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


def _complain(request: Request, fds: list[int], message: str) -> None:
    """Tell who asked, if somebody still waits: who was cancelled has closed the other end, which ends nobody else."""
    if request["error"] is not None:
        try:
            os.write(fds[request["error"]], message.encode("utf-8", "replace"))
        except BrokenPipeError:
            return


def _become_program(zygote: Zygote, request: Request, fds: list[int]) -> None:
    """Execute; the descriptors are stdin, stdout, stderr, error, jail (if joined), cgroups, and those to be passed."""
    stdin, stdout, stderr = fds[:3]
    join = None if request["join"] is None else JoinSpec(**request["join"])
    rest = fds[4 if join is None else 5 :]
    passed = enter_cgroups(rest, request["cgroups"])
    if join is not None:
        programs = seccomp_programs(zygote, join)
        enter(fds[4], join)
        arrange_descriptors((stdin, stdout, stderr), passed)
        default_signals()
        if join.watched:
            listens = FIRST_PASSED_FD + len(passed) - 1
            os.set_inheritable(listens, False)
            seccomp_listener.install(programs[0], listens)
        else:
            for program in programs:
                kernel.install_seccomp(program)
    else:
        arrange_descriptors((stdin, stdout, stderr), passed)
        default_signals()
    os.execve(request["arguments"][0], request["arguments"], request["environment"])


def _become_standby(zygote: Zygote, request: Request, fds: list[int]) -> None:
    """Join, and wait for the program to become; the descriptors are null, error, jail, control and the cgroups.

    Moving into a cgroup waits for an RCU grace period, some milliseconds that nobody should spend on a caller's time.
    """
    null, _error, _jail, control = fds[:4]
    join_and_harden(zygote, request, fds)
    arrange_descriptors((null, null, null), [control])
    kernel.close_from(CONTROL + 1)
    kernel.set_process_name("gaoler-standby")
    default_signals()
    kernel.install_seccomp(zygote.programs[request["join"]["seccomp"]])
    orders = socket.socket(fileno=CONTROL)
    orders.send(b'{"ready": true}')
    payload, fds, _flags, _address = socket.recv_fds(orders, MAX_PACKET_BYTES, 4, socket.MSG_CMSG_CLOEXEC)
    if not payload:
        os._exit(0)
    # Whoever was killed while it waited does not say this, and somebody else executes what it was given.
    orders.send(b'{"heard": true}')
    order = json.loads(payload)
    # Everything above 2, this socket and the pipe for errors too, is closed by the execve.
    arrange_descriptors((fds[0], fds[1], fds[2]), [])
    try:
        kernel.install_seccomp(zygote.programs[order["language"]])
        os.execve(order["arguments"][0], order["arguments"], order["environment"])
    except (OSError, KeyError) as error:
        os.write(fds[3], str(error).encode("utf-8", "replace"))


def seccomp_programs(zygote: Zygote, join: JoinSpec) -> list[bytes]:
    """Give what is to be installed, in this order: the policy's program, and on top of it the language's."""
    names = [join.seccomp] if join.language is None else [join.seccomp, join.language]
    return [zygote.programs[name] for name in names]


def join_and_harden(zygote: Zygote, request: Request, fds: list[int]) -> None:
    """In a child that will wait: enter cgroups and jail, give up every right but seccomp's; see the callers' order."""
    enter_cgroups(fds[4:], request["cgroups"])
    enter(fds[2], JoinSpec(**request["join"]))
    zygote.forget_control()


def _become_sweep(_zygote: Zygote, _request: Request, _fds: list[int]) -> None:
    os.kill(-1, signal.SIGKILL)
    os._exit(0)


def enter_cgroups(fds: list[int], count: int) -> list[int]:
    """Move this process into the cgroups whose files come first; give the rest of the descriptors."""
    for fd in fds[:count]:
        os.write(fd, b"0")
    return fds[count:]


def begin(name: str) -> None:
    """Set up what every process that a zygote starts inherits; ``name`` is for ps(1)."""
    kernel.set_process_name(name)
    # Inherited by nsjail and by every program, so that both stay equal.
    kernel.limit_speculation()
    # When the host runs out of memory, the kernel takes what runs in a sandbox before anything of the host's.
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:  # noqa: PTH123 - pathlib is not imported here
        score.write(str(FIRST_TO_GO))
    # A terminal's Ctrl-C is the daemon's business; it ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    """Serve on the socket whose number is the first argument."""
    begin("gaoler-zygote")
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    becomes = {"launch": _become_program, "standby": _become_standby, "sweep": _become_sweep}
    Zygote(control, becomes).serve()


if __name__ == "__main__":
    main()
