"""Telling systemd how we are: one datagram each, sd_notify(3). Where nobody asked to be told, nothing is."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from typing import Final

from supervisor.errors import ConfigurationError

log: Final = logging.getLogger("gaoler.service")

VARIABLE: Final = "NOTIFY_SOCKET"


class Notifier:
    """Sends to a socket that was connected while we could still see it: the daemon's own view and network have none."""

    def __init__(self, connected: socket.socket | None = None) -> None:
        self._socket = connected

    def tell(self, *assignments: str) -> None:
        """Send assignments (``READY=1``) as one datagram. Whoever does not read them is not waited for."""
        if self._socket is None:
            return
        try:
            self._socket.send("\n".join(assignments).encode(), socket.MSG_NOSIGNAL)
        except OSError as error:
            # The watchdog and the time limits of the unit are what follows; nothing here could do better.
            log.warning("the service manager was not told %s: %s", assignments[0], error)

    def close(self) -> None:
        """Tell nobody from now on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str) -> None:
        """Say that requests are taken; also at the end of a reload."""
        self.tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins; the time tells it from the one before."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str, seconds: float) -> None:
        """Say that we go, and that it may take so long from now, whatever the unit's own limit is."""
        self.tell("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")


def open_notifier(environment: Mapping[str, str]) -> Notifier:
    """Connect to the socket that ``NOTIFY_SOCKET`` names: a path, or with ``@`` an abstract one.

    Raises:
        ConfigurationError: it names another kind of socket, or nobody is there.
    """
    name = environment.get(VARIABLE, "")
    if not name:
        return Notifier()
    if name[0] not in "/@":
        raise ConfigurationError(f"{VARIABLE} = {name!r}: only a path and an abstract name (@...) are known here")
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        found.connect(f"\0{name[1:]}" if name[0] == "@" else name)
    except OSError as error:
        found.close()
        raise ConfigurationError(f"{VARIABLE} = {name!r}: {error.strerror}") from None
    found.setblocking(False)
    return Notifier(found)
