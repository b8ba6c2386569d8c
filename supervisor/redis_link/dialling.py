"""One connected socket to a Redis server: dialled for us, in TLS where it has to be, and cut from another thread."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Final

import redis

from supervisor.connector.allowlist import UNIX
from supervisor.connector.dialling import Dial
from supervisor.redis_link.plan import Place

_KEEP_ALIVE: Final = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""A server whose host has vanished is noticed after half a minute by who waits without a limit."""


class ServerRefused(redis.ConnectionError):
    """The settings and the server do not fit, and waiting may not help; ``field`` is the key that has to change."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class Cut:
    """Ends, from any thread, what waits on a connection, and every connection that is made with it after that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.done = False

    def hold(self, connected: socket.socket) -> None:
        """Have this socket cut.

        Raises:
            redis.ConnectionError: it has been cut meanwhile.
        """
        with self._lock:
            self._socket = connected
            if self.done:
                raise redis.ConnectionError("given up")

    def cut(self) -> None:
        """End it. The socket is closed by whoever waits on it."""
        with self._lock:
            self.done = True
            if self._socket is not None:
                with suppress(OSError):
                    # Not the method of an SSLSocket, which takes its state away from the thread that reads.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def connect_socket(
    place: Place, dial: Dial, seconds: float, *, tls: ssl.SSLContext | None, cut: Cut, field: str
) -> socket.socket:
    """Connect, within about twice so many seconds; the socket, with this time limit, is the caller's.

    Raises:
        ServerRefused: the settings do not name this place (``field``), or its certificate does not hold.
        OSError: it cannot be reached.
    """
    try:
        connected = dial(place.host if place.port else UNIX + place.host, place.port, seconds)
    except PermissionError:
        if not place.port:
            raise ServerRefused(f"the socket {place.host} may not be used by this user", field) from None
        where = f"{place.host}:{place.port}"
        raise ServerRefused(f"the settings do not allow a connection to {where}", field) from None
    try:
        connected.settimeout(seconds)
        if place.port:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEP_ALIVE.items():
                connected.setsockopt(socket.IPPROTO_TCP, option, value)
        cut.hold(connected)
        if tls is not None:
            connected = tls.wrap_socket(connected, server_hostname=place.host, do_handshake_on_connect=False)
            cut.hold(connected)
            connected.do_handshake()
    except ssl.SSLCertVerificationError as error:
        connected.close()
        raise ServerRefused(
            f"the certificate of {place.host} does not hold: {error.verify_message}", "redis.ca"
        ) from None
    except BaseException:
        connected.close()
        raise
    return connected
