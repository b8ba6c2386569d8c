"""Carry bytes both ways between a sandbox and a server, and count them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from egress.grants import Passage, Refused
from egress.hello_watch import HelloWatch

PIECE_BYTES: Final = 1 << 18
SMALL_PIECE_BYTES: Final = 1 << 16
FEW: Final = 16
"""With more connections of one sandbox each holds less of our memory."""
BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
Side = trio.abc.HalfCloseableStream


async def splice(passage: Passage, inner: Side, outer: Side, watch: HelloWatch | None = None) -> None:
    """Carry until both sides have ended, or one has broken. ``watch`` sees TLS until it is over.

    Raises:
        Refused: the watch does not allow it.
    """
    passage.carried = True
    await _Splice(passage, inner, outer, watch).run()


class _Splice:
    def __init__(self, passage: Passage, inner: Side, outer: Side, watch: HelloWatch | None) -> None:
        self._passage = passage
        self._inner = inner
        self._outer = outer
        self._watch = watch
        self._refused: Refused | None = None

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_broken, self._upwards, nursery.cancel_scope)
            nursery.start_soon(self._until_broken, self._downwards, nursery.cancel_scope)
        if self._refused is not None:
            raise self._refused

    async def _until_broken(self, carry: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await carry()
        except BROKEN:
            scope.cancel()
        except Refused as error:
            # Raised inside of a nursery it would come out wrapped.
            self._refused = error
            scope.cancel()

    async def _upwards(self) -> None:
        watch = self._watch
        while data := await self._inner.receive_some(self._piece):
            if watch is not None and not watch.done:
                data = watch.from_client(bytes(data))
            self._passage.count(sent=len(data))
            await self._outer.send_all(data)
        await self._outer.send_eof()

    async def _downwards(self) -> None:
        watch = self._watch
        while data := await self._outer.receive_some(self._piece):
            if watch is not None and not watch.over:
                watch.from_server(bytes(data))
            self._passage.count(received=len(data))
            await self._inner.send_all(data)
        await self._inner.send_eof()

    @property
    def _piece(self) -> int:
        return PIECE_BYTES if len(self._passage.grant.passages) <= FEW else SMALL_PIECE_BYTES
