"""Is an address this host's own? Behind those is what no firewall guards, public or not."""

from __future__ import annotations

import socket

from egress.addresses import Address


def is_own(address: Address) -> bool:
    """Say whether the host would talk to itself.

    The kernel tells, by the source address that it would choose; nothing is sent.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == str(address))
