"""One delivery to a receiver: a POST over a connection of its own, within a time. Blocking, for a thread.

A redirection is not followed: the connector dials what the settings name, and a token is for that place alone.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11

from supervisor import __version__
from supervisor.connector.dialling import Dial
from supervisor.settings.tracing import TracingSettings

PORTS: Final = {"http": 80, "https": 443}
PATH: Final = "/v1/traces"
MAX_ANSWER_BYTES: Final = 64 << 10
_PIECE: Final = 16 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver says."""

    status: int
    retry_after_seconds: float | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where spans go. Use :func:`receiver_of`."""

    host: str
    port: int
    path: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    seconds: float

    def post(self, dial: Dial, body: bytes, content_type: str) -> Answer:
        """Deliver and give the answer, within ``seconds`` in all.

        Raises:
            OSError: nobody is there, or too slow; a TLS that does not hold is one too.
            h11.ProtocolError: that is no HTTP, or too much of it.
        """
        deadline = time.monotonic() + self.seconds
        connected = dial(self.host, self.port, self.seconds)
        try:
            connected.settimeout(_left(deadline))
            if self.tls is not None:
                connected = self.tls.wrap_socket(connected, server_hostname=self.host)
            return self._exchange(connected, body, content_type, deadline)
        finally:
            connected.close()

    def _exchange(self, connected: socket.socket, body: bytes, content_type: str, deadline: float) -> Answer:
        talk = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_BYTES)
        host = f"[{self.host}]" if ":" in self.host else self.host
        headers = {
            **self.headers,
            "Host": f"{host}:{self.port}",
            "User-Agent": f"gaoler/{__version__}",
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        head = talk.send(h11.Request(method="POST", target=self.path, headers=list(headers.items())))
        connected.settimeout(_left(deadline))
        connected.sendall((head or b"") + (talk.send(h11.Data(data=body)) or b""))
        talk.send(h11.EndOfMessage())
        return _read(talk, connected, deadline)


def _read(talk: h11.Connection, connected: socket.socket, deadline: float) -> Answer:
    status, later, body = 0, None, b""
    while True:
        event = talk.next_event()
        if event is h11.NEED_DATA:
            connected.settimeout(_left(deadline))
            talk.receive_data(connected.recv(_PIECE))
        elif isinstance(event, h11.Response):
            status, later = event.status_code, _retry_after(dict(event.headers).get(b"retry-after", b""))
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_ANSWER_BYTES:
                raise h11.RemoteProtocolError("the answer is too long")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return Answer(status, later, body)


def _retry_after(text: bytes) -> float | None:
    return float(text) if text.isdigit() and len(text) < 6 else None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the receiver is too slow")
    return left


def receiver_of(settings: TracingSettings) -> Receiver:
    """Read the settings; the files that they name have to be there."""
    parts = urlsplit(settings.url)
    headers = [each.partition("=") for each in settings.headers.split(",") if each]
    tls = ssl.create_default_context(cafile=settings.ca or None) if parts.scheme == "https" else None
    return Receiver(
        host=parts.hostname or "",
        port=parts.port or PORTS[parts.scheme],
        path=parts.path.rstrip("/") or PATH,
        # A space at the end is no part of a header, and an error about it would repeat the secret.
        headers={name: value.strip() for name, _, value in headers},
        tls=tls,
        seconds=settings.seconds,
    )
