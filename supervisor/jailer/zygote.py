"""The bare zygote: a small single-threaded process that forks everything which runs for a jail.

The jailer asks over a ``SOCK_SEQPACKET`` pair; descriptors travel beside the request. The zygote enters the jail's
pid namespace, forks (0.2 ms: it has imported next to nothing) and returns to its own; the child joins the rest of
the jail (:mod:`supervisor.jailer.join`) and becomes the program. As the parent it gets the program's true wait status
from the kernel, which nothing inside the jail can forge. It also starts nsjail itself, moved into its cgroup first.
It never runs a line of user code and holds no secret. When the socket ends, so does it.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.jailer import kernel
from supervisor.jailer.join import JoinSpec, arrange_descriptors, default_signals, enter

MAX_PACKET_BYTES: Final = 192 * 1024
MAX_DESCRIPTORS: Final = 16


class Packet(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of what is said on the pair."""


class Program(Packet, frozen=True, tag="program"):
    """A seccomp program, once for each policy, before anything is launched with it."""

    name: str
    code: bytes


class Launch(Packet, frozen=True, tag="launch"):
    """Fork and execute.

    Descriptors beside it, in this order: stdin, stdout, stderr, error; the jail's pidfd if ``join`` is given;
    ``cgroups`` files to write ``0`` to; the rest appear as 3, 4, ... in the program. What goes wrong before the
    program runs is written to ``error`` as text; at execve it is closed without a word.
    """

    id: int
    arguments: list[str]
    environment: dict[str, str]
    cgroups: Annotated[int, Meta(ge=0, le=8)]
    join: JoinSpec | None = None


class Sweep(Packet, frozen=True, tag="sweep"):
    """Kill every process in the pid namespace of the pidfd beside it, except its init: one atomic ``kill(-1)``."""

    id: int


class Launched(Packet, frozen=True, tag="launched"):
    """The fork is done; a pidfd of the child is beside it."""

    id: int
    pid: int


class Ended(Packet, frozen=True, tag="ended"):
    """A child is gone; ``status`` as of wait(2)."""

    id: int
    status: int


Request = Program | Launch | Sweep
Reply = Launched | Ended

_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
encode = msgspec.msgpack.Encoder().encode
reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


class Zygote:
    """The state of the process: who its children are, and the seccomp programs it knows."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}
        self._programs: dict[str, bytes] = {}
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)

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
                if wake_read in ready:
                    os.read(wake_read, 4096)
                    self._reap()
                if self._control in ready and not self._answer():
                    return

    def _answer(self) -> bool:
        payload, fds, _flags, _address = socket.recv_fds(self._control, MAX_PACKET_BYTES, MAX_DESCRIPTORS)
        if not payload:
            return False
        try:
            request = _decoder.decode(payload)
            if isinstance(request, Program):
                self._programs[request.name] = request.code
            elif isinstance(request, Launch):
                self._fork(request.id, request, fds, jail=fds[4] if request.join else None)
            else:
                self._fork(request.id, request, fds, jail=fds[0])
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, number: int, request: Launch | Sweep, fds: list[int], *, jail: int | None) -> None:
        if jail is not None:
            try:
                kernel.setns(jail, kernel.CLONE_NEWPID)
            except OSError as error:
                self._refuse(number, fds, error)
                return
        try:
            pid = os.fork()
            if pid == 0:
                self._become(request, fds)
        except OSError as error:
            # The jail's init may die between the two calls; nobody forks into a dead pid namespace.
            self._refuse(number, fds, error)
            return
        finally:
            if jail is not None:
                kernel.setns(self._own_pid_namespace, kernel.CLONE_NEWPID)
        self._children[pid] = number
        pidfd = os.pidfd_open(pid)
        try:
            socket.send_fds(self._control, [encode(Launched(id=number, pid=pid))], [pidfd])
        finally:
            os.close(pidfd)

    def _refuse(self, number: int, fds: list[int], error: OSError) -> None:
        """The jail is gone before the fork: tell it as a child that could not start."""
        if len(fds) > 3:
            os.write(fds[3], f"joining: {error}".encode())
        self._control.send(encode(Ended(id=number, status=127 << 8)))

    def _become(self, request: Launch | Sweep, fds: list[int]) -> None:
        """In the child: never return."""
        error_fd = fds[3] if isinstance(request, Launch) else 2
        try:
            if isinstance(request, Sweep):
                os.kill(-1, signal.SIGKILL)
                os._exit(0)
            self._execute(request, fds)
        except (OSError, ValueError, KeyError) as error:
            os.write(error_fd, str(error).encode("utf-8", "replace"))
        finally:
            os._exit(127)

    def _execute(self, request: Launch, fds: list[int]) -> None:
        stdin, stdout, stderr = fds[:3]
        rest = fds[4:]
        jail = rest.pop(0) if request.join else None
        for fd in rest[: request.cgroups]:
            os.write(fd, b"0")
        if request.join is not None and jail is not None:
            program = self._programs[request.join.seccomp]
            enter(jail, request.join)
            arrange_descriptors((stdin, stdout, stderr), [])
            default_signals()
            kernel.install_seccomp(program)
        else:
            arrange_descriptors((stdin, stdout, stderr), rest[request.cgroups :])
            default_signals()
        os.execve(request.arguments[0], request.arguments, request.environment)

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
                self._control.send(encode(Ended(id=number, status=status)))


def main() -> None:
    """Serve on the socket whose number is the first argument."""
    kernel.set_process_name("gaoler-zygote")
    # Inherited by nsjail and by every program, so that both stay equal.
    kernel.limit_speculation()
    # A terminal's Ctrl-C is the daemon's business; it ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    Zygote(control).serve()


if __name__ == "__main__":
    main()
