"""Addresses of clients: what counts as one, and what a request says of where it is from."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
UNKNOWN: Final = "unknown"
PREFIX_KEY: Final = "gaoler.prefix"
"""Of an ASGI scope: the prefix that was taken off its path."""


def parse(text: str) -> IPAddress | None:
    """Read an address; an IPv4 one that is written as IPv6 is the IPv4 one. ``None``: it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def counted_as(text: str) -> str:
    """Name what an address is counted as: itself, or the /64 of an IPv6 one. What is no address stays as it is."""
    address = parse(text)
    if isinstance(address, ipaddress.IPv6Address):
        # Who has one address of a network has all of them.
        return str(ipaddress.ip_network((address, 64), strict=False))
    return text if address is None else str(address)


def address_of(scope: Mapping[str, Any]) -> str:
    """Give the client of an ASGI request: an address, or ``uid N`` at the other end of a unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else UNKNOWN
