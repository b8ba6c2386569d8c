"""Records with fields for systemd's journal, in its own protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.

``journalctl -u gaoler REQUEST_ID=…`` then finds what belongs together. The socket is connected before the view closes.
"""

from __future__ import annotations

import logging
import re
import socket
import struct
from pathlib import Path
from typing import Final

from supervisor.errors import ConfigurationError
from supervisor.logs.forms import Event, Hiding, fields_of, priority_of
from supervisor.logs.lossy import LossyHandler

JOURNAL_SOCKET: Final = Path("/run/systemd/journal/socket")
IDENTIFIER: Final = "gaoler"
_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9_]")


class Journal(LossyHandler):
    """Sends each record as one datagram. It owns the socket. What a stopped journal does not take is lost."""

    def __init__(self, channel: socket.socket, hide: Hiding) -> None:
        super().__init__()
        self._channel = channel
        self._hide = hide

    def write(self, record: logging.LogRecord) -> None:
        """Send it."""
        self._channel.send(datagram(fields_of(record), record.getMessage(), self._hide))

    def close(self) -> None:
        """Close the socket."""
        self._channel.close()
        super().close()


def connect_journal(path: Path = JOURNAL_SOCKET) -> socket.socket:
    """Connect to the journal.

    Raises:
        ConfigurationError: there is none.
    """
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        channel.connect(str(path))
    except OSError as error:
        channel.close()
        raise ConfigurationError(
            f"log.format = journal: {path}: {error.strerror}; without systemd's journal it is text or json",
            field="log.format",
        ) from None
    channel.setblocking(False)
    return channel


def datagram(event: Event, message: str, hide: Hiding) -> bytes:
    """Write a record: each field as its name, its length (64 bits, little-endian) and its bytes."""
    fields = {"MESSAGE": message, "PRIORITY": priority_of(event), "SYSLOG_IDENTIFIER": IDENTIFIER}
    for key, value in event.items():
        if key not in ("time", "level"):
            fields.setdefault(_name(key), str(value))
    return b"".join(_field(name, hide(value)) for name, value in fields.items())


def _name(key: str) -> str:
    """Give a name as the journal takes it: capitals, digits, no more than 64, not beginning with an underscore."""
    return _NOT_IN_NAMES.sub("_", key.upper()).lstrip("_0123456789")[:64] or "FIELD"


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
