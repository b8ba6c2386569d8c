"""Interpreters that wait in jails, and the zygotes that they are forked from."""

from __future__ import annotations

import array
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, TypeVar

import msgspec
import trio
from msgspec import Meta, Struct

from supervisor.jailer.join import JoinSpec
from supervisor.jailer.launcher import (
    InterpreterPacket,
    LaunchError,
    Process,
    StandbyPacket,
    Zygote,
    ZygoteDied,
    spawn,
)
from supervisor.jailer.orphans import Orphans
from supervisor.jailer.protocol import MAX_UNSAVED, ShortText
from supervisor.jailer.zygote import MAX_PACKET_BYTES

log: Final = logging.getLogger("gaoler.jailer.interpreters")

MAX_ANSWER_BYTES: Final = 512 * 1024
ATTEMPTS: Final = 5
BACK_OFF_SECONDS: Final = (0.1, 0.5, 2.0, 10.0, 30.0)
START_SECONDS: Final = 180


_T = TypeVar("_T")


class RuntimeProfile(Struct, frozen=True, forbid_unknown_fields=True):
    """A profile with everything it needs: ``python`` and ``environment`` are those of a sandbox."""

    name: str
    python: str
    environment: dict[str, str]
    preimport: list[str]
    exercise: str
    forks: int
    seconds: float
    seccomp: str
    """The profile of its language."""


class InterpreterBroken(Exception):
    """The interpreter in a jail says what it should not; it is hostile, or destroyed by the code that ran in it."""


class NeverHeard(InterpreterBroken):
    """It ended before it took its job: none of that has run."""


class Answer(Struct, frozen=True):
    """Answer to the job of this ``id``."""

    id: int


class CellAnswer(Answer, frozen=True):
    """A live cell came to its end."""

    status: Annotated[int, Meta(ge=0, le=255)]


class SaveAnswer(Answer, frozen=True):
    """What became of saving or restoring."""

    names: Annotated[int, Meta(ge=0, le=1 << 40)] = 0
    unsaved: Annotated[list[tuple[ShortText, ShortText]], Meta(max_length=MAX_UNSAVED)] = []
    error: ShortText | None = None


class _Ready(Struct, frozen=True):
    ready: bool


_A = TypeVar("_A", bound=Answer)
_ready_decoder = msgspec.json.Decoder(_Ready)
cell_decoder = msgspec.json.Decoder(CellAnswer)
save_decoder = msgspec.json.Decoder(SaveAnswer)


class Interpreter:
    """An interpreter that waits for code in a jail. Whatever it says is hostile. Closed by its jail."""

    def __init__(self, process: Process, control: trio.socket.SocketType) -> None:
        self.process = process
        self._control = control
        self._jobs = 0

    async def wait_ready(self) -> None:
        """Wait until it can take code.

        Raises:
            InterpreterBroken: it ended, or said something else.
        """
        await self._receive(_ready_decoder)

    async def send(self, job: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Send a job with its descriptors.

        Raises:
            LaunchError: it is too large; nobody has got it.
            InterpreterBroken: nobody is there.
        """
        payload = json.dumps({"id": self._jobs + 1, **job}, ensure_ascii=False).encode()
        if len(payload) > MAX_PACKET_BYTES:
            raise LaunchError(f"arguments and environment are over {MAX_PACKET_BYTES} bytes")
        self._jobs += 1
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        try:
            await self._control.sendmsg([payload], ancillary)
        except OSError as error:
            raise InterpreterBroken(str(error)) from None

    async def answer(self, decoder: msgspec.json.Decoder[_A]) -> _A:
        """Wait for the answer to the last job, of the type that ``decoder`` takes. Descriptors in it are dropped.

        Raises:
            InterpreterBroken: it ended, or said something else; from then on nothing it says can be trusted to belong
                to what was asked.
            NeverHeard: it ended without having taken the job.
        """
        answer = await self._receive(decoder)
        if answer.id != self._jobs:
            raise InterpreterBroken(f"an answer to job {answer.id} where that to {self._jobs} was due")
        return answer

    async def _receive(self, decoder: msgspec.json.Decoder[_T]) -> _T:
        try:
            payload = await self._control.recv(MAX_ANSWER_BYTES)
            if not payload:
                raise InterpreterBroken("the interpreter ended")
            return decoder.decode(payload)
        except ConnectionResetError:
            # So the kernel tells of an end that was closed with something unread (net/unix/af_unix.c,
            # unix_release_sock); of one that had read all there is only an end of file.
            raise NeverHeard("it ended before it took its job") from None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InterpreterBroken(f"not an answer: {error}") from None

    async def become(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdio: tuple[int, int, int], language: str
    ) -> Process:
        """A process that waits for its program executes it. It is the caller's to close, in any case.

        ``language`` names the seccomp program that it installs before, on top of the policy's.

        Raises:
            LaunchError: it cannot be executed.
            InterpreterBroken: nobody is there.
        """
        error_read, error_write = os.pipe()
        try:
            try:
                order = {"arguments": list(arguments), "environment": dict(environment), "language": language}
                await self.send(order, [*stdio, error_write])
            finally:
                os.close(error_write)
            async with trio.lowlevel.FdStream(os.dup(error_read)) as errors:
                message = await errors.receive_some(4096)
            if not self._has_heard():
                raise InterpreterBroken("it ended before it took its order")
            self._control.close()
        except BaseException:
            self.close()
            raise
        finally:
            os.close(error_read)
        if message:
            await self.process.ended.wait()
            self.close()
            raise LaunchError(f"{arguments[0]}: {message.decode('utf-8', 'replace')}")
        return self.process

    def _has_heard(self) -> bool:
        """Say whether it took its last job: who is being killed has its socket a moment longer."""
        try:
            return bool(os.read(self._control.fileno(), 64))
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the socket and the pidfd. Idempotent."""
        self._control.close()
        self.process.close()


async def fork_waiting(
    zygote: Zygote,
    kind: type[InterpreterPacket | StandbyPacket],
    *,
    cgroups: Sequence[int],
    join: JoinSpec,
    jail_pidfd: int,
) -> Interpreter:
    """Fork a process that waits in a jail: an interpreter, or one that will become a program.

    Raises:
        LaunchError: joining failed.
        ZygoteDied: meanwhile.
    """
    ours, theirs = control_pair()
    control = trio.socket.from_stdlib_socket(ours)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        with theirs:
            process = await zygote.fork_waiting(
                kind, theirs.fileno(), null=null, cgroups=cgroups, join=join, jail_pidfd=jail_pidfd
            )
    except BaseException:
        control.close()
        raise
    finally:
        os.close(null)
    return Interpreter(process, control)


def control_pair() -> tuple[socket.socket, socket.socket]:
    """Make the socket between the jailer (first) and an interpreter."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class InterpreterSource:
    """Forks interpreters of one profile. Use :func:`open_source`."""

    def __init__(
        self, profile: RuntimeProfile, command: Sequence[str], programs: Mapping[str, bytes], orphans: Orphans
    ) -> None:
        self.profile = profile
        self._command = command
        self._programs = programs
        self._orphans = orphans
        self._current: Zygote | None = None
        self._available = trio.Event()
        self._worn = trio.Event()
        self._replaced = trio.Event()
        self._forks = 0
        self.started = 0
        """Zygotes that became ready so far."""

    async def fork(self, *, cgroups: Sequence[int], join: JoinSpec, jail_pidfd: int) -> Interpreter:
        """Fork an interpreter into a jail; a zygote that dies meanwhile is replaced and asked again.

        Raises:
            LaunchError: joining failed, or zygotes keep dying.
        """
        for _ in range(ATTEMPTS):
            zygote = self._current
            if zygote is None:
                await self._available.wait()
                continue
            try:
                waiting = await fork_waiting(
                    zygote, InterpreterPacket, cgroups=cgroups, join=join, jail_pidfd=jail_pidfd
                )
            except ZygoteDied:
                self._retire(zygote)
                continue
            self._count(zygote)
            return waiting
        raise LaunchError("the zygote keeps dying")

    def _count(self, zygote: Zygote) -> None:
        self._forks += 1
        if self._forks >= self.profile.forks and zygote is self._current:
            self._worn.set()

    def _retire(self, zygote: Zygote) -> None:
        """Fork from it no more."""
        if zygote is self._current:
            self._current = None
            self._available = trio.Event()
            self._worn.set()
            self._replaced.set()

    async def run(self) -> None:
        """Keep a zygote ready; replace it when it is worn out (the old one serves until the new one can) or dead."""
        failures = 0
        async with trio.open_nursery() as nursery:
            while True:
                self._worn = trio.Event()
                if await nursery.start(self._keep):
                    failures = 0
                    with trio.move_on_after(self.profile.seconds):
                        await self._worn.wait()
                else:
                    pause = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
                    failures += 1
                    log.error("zygote did not start profile=%s restart_in=%s", self.profile.name, pause)
                    await trio.sleep(pause)

    async def _keep(self, *, task_status: trio.TaskStatus[bool]) -> None:
        """Have one zygote: until it is ready the caller waits; afterwards as long as a process of it lives."""
        try:
            zygote, control = spawn(self._command)
        except OSError as error:
            log.error("zygote cannot be started reason=%s", error)
            task_status.started(False)
            return
        with control:
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    await zygote.read_replies()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(read)
                for name, code in self._programs.items():
                    await zygote.add_program(name, code)
                with trio.move_on_after(START_SECONDS):
                    await zygote.ready.wait()
                if zygote.ready.is_set():
                    self._replaced.set()
                    replaced = self._replaced = trio.Event()
                    self._current, self._forks = zygote, 0
                    self._available.set()
                    self.started += 1
                    task_status.started(True)
                    await replaced.wait()
                    await _no_process_left(zygote)
                nursery.cancel_scope.cancel()
        if not zygote.ready.is_set():
            task_status.started(False)
            return
        if zygote is self._current:
            log.error("zygote died profile=%s", self.profile.name)
        self._retire(zygote)
        for process in zygote.processes.values():
            self._orphans.adopt(process)


async def _no_process_left(zygote: Zygote) -> None:
    while zygote.processes:
        await next(iter(zygote.processes.values())).ended.wait()


@asynccontextmanager
async def open_source(
    profile: RuntimeProfile,
    files: Mapping[str, Any],
    python: Sequence[str],
    programs: Mapping[str, bytes],
    orphans: Orphans,
) -> AsyncIterator[InterpreterSource]:
    """Keep zygotes of a profile for the block. ``files``: see :func:`supervisor.jailer.config.zygote_files`."""
    described = {
        **files,
        "python": profile.python,
        "environment": profile.environment,
        "preimport": profile.preimport,
        "exercise": profile.exercise,
    }
    command = [*python, "-m", "supervisor.jailer.interpreter_zygote", json.dumps(described)]
    source = InterpreterSource(profile, command, programs, orphans)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        yield source
        nursery.cancel_scope.cancel()
