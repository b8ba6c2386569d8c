"""Reach a granted host: the address that is dialled is the one that was checked."""

from __future__ import annotations

import socket
from typing import Final

import trio

from egress.addresses import Address
from egress.grants import Passage, Refused, Unreachable
from egress.resolver import Resolver, Unresolved

MAX_TRIES: Final = 4
BUFFER_BYTES: Final = 1 << 20
"""What a server may send ahead of a sandbox that does not read: the host's memory, and nobody's limit."""


async def dial(passage: Passage, resolver: Resolver) -> trio.SocketStream:
    """Connect to the host of a passage, by its name's addresses in turn.

    Raises:
        Refused: no address may be reached under the rule.
        Unreachable: nobody answers there.
    """
    ask = passage.ask
    refusal: Refused | None = None
    fault = "the name has no address"
    tries = 0
    for address in await _candidates(passage, resolver):
        try:
            passage.check_address(address)
        except Refused as error:
            refusal = error
            continue
        tries += 1
        if tries > MAX_TRIES:
            break
        try:
            with trio.fail_after(passage.grant.limits.connect_seconds):
                stream = await _connect(address, ask.port)
        except (OSError, trio.TooSlowError) as error:
            fault = f"{address} port {ask.port}: {_words(error)}"
            continue
        passage.address = address
        passage.touch()
        return stream
    if refusal is not None and not tries:
        raise refusal
    raise Unreachable(fault)


async def _candidates(passage: Passage, resolver: Resolver) -> list[Address]:
    host = passage.ask.host
    if host.address is not None:
        return [host.address]
    try:
        return await resolver.addresses(host.text)
    except Unresolved as error:
        raise Unreachable(str(error)) from None


async def _connect(address: Address, port: int) -> trio.SocketStream:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        await sock.connect((str(address), port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "no answer in time"
