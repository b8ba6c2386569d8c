"""Behind a proxy: from whom a request really is, and under which name it was asked for.

Only what a proxy of ``http.trusted_proxies`` says is believed, and only in the one form of header that the settings
name: a proxy that writes one form passes the other on as the client sent it. Of the addresses that are listed the
rightmost one that is no trusted proxy's is the client's; what stands left of it the client may have made up. An entry
that cannot be read ends the search: then the request counts as that of the proxy that passed it on.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from hypercorn.typing import ASGIFramework

from supervisor.serving.addresses import PREFIX_KEY, address_of, parse

log: Final = logging.getLogger("gaoler.connections")

MAX_HOPS: Final = 32
MAX_HEADER_BYTES: Final = 8192
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_SCHEMES: Final = frozenset({"http", "https"})
_PAIR: Final = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*(?:([;,])|$)')


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Whom to believe, and which header."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    unix: bool = False
    standard: bool = False
    """``Forwarded`` (RFC 7239), not the ``X-Forwarded`` ones."""

    @classmethod
    def of(cls, networks: str, header: str) -> TrustedProxies:
        """Read the settings, which were checked."""
        words = [word for word in networks.split(",") if word]
        nets = tuple(ipaddress.ip_network(word) for word in words if word != "unix")
        return cls(nets, "unix" in words, header == "forwarded")

    def __contains__(self, text: str) -> bool:
        """Say whether an address, or the user of a unix socket, is a trusted proxy's."""
        if text.startswith("uid "):
            return self.unix
        address = parse(text)
        return address is not None and any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Said:
    """What a request says of how it came; empty: nothing. ``hops``: the addresses, the nearest first."""

    hops: tuple[str, ...] = ()
    scheme: str = ""
    host: str = ""


def read_x_forwarded(headers: list[tuple[bytes, bytes]]) -> Said:
    """Read the three headers; of a list of schemes or hosts the rightmost, which the nearest proxy wrote. Pure."""
    schemes, hosts = _list(headers, b"x-forwarded-proto"), _list(headers, b"x-forwarded-host")
    hops = _list(headers, b"x-forwarded-for")[::-1][:MAX_HOPS]
    return Said(tuple(hops), schemes[-1] if schemes else "", hosts[-1] if hosts else "")


def read_forwarded(headers: list[tuple[bytes, bytes]]) -> Said:
    """Read ``Forwarded``; one that is not as RFC 7239 has it says nothing. Pure."""
    elements = list(_elements(",".join(_lines(headers, b"forwarded"))))
    if not elements:
        return Said()
    hops = tuple(each.get("for", "") for each in reversed(elements))[:MAX_HOPS]
    return Said(hops, elements[-1].get("proto", ""), elements[-1].get("host", ""))


def client_of(peer: str, hops: tuple[str, ...], trusted: TrustedProxies) -> str:
    """Give the address of the client: the first from the right that is no trusted proxy. Pure."""
    client = peer
    for hop in hops:
        if client not in trusted:
            return client
        address = _without_port(hop)
        if address is None:
            return client
        client = address
    return client


class BehindProxies:
    """An ASGI application that sees requests as the proxies in front of it were asked for them."""

    def __init__(self, app: ASGIFramework, trusted: TrustedProxies, root_path: str = "") -> None:
        self._app = app
        self._trusted = trusted
        self._root_path = root_path
        self._warned = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] == "http":
            scope = self._without_prefix(self._seen(scope))
        await self._app(scope, receive, send)

    def _seen(self, scope: dict[str, Any]) -> dict[str, Any]:
        headers, peer = scope["headers"], address_of(scope)
        if peer not in self._trusted:
            self._warn(headers, peer)
            return scope
        said = (read_forwarded if self._trusted.standard else read_x_forwarded)(headers)
        client = client_of(peer, said.hops, self._trusted)
        found = {**scope, "client": (client, 0)} if client != peer else scope
        if said.scheme.lower() in _SCHEMES:
            found = {**found, "scheme": said.scheme.lower()}
        if _HOST.fullmatch(said.host):
            others = [(name, value) for name, value in headers if name.lower() != b"host"]
            found = {**found, "headers": [(b"host", said.host.encode()), *others]}
        return found

    def _warn(self, headers: list[tuple[bytes, bytes]], peer: str) -> None:
        """Say once that there seems to be a proxy of which the settings do not know."""
        address = parse(peer)
        near = peer.startswith("uid ") or (address is not None and address.is_private)
        if self._warned or not near or not any(name in (b"x-forwarded-for", b"forwarded") for name, _ in headers):
            return
        self._warned = True
        log.warning(
            "%s passes requests on for others and is not in http.trusted_proxies: all of them count as one address",
            peer,
        )

    def _without_prefix(self, scope: dict[str, Any]) -> dict[str, Any]:
        prefix, path, raw = self._root_path, scope["path"], scope["raw_path"]
        if not prefix or not path.startswith(f"{prefix}/") or not raw.startswith(f"{prefix}/".encode()):
            return scope
        return {
            **scope,
            "path": path.removeprefix(prefix),
            "raw_path": raw.removeprefix(prefix.encode()),
            PREFIX_KEY: prefix,
        }


def _lines(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    found = [value.decode("latin-1") for name, value in headers if name.lower() == wanted]
    return found if sum(map(len, found)) <= MAX_HEADER_BYTES else []


def _list(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    # An empty entry stays one: it cannot be read, and the search ends there.
    return [word.strip() for line in _lines(headers, wanted) for word in line.split(",")]


def _elements(text: str) -> Iterator[dict[str, str]]:
    at, element = 0, dict[str, str]()
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            # From here on nothing can be told apart, and what came before is further from us: nobody is believed.
            yield {}
            return
        value = match[2]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        element.setdefault(match[1].lower(), value)
        at = match.end()
        if match[3] != ";":
            yield element
            element = {}
    if element:
        yield element


def _without_port(text: str) -> str | None:
    """Read ``1.2.3.4``, ``1.2.3.4:567``, ``2001:db8::1``, ``[2001:db8::1]:567``; ``None``: it is none of these."""
    if text.startswith("["):
        inside, closed, rest = text[1:].partition("]")
        text = inside if closed and re.fullmatch(r"(:[0-9]{1,5})?", rest) else ""
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = parse(text) if "%" not in text else None
    return None if address is None else str(address)
