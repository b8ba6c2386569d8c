"""Find the addresses of a granted name: by the host's table of names, else by its name servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Final

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from egress.addresses import Address

LIFETIME_SECONDS: Final = 5.0
CACHED_NAMES: Final = 4096
MAX_ADDRESSES: Final = 16


class Unresolved(Exception):
    """A name has no address that can be found; the message says why."""


class Resolver:
    """Asks as the daemon has configured it; answers are kept as long as they say."""

    def __init__(self) -> None:
        self._hosts: Mapping[str, Sequence[str]] = {}
        self._resolver = _empty()
        self._backend = dns.asyncbackend.get_backend("trio")

    def configure(self, name_servers: Sequence[str], hosts: Mapping[str, Sequence[str]]) -> None:
        """Ask these servers from now on, for what ``hosts`` does not know."""
        self._hosts = hosts
        if list(name_servers) != self._resolver.nameservers:
            self._resolver = _empty()
            self._resolver.nameservers = list(name_servers)

    async def addresses(self, name: str) -> list[Address]:
        """Give the addresses of a canonical name, IPv4 first; whether they may be reached is not looked at.

        Raises:
            Unresolved: there is none, or nobody answers.
        """
        if name in self._hosts:
            return [ip_address(text) for text in self._hosts[name]]
        if not self._resolver.nameservers:
            raise Unresolved("the host has no name server")
        found = await self._ask(name, "A")
        return found or await self._ask(name, "AAAA")

    async def _ask(self, name: str, kind: str) -> list[Address]:
        try:
            answer = await self._resolver.resolve(
                dns.name.from_text(name), kind, lifetime=LIFETIME_SECONDS, backend=self._backend, search=False
            )
        except dns.resolver.NXDOMAIN:
            raise Unresolved("the name does not exist") from None
        except dns.resolver.NoAnswer:
            if kind == "A":
                return []
            raise Unresolved("the name has no address") from None
        except (dns.exception.DNSException, OSError) as error:
            raise Unresolved(f"no name server answers: {type(error).__name__}") from None
        return [ip_address(record.to_text()) for record in answer][:MAX_ADDRESSES]


def _empty() -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.cache = dns.resolver.LRUCache(CACHED_NAMES)
    return resolver
