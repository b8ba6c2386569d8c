"""For tests: a guest of one's own on QEMU, without the jailer of the host, and the jailer inside over its port."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from supervisor.jailer import protocol as jailer
from supervisor.jailer.channels import Channel, Connection, open_connection
from supervisor.jailer.client import RemoteJail, open_jail_on
from supervisor.jailer.seccomp import Compiled, compile_profiles
from supervisor.microvm import places, protocol
from supervisor.microvm.protocol import Begin, Begun, Clock, GuestPlan
from supervisor.policy import PACKAGED_POLICIES, load_policies, load_profiles
from supervisor.preparation.prepare import find_image, find_languages, setup_plan
from supervisor.settings.execution import ExecutionSettings
from supervisor.settings.tree import Settings
from tests.microvm.hypervisor import chosen

ROOT: Final = Path(__file__).resolve().parent.parent.parent
LOG_LINES: Final = 1000
_T = TypeVar("_T")
TEST_SECONDS: Final = 120
SHARED_MIB: Final = 2048
"""More than a policy gives to a jail, or the whole guest is out of memory before the jail is."""
LOG_SECONDS: Final = 60
BOOT_SECONDS: Final = 120
"""An emulated processor that others use too; on a quiet machine it takes three."""


def guest_plan(image_dir: Path, *, policy: str = "default") -> GuestPlan:
    """Say what a daemon with these images would have its guests do."""
    settings = Settings(image_dir=str(image_dir), execution=ExecutionSettings(policy=policy))
    policies, profiles = load_policies(PACKAGED_POLICIES), load_profiles(PACKAGED_POLICIES)
    image = find_image(settings)
    plan = setup_plan(settings, image, policies, profiles, find_languages(image, profiles), None)
    return GuestPlan(
        policies=dict(plan.policies),
        seccomp_profiles=dict(plan.seccomp_profiles),
        compiled=Compiled(*compile_profiles(str(plan.nsjail), plan.policies, plan.seccomp_profiles)),
        profiles=list(plan.profiles),
        pools=[msgspec.structs.replace(pool, floor=1, ceiling=1) for pool in plan.pools],
        filters={name: plan.filters[name] for name in ("jailer", "proxy")},
        init=str(plan.init),
        egress=plan.egress,
        build_seconds=300.0,
        log_level="INFO",
    )


@dataclass
class Machine:
    """A guest that has greeted."""

    process: subprocess.Popen[bytes]
    connection: Connection
    port: trio.SocketStream
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    heard: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    """Who waits for more of the log."""

    async def log_has(self, words: str) -> None:
        """Wait until a line of the log has these words: it comes by another way than answers, and the end."""
        with trio.fail_after(LOG_SECONDS):
            while not any(words in line for line in self.log):
                await self.heard.park()

    async def begin(self, plan: GuestPlan, *, clock_nanoseconds: int | None = None) -> protocol.Word:
        """Have the jailer started; give the answer."""
        now = time.time_ns() if clock_nanoseconds is None else clock_nanoseconds
        order = Begin(clock_nanoseconds=now, entropy=os.urandom(protocol.ENTROPY_BYTES), plan=plan)
        return await self.ask(order)

    async def set_clock(self, nanoseconds: int) -> None:
        """Set the guest's clock."""
        assert await self.ask(Clock(clock_nanoseconds=nanoseconds)) == Begun()

    async def ask(self, order: protocol.Order) -> protocol.Word:
        """Send an order on a channel of its own; give the answer."""
        channel = await self.connection.open_channel()
        try:
            await channel.send_message(protocol.encode(order))
            return protocol.decode_word(await channel.receive_message())
        finally:
            await channel.aclose()

    async def channel(self, order: protocol.Order) -> Channel:
        """Open a channel with this order; closing it is the caller's."""
        channel = await self.connection.open_channel()
        await channel.send_message(protocol.encode(order))
        return channel

    async def close_port(self) -> None:
        """Leave the guest without its host."""
        await self.port.aclose()

    async def wait(self) -> None:
        """Wait until the machine has ended by itself."""
        pidfd = os.pidfd_open(self.process.pid)
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)

    @asynccontextmanager
    async def jail(self, policy: str = "default", profile: str | None = None) -> AsyncIterator[RemoteJail]:
        """Have a jail in the guest for the block."""
        opening = jailer.OpenJail(policy=policy, profile=profile)
        async with open_jail_on(await self.connection.open_channel(), opening) as jail:
            yield jail


@dataclass(frozen=True)
class Ran:
    """What became of a program."""

    outcome: jailer.RunOutcome
    stdout: str
    stderr: str


async def run_in(jail: RemoteJail, request: jailer.Run | jailer.RunScript | jailer.RunCell) -> Ran:
    """Run to the end."""
    said = {"stdout": b"", "stderr": b""}

    async def keep(output: jailer.Output) -> None:
        said[output.stream] += output.data

    ended = await jail.run(request, keep)
    return Ran(ended.outcome, said["stdout"].decode(), said["stderr"].decode())


async def bash(jail: RemoteJail, script: str, *, then: jailer.Then = "destroy") -> Ran:
    """Run a line of bash."""
    request = jailer.Run(
        arguments=["/bin/bash", "-c", script], environment={"PATH": "/usr/bin:/bin"}, seccomp="bash", then=then
    )
    return await run_in(jail, request)


async def put(jail: RemoteJail, name: bytes, content: bytes, *, area: jailer.Area = "workspace") -> None:
    """Write a file."""

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    await jail.put_file(name, len(content), pieces(), area=area)


@asynccontextmanager
async def boot(image: Path, libraries: Path, *, memory_mib: int = 1024, vcpus: int = 1) -> AsyncIterator[Machine]:
    """Boot a guest for the block, up to its greeting; it is killed at the end, with all that it was.

    ``image``: the ``local`` of one; ``libraries``: libkrun and the guest's kernel. Whose guest it is says
    :func:`tests.microvm.hypervisor.chosen`.
    """
    hypervisor = await trio.to_thread.run_sync(chosen, image.parent.parent)
    ours, theirs = socket.socketpair()
    log_read, log_write = os.pipe()
    configuration = os.memfd_create("machine", 0)
    os.write(configuration, msgspec.msgpack.encode({"memory_mib": memory_mib, "vcpus": vcpus}))
    fds = (configuration, theirs.fileno(), log_write)
    process = subprocess.Popen(  # noqa: ASYNC220 - it does not wait
        [sys.executable, "-m", "tests.microvm.root", hypervisor, str(libraries), "-", str(image), *map(str, fds)],
        pass_fds=fds,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    os.close(log_write)
    os.close(configuration)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    log: deque[str] = deque(maxlen=LOG_LINES)
    heard = trio.lowlevel.ParkingLot()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep_log, log_read, log, heard)
            with trio.fail_after(BOOT_SECONDS):
                greeting = await _greeting(stream)
            assert greeting == places.GREETING, "\n".join(log)
            async with open_connection(stream, accepts=False) as connection:
                yield Machine(process, connection, stream, log, heard)
            nursery.cancel_scope.cancel()
    except BaseException:
        print("\n".join(log), file=sys.stderr)
        raise
    finally:
        process.kill()
        process.wait()
        ours.close()


async def _greeting(stream: trio.SocketStream) -> bytes:
    data = b""
    while len(data) < len(places.GREETING):
        piece = await stream.receive_some(len(places.GREETING) - len(data))
        if not piece:
            break
        data += piece
    return data


async def _keep_log(fd: int, log: deque[str], heard: trio.lowlevel.ParkingLot) -> None:
    async with trio.lowlevel.FdStream(fd) as stream:
        buffer = b""
        async for data in stream:
            *lines, buffer = (buffer + data).split(b"\n")
            log.extend(line.decode(errors="replace").rstrip() for line in lines)
            heard.unpark_all()


class SharedGuest:
    """A guest for the tests of a whole session, which are functions of a thread each; it lives in another one."""

    def __init__(self, image: Path, libraries: Path, plan: GuestPlan) -> None:
        self._arguments = (image, libraries, plan)
        self._ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._token: trio.lowlevel.TrioToken | None = None
        self._over = trio.Event()
        self._machine: Machine | None = None
        self._thread = threading.Thread(target=self._live, name="guest")

    def __enter__(self) -> SharedGuest:
        self._thread.start()
        fault = self._ready.get()
        if fault is not None:
            self._thread.join()
            raise fault
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._over.set)
        self._thread.join()

    def run(self, work: Callable[[Machine], Awaitable[_T]]) -> _T:
        """Do something with the guest."""

        async def bounded() -> _T:
            assert self._machine is not None
            with trio.fail_after(TEST_SECONDS):
                return await work(self._machine)

        return trio.from_thread.run(bounded, trio_token=self._token)

    def _live(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: BLE001 - it is raised where the guest was asked for
            self._ready.put(error)

    async def _serve(self) -> None:
        image, libraries, plan = self._arguments
        async with boot(image, libraries, memory_mib=SHARED_MIB) as self._machine:
            assert await self._machine.begin(plan) == Begun(), "\n".join(self._machine.log)
            self._token = trio.lowlevel.current_trio_token()
            self._ready.put(None)
            await self._over.wait()
