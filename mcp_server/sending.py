"""What the SDK says when a session ends under a request: one answer goes out, and no traceback into the log."""

from __future__ import annotations

import logging

import anyio
from starlette.types import Message, Send


class OneAnswer:
    """Lets one whole answer through. The SDK answers a second time when a session ends under a notification."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ended = False
        self.begun = False
        """A part of it has been sent."""

    async def __call__(self, message: Message) -> None:
        """Send a message of the answer; what comes after its end is dropped."""
        if self._ended:
            return
        self.begun = True
        self._ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


class _SessionEnded(logging.Filter):
    """Drops the traceback that the SDK writes then: whoever may call could fill the log with them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is None or not isinstance(record.exc_info[1], anyio.ClosedResourceError)


logging.getLogger("mcp.server.streamable_http").addFilter(_SessionEnded())
