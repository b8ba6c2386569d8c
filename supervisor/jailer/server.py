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
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

from supervisor.jailer import kernel, protocol
from supervisor.jailer.background import BackgroundProgram
from supervisor.jailer.cells import Cells, first, open_cells
from supervisor.jailer.cgroup import Layout
from supervisor.jailer.channels import Channel, ChannelClosed, Connection, ProtocolError, open_connection
from supervisor.jailer.config import (
    FIRST_OUTSIDE_ID,
    JailerConfig,
    compiled_for,
    existing_masks,
    places,
    with_compiled,
    zygote_files,
)
from supervisor.jailer.conversation import Conversation, ConversationError, decode, send
from supervisor.jailer.enclosure import JailError
from supervisor.jailer.interpreters import open_source
from supervisor.jailer.jail import LEAF_PREFIX, Ids, Jail, Yard
from supervisor.jailer.launcher import ZygoteDied, open_launcher
from supervisor.jailer.netns import EgressLink
from supervisor.jailer.orphans import Orphans
from supervisor.jailer.seccomp import Filters, SeccompError, compile_policy
from supervisor.jailer.watch import Watch, open_watch
from supervisor.logs.limit import limit_logging
from supervisor.microvm.machine import Machine
from supervisor.microvm.machine_plan import machine_program
from supervisor.microvm.machines import Machines, open_machines
from supervisor.microvm.placement import serve_background, serve_jail
from supervisor.policy import Policy

log: Final = logging.getLogger("gaoler.jailer")

MAX_CONNECTIONS: Final = 64
NEEDED_CAPABILITIES: Final = frozenset(
    {
        *(0, 1, 2, 3, 4, 5),  # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KILL: workspaces, their processes
        *(6, 7, 8, 31),  # SETGID, SETUID, SETPCAP, SETFCAP: nsjail's id maps, and giving everything up
        *(10, 12),  # NET_BIND_SERVICE, NET_ADMIN: a jail's network
        *(18, 19, 21, 24),  # SYS_CHROOT, SYS_PTRACE, SYS_ADMIN, SYS_RESOURCE: namespaces, mounts, limits
    }
)
"""Numbers of <linux/capability.h>: what jailer, zygotes and nsjail use of being root in their user namespace."""


class Jailer:
    """Serves connections. Everything it needs comes in; it looks nothing up."""

    def __init__(self, cells: Cells, machines: Machines | None = None, removed_cgroups: int = 0) -> None:
        self._cells = cells
        self._machines = machines
        self._removed_cgroups = removed_cgroups

    async def serve_connection(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end; a broken one is closed and logged, nothing else is harmed."""
        try:
            async with open_connection(stream, accepts=True) as connection:
                await self._accept_channels(connection)
        except* ProtocolError as group:
            log.warning("connection closed reason=%s", first(group))
        except* ChannelClosed:
            pass

    async def _accept_channels(self, connection: Connection) -> None:
        jails: dict[int, Jail | Machine] = {}
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    nursery.start_soon(self._serve_channel, await connection.accept(), jails)
            except ChannelClosed:
                nursery.cancel_scope.cancel()

    async def _serve_channel(self, channel: Channel, jails: dict[int, Jail | Machine]) -> None:
        try:
            await self._until_closed(channel, jails)
        except* ChannelClosed:
            pass
        except* ProtocolError:
            raise
        except* (JailError, OSError, ConversationError) as group:
            reason = str(first(group))
            log.error("jail lost reason=%s", reason)
            await self._tell_fault(channel, reason)
        except* Exception as group:
            # Named boundary: one connection carries everybody's jails, and one that is lost must not take the others.
            log.exception("jail lost", exc_info=group)
            await self._tell_fault(channel, "a fault of the jailer")
        finally:
            await channel.aclose()

    async def _until_closed(self, channel: Channel, jails: dict[int, Jail | Machine]) -> None:
        """Serve the channel; when the peer closes it, cancel whatever is going on, which destroys the jail."""
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await channel.peer_gone.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self._serve_first(channel, jails)
            nursery.cancel_scope.cancel()

    async def _serve_first(self, channel: Channel, jails: dict[int, Jail | Machine]) -> None:
        """A channel is a jail, a program in the background of a jail of the same connection, or about the jailer."""
        request = decode(await channel.receive_message())
        if isinstance(request, protocol.OpenJail):
            await self._serve_jail(channel, request, jails)
        elif isinstance(request, protocol.Background):
            jail = jails.get(request.jail)
            if jail is None:
                await send(channel, protocol.Refused(reason="there is no such jail"))
            elif isinstance(jail, Machine):
                await serve_background(jail, channel, request)
            else:
                await BackgroundProgram(channel, jail).run(request)
        elif isinstance(request, protocol.Spare):
            with self._cells.spare():
                await send(channel, protocol.Opened())
                await channel.peer_gone.wait()
        elif isinstance(request, protocol.GetPools):
            cells = self._cells
            await send(channel, protocol.Pools(cells.figures(), cells.claimed, self._removed_cgroups))
        else:
            raise ConversationError(f"channel {channel.number}: no first message is a {type(request).__name__}")

    async def _serve_jail(self, channel: Channel, request: protocol.OpenJail, jails: dict[int, Jail | Machine]) -> None:
        if not self._cells.knows(request.policy, request.profile):
            reason = f"no policy named {request.policy!r}, or no profile named {request.profile!r}"
            await send(channel, protocol.Refused(reason=reason))
            return
        if self._cells.full:
            await send(channel, protocol.Refused(reason="all places for jails are taken"))
            return
        policy = self._cells.policy(request.policy)
        if "microvm" in (policy.tier, request.tier):
            await self._serve_in_guest(channel, request, policy, jails)
            return
        async with self._cells.claim(request.policy, request.profile, modest=request.modest) as jail:
            jail.weigh(request.share)
            await send(channel, protocol.Opened(), hold=channel.pending)
            jails[channel.number] = jail
            try:
                await Conversation(channel, jail, self._cells.work).run()
            finally:
                del jails[channel.number]

    async def _serve_in_guest(
        self, channel: Channel, request: protocol.OpenJail, policy: Policy, jails: dict[int, Jail | Machine]
    ) -> None:
        if self._machines is None:
            await send(channel, protocol.Refused(reason="this host gives no virtual machines: none were prepared"))
            return
        async with AsyncExitStack() as stack:
            try:
                with self._cells.work:
                    machine = await stack.enter_async_context(self._machines.claim(modest=request.modest))
            except JailError as error:
                await send(channel, protocol.Refused(reason=str(error)[:1000]))
                return
            jails[channel.number] = machine
            try:
                await serve_jail(machine, channel, request, policy, self._cells.work)
            finally:
                del jails[channel.number]

    async def _tell_fault(self, channel: Channel, reason: str) -> None:
        with trio.move_on_after(1):
            try:
                await send(channel, protocol.Fault(reason=reason[:2048]))
            except ChannelClosed:
                pass


@asynccontextmanager
async def _open_yard(
    config: JailerConfig, filters: Filters, orphans: Orphans, egress: EgressLink | None, watch_fd: int | None
) -> AsyncIterator[Yard]:
    async with open_launcher(config.python) as launcher, AsyncExitStack() as stack:
        watch: Watch | None = None
        if watch_fd is not None:
            watch = await stack.enter_async_context(open_watch(watch_fd, filters))
        for name, code in filters.programs(watched=watch is not None).items():
            await launcher.add_program(name, code)
        if config.machines is not None:
            await launcher.add_program(machine_program(config.machines.policy.name), filters.machine)
        files = zygote_files(config)
        sources = {
            profile.name: await stack.enter_async_context(
                open_source(profile, files, config.python, filters.programs(watched=False), orphans)
            )
            for profile in config.profiles
        }
        yield Yard(
            nsjail=config.nsjail,
            places=places(config),
            layout=config.layout,
            work=Path(config.work),
            ids=Ids(FIRST_OUTSIDE_ID, config.ids),
            launcher=launcher,
            sources=sources,
            egress=egress,
            building=trio.CapacityLimiter(config.builders),
            modest_building=trio.CapacityLimiter(max(1, config.builders // 2)),
            seccomp_profiles=frozenset(filters.languages),
            build_seconds=config.build_seconds,
            watch=watch,
        )


@asynccontextmanager
async def _open_machines(yard: Yard, config: JailerConfig, cells: Cells) -> AsyncIterator[Machines | None]:
    plan = config.machines
    if plan is None:
        yield None
        return
    masks = existing_masks(plan.policy, config.usr, config.image)
    async with open_machines(yard, plan, masks, cells.work) as machines:
        cells.on_spare = machines.look_again
        yield machines


def remove_empty_leaves(layout: Layout) -> int:
    """Remove the cgroups of an earlier jailer: the kernel killed what was in them when it died.

    Say of how many jails: on cgroup v1 each has one in each hierarchy.
    """
    removed: set[str] = set()
    for directory in layout.directories.values():
        for leaf in Path(directory).glob(f"{LEAF_PREFIX}*"):
            if leaf.is_dir():
                try:
                    leaf.rmdir()
                    removed.add(leaf.name)
                except OSError as error:
                    log.warning("a cgroup is left leaf=%s reason=%s", leaf, error)
    return len(removed)


async def serve(
    config: JailerConfig,
    listener: socket.socket,
    filters: Filters,
    ready_fd: int,
    egress: EgressLink | None = None,
    watch_fd: int | None = None,
    removed_cgroups: int = 0,
) -> None:
    """Serve until the zygote dies or SIGTERM comes; say so on ``ready_fd`` when it begins."""
    orphans = Orphans()
    masks = {name: existing_masks(policy, config.usr, config.image) for name, policy in config.policies.items()}
    zygote_died = False
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(orphans.reap)
            # The end goes from the inside out: while jails are destroyed, those who tell of dead processes still live.
            async with (
                _open_yard(config, filters, orphans, egress, watch_fd) as yard,
                open_cells(yard, config.policies, masks, config.pools, max_jails=config.max_jails) as cells,
                _open_machines(yard, config, cells) as machines,
                trio.open_nursery() as serving,
            ):
                serving.start_soon(_stop_at_signal, serving.cancel_scope)
                jailer = Jailer(cells, machines, removed_cgroups)
                log.info("jailer ready policies=%s", ",".join(sorted(config.policies)))
                incoming = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                await serving.start(trio.serve_listeners, jailer.serve_connection, [incoming])
                _say_ready(ready_fd)
            nursery.cancel_scope.cancel()
    except* ZygoteDied:
        zygote_died = True
    if zygote_died:
        # Raised here: what leaves an except* is wrapped, and would end as a traceback and another status.
        log.error("the zygote died; the jailer ends and takes its jails with it")
        raise SystemExit(3)


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
    """Serve; descriptors in argv: the configuration, the listening socket, where to say that it is ready.

    Then the file for logging mode (-1: it is off). A fifth, if there is an egress proxy, leads to it.
    """
    kernel.set_process_name("gaoler-jailer")
    # Shared with every later jailer, so read by position.
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        file.seek(0)
        config = msgspec.msgpack.decode(file.read(), type=JailerConfig)
    logging.basicConfig(level=config.log_level, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    limit_logging()
    listener = socket.socket(fileno=int(sys.argv[2]))
    listener.set_inheritable(False)
    try:
        compiled = compiled_for(config)
        machine = compile_policy(config.nsjail, config.machines.policy.seccomp_source) if config.machines else b""
    except SeccompError as error:
        log.critical("refusing to start: seccomp policy: %s", error)
        raise SystemExit(78) from None
    removed_cgroups = remove_empty_leaves(config.layout)
    kernel.keep_capabilities(NEEDED_CAPABILITIES)
    watch_fd = int(sys.argv[4])
    if watch_fd < 0:
        kernel.install_seccomp(config.own_filter)
    else:
        # In logging mode it would decide before anybody is asked; it is one of the filters that are judged by.
        os.set_inheritable(watch_fd, False)
    ready_fd = int(sys.argv[3])
    os.set_inheritable(ready_fd, False)
    egress = _egress_link(sys.argv[5:])
    filters = Filters(config.own_filter, compiled.policies, compiled.languages, machine)
    config = with_compiled(config, compiled)
    trio.run(serve, config, listener, filters, ready_fd, egress, watch_fd if watch_fd >= 0 else None, removed_cgroups)


def _egress_link(arguments: list[str]) -> EgressLink | None:
    if not arguments:
        return None
    link = socket.socket(fileno=int(arguments[0]))
    link.set_inheritable(False)
    return EgressLink(link)


if __name__ == "__main__":
    main()
