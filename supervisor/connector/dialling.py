"""How Redis and S3 are reached: a function that gives a connected socket.

The daemon itself may make no socket of a network; it asks the connector (:mod:`supervisor.connector`), which dials what
the settings name and nothing else, and passes the socket on. Clients are given a :data:`Dial` and know neither.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

Dial = Callable[[str, int, float], socket.socket]
"""Connect to host and port by TCP within so many seconds; blocking, for threads. With a host that begins with
``unix:`` and port 0 it is the unix socket of that path. The socket is blocking, without a timeout, close-on-exec, and
the caller's. Raises ``OSError``: ``TimeoutError`` when it took too long,
``PermissionError`` when the settings do not name this place."""


def dial_directly(host: str, port: int, seconds: float) -> socket.socket:
    """Connect from this very process: a :data:`Dial` for tests, benchmarks and commands of an operator."""
    if host.startswith("unix:"):
        local = socket.socket(socket.AF_UNIX)
        local.settimeout(seconds)
        try:
            local.connect(host.removeprefix("unix:"))
        except OSError:
            local.close()
            raise
        local.settimeout(None)
        return local
    connected = socket.create_connection((host, port), seconds)
    connected.settimeout(None)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected
