"""The jailer's side of the zygote: start a process, get its pidfd and, in the end, its true wait status."""

from __future__ import annotations

import array
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from supervisor.jailer import zygote
from supervisor.jailer.join import JoinSpec

_DESCRIPTOR_SPACE: Final = socket.CMSG_SPACE(4)


class LaunchError(Exception):
    """The process could not be started; the message says at which step."""


class ZygoteDied(Exception):
    """The zygote is gone, and with it every process that it started: the jailer ends."""


@dataclass(slots=True, eq=False)
class Process:
    """A process started by the zygote. ``status`` (as of wait(2)) is valid once ``ended`` is set."""

    id: int
    launched: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    pid: int = 0
    pidfd: int = -1
    status: int = 0
    abandoned: bool = False
    """Nobody waits for it any more: its pidfd is closed as soon as it is known."""

    def signal(self, number: int) -> None:
        """Send a signal by pidfd; a process that is gone is no error."""
        if self.pidfd >= 0 and not self.ended.is_set():
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                return

    def close(self) -> None:
        """Release the pidfd, now or when it comes. Idempotent."""
        self.abandoned = True
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Launcher:
    """Use :func:`open_launcher`."""

    def __init__(self, control: trio.socket.SocketType) -> None:
        self._control = control
        self._processes: dict[int, Process] = {}
        self._next_id = 0
        self._send_lock = trio.Lock()

    async def add_program(self, name: str, code: bytes) -> None:
        """Teach the zygote a seccomp program."""
        await self._send(zygote.Program(name=name, code=code), [])

    async def launch(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdio: tuple[int, int, int],
        cgroups: Sequence[int],
        passed: Sequence[int] = (),
        join: JoinSpec | None = None,
        jail_pidfd: int = -1,
    ) -> Process:
        """Start a program and wait until it runs.

        The caller keeps its descriptors, and closes the returned process. A cancelled caller may leave a process
        behind in the jail, never outside: jails are destroyed as a whole.

        Raises:
            LaunchError: a step before execve failed, or execve itself.
        """
        process = self._new_process()
        error_read, error_write = os.pipe()
        try:
            jail = [jail_pidfd] if join is not None else []
            request = zygote.Launch(
                id=process.id,
                arguments=list(arguments),
                environment=dict(environment),
                cgroups=len(cgroups),
                join=join,
            )
            await self._send(request, [*stdio, error_write, *jail, *cgroups, *passed])
        except BaseException:
            os.close(error_read)
            raise
        finally:
            os.close(error_write)
        try:
            async with trio.lowlevel.FdStream(error_read) as errors:
                message = await errors.receive_some(4096)
            if message:
                await process.ended.wait()
                raise LaunchError(f"{arguments[0]}: {message.decode('utf-8', 'replace')}")
            await process.launched.wait()
        except BaseException:
            process.close()
            raise
        return process

    async def sweep(self, jail_pidfd: int) -> None:
        """Kill everything in a jail's pid namespace but its init, and wait until that was done."""
        process = self._new_process()
        try:
            await self._send(zygote.Sweep(id=process.id), [jail_pidfd])
            await process.ended.wait()
        finally:
            process.close()

    def _new_process(self) -> Process:
        self._next_id += 1
        process = self._processes[self._next_id] = Process(self._next_id)
        return process

    async def _send(self, packet: zygote.Packet, fds: list[int]) -> None:
        payload = zygote.encode(packet)
        if len(payload) > zygote.MAX_PACKET_BYTES:
            raise LaunchError(f"arguments and environment are over {zygote.MAX_PACKET_BYTES} bytes")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        async with self._send_lock:
            try:
                await self._control.sendmsg([payload], ancillary)
            except OSError as error:
                raise ZygoteDied from error

    async def read_replies(self) -> None:
        """Hand out what the zygote says until it ends.

        Raises:
            ZygoteDied: always; the jailer cannot go on.
        """
        while True:
            try:
                payload, ancillary, _flags, _address = await self._control.recvmsg(4096, _DESCRIPTOR_SPACE)
            except OSError as error:
                raise ZygoteDied from error
            if not payload:
                raise ZygoteDied
            fds = array.array("i")
            for _level, _kind, data in ancillary:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            self._note(zygote.reply_decoder.decode(payload), list(fds))

    def _note(self, reply: zygote.Reply, fds: list[int]) -> None:
        process = self._processes[reply.id]
        if isinstance(reply, zygote.Launched):
            process.pid = reply.pid
            process.pidfd = fds[0]
            process.launched.set()
            if process.abandoned:
                process.close()
        else:
            del self._processes[reply.id]
            process.status = reply.status
            process.launched.set()
            process.ended.set()


@asynccontextmanager
async def open_launcher(python: Sequence[str]) -> AsyncIterator[Launcher]:
    """Start a zygote (``python`` is the interpreter's command line) and keep it for the block.

    Raises:
        ZygoteDied: (in an exception group) it ended by itself.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        os.set_inheritable(theirs.fileno(), True)
        # The jailer is PID 1 and reaps whatever ends, so the zygote needs no waiting here.
        os.posix_spawn(  # noqa: ASYNC221
            python[0], [*python, "-m", "supervisor.jailer.zygote", str(theirs.fileno())], {}
        )
    control = trio.socket.from_stdlib_socket(ours)
    launcher = Launcher(control)
    with control:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(launcher.read_replies)
            yield launcher
            nursery.cancel_scope.cancel()
