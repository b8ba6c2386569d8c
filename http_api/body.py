"""Request bodies with flat memory: what a handler has not read yet stops the client, and disconnecting cancels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import trio
from quart import Request, Response
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers.request import TrioBody

from http_api.trickle import Trickle
from supervisor.errors import InvalidRequest, TooLarge

BUFFER_BYTES: Final = 512 * 1024
DISCARD_BYTES: Final = 256 << 20
DISCARD_SECONDS: Final = 20.0
SILENT_SECONDS: Final = 0.3
IDLE_SECONDS: Final = 60.0
"""A client that sends nothing for so long in the middle of a body has gone, or means harm."""


class BoundedBody(TrioBody):
    """A body that says when there is room for more. It has to be read by iteration."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._room = trio.Event()
        self._arrived = trio.Event()
        self._discarding = False
        self._dropped = 0

    async def wait_for_room(self) -> None:
        """Wait until the handler has taken enough of what is there."""
        while len(self._data) >= BUFFER_BYTES and not self._discarding:
            self._room = trio.Event()
            await self._room.wait()

    def append(self, data: bytes) -> None:
        """Take a piece from the server."""
        if self._discarding:
            self._dropped += len(data)
            self._arrived.set()
        else:
            super().append(data)

    async def discard(self) -> None:
        """Drop what is unread and what still comes, for a while: the answer is ready.

        Most clients send their whole body before they look at the answer, and a connection that is closed in their
        face loses it. Hypercorn, too, cannot close one while pieces of its body wait for a handler that reads no more.
        Not everything is waited for: a silent or endless client gets the answer and the end of the connection.
        """
        self._discarding = True
        self._data.clear()
        self._room.set()
        with trio.move_on_after(DISCARD_SECONDS):
            while not self._complete.is_set() and self._dropped < DISCARD_BYTES:
                self._arrived = trio.Event()
                with trio.move_on_after(SILENT_SECONDS) as silence:
                    await self._arrived.wait()
                if silence.cancelled_caught:
                    return

    def set_complete(self) -> None:
        """Note that this was all."""
        super().set_complete()
        self._arrived.set()

    async def __anext__(self) -> bytes:
        """Give what has come; never an empty piece."""
        data = await super().__anext__()
        self._room.set()
        return data


class Hold:
    """Called when the answer will come, but perhaps late. Who was asked to call it may outlive the request."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin: Callable[[], None] | None = begin

    def __call__(self) -> None:
        """Let the connection know, if the request is not over."""
        if self._begin is not None:
            self._begin()

    def end(self) -> None:
        """From here on it does nothing."""
        self._begin = None


class BoundedRequest(TrioRequest):
    """A request with such a body."""

    body_class = BoundedBody
    hold_connection: Hold | None = None


class BoundedConnection(TrioASGIHTTPConnection):
    """Feeds the body at the handler's pace; a client that disconnects ends the handler."""

    async def handle_messages(self, nursery: trio.Nursery, request: Request, receive: Any) -> None:  # type: ignore[override]
        """Take messages of the server until the client is gone, then cancel the handler."""
        body = request.body
        assert isinstance(body, BoundedBody)
        while True:
            await body.wait_for_room()
            message = await receive()
            if message["type"] == "http.request":
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    body.set_complete()
            elif message["type"] == "http.disconnect":
                break
        nursery.cancel_scope.cancel()

    async def handle_request(self, nursery: trio.Nursery, request: Request, send: Any) -> None:  # type: ignore[override]
        """Have the request answered; while that takes long, show the client that it is being worked on."""
        assert isinstance(request, BoundedRequest)
        trickle = Trickle(send)
        request.hold_connection = hold = Hold(partial(nursery.start_soon, trickle.run))
        try:
            response = await self.app.handle_request(request)
        finally:
            hold.end()
        assert isinstance(response, Response)
        if await trickle.stop():
            await trickle.finish(response)
        else:
            await self._send_response(send, response)
        nursery.cancel_scope.cancel()


async def read_capped(request: Request, limit: int) -> bytes:
    """Read a whole body of at most ``limit`` bytes.

    Raises:
        TooLarge: it is longer; no more than ``limit`` bytes were held.
    """
    declared = request.content_length
    if declared is not None and declared > limit:
        raise TooLarge(f"the body has at most {limit} bytes", field="body")
    # One buffer: a list of pieces costs fifty times the body when each has two bytes.
    body = bytearray()
    async for piece in pieces_of(request):
        if len(body) + len(piece) > limit:
            raise TooLarge(f"the body has at most {limit} bytes", field="body")
        body += piece
    if not body:
        raise InvalidRequest("the body is empty", field="body")
    return bytes(body)


async def pieces_of(request: Request) -> AsyncIterator[bytes]:
    """Give the body piece by piece."""
    body = aiter(request.body)
    while True:
        with trio.move_on_after(IDLE_SECONDS) as silence:
            try:
                piece = await anext(body)
            except StopAsyncIteration:
                return
        if silence.cancelled_caught:
            raise InvalidRequest(f"nothing of the body came for {IDLE_SECONDS:g} s", field="body")
        if piece:
            yield piece
