"""The server's side of a forwarded HTTP request: one connection, used for one request after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import h11
import trio

from egress.addresses import Address
from egress.allowlist import Rule
from egress.fields import without_quotes
from egress.names import Host
from egress.splice import BROKEN

MAX_HEAD: Final = 64 * 1024
Key = tuple[Rule, Host, int]


class UpstreamBroken(Exception):
    """The server ended the connection, or speaks something that is no HTTP."""


class Upstream:
    """Closed by whoever made it."""

    def __init__(self, stream: trio.abc.Stream, key: Key, address: Address) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self.key = key
        self.address = address

    @property
    def usable(self) -> bool:
        """Another request may be sent on it."""
        return self._http.our_state is h11.IDLE

    async def send(self, event: h11.Event, count: Callable[[int], None] | None = None) -> None:
        """Send a part of the request; ``count`` is told before how many bytes that are.

        Raises:
            UpstreamBroken: the connection is gone.
        """
        data = self._http.send(event)
        if data:
            if count is not None:
                count(len(data))
            try:
                await self._stream.send_all(data)
            except BROKEN:
                raise UpstreamBroken("the server closed the connection") from None

    async def answers(self) -> bool:
        """Wait for the first bytes of an answer; ``False``: the connection was closed meanwhile, unused."""
        try:
            data = await self._stream.receive_some(65_536)
        except BROKEN:
            return False
        self._http.receive_data(bytes(data))
        return bool(data)

    async def response(self, method: str) -> h11.Response:
        """Wait for the head of the final answer; interim ones stay here.

        Raises:
            UpstreamBroken: there is none.
        """
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise UpstreamBroken(f"it does not answer {method or 'the request'}")

    async def body(self) -> AsyncIterator[bytes]:
        """Give the body, to its end.

        Raises:
            UpstreamBroken: it is cut off.
        """
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise UpstreamBroken("the answer is cut off")

    def finish(self) -> bool:
        """After an answer: make ready for the next request; ``False``: the connection cannot have one."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
            return True
        return False

    async def aclose(self) -> None:
        """Close the connection, without waiting for the server."""
        await trio.aclose_forcefully(self._stream)

    async def _next(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            try:
                event = self._http.next_event()
                if not isinstance(event, type) or event is h11.PAUSED:
                    return event
                self._http.receive_data(bytes(await self._stream.receive_some(65_536)))
            except h11.RemoteProtocolError as error:
                raise UpstreamBroken(without_quotes(error)) from None
            except BROKEN:
                raise UpstreamBroken("the connection broke") from None
