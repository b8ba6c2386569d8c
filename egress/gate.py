"""What every connection of a sandbox meets: the way in (which protocol is it?) and the way out (a checked tunnel)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from egress.allowlist import Ask, Refusal
from egress.client_hello import ClientHello, NotTls, parse_client_hello
from egress.dial import dial
from egress.grants import Grant, Passage, Refused, Unreachable
from egress.names import BadName, Host, canonical_host
from egress.resolver import Resolver
from egress.splice import BROKEN, splice

HELLO_SECONDS: Final = 20.0
"""For the first bytes of a connection."""
MAX_PIECES: Final = 256
"""Reads of a ClientHello, which is looked at anew after each."""
READ_BYTES: Final = 65_536
_TLS_HANDSHAKE: Final = 0x16
_ALERT: Final = b"\x15\x03\x03\x00\x02\x02"
_ACCESS_DENIED: Final = b"\x31"
_UNRECOGNISED_NAME: Final = b"\x70"
_INTERNAL_ERROR: Final = b"\x50"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a connection went as far as its address tells; ``host`` is a name if the address was made up for one."""

    host: Host
    port: int
    by_name: bool


@dataclass(slots=True)
class Outside:
    """What all connections share: how to find and reach a host."""

    resolver: Resolver


class Incoming:
    """The first bytes of a connection, kept until somebody knows what they are."""

    def __init__(self, stream: trio.SocketStream, data: bytes = b"") -> None:
        self.stream = stream
        self.data = data

    async def first_byte(self) -> int | None:
        """Wait for it; ``None``: there is none, in time."""
        if not self.data:
            await self._more()
        return self.data[0] if self.data else None

    async def hello(self) -> ClientHello | None:
        """Read a whole ClientHello; ``None``: the connection ended within it, or took too long.

        Raises:
            NotTls: it is something else.
        """
        with trio.move_on_after(HELLO_SECONDS):
            for _ in range(MAX_PIECES):
                hello = parse_client_hello(self.data)
                if hello is not None:
                    return hello
                if not await self._more():
                    return None
            raise NotTls("the ClientHello comes in too many pieces")
        return None

    async def _more(self) -> bool:
        with trio.move_on_after(HELLO_SECONDS):
            try:
                data = await self.stream.receive_some(READ_BYTES)
            except BROKEN:
                return False
            self.data += data
            return bool(data)
        return False


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
        shown = ascii(hello.server_name[:80])
        raise Refused(Refusal("sni-mismatch", str(ask), f"the ClientHello names another server, {shown}"))


def _is(server_name: str, host: Host) -> bool:
    try:
        return canonical_host(server_name) == host
    except BadName:
        return False


def is_tls(first: int) -> bool:
    """Say whether a connection that begins with this byte can be TLS."""
    return first == _TLS_HANDSHAKE


async def alert(stream: trio.SocketStream, refusal: Refusal | None) -> None:
    """Tell a TLS client that it is refused (access_denied, unrecognized_name), or that it is our side's failure."""
    kind = _ACCESS_DENIED
    if refusal is None:
        kind = _INTERNAL_ERROR
    elif refusal.code.startswith("sni"):
        kind = _UNRECOGNISED_NAME
    try:
        await stream.send_all(_ALERT + kind)
        await stream.send_eof()
    except BROKEN:
        pass  # it has gone already


async def tls_door(grant: Grant, outside: Outside, incoming: Incoming, to: Destination) -> None:
    """Serve TLS that was opened to an address: the name in its ClientHello is where it goes."""
    ask = Ask(to.host, to.port, "https")
    try:
        try:
            hello = await incoming.hello()
        except NotTls as error:
            refusal = Refusal("not-tls", str(ask), f"this is not TLS: {error}", 'schemes = ["raw"]')
            raise await recorded(grant, "tls", ask, refusal) from None
        if hello is None:
            return
        if to.by_name or hello.server_name is None or hello.hidden:
            await _checked(grant, hello, to.host, ask)
        else:
            try:
                ask = Ask(canonical_host(hello.server_name), to.port, "https")
            except BadName as error:
                refusal = Refusal("sni-mismatch", str(ask), f"the server name cannot be used: {error}")
                raise await recorded(grant, "tls", ask, refusal) from None
        async with grant.passage("tls", ask) as passage:
            await carry(passage, outside, incoming)
    except Refused as error:
        await alert(incoming.stream, error.refusal)
    except Unreachable:
        await alert(incoming.stream, None)


async def _checked(grant: Grant, hello: ClientHello, host: Host, ask: Ask) -> None:
    try:
        # What is not granted at all is refused for that, whatever else is wrong with it.
        grant.decide(ask)
        check_name(hello, host, ask)
    except Refused as error:
        raise await recorded(grant, "tls", ask, error.refusal) from None


async def recorded(grant: Grant, kind: str, ask: Ask, refusal: Refusal) -> Refused:
    """Record a refusal that came before the rules were asked; give it to be raised."""
    await grant.record_refusal(kind, ask, refusal)
    return Refused(refusal)


async def raw_door(grant: Grant, outside: Outside, incoming: Incoming, to: Destination) -> None:
    """Serve a connection about which a rule says that anything may be spoken."""
    try:
        async with grant.passage("raw", Ask(to.host, to.port, "raw")) as passage:
            await carry(passage, outside, incoming)
    except (Refused, Unreachable):
        return  # closing is all that can be said on it


async def carry(passage: Passage, outside: Outside, incoming: Incoming) -> None:
    """Dial, hand on what has come already, and carry the rest.

    Raises:
        Refused, Unreachable: as of :func:`egress.dial.dial`.
    """
    outer = await dial(passage, outside.resolver)
    async with outer:
        try:
            passage.count(sent=len(incoming.data))
            await outer.send_all(incoming.data)
        except BROKEN:
            raise Unreachable("the connection broke at once") from None
        await splice(passage, incoming.stream, outer)
