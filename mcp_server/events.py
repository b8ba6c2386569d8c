"""What was sent on each stream of one MCP session, so that a client that lost a stream can take it up again.

One store for each session: stream ids are JSON-RPC request ids, which other sessions use too. It holds so many bytes;
answered streams are forgotten first. Who takes a stream up is sent what it missed, and then what comes, from here:
nothing is lost between the two and nothing comes twice.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Final

import trio
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCResponse

HELD_BYTES: Final = 24 << 20
"""Of one session."""
HELD_STREAMS: Final = 256
HELD_TOGETHER_BYTES: Final = 256 << 20
"""Of all sessions: the streams that were answered longest ago go first."""


class EventBudget:
    """What all stores together may hold."""

    def __init__(self, limit_bytes: int = HELD_TOGETHER_BYTES) -> None:
        self._limit = limit_bytes
        self._answered: OrderedDict[tuple[SessionEvents, str], None] = OrderedDict()
        self.held = 0

    def note_answered(self, events: SessionEvents, stream_id: str) -> None:
        """A stream is complete: it is held for who may have lost it, while there is room."""
        self._answered[events, stream_id] = None

    def make_room(self) -> None:
        """Forget what was answered longest ago."""
        while self.held > self._limit and self._answered:
            (events, stream_id), _ = self._answered.popitem(last=False)
            events.forget(stream_id)

    def let_go(self, events: SessionEvents, stream_id: str) -> None:
        """A stream is held no longer."""
        self._answered.pop((events, stream_id), None)


@dataclass(slots=True)
class _Stream:
    events: deque[tuple[int, JSONRPCMessage | None, int]] = field(default_factory=deque)
    answered: bool = False
    followers: int = 0
    """Those who have taken it up and still listen."""
    lost_to: int = 0
    """Events up to this number are not held any more."""


def weight(message: JSONRPCMessage) -> int:
    """Say about how many bytes a message holds, without writing it down: the SDK does that already."""
    pending: list[Any] = [
        getattr(message, "result", None) or getattr(message, "params", None) or getattr(message, "error", None)
    ]
    total = 0
    while pending:
        value = pending.pop()
        total += 16
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, dict):
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return total


class SessionEvents(EventStore):
    """See the module."""

    def __init__(self, budget: EventBudget) -> None:
        self._budget = budget
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._stream_of: dict[int, str] = {}
        self._last = 0
        self._bytes = 0
        self._news = trio.Event()

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """See :class:`mcp.server.streamable_http.EventStore`."""
        self._last += 1
        size = 256 + len(stream_id) + (0 if message is None else weight(message))
        stream = self._streams.setdefault(stream_id, _Stream())
        self._streams.move_to_end(stream_id)
        stream.events.append((self._last, message, size))
        self._stream_of[self._last] = stream_id
        self._hold(size)
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            stream.answered = True
            self._budget.note_answered(self, stream_id)
        self._forget()
        self._budget.make_room()
        self._tell()
        return str(self._last)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> None:
        """Send what came after the event on its stream, then what comes, up to the answer.

        It never hands the stream back: between its last look and another's first one an event could be lost.
        """
        number = int(last_event_id) if last_event_id.isascii() and last_event_id.isdecimal() else 0
        stream_id = self._stream_of.get(number)
        stream = self._streams.get(stream_id) if stream_id is not None else None
        if stream is None:
            return
        stream.followers += 1
        self._tell()
        try:
            while True:
                news = self._news
                for event, message, _size in list(stream.events):
                    if event <= number:
                        continue
                    number = event
                    if message is not None:
                        await send_callback(EventMessage(message, str(event)))
                    if isinstance(message, JSONRPCResponse | JSONRPCError):
                        return
                if number <= stream.lost_to:
                    return
                if news is self._news:
                    await news.wait()
        finally:
            stream.followers -= 1
            self._tell()

    def followed(self, stream_id: str) -> bool:
        """Somebody has taken the stream up and listens."""
        stream = self._streams.get(stream_id)
        return stream is not None and stream.followers > 0

    async def wait_followed(self, stream_id: str, *, wanted: bool) -> None:
        """Wait until somebody listens, or nobody does any more."""
        while self.followed(stream_id) is not wanted:
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _forget(self) -> None:
        """Answered streams go first, whole; then the oldest events of the longest."""
        while self._bytes > HELD_BYTES or len(self._streams) > HELD_STREAMS:
            answered = [name for name, stream in self._streams.items() if stream.answered and not stream.followers][
                : max(1, len(self._streams) - HELD_STREAMS)
            ]
            # The one that was answered last is the likeliest to be asked for.
            if answered and (answered[0] != next(reversed(self._streams)) or len(self._streams) == 1):
                for name in answered:
                    self.forget(name)
                continue
            if len(self._streams) > HELD_STREAMS:
                # None of them was answered: the one that has been silent for longest goes.
                self.forget(next(iter(self._streams)))
                continue
            longest = max(self._streams.values(), key=lambda stream: len(stream.events))
            number, _message, size = longest.events.popleft()
            longest.lost_to = number
            self._hold(-size)
            self._stream_of.pop(number, None)
            if not longest.events:
                return

    def forget(self, stream_id: str) -> None:
        """Hold a stream no longer."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._drop(stream)
        self._budget.let_go(self, stream_id)

    def close(self) -> None:
        """Hold nothing any longer: the session has ended."""
        for stream_id in list(self._streams):
            self.forget(stream_id)

    def _drop(self, stream: _Stream) -> None:
        for number, _message, size in stream.events:
            self._hold(-size)
            self._stream_of.pop(number, None)

    def _hold(self, size: int) -> None:
        self._bytes += size
        self._budget.held += size
