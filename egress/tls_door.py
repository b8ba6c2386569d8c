"""Connections that are not HTTP, or not yet: TLS held to its name, bytes of any kind where a rule says so.

What is inside of TLS is not looked at, unless a rule has the proxy end the TLS and go on in its own.
"""

from __future__ import annotations

import ssl

import trio

from egress.allowlist import Ask, Refusal
from egress.client_hello import ClientHello, NotTls
from egress.dial import dial
from egress.gate import Destination, Incoming, Outside, Replayed, alert, is_tls, recorded
from egress.grants import Grant, Passage, Refused, Unreachable
from egress.hello_watch import HelloWatch, check_name
from egress.http_door import HttpVisit, Origin
from egress.names import BadName, Host, canonical_host
from egress.splice import BROKEN, splice


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
        if await _intercepted(grant, ask):
            await intercept(grant, outside, incoming, ask)
            return
        async with grant.passage("tls", ask) as passage:
            await carry(passage, outside, incoming, HelloWatch(ask.host, ask))
    except Refused as error:
        await alert(incoming.stream, error.refusal)
    except Unreachable:
        await alert(incoming.stream, None)


async def _intercepted(grant: Grant, ask: Ask) -> bool:
    try:
        return grant.decide(ask).intercept
    except Refused as error:
        raise await recorded(grant, "tls", ask, error.refusal) from None


async def intercept(grant: Grant, outside: Outside, incoming: Incoming, ask: Ask) -> None:
    """End the TLS of a sandbox under a certificate of our own, and forward each request that is in it."""
    if outside.authority is None or outside.checked is None:
        refusal = Refusal("intercept", str(ask), "the rule looks into TLS, and the daemon was started without that")
        raise await recorded(grant, "tls", ask, refusal)
    context = outside.authority.context(ask.host.text)
    inner = trio.SSLStream(Replayed(incoming.stream, incoming.data), context, server_side=True, https_compatible=True)
    try:
        with trio.move_on_after(grant.limits.connect_seconds) as patience:
            await inner.do_handshake()
    except (trio.BrokenResourceError, ssl.SSLError):
        refusal = Refusal("intercept", str(ask), "the client does not trust the certificate of this sandbox's proxy")
        await grant.record_refusal("tls", ask, refusal)
        return
    if not patience.cancelled_caught:
        origin = Origin(explicit=False, host=ask.host, port=ask.port, scheme="https")
        await HttpVisit(grant, outside, inner, origin).serve()


async def _checked(grant: Grant, hello: ClientHello, host: Host, ask: Ask) -> None:
    try:
        # What is not granted at all is refused for that, whatever else is wrong with it.
        grant.decide(ask)
        check_name(hello, host, ask)
    except Refused as error:
        raise await recorded(grant, "tls", ask, error.refusal) from None


async def raw_door(grant: Grant, outside: Outside, incoming: Incoming, to: Destination) -> None:
    """Serve a connection about which a rule says that anything may be spoken."""
    try:
        async with grant.passage("raw", Ask(to.host, to.port, "raw")) as passage:
            await carry(passage, outside, incoming)
    except (Refused, Unreachable):
        return  # closing is all that can be said on it


async def carry(passage: Passage, outside: Outside, incoming: Incoming, watch: HelloWatch | None = None) -> None:
    """Dial, hand on what has come already, and carry the rest.

    Raises:
        Refused, Unreachable: as of :func:`egress.dial.dial`.
    """
    outer = await dial(passage, outside.resolver)
    async with outer:
        await _splice(passage, incoming, outer, watch)


async def _splice(passage: Passage, incoming: Incoming, outer: trio.SocketStream, watch: HelloWatch | None) -> None:
    """Hand on what has come already, looked at where it has to be, and carry the rest."""
    size = incoming.hello_size if watch is not None else len(incoming.data)
    data = incoming.data[:size] + (watch.from_client(incoming.data[size:]) if watch is not None else b"")
    try:
        passage.count(sent=len(data))
        await outer.send_all(data)
    except BROKEN:
        raise Unreachable("the connection broke at once") from None
    await splice(passage, incoming.stream, outer, watch)


async def serve_tunnel(outside: Outside, passage: Passage, incoming: Incoming, outer: trio.SocketStream) -> None:
    """Carry what is inside of a CONNECT.

    Raises:
        Refused: it is not what the rules allow; the client has been told as far as it understands.
    """
    await Tunnel(passage, outside, incoming, outer).serve()


class Tunnel:
    """What is spoken inside of CONNECT, held to what was granted."""

    def __init__(self, passage: Passage, outside: Outside, incoming: Incoming, outer: trio.SocketStream) -> None:
        self._passage = passage
        self._outside = outside
        self._incoming = incoming
        self._outer = outer

    async def serve(self) -> None:
        """Find out what is spoken, and carry it.

        Raises:
            Refused: it is not what the rules allow; the client has been told as far as it understands.
        """
        passage, incoming = self._passage, self._incoming
        ask = passage.ask
        if passage.grant.allows(Ask(ask.host, ask.port, "raw")):
            passage.settle("raw")
            await _splice(passage, incoming, self._outer, None)
            return
        first = await incoming.first_byte()
        if first is None:
            return
        if is_tls(first):
            await self._tls()
        elif passage.grant.allows(Ask(ask.host, ask.port, "http")):
            passage.settle("http")
            # Each request inside is looked at, so the connection that was opened for the tunnel is not used.
            await self._outer.aclose()
            passage.rest()
            origin = Origin(explicit=False, host=ask.host, port=ask.port)
            await HttpVisit(passage.grant, self._outside, incoming.stream, origin, incoming.data).serve()
        else:
            raise Refused(Refusal("not-tls", str(ask), "what is spoken is not TLS", 'schemes = ["raw"]'))

    async def _tls(self) -> None:
        passage = self._passage
        try:
            try:
                hello = await self._incoming.hello()
            except NotTls as error:
                raise Refused(Refusal("not-tls", str(passage.ask), f"this is not TLS: {error}")) from None
            if hello is None:
                return
            check_name(hello, passage.ask.host, passage.ask)
            passage.settle("https")
        except Refused as error:
            await alert(self._incoming.stream, error.refusal)
            raise
        if passage.rule.intercept:
            await self._outer.aclose()
            passage.rest()
            await intercept(passage.grant, self._outside, self._incoming, passage.ask)
            return
        await _splice(passage, self._incoming, self._outer, HelloWatch(passage.ask.host, passage.ask))
