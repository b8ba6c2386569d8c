"""White space while a long execution holds its connection.

LibreChat up to v0.8.3 gives an execution five seconds on a connection that it uses again, and proxies close one on
which nothing comes. So after a while the answer begins, with status 200, which is what an execution gets whatever its
program does, and with spaces, which JSON parsers skip.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import trio
from quart import Response

from supervisor.execution.request_context import current_request

TRICKLE_SECONDS: Final = 3.0
SEND_SECONDS: Final = 5.0


class Trickle:
    """The beginning of one answer. ``send``: of the ASGI server."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._scope = trio.CancelScope()
        self._began = False
        self._turn = trio.Lock()

    async def run(self) -> None:
        """Begin the answer when it has taken long, and go on with spaces until :meth:`stop`."""
        with self._scope:
            while True:
                await trio.sleep(TRICKLE_SECONDS)
                # A piece is sent whole or not at all.
                with trio.move_on_after(SEND_SECONDS, shield=True):
                    async with self._turn:
                        await self._space()

    async def _space(self) -> None:
        if not self._began:
            self._began = True
            headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
            if (request := current_request()) is not None:
                headers.append((b"x-request-id", request.request_id.encode()))
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": b" ", "more_body": True})

    async def stop(self) -> bool:
        """Send no more; say whether the answer has begun."""
        self._scope.cancel()
        async with self._turn:
            return self._began

    async def finish(self, response: Response) -> None:
        """Send the rest. A refusal that came too late for its status is put into words that a client shows."""
        body = await response.get_data(as_text=False)
        if response.status_code != 200:
            refusal = msgspec.json.decode(body)
            shown = {"session_id": "", "stdout": "", "stderr": f"[gaoler] {refusal['message']}\n", "files": []}
            body = msgspec.json.encode(shown | refusal)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
