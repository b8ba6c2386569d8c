"""The rules: what a sandbox may reach, who decides it, and what is said about a refusal. Pure.

An empty list allows nothing. The first rule that allows everything about a connection is the one that counts; a refusal
says which of its parts no rule allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from egress import addresses
from egress.addresses import Address, Network
from egress.names import BadName, Host, canonical_host
from egress.targets import path_matches

Scheme = Literal["https", "http", "raw"]
Log = Literal["all", "refused", "none"]
EVERY_HOST: Final = "*"
SHOWN_PATH: Final = 60
FAILURES: Final = frozenset({"unreachable", "idle"})
"""Codes of what is allowed and did not work."""
DEFAULT_PORTS: Final[dict[str, int]] = {"https": 443, "http": 80}


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """One rule, canonical: see ``policies/egress`` for what each part means.

    ``hosts`` are names, ``*.suffix`` (not the suffix itself), addresses, or ``*``. Empty ``methods`` and ``paths`` do
    not restrict. ``total_bytes`` (both ways together) and ``total_seconds`` (of each connection) are budgets.
    """

    name: str
    hosts: tuple[str, ...]
    schemes: tuple[Scheme, ...] = ("https",)
    ports: tuple[int, ...] = (443,)
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    total_bytes: int | None = None
    total_seconds: float | None = None
    log: Log = "all"
    intercept: bool = False
    credential: str | None = None
    header: str = "Authorization"
    prefix: str = ""

    @property
    def reachable(self) -> tuple[Network, ...]:
        """Ranges that it opens although they are not public."""
        return _networks(self.addresses)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a sandbox wants. ``scheme`` is ``None`` while it is not known; ``method`` and ``path`` only of HTTP."""

    host: Host
    port: int
    scheme: Scheme | None = None
    method: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        scheme = self.scheme or "https"
        end = "" if DEFAULT_PORTS.get(scheme) == self.port else f":{self.port}"
        if scheme == "raw":
            return f"{self.host.authority}:{self.port}"
        method = f"{self.method} " if self.method else ""
        path = self.path or ""
        # It goes into our own words, where a model believes it: no room for a sandbox's.
        shown = path if len(path) <= SHOWN_PATH else f"{path[:SHOWN_PATH]}..."
        return f"{method}{scheme}://{self.host.authority}{end}{shown}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: ``code`` for programs, ``why`` and ``ask_for`` for a reader."""

    code: str
    what: str
    why: str
    ask_for: str = ""
    rule: Rule | None = None
    """The first of those that allow all that was looked at before; none if no rule names the host."""

    def text(self) -> str:
        """Say it as a model understands it: what, why, and what to do instead."""
        if self.code in FAILURES:
            return f"network connection failed: {self.what}: {self.why}. It is allowed; trying later may help."
        advice = "Do not retry it and do not look for a way around it"
        if self.ask_for:
            advice += f"; if it is needed, ask for the operator to allow it: {self.ask_for}"
        return f"network access refused: {self.what}: {self.why}. {advice}."


class NotCovered(ValueError):
    """A request asks for a host that no rule of the operator allows."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f"no rule allows {pattern!r}: a request can only narrow what the operator allows")
        self.pattern = pattern


@lru_cache(maxsize=4096)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


def canonical_pattern(text: str) -> str:
    """Make the host of a rule canonical.

    Raises:
        BadName: it is none.
    """
    if text == EVERY_HOST:
        return text
    if text.startswith("*."):
        host = canonical_host(text[2:])
        if host.address is not None:
            raise BadName("an address has no subdomains")
        return f"*.{host.text}"
    return canonical_host(text).text


def host_matches(host: Host, pattern: str) -> bool:
    """Say whether a canonical host is what a canonical pattern means."""
    if pattern == EVERY_HOST:
        return host.address is None
    if pattern.startswith("*."):
        return host.address is None and host.text.endswith(pattern[1:])
    return host.text == pattern


def decide(rules: Sequence[Rule], ask: Ask, where: str = "this sandbox") -> Rule | Refusal:
    """Find the rule that allows it, or say why none does. ``where`` names whose rules these are."""
    left = [rule for rule in rules if any(host_matches(ask.host, pattern) for pattern in rule.hosts)]
    suggestion = suggest(ask)

    def lacks(code: str, what: str, nearest: Rule) -> Refusal:
        why = f"rule {nearest.name} does not allow {what}"
        return Refusal(code, str(ask), why, suggestion, nearest)

    if not left:
        reason = f"no rule of {where} allows the host {ask.host.text}"
        return Refusal("host", str(ask), reason if rules else f"{where} allows no host at all", suggestion)
    left, before = [rule for rule in left if ask.port in rule.ports], left
    if not left:
        return lacks("port", f"port {ask.port}", before[0])
    if ask.scheme is not None:
        left, before = [rule for rule in left if ask.scheme in rule.schemes], left
        if not left:
            return lacks("scheme", ask.scheme, before[0])
    if ask.method is not None:
        left, before = [rule for rule in left if not rule.methods or ask.method in rule.methods], left
        if not left:
            return lacks("method", ask.method, before[0])
    if ask.path is not None:
        path = ask.path
        left, before = [rule for rule in left if not rule.paths or path_matches(path, rule.paths)], left
        if not left:
            return lacks("path", "this path", before[0])
    return left[0]


def decide_request(rules: Sequence[Rule], ask: Ask, where: str = "this sandbox") -> Rule | Refusal:
    """Find the rule that allows a whole request, as the doors do: of its connection, then of what is seen in it.

    Where anything may be spoken nobody looks. What is in TLS is seen only where the rule of the connection looks into
    it: else its method and path are anybody's.
    """
    unseen = decide(rules, Ask(ask.host, ask.port, "raw"), where)
    if isinstance(unseen, Rule):
        return unseen
    if ask.scheme == "https":
        found = decide(rules, connection_of(ask), where)
        if isinstance(found, Refusal) or not found.intercept:
            return found
    return decide(rules, ask, where)


def connection_of(ask: Ask) -> Ask:
    """Give what is known of a request while only its connection is there."""
    return Ask(ask.host, ask.port, ask.scheme)


def suggest(ask: Ask) -> str:
    """Write the rule that would allow it."""
    scheme = ask.scheme or "https"
    return f'hosts = ["{ask.host.text}"], schemes = ["{scheme}"], ports = [{ask.port}]'


def address_fault(rule: Rule, ask: Ask, address: Address) -> Refusal | None:
    """Say why an address that a name leads to may not be dialled under a rule."""
    why = addresses.fault(address, rule.reachable)
    if why is None:
        return None
    shown = addresses.plain(address)
    leads = "it is" if ask.host.address is not None else f"{ask.host.text} leads to"
    return Refusal(
        "address",
        str(ask),
        f"{leads} {shown} ({why}), and rule {rule.name} opens no such address",
        f'addresses = ["{shown}/{shown.max_prefixlen}"] in rule {rule.name}',
    )


def narrow(rules: Iterable[Rule], patterns: Sequence[str]) -> tuple[Rule, ...]:
    """Cut rules down to the hosts that a request wants. It can never allow more than the rules do.

    Raises:
        BadName: a pattern is none.
        NotCovered: a pattern has nothing in common with any rule.
    """
    return _narrow(tuple(rules), tuple(dict.fromkeys(canonical_pattern(pattern) for pattern in patterns)))


@lru_cache(maxsize=256)
def _narrow(rules: tuple[Rule, ...], wanted: tuple[str, ...]) -> tuple[Rule, ...]:
    found: dict[int, dict[str, None]] = {}
    for pattern in wanted:
        covered = False
        for number, rule in enumerate(rules):
            common = _common(_written(rule.hosts), pattern)
            if common:
                covered = True
                found.setdefault(number, {}).update(dict.fromkeys(common))
        if not covered:
            raise NotCovered(pattern)
    return tuple(replace(rules[number], hosts=tuple(hosts)) for number, hosts in sorted(found.items()))


@dataclass(frozen=True, slots=True)
class _Written:
    """Hosts of a rule, as they are looked up. All canonical."""

    exact: frozenset[str]
    suffixes: frozenset[str]
    """With their dot, without the star."""
    every: bool


@lru_cache(maxsize=1024)
def _written(hosts: tuple[str, ...]) -> _Written:
    suffixes = frozenset(host[1:] for host in hosts if host.startswith("*."))
    exact = frozenset(host for host in hosts if host != EVERY_HOST and not host.startswith("*."))
    return _Written(exact, suffixes, EVERY_HOST in hosts)


def _common(written: _Written, pattern: str) -> list[str]:
    """Give the patterns for what both mean."""
    if pattern == EVERY_HOST:
        names = [host for host in written.exact if not _is_address(host)]
        return sorted(names) + [f"*{each}" for each in sorted(written.suffixes)] + [EVERY_HOST] * written.every
    if pattern.startswith("*."):
        suffix = pattern[1:]
        if written.every or any(parent in written.suffixes for parent in _parents(suffix, itself=True)):
            return [pattern]
        below = [host for host in written.exact if host.endswith(suffix) and not _is_address(host)]
        return sorted(below) + [f"*{each}" for each in sorted(written.suffixes) if each.endswith(suffix)]
    if pattern in written.exact:
        return [pattern]
    if _is_address(pattern):
        return []
    covered = written.every or any(parent in written.suffixes for parent in _parents(f".{pattern}", itself=False))
    return [pattern] if covered else []


def _parents(suffix: str, *, itself: bool) -> Iterator[str]:
    """Give the suffixes that a suffix lies under: of ``.a.b.c`` those are ``.b.c`` and ``.c``."""
    if itself:
        yield suffix
    at = suffix.find(".", 1)
    while at > 0:
        yield suffix[at:]
        at = suffix.find(".", at + 1)


def _is_address(canonical: str) -> bool:
    """Say whether a canonical host is an address: no name has a colon or ends in a number."""
    return ":" in canonical or canonical.rpartition(".")[2].isdigit()
