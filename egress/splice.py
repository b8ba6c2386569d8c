"""Carry bytes both ways between a sandbox and a server, and count them."""

from __future__ import annotations

from typing import Final

import trio

from egress.grants import Passage

PIECE_BYTES: Final = 1 << 18
BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


async def splice(passage: Passage, inner: trio.abc.HalfCloseableStream, outer: trio.abc.HalfCloseableStream) -> None:
    """Carry until both sides have ended, or one has broken."""
    async with trio.open_nursery() as nursery:

        async def upwards() -> None:
            while data := await inner.receive_some(PIECE_BYTES):
                passage.count(sent=len(data))
                await outer.send_all(data)
            await outer.send_eof()

        async def downwards() -> None:
            while data := await outer.receive_some(PIECE_BYTES):
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
