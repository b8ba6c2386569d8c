"""Compare the code under test with the references on one input: what is accepted must be accepted and read alike there.

The other direction is not asked for: a proxy may always refuse more.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from random import Random
from typing import Final, Literal

from egress import client_hello, dns_query, names, targets
from tests.egress import inputs, references
from tests.egress.references import Refused, Undecided, Unfinished

PREFIXES: Final = ("/api/", "/repos/gaoler")
Verdict = Literal["accepted", "refused", "undecided"]
"""The last was accepted too, where the reference knows too little."""


class Disagreement(AssertionError):
    """The code under test accepts what the reference refuses, or reads it otherwise."""


def same(ours: object, theirs: object) -> None:
    if ours != theirs:
        raise Disagreement(f"we read {ours!r}, the reference {theirs!r}")


def host_pair(host: names.Host) -> tuple[str, object]:
    return host.text, host.address


def check_name(data: bytes) -> bool:
    text = inputs.decode(data)
    try:
        host = names.canonical_host(text)
    except names.BadName:
        return False
    for spelling in (host.text, host.authority, host.text.upper()):
        same(names.canonical_host(spelling), host)
    same(host_pair(host), references.host(text))
    return True


def check_connect(data: bytes) -> bool:
    text = inputs.decode(data)
    try:
        host, port = targets.parse_authority(text, None)
    except targets.BadTarget:
        return False
    same((host_pair(host), port), references.authority(text, None))
    references.request_line("CONNECT", text)
    same(targets.parse_authority(f"{host.authority}:{port}", None), (host, port))
    return True


def check_http(data: bytes) -> bool:
    """Method, target, and the value of the Host field."""
    parts = inputs.decode(data).split(inputs.BETWEEN)
    if len(parts) != 3:
        return False
    method, target, field = parts
    try:
        path = _check_request(targets.checked_method(method), target)
        host, port = targets.parse_authority(field, 80)
    except targets.BadTarget:
        return False
    same((host_pair(host), port), references.authority(field, 80))
    if targets.path_matches(path, PREFIXES):
        references.lies_under(path, PREFIXES)
    return True


def _check_request(method: str, target: str) -> str:
    if target.startswith("/"):
        path = targets.checked_path(target)
        references.origin_form(method, target)
        return path
    ours = targets.parse_absolute(target)
    theirs = references.url(method, target)
    same((host_pair(ours.host), ours.port, ours.path), (theirs.host, theirs.port, theirs.path))
    return ours.path


def check_hello(data: bytes) -> bool:
    try:
        ours = client_hello.parse_client_hello(data)
    except client_hello.NotTls:
        return False
    if ours is None:
        _check_unfinished(data)
        return False
    theirs = references.hello(data)
    name = None if ours.server_name is None else ours.server_name.encode("ascii")
    same((name, ours.hidden, ours.size), (theirs.server_name, theirs.hidden, theirs.size))
    cut = Random(len(data)).randrange(ours.size)
    same(client_hello.parse_client_hello(data[:cut]), None)
    same(client_hello.parse_client_hello(data[: ours.size]), ours)
    return True


def _check_unfinished(data: bytes) -> None:
    """More is waited for only while more could help."""
    try:
        theirs: object = references.hello(data)
    except Unfinished:
        return
    except Refused as error:
        theirs = error
    raise Disagreement(f"we wait for more, the reference says {theirs!r}")


def check_dns(data: bytes) -> bool:
    try:
        query = dns_query.parse_query(data)
    except dns_query.BadQuery:
        _check_reply(dns_query.format_error(data))
        return False
    theirs = references.question(data)
    labels = tuple(query.name.encode("ascii").split(b".")) if query.name else ()
    ours = references.Question(query.id, labels, query.kind, query.wants_recursion, query.extended)
    same(ours, theirs)
    _check_reply(dns_query.answer(query, [IPv4Address("192.0.2.1")], ttl=60))
    text = f"network access refused: {query.name}: nö."
    _, shown = _check_reply(dns_query.refuse(query, text)) or (None, None)
    same(shown, text if query.extended else None)
    return True


def _check_reply(packet: bytes | None) -> tuple[object, str | None] | None:
    if packet is None:
        return None
    return references.reply(packet)


CHECKS: Final[dict[str, Callable[[bytes], bool]]] = {
    "connect": check_connect,
    "http": check_http,
    "hello": check_hello,
    "dns": check_dns,
    "name": check_name,
}


def check(target: str, data: bytes) -> Verdict:
    """Say what became of an input.

    Raises:
        Disagreement: the reference refuses what is accepted, or reads it otherwise.
        Exception: any other is a fault too.
    """
    try:
        return "accepted" if CHECKS[target](data) else "refused"
    except Undecided:
        return "undecided"
    except Refused as error:
        raise Disagreement(f"accepted, but the reference refuses: {error}") from None
