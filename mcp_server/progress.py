"""Output as it comes, told to a client that asked: some pieces a second, never in the way of what runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from mcp.server.context import ServerRequestContext

from supervisor.execution.values import Listener, OutputPiece

INTERVAL_SECONDS: Final = 0.1
LAST_SECONDS: Final = 0.5
"""A client that does not read gets its result without the last piece."""
PIECE_CHARACTERS: Final = 4000


class ProgressTeller:
    """Use :func:`telling`."""

    def __init__(self, context: ServerRequestContext[Any, Any]) -> None:
        self._context = context
        self._pending = bytearray()
        self._bytes = 0
        self._news = trio.Event()

    async def hear(self, piece: OutputPiece) -> None:
        """Take a piece; what is not told in time is told shortened."""
        self._bytes += len(piece.untrusted_data)
        self._pending += piece.untrusted_data
        del self._pending[: max(0, len(self._pending) - 4 * PIECE_CHARACTERS)]
        self._news.set()

    async def run(self) -> None:
        """Tell what has come, until cancelled."""
        while True:
            await self._news.wait()
            await self._tell()
            await trio.sleep(INTERVAL_SECONDS)

    async def tell_rest(self) -> None:
        """Tell what has come since the last time."""
        if self._pending:
            await self._tell()

    async def _tell(self) -> None:
        self._news = trio.Event()
        said, self._pending = bytes(self._pending), bytearray()
        message = said.decode("utf-8", "replace")[-PIECE_CHARACTERS:]
        await self._context.session.report_progress(float(self._bytes), None, message)


@asynccontextmanager
async def telling(context: ServerRequestContext[Any, Any]) -> AsyncIterator[Listener | None]:
    """Give a listener for the block whose news the client is told; ``None`` if it did not ask."""
    meta = context.meta or {}
    if "progress_token" not in meta and "progressToken" not in meta:
        yield None
        return
    teller = ProgressTeller(context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(teller.run)
        yield teller.hear
        nursery.cancel_scope.cancel()
    with trio.move_on_after(LAST_SECONDS):
        await teller.tell_rest()
