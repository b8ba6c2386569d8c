"""The jailer's side of a zygote: start a process, get its pidfd and, in the end, its true wait status."""

from __future__ import annotations

import array
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct

from supervisor.jailer.join import JoinSpec
from supervisor.jailer.zygote import MAX_PACKET_BYTES

_DESCRIPTOR_SPACE: Final = socket.CMSG_SPACE(4)
PF_EXITING: Final = 0x4
_NEVER_STARTED: Final = 127 << 8
_encode: Final = msgspec.json.Encoder().encode


class LaunchError(Exception):
    """The process could not be started; the message says at which step."""


class ZygoteDied(Exception):
    """The zygote is gone."""


class ProgramPacket(Struct, frozen=True, tag_field="type", tag="program"):
    """A seccomp program, once for each policy, before anything is launched with it."""

    name: str
    code: bytes


class LaunchPacket(Struct, frozen=True, tag_field="type", tag="launch"):
    """Fork and execute. Descriptors: stdin, stdout, stderr, error, jail (if joined), cgroups, those to be passed."""

    id: int
    arguments: list[str]
    environment: dict[str, str]
    cgroups: int
    join: JoinSpec | None
    jail: int | None
    error: int | None = 3


class SweepPacket(Struct, frozen=True, tag_field="type", tag="sweep"):
    """Kill every process in the pid namespace of the pidfd beside it, except its init: one atomic ``kill(-1)``."""

    id: int
    jail: int = 0
    error: int | None = None


class InterpreterPacket(Struct, frozen=True, tag_field="type", tag="interpreter"):
    """Fork an interpreter into a jail. Descriptors: null, error, jail, its end of the control socket, cgroups."""

    id: int
    cgroups: int
    join: JoinSpec
    jail: int = 2
    error: int | None = 1


class ReadyReply(Struct, frozen=True, tag_field="type", tag="ready"):
    """A zygote has imported what it should."""


class LaunchedReply(Struct, frozen=True, tag_field="type", tag="launched"):
    """The fork is done; a pidfd of the child is beside it."""

    id: int
    pid: int


class EndedReply(Struct, frozen=True, tag_field="type", tag="ended"):
    """A child is gone; ``status`` as of wait(2)."""

    id: int
    status: int


class StandbyPacket(Struct, frozen=True, tag_field="type", tag="standby"):
    """Fork a process into a jail that waits for the program to become. Descriptors as for an interpreter."""

    id: int
    cgroups: int
    join: JoinSpec
    jail: int = 2
    error: int | None = 1


_Packet = ProgramPacket | LaunchPacket | SweepPacket | InterpreterPacket | StandbyPacket
_Reply = ReadyReply | LaunchedReply | EndedReply
_reply_decoder: Final[msgspec.json.Decoder[_Reply]] = msgspec.json.Decoder(_Reply)


@dataclass(slots=True, eq=False)
class Process:
    """A process started by a zygote. ``status`` (as of wait(2)) is valid once ``ended`` is set."""

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

    async def wait_gone(self) -> None:
        """Wait until it has ended; its status may come a moment after that."""
        if not self.ended.is_set():
            await trio.lowlevel.wait_readable(self.pidfd)

    def leaving_status(self) -> int | None:
        """Give the wait status of a process that runs no code any more, though its memory is not given back yet.

        The kernel sets PF_EXITING, then the exit code, then takes the memory away; other threads are counted until they
        are gone (do_exit in kernel/exit.c, do_task_stat in fs/proc/array.c). ``None``: it is not that far, or gone.
        """
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        flags, threads, memory, status = (int(fields[number - 3]) for number in (9, 20, 23, 52))
        return status if flags & PF_EXITING and threads <= 1 and memory == 0 else None

    def end(self, status: int) -> None:
        """Note how it ended."""
        self.status = status
        self.launched.set()
        self.ended.set()

    def close(self) -> None:
        """Release the pidfd, now or when it comes. Idempotent."""
        self.abandoned = True
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Zygote:
    """A running zygote and its processes. Use :func:`open_zygote`."""

    def __init__(self, control: trio.socket.SocketType) -> None:
        self._control = control
        self._next_id = 0
        self._send_lock = trio.Lock()
        self.processes: dict[int, Process] = {}
        """Those that have not ended yet."""
        self.ready = trio.Event()
        """It has said that its imports are done (a bare one has none and says nothing)."""
        self.ended = False

    async def add_program(self, name: str, code: bytes) -> None:
        """Teach it a seccomp program."""
        await self._send(ProgramPacket(name=name, code=code), [])

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
        """Start a program and wait until it runs; ``passed`` become its descriptors 3, 4, ...

        The caller keeps its descriptors, and closes the returned process. A cancelled caller may leave a process
        behind in the jail, never outside: jails are destroyed as a whole.

        Raises:
            LaunchError: a step before execve failed, or execve itself.
        """
        process = self._new_process()
        packet = LaunchPacket(
            id=process.id,
            arguments=list(arguments),
            environment=dict(environment),
            cgroups=len(cgroups),
            join=join,
            jail=None if join is None else 4,
        )
        error_read, error_write = os.pipe()
        jail = [] if join is None else [jail_pidfd]
        fds = [*stdio, error_write, *jail, *cgroups, *passed]
        return await self._start(process, packet, fds, (error_read, error_write), arguments[0])

    async def fork_waiting(
        self,
        kind: type[InterpreterPacket | StandbyPacket],
        control: int,
        *,
        null: int,
        cgroups: Sequence[int],
        join: JoinSpec,
        jail_pidfd: int,
    ) -> Process:
        """Fork a process into a jail that waits; ``control`` is its end of the socket on which it does.

        Descriptors and cancellation as in :meth:`launch`. It is hardened when this returns.

        Raises:
            LaunchError: a step of joining failed.
            ZygoteDied: before the fork was done.
        """
        process = self._new_process()
        error_read, error_write = os.pipe()
        packet = kind(id=process.id, cgroups=len(cgroups), join=join)
        fds = [null, error_write, jail_pidfd, control, *cgroups]
        return await self._start(process, packet, fds, (error_read, error_write), "joining")

    async def sweep(self, jail_pidfd: int) -> None:
        """Kill everything in a jail's pid namespace but its init, and wait until that was done."""
        process = self._new_process()
        try:
            await self._send(SweepPacket(id=process.id), [jail_pidfd])
            await process.ended.wait()
        finally:
            process.close()

    async def _start(
        self, process: Process, packet: _Packet, fds: list[int], errors: tuple[int, int], name: str
    ) -> Process:
        error_read, error_write = errors
        try:
            await self._send(packet, fds)
        except BaseException:
            os.close(error_read)
            self.processes.pop(process.id, None)
            raise
        finally:
            os.close(error_write)
        try:
            async with trio.lowlevel.FdStream(error_read) as stream:
                message = await stream.receive_some(4096)
            if message:
                await process.ended.wait()
                raise LaunchError(f"{name}: {message.decode('utf-8', 'replace')}")
            await process.launched.wait()
            if not process.pid:
                raise ZygoteDied
        except BaseException:
            process.close()
            raise
        return process

    def _new_process(self) -> Process:
        self._next_id += 1
        process = self.processes[self._next_id] = Process(self._next_id)
        return process

    async def _send(self, packet: _Packet, fds: list[int]) -> None:
        payload = _encode(packet)
        if len(payload) > MAX_PACKET_BYTES:
            raise LaunchError(f"arguments and environment are over {MAX_PACKET_BYTES} bytes")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        async with self._send_lock:
            try:
                await self._control.sendmsg([payload], ancillary)
            except OSError as error:
                raise ZygoteDied from error

    async def read_replies(self) -> None:
        """Hand out what the zygote says until it ends; those of its processes that live on stay in ``processes``."""
        try:
            await self._read_packets()
        finally:
            self.ended = True
            for process in [each for each in self.processes.values() if not each.launched.is_set()]:
                del self.processes[process.id]
                process.end(_NEVER_STARTED)

    async def _read_packets(self) -> None:
        while True:
            try:
                payload, ancillary, _flags, _address = await self._control.recvmsg(4096, _DESCRIPTOR_SPACE)
            except OSError:
                return
            if not payload:
                return
            fds = array.array("i")
            for _level, _kind, data in ancillary:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            self._note(_reply_decoder.decode(payload), list(fds))

    def _note(self, reply: _Reply, fds: list[int]) -> None:
        if isinstance(reply, ReadyReply):
            self.ready.set()
            return
        process = self.processes[reply.id]
        if isinstance(reply, LaunchedReply):
            process.pid = reply.pid
            process.pidfd = fds[0]
            process.launched.set()
            if process.abandoned:
                process.close()
        else:
            del self.processes[reply.id]
            process.end(reply.status)


def spawn(arguments: Sequence[str]) -> tuple[Zygote, trio.socket.SocketType]:
    """Start a zygote's process, its control socket at descriptor 3; the caller reads its replies, closes the socket.

    The jailer is PID 1 and reaps whatever ends, so the process itself needs no waiting.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        action = (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)
        os.posix_spawn(arguments[0], list(arguments), {}, file_actions=[action])
    control = trio.socket.from_stdlib_socket(ours)
    return Zygote(control), control


@asynccontextmanager
async def open_launcher(python: Sequence[str]) -> AsyncIterator[Zygote]:
    """Start a bare zygote (``python`` is the interpreter's command line) and keep it for the block.

    Raises:
        ZygoteDied: (in an exception group) it ended by itself, and with it everything that it could tell.
    """
    zygote, control = spawn([*python, "-m", "supervisor.jailer.zygote", "3"])

    async def watch() -> None:
        await zygote.read_replies()
        raise ZygoteDied

    with control:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            yield zygote
            nursery.cancel_scope.cancel()
