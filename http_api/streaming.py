"""``POST /exec?stream=1``: output as it is produced, as server-sent events.

============  ====================================================================================
``output``    ``{"stream": "stdout", "text": ...}``; ``omitted``: so many bytes were cut before it
``result``    the whole answer, as it would be without ``stream``; the last event
``error``     a refusal or fault, with the ``status`` that the answer would have had; the last event
============  ====================================================================================

What can be decided from the request alone is refused with a plain answer before the stream begins.
"""

from __future__ import annotations

import codecs
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final

import msgspec
import trio
from quart.wrappers.response import ResponseBody

from http_api import answers, problems
from supervisor.errors import GaolerError
from supervisor.execution.values import ExecutionResult, Listener, OutputPiece

KEEP_ALIVE_SECONDS: Final = 15
"""Proxies close a connection on which nothing comes."""

BUFFERED_EVENTS: Final = 16
"""A client that reads slower than this slows its program down."""


class EventStream(ResponseBody):
    """The body of such an answer. Leaving it, as when the client hangs up, cancels the execution."""

    def __init__(self, run: Callable[[Listener], Awaitable[ExecutionResult]]) -> None:
        self._run = run
        self._send, self._receive = trio.open_memory_channel[bytes](BUFFERED_EVENTS)
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None
        # Pieces are cut anywhere, also inside a character.
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in ("stdout", "stderr")}

    async def __aenter__(self) -> EventStream:
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(self._work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._receive.close()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(kind, error, trace)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> bytes:
        with trio.move_on_after(KEEP_ALIVE_SECONDS):
            try:
                return await self._receive.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
        return b": still running\n\n"

    async def _work(self) -> None:
        async with self._send:
            try:
                # Of the result nothing is kept but the event, while that waits to be read.
                last = _event("result", answers.execution(await self._run(self._hear)))
            except GaolerError as error:
                last = _event("error", problems.event(error))
            await self._send.send(last)

    async def _hear(self, piece: OutputPiece) -> None:
        text = self._decoders[piece.stream].decode(piece.untrusted_data)
        if text or piece.omitted_bytes:
            event: dict[str, Any] = {"stream": piece.stream, "text": text}
            if piece.omitted_bytes:
                event["omitted"] = piece.omitted_bytes
            await self._send.send(_event("output", event))


def _event(kind: str, data: dict[str, Any]) -> bytes:
    # JSON has no raw line break, so one data line is enough and nothing in it can end the event.
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
