"""What may be dialled: places by name, and networks in which nodes may be. Pure; decided before the daemon serves."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Final

from msgspec import Struct

UNIX: Final = "unix:"
"""A host that begins with this is the path of a unix socket; its port is 0."""
_HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
MAX_NAME: Final = 253


class Allowed(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of it. Names and addresses are in the form of :func:`plain_host`."""

    places: frozenset[tuple[str, int]] = frozenset()
    networks: frozenset[tuple[str, int]] = frozenset()
    """NETWORK/BITS and port: addresses in there, given as such, not names that lead there."""

    def permits(self, host: str, port: int) -> bool:
        """Say whether this very host and port may be dialled. A name is compared as a name, and not looked up."""
        plain = plain_host(host)
        if plain is None:
            return False
        if (plain, port) in self.places:
            return True
        try:
            address = ip_address(plain)
        except ValueError:
            return False
        return any(port == allowed and address in ip_network(network) for network, allowed in self.networks)

    @property
    def unix_paths(self) -> tuple[str, ...]:
        """Paths of the unix sockets among the places."""
        return tuple(sorted(host.removeprefix(UNIX) for host, _ in self.places if host.startswith(UNIX)))


def plain_host(host: str) -> str | None:
    """Give the one form of a host: a lower-case name without a dot at its end, an address as Python writes it.

    ``None``: it is neither, or an IPv6 address with a zone, which names another network on each host.
    """
    if host.startswith(UNIX):
        return host
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "%" in bare:
        return None
    try:
        return str(ip_address(bare))
    except ValueError:
        name = bare.lower().removesuffix(".")
        return name if len(name) <= MAX_NAME and _HOST_NAME.fullmatch(name) else None
