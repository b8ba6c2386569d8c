"""The network inside a jail: every address is local there, and what listens on them is ours.

AnyIP: ``local default dev lo`` makes the kernel accept connections to any address (ip-route(8), type local), so a
listener on the wildcard address gets whatever a program connects to and sees in ``getsockname()`` where it wanted to
go. There is no device but loopback and no route out of the namespace, hence nothing on the host to be cleaned up.

A socket stays in the namespace that it was made in, so a short-lived thread enters, makes them and ends; never one of
Trio's, which are used again.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import trio

from supervisor.jailer import kernel

PROXY_PORT: Final = 3128
DNS_PORT: Final = 53
FIRST_PORTS: Final = (PROXY_PORT, DNS_PORT, 80, 443)
"""Of every jail that may have a network; others are opened when a rule names them."""
BACKLOG: Final = 256
LOOPBACK: Final = 1
"""Its interface index in every namespace."""
SCOPE_HOST: Final = 254
MAIN_TABLE: Final = 254
_T = TypeVar("_T")


def plumb(first_ports: Sequence[int] = FIRST_PORTS) -> list[socket.socket]:
    """Make every address local in the calling thread's network namespace, and listen on them.

    Raises:
        OSError: the kernel refuses a step.
    """
    # Heavy, and needed only where there is a network at all.
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as netlink:
            netlink.link("set", index=LOOPBACK, state="up")
            for family, everything in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
                if family == socket.AF_INET or socket.has_ipv6:
                    netlink.route(
                        "add",
                        family=family,
                        dst=everything,
                        oif=LOOPBACK,
                        type="local",
                        scope=SCOPE_HOST,
                        table=MAIN_TABLE,
                    )
    except NetlinkError as error:
        raise OSError(error.code, f"the addresses of the jail cannot be made local: {error}") from None
    return listen(first_ports)


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
        link.setblocking(False)
        self._link = link

    def hand_over(self, grant: str, listeners: Sequence[socket.socket]) -> None:
        """Give the proxy copies of the listeners of the sandbox that has this grant.

        Raises:
            OSError: the proxy takes nothing now.
        """
        socket.send_fds(self._link, [grant.encode("ascii")], [each.fileno() for each in listeners])
