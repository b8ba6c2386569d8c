"""The first program in a guest: mounts, opens the port to the host, starts the jailer, and passes channels on to it.

It is PID 1, or the child of a hypervisor's own init. The jailer is the one of every host, with namespaces, cgroups and
nsjail; only this program and the egress carrier know that there is a machine around. When the port or the jailer is
gone, so is the purpose of the machine, and it ends.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec
import trio

from supervisor.errors import ConfigurationError
from supervisor.jailer import kernel, protocol, setup
from supervisor.jailer.channels import Channel, ChannelClosed, Connection, ProtocolError, open_connection
from supervisor.jailer.orphans import Orphans
from supervisor.logs.limit import limit_logging
from supervisor.microvm.carrier import order_of
from supervisor.microvm.places import GAOLER, GREETING, IMAGE, PACKAGES, POLICIES, PORT, PYTHON
from supervisor.microvm.protocol import (
    Begin,
    Begun,
    Carry,
    Clock,
    Egress,
    Failed,
    GuestPlan,
    encode,
)
from supervisor.microvm.relay import splice, translated

log: Final = logging.getLogger("gaoler.guest")

PORTS: Final = Path("/sys/class/virtio-ports")
STATE: Final = Path("/run/gaoler")
CARRIER: Final = "supervisor.microvm.carrier"
FIRST_SUBORDINATE_ID: Final = 100_000
SUBORDINATE_IDS: Final = 65_536
MAX_JAILS: Final = 64
"""A guest is one session's: its jail, those that wait, and programs of ours that help it."""
_CLOSED: Final = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
_MOUNTS: Final = (
    # Where, what, flags, options. The first one tells which of the others are there.
    ("/proc", "proc", _CLOSED, None),
    ("/sys", "sysfs", _CLOSED, None),
    ("/dev", "devtmpfs", kernel.MS_NOSUID, None),
    ("/sys/fs/cgroup", "cgroup2", _CLOSED, None),
    ("/run", "tmpfs", _CLOSED, "mode=755"),
    ("/tmp", "tmpfs", _CLOSED, "mode=1777,size=64m"),
)
# <linux/random.h>, <linux/reboot.h>
_RNDADDENTROPY: Final = 0x40085203
_RNDRESEEDCRNG: Final = 0x5207
_RB_AUTOBOOT: Final = 0x01234567


def mount_missing() -> None:
    """Mount what a kernel or another init has not mounted yet.

    Raises:
        OSError: the kernel refuses one.
    """
    there: set[str] = set()
    for place, kind, flags, options in _MOUNTS:
        if place not in there:
            try:
                kernel.mount(kind, place, kind, flags, options)
            except OSError as error:
                # A kernel mounts /dev by itself; before /proc is there nobody can know.
                if error.errno != errno.EBUSY:
                    raise
        if place == "/proc":
            lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
            there = {line.split()[4] for line in lines}


def open_port() -> int:
    """Open the port to the host for reading and writing, once and for ever: what comes while it is closed is lost.

    Raises:
        FileNotFoundError: this is no guest of ours.
    """
    for name in PORTS.glob("*/name"):
        if name.read_text(encoding="ascii", errors="replace").strip() == PORT:
            return os.open(f"/dev/{name.parent.name}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    raise FileNotFoundError(errno.ENOENT, f"no virtio port is named {PORT}")


def set_clock(nanoseconds: int) -> None:
    """Set the clock.

    Raises:
        OSError: the kernel refuses it.
    """
    time.clock_settime_ns(time.CLOCK_REALTIME, nanoseconds)


def add_entropy(entropy: bytes) -> None:
    """Give the kernel's generator what nobody else has, and have it used at once: random(4).

    Raises:
        OSError: the kernel refuses it.
    """
    with Path("/dev/urandom").open("rb") as device:
        fcntl.ioctl(device, _RNDADDENTROPY, struct.pack("=ii", 8 * len(entropy), len(entropy)) + entropy)
        fcntl.ioctl(device, _RNDRESEEDCRNG)


def setup_plan(plan: GuestPlan) -> setup.SetupPlan:
    """Say how the jailer is started here."""
    return setup.SetupPlan(
        state_directory=STATE,
        usr=Path("/usr"),
        etc=Path("/etc"),
        image=Path(IMAGE),
        policies=plan.policies,
        seccomp_profiles=plan.seccomp_profiles,
        profiles=plan.profiles,
        pools=plan.pools,
        policy_directory=Path(POLICIES),
        nsjail=nsjail(sys.path),
        init=Path(plan.init),
        python=(PYTHON, "-I"),
        code=[Path(GAOLER)],
        daemon_uid=0,
        first_subordinate_uid=FIRST_SUBORDINATE_ID,
        subordinate_uids=SUBORDINATE_IDS,
        builders=min(64, os.cpu_count() or 1),
        max_jails=MAX_JAILS,
        log_level=plan.log_level,
        filters=plan.filters,
        build_seconds=plan.build_seconds,
        compiled=plan.compiled,
        egress=plan.egress,
        proxy=CARRIER,
        shared_packages=Path(PACKAGES),
    )


def nsjail(directories: Sequence[str]) -> Path:
    """Find the nsjail program where our packages lie.

    Raises:
        ConfigurationError: it is not there.
    """
    for directory in directories:
        path = Path(directory, "nsjail", "bin", "nsjail")
        if path.is_file():
            return path
    raise ConfigurationError(f"the guest's {GAOLER} has no nsjail")


def begin(order: Begin) -> setup.JailerHandle:
    """Set the clock, take the entropy, start the jailer; return when it serves. Blocks: nothing else goes on yet.

    Raises:
        ConfigurationError: something is missing in the guest.
        OSError: the kernel refused a step.
    """
    set_clock(order.clock_nanoseconds)
    add_entropy(order.entropy)
    logging.getLogger().setLevel(order.plan.log_level)
    _tell_phase("begin")
    handle = setup.start_jailer(setup_plan(order.plan))
    _tell_phase("jailer")
    return handle


class Guest:
    """Passes the host's channels on: to the jailer, or to the carrier of connections, or does what they say itself."""

    def __init__(self, jailer: Connection, carrier: Connection | None) -> None:
        self._jailer = jailer
        self._carrier = carrier
        self._jails: dict[int, int] = {}
        """Numbers of channels at the jailer, by those of the host."""

    async def serve(self, host: Connection) -> None:
        """Serve until the host's connection ends, or one of ours."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, self._jailer, nursery.cancel_scope)
            if self._carrier is not None:
                nursery.start_soon(self._watch, self._carrier, nursery.cancel_scope)
            try:
                while True:
                    nursery.start_soon(self._serve_channel, await host.accept())
            except ChannelClosed:
                nursery.cancel_scope.cancel()

    async def _watch(self, connection: Connection, scope: trio.CancelScope) -> None:
        await connection.ended.wait()
        log.error("the jailer or the carrier is gone")
        scope.cancel()

    async def _serve_channel(self, channel: Channel) -> None:
        try:
            first = await channel.receive_message()
            order = order_of(channel, first)
            if order is None:
                await self._pass_to_jailer(channel, first)
            elif isinstance(order, Clock):
                set_clock(order.clock_nanoseconds)
                await channel.send_message(encode(Begun()))
            elif isinstance(order, Egress | Carry) and self._carrier is not None:
                await _pass_on(channel, await self._carrier.open_channel(), first, to_the_end=True)
            else:
                raise ProtocolError(f"channel {channel.number}: no {type(order).__name__} is due")
        except* ChannelClosed:
            pass
        finally:
            await channel.aclose()

    async def _pass_to_jailer(self, channel: Channel, first: bytes) -> None:
        try:
            request = protocol.decode_request(first)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"channel {channel.number}: {error}") from None
        if isinstance(request, protocol.Background):
            known = translated(request, self._jails)
            if known is None:
                await channel.send_message(protocol.encode(protocol.Refused(reason="there is no such jail")))
                return
            first = protocol.encode(known)
        far = await self._jailer.open_channel()
        try:
            await _pass_on(channel, far, first, self._jails)
        finally:
            self._jails.pop(channel.number, None)


async def _pass_on(
    near: Channel, far: Channel, first: bytes, numbers: dict[int, int] | None = None, *, to_the_end: bool = False
) -> None:
    """Pass the first message on, and then everything, both ways; close ``far``. ``numbers`` learns those of both."""
    try:
        await far.send_message(first, hold=near.pending)
        if numbers is not None:
            numbers[near.number] = far.number
        await splice(near, far, to_the_end=to_the_end)
    finally:
        await far.aclose()


async def serve(port_fd: int) -> None:
    """Greet the host, wait for its ``Begin``, and serve to the end.

    Raises:
        ProtocolError: (as part of an exception group) the host broke a rule.
    """
    port = trio.lowlevel.FdStream(port_fd)
    await port.send_all(GREETING)
    _tell_phase("greeting")
    async with open_connection(port, accepts=True) as host:
        try:
            channel = await host.accept()
            order = order_of(channel, await channel.receive_message())
        except ChannelClosed:
            return
        if not isinstance(order, Begin):
            raise ProtocolError("the first message is no Begin")
        try:
            handle = begin(order)
        except (ConfigurationError, OSError) as error:
            log.critical("the jailer cannot be started: %s", error)
            await channel.send_message(encode(Failed(reason=str(error)[:2048])))
            await channel.aclose()
            # The host ends the machine when it has read that; if it does not, the end of its port does.
            await host.ended.wait()
            return
        async with AsyncExitStack() as stack:
            connections: list[Connection] = []
            wanted = [handle.socket_path]
            if order.plan.egress:
                wanted.append(handle.socket_path.with_name(setup.EGRESS_SOCKET))
            for path in wanted:
                stream = await trio.open_unix_socket(str(path))
                connections.append(await stack.enter_async_context(open_connection(stream, accepts=False)))
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(Orphans().reap)
            await channel.send_message(encode(Begun()))
            await channel.aclose()
            await Guest(connections[0], connections[1] if order.plan.egress else None).serve(host)
            nursery.cancel_scope.cancel()


def _tell_phase(name: str) -> None:
    """Say in the log how long the machine took to come here: ``make bench-microvm`` reads it."""
    log.info("phase %s uptime=%.3f", name, time.clock_gettime(time.CLOCK_BOOTTIME))


def power_off() -> None:
    """End the machine, at once; both QEMU and libkrun take a reboot for that. Returns only where it may not be."""
    ctypes.CDLL(None).reboot(_RB_AUTOBOOT)


def main() -> None:
    """Be the guest's first program."""
    mount_missing()
    logging.basicConfig(level="INFO", format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    limit_logging()
    _tell_phase("userspace")
    port = open_port()
    # From here on this is a guest of ours, and ends as one.
    try:
        trio.run(serve, port)
    except BaseException:
        log.exception("the guest ends")
        raise
    finally:
        power_off()
