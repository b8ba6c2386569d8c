"""Which addresses nobody may reach unless a rule names their range. Pure.

The table is IANA's special-purpose registries (RFC 6890 and its updates); an IPv6 address outside of 2000::/3 is never
a public one.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NEVER: Final = {
    "0.0.0.0/8": "this network",
    "224.0.0.0/4": "multicast",
    "255.255.255.255/32": "broadcast",
    "::/128": "unspecified",
    "ff00::/8": "multicast",
}
"""Not even if a rule says so: a connection to one of them means something else than it says."""

_SPECIAL: Final = {
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by carriers",
    "127.0.0.0/8": "loopback: the host itself",
    "169.254.0.0/16": "link-local: cloud metadata",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "for protocols",
    "192.0.2.0/24": "for documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "AMT",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "240.0.0.0/4": "reserved",
    "::1/128": "loopback: the host itself",
    "::/96": "IPv4-compatible",
    "::ffff:0:0/96": "IPv4-mapped",
    "::ffff:0:0:0/96": "IPv4-translated",
    "64:ff9b::/96": "NAT64: an IPv4 address in disguise",
    "64:ff9b:1::/48": "NAT64: an IPv4 address in disguise",
    "100::/64": "discarded",
    "2001::/32": "Teredo: an IPv4 address in disguise",
    "2001::/23": "for protocols",
    "2001:db8::/32": "for documentation",
    "2002::/16": "6to4: an IPv4 address in disguise",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "for documentation",
    "5f00::/16": "segment routing",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
}


def _table(written: dict[str, str]) -> list[tuple[Network, str]]:
    return [(ip_network(text), name) for text, name in written.items()]


_never: Final = _table(_NEVER)
_special: Final = _table(_SPECIAL)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")


def plain(address: Address) -> Address:
    """Give an IPv4-mapped address as what it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _disguised(address: Address) -> IPv4Address | None:
    """Give the IPv4 address that an IPv6 one stands for, by NAT64, 6to4 or the compatible form."""
    if isinstance(address, IPv6Address):
        if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
            return IPv4Address(int(address) & 0xFFFFFFFF)
        return address.sixtofour
    return None


def fault(address: Address, reachable: Iterable[Network] = ()) -> str | None:
    """Say why an address may not be reached; ``None``: it may. ``reachable``: ranges that a rule opens."""
    address = plain(address)
    for network, name in _never:
        if address in network:
            return name
    reachable = tuple(reachable)
    if any(address in network for network in reachable):
        inner = _disguised(address)
        # Who opens a range of translated addresses has not opened what is behind it.
        return None if inner is None else fault(inner, reachable)
    for network, name in _special:
        if address in network:
            return name
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "not a public address"
    return None
