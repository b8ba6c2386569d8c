"""HTTP/1 from a sandbox: CONNECT, the absolute form, and plain requests that were meant for a server itself.

Every request is read by h11, checked on its own and written anew, so a server never sees bytes that we did not
understand: what a client and a server could frame differently does not come through. Hop-by-hop fields stay on their
hop (RFC 9110, 7.6.1); a protocol is never switched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

import h11
import trio

from egress.allowlist import DEFAULT_PORTS, Ask, Refusal
from egress.dial import dial
from egress.fields import BadRequest, check_framing, field, fields, incoming, outgoing, text, without_quotes
from egress.gate import Incoming, Outside, recorded
from egress.grants import Grant, Passage, Refused, Unreachable
from egress.names import Host
from egress.secrets import Secret, secret_of
from egress.splice import BROKEN
from egress.targets import BadTarget, Target, checked_method, checked_path, parse_absolute, parse_authority
from egress.upstream import Upstream, UpstreamBroken

MAX_HEAD: Final = 64 * 1024
LINGER_SECONDS: Final = 1.0
_RETRIED: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""May be sent again on a new connection if a kept one had been closed (RFC 9110, 9.2.2)."""
_DROPPED_UPGRADES: Final = frozenset({b"h2c"})
"""A client that offers these goes on in HTTP/1.1 when it gets no answer to the offer."""


OnConnect = Callable[[Passage, Incoming, trio.SocketStream], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Which requests a connection may carry: to the proxy itself (CONNECT, absolute form), or to one server."""

    explicit: bool
    host: Host | None = None
    """The only host it may be for, where that is known."""
    port: int = 80
    scheme: Literal["http", "https"] = "http"
    """``https``: it came out of TLS that the proxy has ended, and goes on in TLS."""
    on_connect: OnConnect | None = None
    """Carries what is inside of a CONNECT."""


class HttpVisit:
    """One connection that speaks HTTP."""

    def __init__(
        self, grant: Grant, outside: Outside, stream: trio.abc.Stream, origin: Origin, data: bytes = b""
    ) -> None:
        self._grant = grant
        self._outside = outside
        self._stream = stream
        self._origin = origin
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        if data:
            self._http.receive_data(data)
        self._upstream: Upstream | None = None
        self._sending = trio.Lock()

    async def serve(self) -> None:
        """Answer requests until one side ends the connection."""
        try:
            while True:
                request = await self._next_request()
                if request is None or not await self._answer(request):
                    return
                self._http.start_next_cycle()
        except BadRequest as error:
            await self._complain(str(error))
        except h11.RemoteProtocolError as error:
            await self._complain(without_quotes(error))
        except (h11.LocalProtocolError, *BROKEN):
            return  # the client went away, or a server's answer broke off
        finally:
            if self._upstream is not None:
                await self._upstream.aclose()

    # -- reading --

    async def _next_request(self) -> h11.Request | None:
        with trio.move_on_after(self._grant.limits.idle_seconds):
            event = await self._next_event()
            if isinstance(event, h11.Request):
                return event
        return None

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            if self._http.they_are_waiting_for_100_continue and self._http.our_state is h11.SEND_RESPONSE:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            event = self._http.next_event()
            if not isinstance(event, type) or event is h11.PAUSED:
                return event
            self._http.receive_data(bytes(await self._stream.receive_some(65_536)))

    # -- one request --

    async def _answer(self, request: h11.Request) -> bool:
        """Answer a request; say whether another one may follow."""
        check_framing(request)
        try:
            if request.method == b"CONNECT":
                await self._connect(request)
                return False
            return await self._forward(request)
        except Refused as error:
            await self._reply(403, error.refusal.text(), error.refusal.code)
        except Unreachable as error:
            await self._reply(502, f"the server could not be reached: {error}", "unreachable")
        except BadTarget as error:
            raise BadRequest(str(error)) from None
        return False

    async def _connect(self, request: h11.Request) -> None:
        on_connect, stream = self._origin.on_connect, self._stream
        if on_connect is None or not isinstance(stream, trio.SocketStream):
            raise BadRequest("CONNECT is for the proxy, not for a server")
        if fields(request, b"content-length") or fields(request, b"transfer-encoding"):
            raise BadRequest("CONNECT has no body")
        host, port = parse_authority(text(request.target), None)
        async with self._grant.passage("connect", Ask(host, port)) as passage:
            # Dialled first: so a client is told in words what a closed tunnel could not say.
            outer = await dial(passage, self._outside.resolver)
            async with outer:
                while await self._next_event() is not h11.PAUSED:
                    pass
                await self._send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
                await on_connect(passage, Incoming(stream, self._http.trailing_data[0]), outer)

    async def _forward(self, request: h11.Request) -> bool:
        target = self._target(request)
        ask = Ask(target.host, target.port, self._origin.scheme, checked_method(text(request.method)), target.path)
        await self._check_upgrade(request, ask)
        async with self._grant.passage(self._origin.scheme, ask) as passage:
            secret = secret_of(passage, self._outside.credentials)
            return await self._exchange(passage, request, target, secret)

    def _target(self, request: h11.Request) -> Target:
        """Find out where a request goes; what it says twice has to be the same.

        Raises:
            BadTarget, BadRequest: it cannot be said, or is said differently.
        """
        said, named = text(request.target), field(request, b"host")
        if self._origin.explicit:
            target = parse_absolute(said)
            if named is not None and parse_authority(named, self._default_port) != (target.host, target.port):
                raise BadRequest("the Host field is not the host of the request target")
            return target
        if named is None:
            raise BadRequest("there is no Host field")
        if not said.startswith("/") and "://" in said:
            target = parse_absolute(said)
            if parse_authority(named, self._default_port) != (target.host, target.port):
                raise BadRequest("the Host field is not the host of the request target")
        else:
            host, port = parse_authority(named, self._default_port)
            target = Target(host, port, "*" if said == "*" and request.method == b"OPTIONS" else checked_path(said))
        if target.port != self._origin.port or self._origin.host not in (None, target.host):
            raise BadRequest("the Host field is not the server that was connected to")
        return target

    async def _check_upgrade(self, request: h11.Request, ask: Ask) -> None:
        wanted = {word.strip().lower() for value in fields(request, b"upgrade") for word in value.split(b",")}
        if wanted - _DROPPED_UPGRADES:
            refusal = Refusal("upgrade", str(ask), "switching to another protocol (Upgrade) is never allowed")
            raise await recorded(self._grant, self._origin.scheme, ask, refusal)

    async def _exchange(self, passage: Passage, request: h11.Request, target: Target, secret: Secret | None) -> bool:
        head = outgoing(request, target, self._default_port)
        if secret is not None:
            head = secret.add_to(head)
        has_body = self._has_body(request)
        upstream, reused = await self._reach(passage, target)
        try:
            await upstream.send(head, passage.count_sent)
            if not has_body:
                await upstream.send(h11.EndOfMessage())
            if reused and not has_body and request.method in _RETRIED and not await upstream.answers():
                upstream, _ = await self._reach(passage, target, fresh=True)
                await upstream.send(head, passage.count_sent)
                await upstream.send(h11.EndOfMessage())
            return await self._relay(passage, upstream, secret, has_body=has_body)
        except (UpstreamBroken, h11.RemoteProtocolError) as error:
            if self._http.our_state is not h11.SEND_RESPONSE:
                raise h11.LocalProtocolError("the answer broke off") from None
            why = without_quotes(error) if isinstance(error, h11.RemoteProtocolError) else error
            raise Unreachable(f"its answer is no HTTP: {why}") from None

    def _has_body(self, request: h11.Request) -> bool:
        length = field(request, b"content-length")
        return field(request, b"transfer-encoding") is not None or (length is not None and length.strip("0") != "")

    async def _reach(self, passage: Passage, target: Target, *, fresh: bool = False) -> tuple[Upstream, bool]:
        """Give a connection to the server; one that is open is used again only for the same rule, host and port."""
        key = (passage.rule, target.host, target.port)
        old = self._upstream
        if old is not None:
            if not fresh and old.key == key and old.usable:
                passage.address = old.address
                return old, True
            self._upstream = None
            await old.aclose()
        stream: trio.abc.Stream = await dial(passage, self._outside.resolver)
        assert passage.address is not None
        if self._origin.scheme == "https":
            stream = await self._encrypted(stream, target.host)
        self._upstream = Upstream(stream, key, passage.address)
        return self._upstream, False

    async def _encrypted(self, stream: trio.abc.Stream, host: Host) -> trio.abc.Stream:
        """Go on in TLS, with a server that proves its name."""
        assert self._outside.checked is not None
        encrypted = trio.SSLStream(stream, self._outside.checked, server_hostname=host.text, https_compatible=True)
        try:
            with trio.fail_after(self._grant.limits.connect_seconds):
                await encrypted.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            await trio.aclose_forcefully(stream)
            why = getattr(error.__cause__, "verify_message", None) or "TLS with it fails"
            raise Unreachable(f"{host.text}: {why}") from None
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return encrypted

    @property
    def _default_port(self) -> int:
        return DEFAULT_PORTS[self._origin.scheme]

    async def _relay(self, passage: Passage, upstream: Upstream, secret: Secret | None, *, has_body: bool) -> bool:
        """Carry body and answer; say whether both sides may go on."""
        uploaded = not has_body
        async with trio.open_nursery() as nursery:

            async def upload() -> None:
                nonlocal uploaded
                try:
                    async for piece in self._body():
                        await upstream.send(h11.Data(data=piece), passage.count_sent)
                    await upstream.send(h11.EndOfMessage())
                    uploaded = True
                except (UpstreamBroken, h11.ProtocolError, *BROKEN):
                    return  # its answer, if there is one, tells why

            if has_body:
                nursery.start_soon(upload)
            fault = await self._download(passage, upstream, secret)
            nursery.cancel_scope.cancel()
        if fault is not None:
            raise fault
        return await self._may_go_on(upstream, uploaded=uploaded)

    async def _body(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    async def _download(self, passage: Passage, upstream: Upstream, secret: Secret | None) -> Exception | None:
        """Carry the answer. Gives what went wrong: an error inside a nursery would come out wrapped."""
        try:
            response = await upstream.response(passage.ask.method or "")
            body = upstream.body()
            if secret is not None:
                secret.check_head(passage, response)
                body = secret.watched(passage, body)
            await self._send(incoming(response), passage.count_received)
            async for piece in body:
                await self._send(h11.Data(data=piece), passage.count_received)
            await self._send(h11.EndOfMessage())
        except (UpstreamBroken, Refused, h11.ProtocolError, *BROKEN) as error:
            return error
        return None

    async def _may_go_on(self, upstream: Upstream, *, uploaded: bool) -> bool:
        if not upstream.finish():
            self._upstream = None
            await upstream.aclose()
        if not uploaded:
            return False
        while self._http.their_state is h11.SEND_BODY:
            await self._next_event()
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    # -- writing --

    async def _send(self, event: h11.Event, count: Callable[[int], None] | None = None) -> None:
        # "Go on" may be said for a body while the answer is under way already.
        async with self._sending:
            data = self._http.send(event)
            if data:
                if count is not None:
                    count(len(data))
                await self._stream.send_all(data)

    async def _reply(self, status: int, words: str, code: str) -> None:
        """Answer in our own words, and close."""
        if self._http.our_state not in (h11.SEND_RESPONSE, h11.IDLE):
            return
        body = f"{words}\n".encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("X-Gaoler-Refused", code),
            ("Connection", "close"),
        ]
        try:
            await self._send(h11.Response(status_code=status, headers=headers))
            await self._send(h11.Data(data=body))
            await self._send(h11.EndOfMessage())
            if isinstance(self._stream, trio.SocketStream):
                await self._stream.send_eof()
            # Closing over what has not been read would take our words back.
            with trio.move_on_after(LINGER_SECONDS):
                while await self._stream.receive_some(65_536):
                    pass
        except (h11.LocalProtocolError, *BROKEN):
            return  # it has gone already

    async def _complain(self, why: str) -> None:
        host = self._origin.host or Host("unknown")
        ask = Ask(host, self._origin.port, self._origin.scheme)
        await self._grant.record_refusal(self._origin.scheme, ask, Refusal("bad-request", str(ask), why))
        await self._reply(400, f"network request refused: {why}. Do not retry it as it is.", "bad-request")
