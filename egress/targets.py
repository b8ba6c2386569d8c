"""What an HTTP/1 request of a sandbox is addressed to: CONNECT's authority, the absolute form, Host, the path. Pure.

RFC 9112, 3.2, read strictly: no user information, no fragment, ports in plain decimals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from egress.names import BadName, Host, canonical_host

MAX_TARGET: Final = 16 * 1024
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]*)(:(.*))?", re.ASCII)
_METHOD: Final = re.compile(r"[A-Z]{1,32}", re.ASCII)
_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_AMBIGUOUS: Final = re.compile(
    r"""%(2e|2f|5c|0[0-9a-f]|25|c[01])  # dots, slashes, control characters, percent signs, overlong UTF-8
    | \\ | //
    | /\.{1,2}([;%/]|$)                # dot segments, with whatever a server may cut off behind them
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)


class BadTarget(ValueError):
    """A request is addressed in a way that no honest client uses; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a plain HTTP request goes."""

    host: Host
    port: int
    path: str
    """With its query; ``*`` for OPTIONS of a whole server."""


def parse_authority(text: str, default_port: int | None) -> tuple[Host, int]:
    """Read ``host:port``; without a port the default one, if there is one.

    Raises:
        BadTarget: it is none.
    """
    match = _AUTHORITY.fullmatch(text)
    # Beyond ASCII it would be bytes of an unknown coding.
    if match is None or not text.isascii() or len(text) > MAX_TARGET:
        raise BadTarget("the authority is not host:port")
    host, colon, digits = match[1], match[2], match[3]
    try:
        name = canonical_host(host)
    except BadName as error:
        raise BadTarget(str(error)) from None
    if colon is None:
        if default_port is None:
            raise BadTarget("the authority has no port")
        return name, default_port
    if not _PORT.fullmatch(digits) or int(digits) > 65_535:
        raise BadTarget("the port is not a number from 1 to 65535")
    return name, int(digits)


def parse_absolute(text: str) -> Target:
    """Read ``http://host[:port]/path?query``.

    Raises:
        BadTarget: it is none, or of another scheme.
    """
    if not _VISIBLE.fullmatch(text) or len(text) > MAX_TARGET:
        raise BadTarget("the request target is too long, or holds what no URL holds")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() != "http":
        raise BadTarget("only http:// URLs are forwarded; for https:// use CONNECT")
    cut = min((rest.index(mark) for mark in "/?#" if mark in rest), default=len(rest))
    host, port = parse_authority(rest[:cut], 80)
    path = rest[cut:]
    if path.startswith("?") or not path:
        path = f"/{path}"
    return Target(host, port, checked_path(path))


def checked_path(text: str) -> str:
    """Check the origin form: a path with its query.

    Raises:
        BadTarget: it does not begin with a slash, or holds what no path holds.
    """
    if not text.startswith("/") or not _VISIBLE.fullmatch(text) or "#" in text or len(text) > MAX_TARGET:
        raise BadTarget("the request target is not a path")
    return text


def checked_method(text: str) -> str:
    """Check a method.

    Raises:
        BadTarget: it is not of capital letters, or is TRACE, which would show what the proxy adds.
    """
    if not _METHOD.fullmatch(text) or text in ("TRACE", "TRACK"):
        raise BadTarget("the method is not allowed")
    return text


def path_matches(path: str, prefixes: tuple[str, ...]) -> bool:
    """Say whether a path lies under one of the prefixes, for servers of every kind.

    A path that a server could understand as another one lies nowhere: dot segments, encoded slashes, empty segments.
    """
    if is_ambiguous(path):
        return False
    plain = path.partition("?")[0]
    return any(
        plain == prefix or plain.startswith(prefix if prefix.endswith("/") else f"{prefix}/") for prefix in prefixes
    )


def is_ambiguous(path: str) -> bool:
    """Say whether a server could understand a path as another one; its query does not count."""
    plain = path.partition("?")[0]
    return _AMBIGUOUS.search(plain) is not None or _ESCAPE.search(plain) is not None
