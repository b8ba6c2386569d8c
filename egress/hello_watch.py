"""Hold every ClientHello of a connection to the granted name, not only the first one.

A server may answer with a HelloRetryRequest (RFC 8446, 4.1.4), and then reads a second ClientHello, which may have been
sent ahead. So until the server's own hello has come, what the client sends in handshake records is a ClientHello for
the granted name, or the end. Afterwards the handshake is encrypted, and the watch is over.
"""

from __future__ import annotations

from typing import Final

from egress.allowlist import Ask, Refusal
from egress.client_hello import ClientHello, NotTls, parse_client_hello
from egress.grants import Refused
from egress.names import BadName, Host, canonical_host

_HANDSHAKE: Final = 22
_SERVER_HELLO: Final = 2
_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The "random" of a HelloRetryRequest."""
_HEAD: Final = 5 + 4 + 2 + 32
"""Record header, message header, version, random."""


class HelloWatch:
    """One connection, after its first ClientHello."""

    def __init__(self, host: Host, ask: Ask) -> None:
        self._host = host
        self._ask = ask
        self._client = bytearray()
        self._server = bytearray()
        self._passing = 0
        """Bytes left of a client's record that is no handshake."""
        self.over = False

    @property
    def done(self) -> bool:
        """Nothing is looked at any more, and nothing is held back."""
        return self.over and not self._client

    def from_server(self, data: bytes) -> None:
        """Look at what the server says."""
        self._server += data
        while not self.over and len(self._server) >= 5:
            size = 5 + int.from_bytes(self._server[3:5], "big")
            if self._server[0] == _HANDSHAKE:
                if len(self._server) < min(size, _HEAD):
                    return
                if self._server[5] != _SERVER_HELLO or self._server[11:43] != _RETRY:
                    self.over = True
                    self._server.clear()
                    return
            if len(self._server) < size:
                return
            del self._server[:size]

    def from_client(self, data: bytes) -> bytes:
        """Give what may be sent on now.

        Raises:
            Refused: a further ClientHello is for another name, or no ClientHello.
        """
        if self.over:
            held, self._client = bytes(self._client), bytearray()
            return held + data
        self._client += data
        allowed = bytearray()
        while self._client:
            if self._passing:
                piece = self._client[: self._passing]
                allowed += piece
                self._passing -= len(piece)
                del self._client[: len(piece)]
            elif self._client[0] == _HANDSHAKE:
                size = self._checked()
                if size is None:
                    break
                allowed += self._client[:size]
                del self._client[:size]
            elif len(self._client) < 5:
                break
            else:
                self._passing = 5 + int.from_bytes(self._client[3:5], "big")
        return bytes(allowed)

    def _checked(self) -> int | None:
        try:
            hello = parse_client_hello(bytes(self._client))
        except NotTls as error:
            raise Refused(Refusal("not-tls", str(self._ask), f"a further handshake is broken: {error}")) from None
        if hello is None:
            return None
        check_name(hello, self._host, self._ask)
        return hello.size


def check_name(hello: ClientHello, host: Host, ask: Ask) -> None:
    """Hold a ClientHello to the name that was granted.

    Raises:
        Refused: it asks for another one, for none, or hides one.
    """
    if hello.hidden:
        raise Refused(Refusal("ech", str(ask), "the ClientHello hides a name (Encrypted Client Hello)"))
    if hello.server_name is None:
        raise Refused(Refusal("sni-missing", str(ask), "the ClientHello names no server (SNI)"))
    if not _is(hello.server_name, host):
        raise Refused(Refusal("sni-mismatch", str(ask), f"the ClientHello names another server{_shown(hello)}"))


def _shown(hello: ClientHello) -> str:
    """Give the name for our own words, if it is one: anything else would be a sandbox's words in ours."""
    try:
        return f", {canonical_host(hello.server_name or '').text}"
    except BadName:
        return ""


def _is(server_name: str, host: Host) -> bool:
    try:
        return canonical_host(server_name) == host
    except BadName:
        return False
