"""Carry bytes both ways between a sandbox and a server, and count them."""

from __future__ import annotations

from typing import Final

import trio

from egress.grants import Passage

PIECE_BYTES: Final = 1 << 18
SMALL_PIECE_BYTES: Final = 1 << 16
FEW: Final = 16
"""With more connections of one sandbox each holds less of our memory."""
BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


async def splice(passage: Passage, inner: trio.abc.HalfCloseableStream, outer: trio.abc.HalfCloseableStream) -> None:
    """Carry until both sides have ended, or one has broken."""

    def piece() -> int:
        return PIECE_BYTES if len(passage.grant.passages) <= FEW else SMALL_PIECE_BYTES

    async with trio.open_nursery() as nursery:

        async def upwards() -> None:
            while data := await inner.receive_some(piece()):
                passage.count(sent=len(data))
                await outer.send_all(data)
            await outer.send_eof()

        async def downwards() -> None:
            while data := await outer.receive_some(piece()):
                passage.count(received=len(data))
                await inner.send_all(data)
            await inner.send_eof()

        async def until_broken(carry: object) -> None:
            try:
                await (upwards() if carry == "up" else downwards())
            except BROKEN:
                nursery.cancel_scope.cancel()

        nursery.start_soon(until_broken, "up")
        nursery.start_soon(until_broken, "down")
