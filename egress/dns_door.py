"""DNS inside a sandbox: granted names have an address made up for this sandbox, everything else is refused.

No query ever leaves: a name that is asked for tells nobody anything.
"""

from __future__ import annotations

import socket
from typing import Final

import trio

from egress import dns_query
from egress.allowlist import EVERY_HOST, Ask, Refusal, host_matches, suggest
from egress.dns_query import BadQuery, Query, parse_query
from egress.grants import Grant
from egress.names import BadName, Host, canonical_host
from egress.splice import BROKEN

TTL_SECONDS: Final = 60
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
TCP_SECONDS: Final = 10.0


async def answer(grant: Grant, packet: bytes) -> bytes | None:
    """Answer one query; ``None``: it deserves no answer."""
    try:
        query = parse_query(packet)
    except BadQuery:
        return dns_query.format_error(packet)
    try:
        host = canonical_host(query.name)
    except BadName:
        return dns_query.refuse(query, "this is no name of a host")
    if host.address is not None or not _granted(grant, host):
        return await _refuse(grant, query, host)
    if query.kind in (dns_query.A, dns_query.ANY):
        return dns_query.answer(query, [grant.names.address(host.text)], ttl=TTL_SECONDS)
    return dns_query.answer(query, ttl=TTL_SECONDS)


def _granted(grant: Grant, host: Host) -> bool:
    """Say whether anything about the host is granted; whether the rest of a connection is shows when it is made."""
    return any(
        host_matches(host, pattern) and (pattern != EVERY_HOST or "." in host.text)
        for rule in grant.rules
        for pattern in rule.hosts
    )


async def _refuse(grant: Grant, query: Query, host: Host) -> bytes:
    ask = Ask(host, 443)
    why = f"no rule of {grant.opened.where} allows the host {host.text}"
    refusal = Refusal("host", host.text, why, suggest(ask))
    await grant.record_refusal("dns", Ask(host, 53), refusal)
    return dns_query.refuse(query, refusal.text())


async def serve_udp(grant: Grant, sock: trio.socket.SocketType) -> None:
    """Answer datagrams, each from the very address that it was sent to, for ever."""
    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    while True:
        packet, control, flags, sender = await sock.recvmsg(dns_query.MAX_QUERY + 1, 128)
        await grant.queries.wait()
        if flags & socket.MSG_TRUNC:
            continue
        reply = await answer(grant, packet)
        if reply is None:
            continue
        info = [(level, kind, data) for level, kind, data in control if kind == _IPV6_PKTINFO]
        try:
            await sock.sendmsg([reply], info, 0, sender)
        except OSError:
            continue  # whoever asked is gone


async def serve_tcp(grant: Grant, stream: trio.SocketStream) -> None:
    """Answer the queries of one connection."""
    buffer = b""
    try:
        with trio.move_on_after(TCP_SECONDS):
            while True:
                while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
                    end = 2 + int.from_bytes(buffer[:2], "big")
                    packet, buffer = buffer[2:end], buffer[end:]
                    await grant.queries.wait()
                    reply = await answer(grant, packet)
                    if reply is None:
                        return
                    await stream.send_all(len(reply).to_bytes(2, "big") + reply)
                if len(buffer) > 2 + dns_query.MAX_QUERY:
                    return
                data = await stream.receive_some(4096)
                if not data:
                    return
                buffer += data
    except BROKEN:
        return  # it has gone
