"""What the service manager has given this process: whom to tell, how often to live, on what to listen."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from supervisor.errors import ConfigurationError
from supervisor.service import activation
from supervisor.service.notify import Notifier, open_notifier
from supervisor.settings.tree import Settings

_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Service:
    """By default there is no service manager. The sockets are closed by whoever serves on them."""

    notifier: Notifier = field(default_factory=Notifier)
    sockets: tuple[socket.socket, ...] = ()
    watchdog_seconds: float | None = None
    """Who says nothing for so long is killed and started again."""

    def settings(self, settings: Settings) -> Settings:
        """Give the settings with the bind that really is.

        Raises:
            ConfigurationError: nobody is asked for a credential, and others can reach a socket.
        """
        if not self.sockets:
            return settings
        public = [activation.address_of(each) for each in self.sockets if not activation.is_private(each)]
        if public and not settings.http.authentication:
            raise ConfigurationError(
                f"http.authentication = false is allowed only with loopback or unix sockets, not with {public[0]}",
                field="http.authentication",
            )
        return msgspec.structs.replace(settings, bind=activation.address_of(self.sockets[0]))


def take_service(environment: MutableMapping[str, str]) -> Service:
    """Read what the service manager says in the environment, and take it out: it is for nobody whom we start.

    Raises:
        ConfigurationError: it says something that cannot be.
    """
    pid = os.getpid()
    service = Service(
        notifier=open_notifier(environment),
        sockets=activation.given_sockets(environment, pid),
        watchdog_seconds=_watchdog_seconds(environment, pid),
    )
    for name in _OURS:
        environment.pop(name, None)
    return service


def _watchdog_seconds(environment: MutableMapping[str, str], pid: int) -> float | None:
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    given = environment.get("WATCHDOG_USEC", "")
    if not given:
        return None
    if not given.isascii() or not given.isdigit() or int(given) == 0:
        raise ConfigurationError(f"WATCHDOG_USEC = {given!r} is not allowed: microseconds")
    return int(given) / 1e6
