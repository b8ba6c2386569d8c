"""Output on its way from a worker to a gateway: each piece says how much came before it, so a gap is seen and told."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from supervisor.execution.values import Listener, OutputPiece
from supervisor.fleet.messages import Output

log: Final = logging.getLogger("gaoler.fleet")


class Counted:
    """At a worker: a listener that numbers what it passes on, by bytes of each stream."""

    def __init__(self, say: Callable[[Output], Awaitable[None]]) -> None:
        self._say = say
        self._bytes: Counter[str] = Counter()

    @property
    def totals(self) -> dict[str, int]:
        """Bytes of each stream so far, with those that were cut."""
        return dict(self._bytes)

    async def hear(self, piece: OutputPiece) -> None:
        """Say a piece."""
        before = self._bytes[piece.stream]
        self._bytes[piece.stream] += piece.omitted_bytes + len(piece.untrusted_data)
        await self._say(Output(piece, before))


class Checked:
    """At a gateway: passes pieces on to a listener, and tells it how many bytes did not come."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._bytes: Counter[str] = Counter()
        self._gaps = 0

    async def hear(self, news: Output) -> None:
        """Take the next piece that came."""
        piece = news.piece
        lost = self._lost(piece.stream, news.before)
        self._bytes[piece.stream] += piece.omitted_bytes + len(piece.untrusted_data)
        await self._listener(replace(piece, omitted_bytes=piece.omitted_bytes + lost) if lost else piece)

    async def end(self, totals: Mapping[str, int]) -> None:
        """Tell what is missing at the end; ``totals``: the worker's."""
        for stream, total in totals.items():
            if lost := self._lost(stream, total):
                await self._listener(OutputPiece(stream, b"", lost))
        if self._gaps:
            log.info("output came faster than it was read: %d gaps", self._gaps)

    def _lost(self, stream: str, before: int) -> int:
        lost = max(0, before - self._bytes[stream])
        self._gaps += lost > 0
        self._bytes[stream] += lost
        return lost
