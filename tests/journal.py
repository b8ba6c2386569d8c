"""What systemd's journal is sent, read as it reads it."""

from __future__ import annotations

import struct


def fields(datagram: bytes) -> dict[str, str]:
    """The fields of one record in the journal's native protocol, all in its form with lengths."""
    found: dict[str, str] = {}
    while datagram:
        name, _, rest = datagram.partition(b"\n")
        (length,) = struct.unpack("<Q", rest[:8])
        found[name.decode()] = rest[8 : 8 + length].decode()
        assert rest[8 + length : 9 + length] == b"\n"
        datagram = rest[9 + length :]
    return found
