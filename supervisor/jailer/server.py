"""The jailer: PID 1 of its namespaces, owner of every jail in them, and nobody outside.

It serves the jailer protocol on a listening socket that ``setup`` made. One channel is one jail. A request is checked
against the policies that the jailer was started with, so a captured daemon can ask for no more than they grant. A
connection that breaks the protocol is closed with a logged reason; its jails die, others are not touched.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta, Struct

from supervisor.jailer import kernel, protocol
from supervisor.jailer.cgroup import Layout
from supervisor.jailer.channels import Channel, ChannelClosed, Connection, ProtocolError, open_connection
from supervisor.jailer.jail import LEAF_PREFIX, Ids, Jail, Yard, open_jail
from supervisor.jailer.launcher import ZygoteDied, open_launcher
from supervisor.jailer.nsjail_config import Mask, Places
from supervisor.jailer.program_run import JailError
from supervisor.jailer.seccomp import SeccompError, compile_policy
from supervisor.jailer.workspace import BadName, WorkspaceFull
from supervisor.policy import Policy

log: Final = logging.getLogger("gaoler.jailer")

FIRST_OUTSIDE_ID: Final = 1000
"""Ids of the jailer's user namespace below this one are never a sandbox's."""

MAX_CONNECTIONS: Final = 64


class JailerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What ``setup`` tells a jailer, by descriptor. Paths are those of the jailer's mount namespace."""

    nsjail: str
    init: str
    python: list[str]
    image: str
    etc: str
    dev: str
    empty: str
    work: str
    layout: Layout
    policies: dict[str, Policy]
    ids: Annotated[int, Meta(ge=1, le=64_000)]
    builders: Annotated[int, Meta(ge=1, le=64)]
    max_jails: Annotated[int, Meta(ge=1, le=4096)]
    log_level: str = "INFO"


class Jailer:
    """Serves connections. Everything it needs comes in; it looks nothing up."""

    def __init__(self, yard: Yard, policies: Mapping[str, Policy], *, max_jails: int) -> None:
        self._yard = yard
        self._policies = policies
        self._places_left = max_jails
        self._masks = {name: existing_masks(policy) for name, policy in policies.items()}

    async def serve_connection(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end; a broken one is closed and logged, nothing else is harmed."""
        try:
            async with open_connection(stream, accepts=True) as connection:
                await self._accept_channels(connection)
        except* ProtocolError as group:
            log.warning("connection closed reason=%s", _first(group))
        except* ChannelClosed:
            pass

    async def _accept_channels(self, connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    nursery.start_soon(self._serve_channel, await connection.accept())
            except ChannelClosed:
                nursery.cancel_scope.cancel()

    async def _serve_channel(self, channel: Channel) -> None:
        try:
            await self._until_closed(channel)
        except* ChannelClosed:
            pass
        except* (JailError, OSError) as group:
            reason = str(_first(group))
            log.error("jail lost reason=%s", reason)
            await self._tell_fault(channel, reason)
        finally:
            await channel.aclose()

    async def _until_closed(self, channel: Channel) -> None:
        """Serve the channel; when the peer closes it, cancel whatever is going on, which destroys the jail."""
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await channel.peer_gone.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self._serve_jail(channel)
            nursery.cancel_scope.cancel()

    async def _serve_jail(self, channel: Channel) -> None:
        request = _decode(await channel.receive_message())
        if not isinstance(request, protocol.OpenJail):
            raise ProtocolError(f"channel {channel.number}: the first message has to be OpenJail")
        policy = self._policies.get(request.policy)
        if policy is None:
            await _send(channel, protocol.Refused(reason=f"no policy named {request.policy!r}"))
            return
        if not self._places_left:
            await _send(channel, protocol.Refused(reason="all places for jails are taken"))
            return
        self._places_left -= 1
        try:
            async with open_jail(self._yard, policy, self._masks[policy.name]) as jail:
                await _send(channel, protocol.Opened())
                await _Conversation(channel, jail).run()
        finally:
            self._places_left += 1

    async def _tell_fault(self, channel: Channel, reason: str) -> None:
        with trio.move_on_after(1):
            try:
                await _send(channel, protocol.Fault(reason=reason[:2048]))
            except ChannelClosed:
                pass


class _Conversation:
    """Requests of one channel, one after the other, in the order fill → run … run(final) → look."""

    def __init__(self, channel: Channel, jail: Jail) -> None:
        self._channel = channel
        self._jail = jail
        self._has_run = False

    async def run(self) -> None:
        while True:
            request = _decode(await self._channel.receive_message())
            match request:
                case protocol.PutFile():
                    await self._put(request)
                case protocol.Run():
                    await self._run(request)
                case protocol.Finish():
                    await self._jail.finish()
                    await _send(self._channel, protocol.Finished())
                case protocol.Scan():
                    self._require_dead("Scan")
                    await _send(self._channel, await trio.to_thread.run_sync(self._jail.workspace.scan))
                case protocol.GetFile():
                    self._require_dead("GetFile")
                    await self._get(request)
                case protocol.OpenJail():
                    raise ProtocolError(f"channel {self._channel.number}: a second OpenJail")

    async def _run(self, request: protocol.Run) -> None:
        if self._jail.dead:
            raise ProtocolError(f"channel {self._channel.number}: Run after the final one")
        self._has_run = True
        ended = await self._jail.run(request, self._emit)
        await _send(self._channel, ended)

    async def _emit(self, output: protocol.Output) -> None:
        await _send(self._channel, output)

    async def _put(self, request: protocol.PutFile) -> None:
        if self._has_run:
            raise ProtocolError(f"channel {self._channel.number}: PutFile after Run")
        pieces = self._channel.receive_data(request.size)
        answer: protocol.Stored | protocol.Refused = protocol.Stored()
        try:
            with self._jail.workspace.writing(request.area, request.name, read_only=request.read_only) as fd:
                async for piece in pieces:
                    _write_all(fd, piece)
        except WorkspaceFull:
            answer = protocol.Refused(reason="the workspace is full", full=True)
        except BadName as error:
            answer = protocol.Refused(reason=str(error))
        # After a refusal the rest of the announced bytes is still on its way.
        async for _ in pieces:
            pass
        await _send(self._channel, answer)

    async def _get(self, request: protocol.GetFile) -> None:
        try:
            fd, size = self._jail.workspace.open_file(request.name)
        except BadName as error:
            await _send(self._channel, protocol.Refused(reason=str(error)))
            return
        with os.fdopen(fd, "rb", buffering=0) as file:
            await _send(self._channel, protocol.FileContent(size=size))
            left = size
            while left:
                data = file.read(min(left, 65_536))
                if not data:
                    raise JailError("a file shrank while nothing ran")
                left -= len(data)
                await self._channel.send_data(data)

    def _require_dead(self, what: str) -> None:
        if not self._jail.dead:
            raise ProtocolError(f"channel {self._channel.number}: {what} before the final run")


def existing_masks(policy: Policy) -> tuple[Mask, ...]:
    """Find out which masks are needed: what a sandbox could not open anyway nsjail cannot cover either."""
    found: list[Mask] = []
    for entry in policy.mounts.mask:
        try:
            mode = Path(entry.target).stat().st_mode
        except FileNotFoundError:
            continue
        if mode & stat.S_IROTH:
            found.append(Mask(entry.target, stat.S_ISDIR(mode)))
    return tuple(found)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _decode(payload: bytes) -> protocol.Request:
    try:
        return protocol.decode_request(payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"undecodable message: {error}") from None


async def _send(channel: Channel, message: protocol.Message) -> None:
    await channel.send_message(protocol.encode(message))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the first plain exception of a nested group."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


@asynccontextmanager
async def _open_yard(config: JailerConfig, programs: Mapping[str, bytes]) -> AsyncIterator[Yard]:
    async with open_launcher(config.python) as launcher:
        for name, code in programs.items():
            await launcher.add_program(name, code)
        yield Yard(
            nsjail=config.nsjail,
            places=Places(image=config.image, etc=config.etc, dev=config.dev, empty=config.empty, init=config.init),
            layout=config.layout,
            work=Path(config.work),
            ids=Ids(FIRST_OUTSIDE_ID, config.ids),
            launcher=launcher,
            building=trio.CapacityLimiter(config.builders),
        )


async def _reap_orphans() -> None:
    """Be a good PID 1: whatever was orphaned in our pid namespace ends here."""
    with trio.open_signal_receiver(signal.SIGCHLD) as children:
        async for _ in children:
            while True:
                try:
                    pid, _status = os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222 - does not wait
                except ChildProcessError:
                    break
                if pid == 0:
                    break


def remove_empty_leaves(layout: Layout) -> None:
    """Remove the cgroups of an earlier jailer: the kernel killed what was in them when it died."""
    for directory in layout.directories.values():
        for leaf in Path(directory).glob(f"{LEAF_PREFIX}*"):
            if leaf.is_dir():
                try:
                    leaf.rmdir()
                except OSError as error:
                    log.warning("a cgroup is left leaf=%s reason=%s", leaf, error)


async def serve(config: JailerConfig, listener: socket.socket, programs: Mapping[str, bytes], ready_fd: int) -> None:
    """Serve until the zygote dies or SIGTERM comes; say so on ``ready_fd`` when it begins."""
    try:
        async with _open_yard(config, programs) as yard, trio.open_nursery() as nursery:
            nursery.start_soon(_reap_orphans)
            nursery.start_soon(_stop_at_signal, nursery.cancel_scope)
            jailer = Jailer(yard, config.policies, max_jails=config.max_jails)
            log.info("jailer ready policies=%s", ",".join(sorted(config.policies)))
            incoming = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            await nursery.start(trio.serve_listeners, jailer.serve_connection, [incoming])
            _say_ready(ready_fd)
    except* ZygoteDied:
        log.error("the zygote died; the jailer ends and takes its jails with it")
        raise SystemExit(3) from None


def _say_ready(ready_fd: int) -> None:
    try:
        os.write(ready_fd, b"R")
    except BrokenPipeError:
        pass  # only the first jailer has somebody waiting
    os.close(ready_fd)


async def _stop_at_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


def main() -> None:
    """Serve; descriptors in argv: the configuration, the listening socket, where to say that it is ready."""
    kernel.set_process_name("gaoler-jailer")
    # Shared with every later jailer, so read by position.
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        file.seek(0)
        config = msgspec.msgpack.decode(file.read(), type=JailerConfig)
    logging.basicConfig(level=config.log_level, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    listener = socket.socket(fileno=int(sys.argv[2]))
    listener.set_inheritable(False)
    try:
        programs = {
            name: compile_policy(config.nsjail, policy.seccomp_source) for name, policy in config.policies.items()
        }
    except SeccompError as error:
        log.critical("refusing to start: seccomp policy: %s", error)
        raise SystemExit(78) from None
    remove_empty_leaves(config.layout)
    ready_fd = int(sys.argv[3])
    os.set_inheritable(ready_fd, False)
    trio.run(serve, config, listener, programs, ready_fd)


if __name__ == "__main__":
    main()
