"""The fields of an HTTP message: what of it is handed on, and what proxies and servers have framed differently. Pure.

Hop-by-hop fields stay on their hop (RFC 9110, 7.6.1).
"""

from __future__ import annotations

from typing import Final

import h11

from egress.targets import Target

_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer transfer-encoding "
    b"upgrade expect host http2-settings".split()
)
Headers = list[tuple[bytes, bytes]]


class BadRequest(Exception):
    """A request that no honest client sends; the message says why."""


def check_framing(request: h11.Request) -> None:
    """Refuse what proxies and servers have framed differently before (RFC 9112, 6.1 and 11.2).

    Raises:
        BadRequest: it is such a request.
    """
    if field(request, b"transfer-encoding") is not None:
        if field(request, b"content-length") is not None:
            raise BadRequest("both Content-Length and Transfer-Encoding")
        if request.http_version < b"1.1":
            raise BadRequest("Transfer-Encoding in HTTP/1.0")


def without_quotes(error: h11.ProtocolError) -> str:
    """Give what h11 says, without the bytes that it quotes: those are a stranger's, and these are our own words."""
    return str(error).partition(":")[0].partition("'")[0].partition("(")[0].strip()[:100]


def text(value: bytes) -> str:
    """Give a value as text."""
    return value.decode("latin-1")


def fields(message: h11.Request | h11.Response, name: bytes) -> list[bytes]:
    """Give all values of a field."""
    return [value for key, value in message.headers if key == name]


def field(message: h11.Request | h11.Response, name: bytes) -> str | None:
    """Give the first value of a field."""
    values = fields(message, name)
    return text(values[0]) if values else None


def outgoing(request: h11.Request, target: Target, default_port: int) -> h11.Request:
    """Write a request anew for the server itself."""
    port = "" if target.port == default_port else f":{target.port}"
    headers: Headers = [(b"host", f"{target.host.authority}{port}".encode())]
    headers += _end_to_end(request)
    for name in (b"content-length", b"transfer-encoding"):
        headers += [(name, value) for value in fields(request, name)]
    return h11.Request(method=request.method, target=target.path.encode("latin-1"), headers=headers)


def incoming(response: h11.Response) -> h11.Response:
    """Write an answer anew for the sandbox."""
    headers = _end_to_end(response)
    headers += [(b"content-length", value) for value in fields(response, b"content-length")]
    return h11.Response(status_code=response.status_code, reason=response.reason, headers=headers)


def _end_to_end(message: h11.Request | h11.Response) -> Headers:
    named = {word.strip().lower() for value in fields(message, b"connection") for word in value.split(b",")}
    dropped = _HOP_BY_HOP | named | {b"content-length"}
    return [(name, value) for name, value in message.headers if name not in dropped]
