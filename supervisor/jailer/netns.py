"""The network inside a jail: every address is local there, and what listens on them is ours.

AnyIP: ``local default dev lo`` makes the kernel accept connections to any address (ip-route(8), type local), so a
listener on the wildcard address gets whatever a program connects to and sees in ``getsockname()`` where it wanted to
go. There is no device but loopback and no route out of the namespace, hence nothing on the host to be cleaned up.

A socket stays in the namespace that it was made in, so a short-lived thread enters, makes them and ends; never one of
Trio's, which are used again.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from supervisor.jailer import kernel

PROXY_PORT: Final = 3128
DNS_PORT: Final = 53
FIRST_PORTS: Final = (PROXY_PORT, DNS_PORT, 80, 443)
"""Of every jail that may have a network; others are opened when a rule names them."""
BACKLOG: Final = 256
LOOPBACK: Final = 1
"""Its interface index in every namespace."""
# <linux/rtnetlink.h>, <linux/netlink.h>
IFF_UP: Final = 1
SCOPE_HOST: Final = 254
MAIN_TABLE: Final = 254
PROTO_BOOT: Final = 3
TYPE_LOCAL: Final = 2
NLMSG_ERROR: Final = 2
BUFFERS: Final = {"tcp_rmem": "4096 131072 1048576", "tcp_wmem": "4096 65536 1048576"}
"""Least, first and largest size: what a stalled connection may hold of the host's memory."""
_T = TypeVar("_T")


class Plumbing:
    """What makes every address local: netlink messages, the same for each namespace, so they are encoded once.

    pyroute2 writes them; a whole ``IPRoute`` for each jail would take ten times as long as the kernel does.
    """

    def __init__(self) -> None:
        # Heavy, and needed only where there is a network at all.
        from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
        from pyroute2.netlink.rtnl import RTM_NEWLINK, RTM_NEWROUTE
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        from pyroute2.netlink.rtnl.rtmsg import rtmsg

        link = ifinfmsg()
        link["index"], link["flags"], link["change"] = LOOPBACK, IFF_UP, IFF_UP
        self._messages = [_encoded(link, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK)]
        for family in (socket.AF_INET, socket.AF_INET6):
            route = rtmsg()
            route["family"], route["table"], route["proto"] = int(family), MAIN_TABLE, PROTO_BOOT
            route["scope"], route["type"] = SCOPE_HOST, TYPE_LOCAL
            route["attrs"] = [("RTA_OIF", LOOPBACK)]
            flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
            self._messages.append(_encoded(route, RTM_NEWROUTE, flags))

    def apply(self) -> None:
        """Make every address local in the calling thread's network namespace, and bound its socket buffers.

        Raises:
            OSError: the kernel refuses a step.
        """
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
            for message in self._messages:
                netlink.send(message)
                _check_answer(netlink.recv(4096))
        for name, value in BUFFERS.items():
            Path("/proc/sys/net/ipv4", name).write_text(value)


def _encoded(message: Any, kind: int, flags: int) -> bytes:
    message["header"]["type"], message["header"]["flags"], message["header"]["sequence_number"] = kind, flags, 1
    message.encode()
    return bytes(message.data)


def _check_answer(answer: bytes) -> None:
    """Read an acknowledgement: netlink(7), nlmsgerr."""
    kind, error = struct.unpack_from("=4xH10xi", answer)
    if kind != NLMSG_ERROR:
        raise OSError(errno.EPROTO, "the kernel does not acknowledge a netlink message")
    if error:
        raise OSError(-error, f"the addresses of the jail cannot be made local: {os.strerror(-error)}")


def plumb(plumbing: Plumbing) -> list[socket.socket]:
    """Make every address local in the calling thread's network namespace, and listen on them.

    Raises:
        OSError: the kernel refuses a step.
    """
    plumbing.apply()
    return listen(FIRST_PORTS)


def listen(ports: Sequence[int]) -> list[socket.socket]:
    """Listen on these ports of every address; for names also to datagrams. The sockets are the caller's.

    Raises:
        OSError: a port is taken, by a program of the sandbox perhaps.
    """
    made: list[socket.socket] = []
    try:
        for port in ports:
            made.append(_bound(socket.SOCK_STREAM, port))
            made[-1].listen(BACKLOG)
            if port == DNS_PORT:
                made.append(_bound(socket.SOCK_DGRAM, port))
    except BaseException:
        close_all(made)
        raise
    return made


def _bound(kind: socket.SocketKind, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        # One socket for both families: an IPv4 address shows as ::ffff:a.b.c.d.
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("::", port))
    except BaseException:
        made.close()
        raise
    return made


def close_all(sockets: Sequence[socket.socket]) -> None:
    """Close them."""
    for each in sockets:
        each.close()


def listen_each(ports: Sequence[int]) -> tuple[list[socket.socket], dict[int, OSError]]:
    """Listen on as many of these ports as can be; say which cannot, and why. A program of the sandbox may have one."""
    made: list[socket.socket] = []
    faults: dict[int, OSError] = {}
    for port in ports:
        try:
            made += listen([port])
        except OSError as error:
            faults[port] = error
    return made, faults


async def inside(pidfd: int, work: Callable[[], _T]) -> _T:
    """Do something in the network namespace of the process behind ``pidfd``; not cancelled half-way.

    Raises:
        OSError: the namespace cannot be entered; and whatever ``work`` raises.
    """
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()
    outcome: list[_T] = []
    fault: list[BaseException] = []

    def run() -> None:
        try:
            kernel.setns(pidfd, kernel.CLONE_NEWNET)
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
            fault.append(error)
        finally:
            token.run_sync_soon(done.set)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    with trio.CancelScope(shield=True):
        await done.wait()
    thread.join()
    if fault:
        raise fault[0]
    return outcome[0]


class EgressLink:
    """The way to the egress proxy: one datagram for each sandbox, with its listeners."""

    def __init__(self, link: socket.socket) -> None:
        self.plumbing = Plumbing()
        link.setblocking(False)
        self._link = link

    def hand_over(self, grant: str, listeners: Sequence[socket.socket]) -> None:
        """Give the proxy copies of the listeners of the sandbox that has this grant.

        Raises:
            OSError: the proxy takes nothing now.
        """
        socket.send_fds(self._link, [grant.encode("ascii")], [each.fileno() for each in listeners])
