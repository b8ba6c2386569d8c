"""Addresses for names, in one sandbox: made up, and known to nobody outside."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from egress.addresses import Address
from egress.names import Host

FIRST_SYNTHETIC: Final = int(IPv4Address("198.18.0.1"))
MAX_NAMES: Final = 4096
"""Names of one sandbox that have an address at once; the oldest goes."""


class SyntheticNames:
    """Addresses that exist in one sandbox only, each for one name. They are given in turn and mean nothing outside."""

    def __init__(self) -> None:
        self._by_name: dict[str, IPv4Address] = {}
        self._by_address: dict[IPv4Address, str] = {}
        self._next = 0

    def address(self, name: str) -> IPv4Address:
        """Give the address of a name, the same as before if it has one."""
        known = self._by_name.pop(name, None)
        if known is None:
            known = IPv4Address(FIRST_SYNTHETIC + self._next)
            self._next = (self._next + 1) % (MAX_NAMES + 1)
            old = self._by_address.pop(known, None)
            if old is not None:
                del self._by_name[old]
            self._by_address[known] = name
        self._by_name[name] = known
        return known

    def host(self, address: Address) -> Host | None:
        """Give the name behind an address, if it is one of ours."""
        name = self._by_address.get(address) if isinstance(address, IPv4Address) else None
        return None if name is None else Host(name)
