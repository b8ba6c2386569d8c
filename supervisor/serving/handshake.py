"""TLS at the door: handshakes, of which there are so many at once, and each for so long."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.serving.places import Places
from supervisor.serving.tls import Certificate

log: Final = logging.getLogger("gaoler.connections")

TlsStream = trio.SSLStream[trio.SocketStream]
_HANDSHAKE_RECORD: Final = b"\x16"
_LEFT_BYTES: Final = 64 * 1024
_PLAIN: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 74\r\n\r\n"
    b'{"error":"https_only","message":"HTTPS is spoken here: the URL is https"}\n'
)


@dataclass(frozen=True, slots=True)
class Handshakes:
    """What they need, and those under way. When there are too many the longest of the address with most is ended."""

    certificate: Certificate
    under_way: Places
    seconds: float

    @classmethod
    def of(cls, certificate: Certificate, count: int, seconds: float) -> Handshakes:
        """Allow so many at once; no address has more than half of them."""
        return cls(certificate, Places(count, max(8, count // 2)), seconds)

    async def shake(self, stream: trio.SocketStream, key: str) -> TlsStream | None:
        """Shake hands with who has connected; ``None``: there is nobody to talk to."""
        with (
            trio.move_on_after(self.seconds),
            self.under_way.take(key) as place,
            place.scope,
        ):
            try:
                if await stream.socket.recv(1, socket.MSG_PEEK) == _HANDSHAKE_RECORD:
                    return await self._shake(stream, key)
                await _answer_plain(stream)
            except OSError:
                # Gone before it began.
                pass
        return None

    async def _shake(self, stream: trio.SocketStream, key: str) -> TlsStream | None:
        link = trio.SSLStream(stream, self.certificate.context, server_side=True)
        try:
            await link.do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            log.debug("no handshake with %s: %s", key, error.__cause__ or error)
            _say_why(link, stream)
            return None
        return link


def _say_why(link: TlsStream, stream: trio.SocketStream) -> None:
    """Send the alert that says why, in one try: Trio leaves it unsent."""
    alert = link._outgoing.read()  # noqa: SLF001 - as above
    try:
        if alert:
            os.write(stream.socket.fileno(), alert)
    except OSError:
        pass


async def _answer_plain(stream: trio.SocketStream) -> None:
    """Tell who speaks HTTP that it is the wrong one; anybody else gets the end of the connection."""
    first = await stream.socket.recv(_LEFT_BYTES)
    if not first[:1].isalpha():
        return
    os.write(stream.socket.fileno(), _PLAIN)
    await stream.send_eof()
    # What is left unread when a connection is closed takes the answer with it.
    taken = len(first)
    while taken < _LEFT_BYTES and (more := await stream.socket.recv(_LEFT_BYTES)):
        taken += len(more)
