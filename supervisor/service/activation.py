"""Sockets that somebody else has bound for us: sd_listen_fds(3). They are there before the daemon is, and after it."""

from __future__ import annotations

import ipaddress
import socket
import stat
from collections.abc import Mapping
from os import fstat
from typing import Final

from supervisor.errors import ConfigurationError

FIRST: Final = 3
MAX_SOCKETS: Final = 64


def given_sockets(environment: Mapping[str, str], pid: int) -> tuple[socket.socket, ...]:
    """Give the listening sockets that ``LISTEN_FDS`` counts, if ``LISTEN_PID`` says that they are for ``pid``.

    No program that is started later inherits them.

    Raises:
        ConfigurationError: a descriptor is no socket that listens for streams, of IP or of unix.
    """
    if environment.get("LISTEN_PID") != str(pid):
        return ()
    count = environment.get("LISTEN_FDS", "")
    if not count.isascii() or not count.isdigit() or not 0 < int(count) <= MAX_SOCKETS:
        raise ConfigurationError(f"LISTEN_FDS = {count!r} is not allowed: 1 to {MAX_SOCKETS}")
    return tuple(_listening(FIRST + index) for index in range(int(count)))


def _listening(fd: int) -> socket.socket:
    fault = ConfigurationError(
        f"descriptor {fd} of LISTEN_FDS is no listening stream socket of IP or unix: the socket unit has ListenStream="
    )
    try:
        if not stat.S_ISSOCK(fstat(fd).st_mode):
            raise fault
    except OSError:
        raise fault from None
    found = socket.socket(fileno=fd)
    known = found.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) and found.type == socket.SOCK_STREAM
    if not known or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.detach()
        raise fault
    found.set_inheritable(False)
    return found


def address_of(listener: socket.socket) -> str:
    """Write where it listens as the setting ``bind`` has it."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        path = name.decode() if isinstance(name, bytes) else name
        return f"unix:{path}"
    return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def is_private(listener: socket.socket) -> bool:
    """Say whether only this host can reach it."""
    return listener.family == socket.AF_UNIX or ipaddress.ip_address(listener.getsockname()[0]).is_loopback
