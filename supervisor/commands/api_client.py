"""A client of a running daemon, for commands: one connection for each question, HTTP/1.1 by h11, on Trio.

An answer that is an error is raised as :class:`Refused`, with the daemon's own words and hint. The caller owns the time
limit of a question; leaving the block of a stream hangs up, which ends what it stands for.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import h11
import msgspec
import trio

from supervisor.errors import GaolerError

MAX_ANSWER_BYTES: Final = 64 << 20
"""Of an answer that is read whole."""
MAX_LINE_BYTES: Final = 8 << 20
"""Of an event of a stream."""
_PIECE_BYTES: Final = 65_536
_ASKED_FOR: Final = frozenset({"TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_CERTIFICATE_REQUIRED"})
_NOT_TAKEN: Final = {
    "TLSV1_ALERT_UNKNOWN_CA": "no authority that it trusts has signed it",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it says not why",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it is broken",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it is not for clients",
}
"""What a server says of its client's certificate, in OpenSSL's words. Source: RFC 8446, 6.2."""
_NO_WORD: Final = "SSLV3_ALERT_HANDSHAKE_FAILURE"
"""All that one says with TLS 1.2 that wanted a certificate and got none, or that finds no cipher. RFC 5246, 7.2.2."""


class NotRunning(GaolerError):
    """Nobody answers where the daemon should be."""


class NoCertificate(GaolerError):
    """Who answers asks for a certificate of its client, and was shown none that it takes."""


class Refused(GaolerError):
    """The daemon says no: ``status`` of HTTP, its words, what it advises."""

    def __init__(self, status: int, message: str, *, field: str | None = None, hint: str = "") -> None:
        where = f"{field}: " if field else ""
        super().__init__(f"{where}{message}" + (f"; {hint}" if hint else ""), field=field)
        self.status = status


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon listens: a unix socket, or a host and a port. ``shown``: for people."""

    shown: str
    path: str = ""
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None
    prefix: str = ""
    """Path below which the API is."""

    @property
    def authority(self) -> str:
        """Give what is said as ``Host``."""
        return f"{self.host}:{self.port}" if self.host else "localhost"


def segment(text: str) -> str:
    """Give a text as one segment of a path."""
    return quote(text, safe="")


@dataclass(frozen=True, slots=True)
class Api:
    """Asks one daemon, with one credential.

    ``trusted`` is asked when a connection stands and before anything is said on it; it raises what is wrong.
    """

    place: Place
    headers: Mapping[str, str] = field(default_factory=dict)
    trusted: Callable[[trio.abc.Stream], None] = lambda _stream: None

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask for JSON, with JSON.

        Raises:
            NotRunning: nobody answers.
            NoCertificate: a certificate is asked for, and not shown.
            Refused: the daemon says no.
            GaolerError: what comes is no answer of a daemon.
        """
        payload = None if body is None else msgspec.json.encode(body)
        async with self.open(method, path, payload, {"Content-Type": "application/json"}) as answer:
            content = await answer.whole(MAX_ANSWER_BYTES)
        try:
            return msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise GaolerError(f"{self.place.shown} answers with something else than JSON: is it Gaoler?") from None

    @asynccontextmanager
    async def open(
        self, method: str, path: str, payload: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Answer]:
        """Give an answer whose head says that all is well; leaving the block hangs up.

        Raises:
            NotRunning, NoCertificate, Refused, GaolerError: as :meth:`ask`.
        """
        stream = await self._connect()
        try:
            answer = Answer(stream, self.place)
            sent = {"Host": self.place.authority, "Connection": "close", **self.headers}
            if payload is not None:
                sent |= {**(headers or {}), "Content-Length": str(len(payload))}
            try:
                await answer.begin(method, f"{self.place.prefix}{path}", sent, payload or b"")
                if answer.status >= 400:
                    raise _refusal(answer.status, await answer.whole(MAX_ANSWER_BYTES))
                yield answer
            except (trio.BrokenResourceError, ssl.SSLError) as error:
                raise _broken(self.place, error, f"{self.place.shown} hung up") from None
        finally:
            # Whether it ends with a farewell concerns nobody: all that counts was framed.
            await trio.aclose_forcefully(stream)

    async def _connect(self) -> trio.abc.Stream:
        place = self.place
        stream: trio.abc.Stream
        try:
            if place.path:
                stream = await trio.open_unix_socket(place.path)
            else:
                stream = await trio.open_tcp_stream(place.host, place.port)
        except PermissionError:
            raise NotRunning(f"{place.shown} may not be connected to by this user: run it with sudo") from None
        except OSError as error:
            raise NotRunning(f"no daemon answers at {place.shown}: {_cause(error)}") from None
        try:
            if place.tls is not None:
                stream = trio.SSLStream(stream, place.tls, server_hostname=place.host, https_compatible=True)
                await stream.do_handshake()
            self.trusted(stream)
        except (trio.BrokenResourceError, ssl.SSLError, ssl.CertificateError) as error:
            await trio.aclose_forcefully(stream)
            raise _broken(place, error, f"no HTTPS with {place.shown}") from None
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream


class Answer:
    """An answer as it comes. Made by :meth:`Api.open`."""

    def __init__(self, stream: trio.abc.Stream, place: Place) -> None:
        self._stream = stream
        self._place = place
        self._h11 = h11.Connection(h11.CLIENT)
        self.status = 0

    async def begin(self, method: str, target: str, headers: Mapping[str, str], payload: bytes) -> None:
        """Ask, and wait for the head of the answer."""
        said = self._h11.send(h11.Request(method=method, target=target, headers=list(headers.items())))
        assert said is not None
        ended = self._h11.send(h11.EndOfMessage()) if not payload else None
        await self._stream.send_all(said + (ended or b""))
        if payload:
            for at in range(0, len(payload), _PIECE_BYTES):
                piece = self._h11.send(h11.Data(data=payload[at : at + _PIECE_BYTES]))
                await self._stream.send_all(piece or b"")
            await self._stream.send_all(self._h11.send(h11.EndOfMessage()) or b"")
        while not isinstance(event := await self._next(), h11.Response):
            pass
        self.status = event.status_code

    async def _next(self) -> h11.Event:
        try:
            while True:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    self._h11.receive_data(bytes(await self._stream.receive_some(_PIECE_BYTES)))
                elif event is h11.PAUSED:
                    return h11.ConnectionClosed()
                else:
                    assert not isinstance(event, type)
                    return event
        except h11.RemoteProtocolError as error:
            raise NotRunning(f"{self._place.shown} hung up, or speaks no HTTP: {error}") from None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the body as it comes."""
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)

    async def whole(self, limit_bytes: int) -> bytes:
        """Give the body.

        Raises:
            GaolerError: it is longer.
        """
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > limit_bytes:
                raise GaolerError(f"{self._place.shown} answers with more than {limit_bytes} bytes")
        return bytes(body)

    async def events(self) -> AsyncIterator[tuple[str, Any]]:
        """Give the server-sent events of the body: name and data. Comments are passed over.

        Raises:
            GaolerError: it is no such stream.
        """
        rest, kind = b"", ""
        async for piece in self.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise GaolerError(f"{self._place.shown} sends a line that does not end")
            for line in lines:
                name, _, value = line.partition(b": ")
                if name == b"event":
                    kind = value.decode("utf-8", "replace")
                elif name == b"data":
                    yield kind, msgspec.json.decode(value)


def _broken(place: Place, error: Exception, what: str) -> GaolerError:
    """Say why a connection broke. With TLS 1.3 it stands before a server says that it wanted a certificate."""
    cause = error.__cause__ or error
    reason = cause.reason if isinstance(cause, ssl.SSLError) else ""
    if reason in _ASKED_FOR:
        return NoCertificate(f"{place.shown} asks its clients for certificates, and was shown none")
    if reason in _NOT_TAKEN:
        return NoCertificate(f"{place.shown} does not take the certificate that it was shown: {_NOT_TAKEN[reason]}")
    if reason == _NO_WORD:
        return NotRunning(
            f"{what}: it breaks the handshake off and does not say why; one that asks its clients for certificates "
            "does so with TLS 1.2 (--client-cert)"
        )
    return NotRunning(f"{what}: {cause}")


def _cause(error: OSError) -> str:
    """Give the reason of the last address that was tried."""
    found: BaseException = error
    if isinstance(found.__cause__, BaseExceptionGroup):
        found = found.__cause__.exceptions[-1]
    words = (found.strerror if isinstance(found, OSError) else None) or str(found)
    # Trio puts the address before it, which the caller names too.
    return os.strerror(found.errno) if isinstance(found, OSError) and found.errno else words


def _refusal(status: int, body: bytes) -> Refused:
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = {}
    message = str(said.get("message") or f"the daemon answers with {status}")
    return Refused(status, message, field=said.get("field"), hint=str(said.get("hint") or ""))
