"""Many channels over one byte stream: frames, credit, and no mercy for broken peers.

A frame is a 12-byte header and a payload::

    u32 payload length | u32 channel | u8 kind | 3 zero bytes        (big endian)

========  ===========================================================================================
MESSAGE   one protocol message (:mod:`supervisor.jailer.protocol`); opens the channel if it is new
DATA      bytes of the file that the last message announced
CREDIT    u32: the receiver has consumed so much of this channel's window
CLOSE     no more from this side; the channel is gone when both have said it
========  ===========================================================================================

Each side may have at most :data:`WINDOW_BYTES` of unconsumed frames in flight on a channel, each at the cost of its
payload and :data:`FRAME_COST`, so a slow reader stops its own channel and nobody else's, and memory for a connection is
bounded by ``max_channels * WINDOW_BYTES``. Whatever
breaks a rule raises :class:`ProtocolError`, and the connection is closed: there is no way back into step with a peer
that is hostile or broken. Channels are opened by the client side only, with numbers that only grow.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

MAX_PAYLOAD_BYTES: Final = 256 * 1024
WINDOW_BYTES: Final = 1024 * 1024
FRAME_COST: Final = 128
"""What a frame takes from the window beside its payload, and of memory: else empty ones would have no bound."""
CHUNK_BYTES: Final = 64 * 1024
"""Data is cut into pieces of this size, so that channels take turns on the stream."""

WRITE_SECONDS: Final = 10
"""Our own peers read all the time; only a broken one lets a frame wait for so long."""

_NO_NUMBER: Final = 0
"""A channel that has not sent anything yet."""

_HEADER: Final = struct.Struct("!IIB3s")
_CREDIT: Final = struct.Struct("!I")
_ZERO: Final = b"\0\0\0"
MESSAGE, DATA, CREDIT, CLOSE = 1, 2, 3, 4


def _cost(payload: bytes) -> int:
    return len(payload) + FRAME_COST


class ProtocolError(Exception):
    """The peer broke a rule of the framing or of the conversation."""


class ChannelClosed(Exception):
    """The peer closed the channel, or the connection is gone."""


class Channel:
    """One conversation. Made by a :class:`Connection`; not for use by several receivers at once."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.number = number
        self.connection = connection
        self._incoming: deque[tuple[int, bytes]] = deque()
        self._incoming_bytes = 0
        self._consumed = 0
        self._credit = WINDOW_BYTES
        self._wakeup = trio.Event()
        self._credit_added = trio.Event()
        self._peer_closed = False
        self._closed = False
        self.peer_gone = trio.Event()
        """Set when the peer has closed its side or the connection is lost, whatever is still unread."""

    @property
    def pending(self) -> bool:
        """Something has come that was not received yet."""
        return bool(self._incoming)

    async def send_message(self, payload: bytes, *, hold: bool = False) -> None:
        """Send one encoded message. ``hold``: more is about to follow; it goes out with the next one that is not held.

        Raises:
            ChannelClosed: the channel or the connection is gone.
        """
        await self._send(MESSAGE, payload, hold=hold)

    async def send_data(self, data: bytes | memoryview, *, hold: bool = False) -> None:
        """Send bytes of an announced file, in chunks; waits while the peer's window is full."""
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):
            await self._send(DATA, bytes(view[start : start + CHUNK_BYTES]), hold=hold)

    async def _send(self, kind: int, payload: bytes, *, hold: bool) -> None:
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"payload of {len(payload)} bytes is over the frame limit of {MAX_PAYLOAD_BYTES}")
        cost = _cost(payload)
        while self._credit < cost:
            if self._closed or self.peer_gone.is_set():
                raise ChannelClosed
            self._credit_added = trio.Event()
            await self._credit_added.wait()
        if self._closed or self.peer_gone.is_set():
            raise ChannelClosed
        self._credit -= cost
        await self.connection.send_frame(self, kind, payload, hold=hold)

    async def flush(self) -> None:
        """Let go of what was held.

        Raises:
            ChannelClosed: the connection is gone.
        """
        await self.connection.flush()

    async def receive(self) -> tuple[int, bytes]:
        """Wait for the next frame; return its kind (``MESSAGE`` or ``DATA``) and payload.

        Raises:
            ChannelClosed: nothing more will come.
        """
        while not self._incoming:
            if self._peer_closed or self._closed:
                raise ChannelClosed
            self._wakeup = trio.Event()
            await self._wakeup.wait()
        kind, payload = self._incoming.popleft()
        self._incoming_bytes -= _cost(payload)
        self._consumed += _cost(payload)
        # Telling the peer about half a window at a time keeps credit frames rare.
        if self._consumed >= WINDOW_BYTES // 2 and not self._peer_closed:
            consumed, self._consumed = self._consumed, 0
            await self.connection.send_frame(self, CREDIT, _CREDIT.pack(consumed))
        return kind, payload

    async def receive_message(self) -> bytes:
        """Wait for the next message.

        Raises:
            ProtocolError: data came where a message had to.
            ChannelClosed: nothing more will come.
        """
        kind, payload = await self.receive()
        if kind != MESSAGE:
            raise ProtocolError(f"channel {self.number}: data where a message was due")
        return payload

    async def receive_data(self, size: int) -> AsyncGenerator[bytes, None]:
        """Yield exactly ``size`` bytes of data frames.

        Raises:
            ProtocolError: a message came first, or more bytes than announced.
            ChannelClosed: the peer closed in the middle.
        """
        left = size
        while left:
            kind, payload = await self.receive()
            if kind != DATA or len(payload) > left or not payload:
                raise ProtocolError(f"channel {self.number}: {left} bytes of data were due")
            left -= len(payload)
            yield payload

    async def aclose(self) -> None:
        """Say that nothing more will come from this side and forget what the peer still sends. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._incoming.clear()
        self._wake()
        await self.connection.close_channel(self)

    # -- called by the connection's reader --

    def feed(self, kind: int, payload: bytes) -> None:
        """Take a frame from the stream; the peer may not overrun the window it was given."""
        if self._peer_closed:
            raise ProtocolError(f"channel {self.number}: a frame after close")
        if self._closed:
            return
        if self._incoming_bytes + _cost(payload) > WINDOW_BYTES:
            raise ProtocolError(f"channel {self.number}: window of {WINDOW_BYTES} bytes overrun")
        self._incoming.append((kind, payload))
        self._incoming_bytes += _cost(payload)
        self._wakeup.set()

    def add_credit(self, count: int) -> None:
        """Let so many more bytes go out."""
        if count > WINDOW_BYTES or self._credit + count > WINDOW_BYTES:
            raise ProtocolError(f"channel {self.number}: credit for bytes that were never sent")
        self._credit += count
        self._credit_added.set()

    def peer_closed(self) -> None:
        """Note that the peer will send nothing more."""
        self._peer_closed = True
        self._wake()

    @property
    def finished(self) -> bool:
        """Both sides have closed."""
        return self._closed and self._peer_closed

    def _wake(self) -> None:
        self.peer_gone.set()
        self._wakeup.set()
        self._credit_added.set()


class _Rate:
    """So many a second, and as many at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left = per_second
        self._at = trio.current_time()

    async def spend(self, count: int) -> None:
        """Take so many; wait until they are earned."""
        if self._per_second == math.inf:
            return
        now = trio.current_time()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second) - count
        self._at = now
        if self._left < 0:
            await trio.sleep(-self._left / self._per_second)


class Connection:
    """One stream's worth of channels. Use :func:`open_connection`."""

    def __init__(
        self, stream: trio.abc.Stream, *, accepts: bool, max_channels: int, frames_per_second: float = math.inf
    ) -> None:
        self._stream = stream
        self._rate = _Rate(frames_per_second)
        self._read_bytes = MAX_PAYLOAD_BYTES if frames_per_second == math.inf else CHUNK_BYTES
        self._accepts = accepts
        self._max_channels = max_channels
        self._channels: dict[int, Channel] = {}
        self._highest = 0
        self._write_lock = trio.StrictFIFOLock()
        self._held = bytearray()
        self._broken = False
        self.ended = trio.Event()
        """Set when the connection is gone."""
        self._new_send, self._new_receive = trio.open_memory_channel[Channel](max_channels)

    async def open_channel(self) -> Channel:
        """Make a channel (client side); the peer learns of it with the first message.

        Raises:
            ChannelClosed: the connection is gone.
        """
        if self._broken:
            raise ChannelClosed
        return Channel(self, _NO_NUMBER)

    async def accept(self) -> Channel:
        """Wait for a channel that the peer opened (server side).

        Raises:
            ChannelClosed: the connection is gone.
        """
        try:
            return await self._new_receive.receive()
        except trio.EndOfChannel:
            raise ChannelClosed from None

    async def send_frame(self, channel: Channel, kind: int, payload: bytes, *, hold: bool = False) -> None:
        """Write one frame, whole or not at all. The first one gives the channel its number, so that they only grow.

        Waiting for the turn can be cancelled; the write itself cannot, because half a frame would take every other
        channel with it. A peer that does not read for :data:`WRITE_SECONDS` loses the connection. ``hold``: it may wait
        for the next frame of whatever channel, so that small ones share a system call at each end.
        """
        async with self._write_lock:
            if self._broken:
                raise ChannelClosed
            if channel.number == _NO_NUMBER:
                if len(self._channels) >= self._max_channels:
                    # Those count too that the peer has not closed yet, and it may never do so.
                    raise ChannelClosed(f"{self._max_channels} channels are open already")
                self._highest += 1
                channel.number = self._highest
                self._channels[channel.number] = channel
            self._held += _HEADER.pack(len(payload), channel.number, kind, _ZERO) + payload
            if hold and len(self._held) < CHUNK_BYTES:
                return
            await self._write_held()

    async def flush(self) -> None:
        """Write what is held.

        Raises:
            ChannelClosed: the connection is gone.
        """
        async with self._write_lock:
            if self._held and not self._broken:
                await self._write_held()

    async def _write_held(self) -> None:
        frames, self._held = bytes(self._held), bytearray()
        try:
            with trio.CancelScope(shield=True), trio.fail_after(WRITE_SECONDS):
                await self._stream.send_all(frames)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._break()
            raise ChannelClosed from None

    async def close_channel(self, channel: Channel) -> None:
        """Send CLOSE, shielded: it has to go out when the caller is being cancelled, and writing is bounded."""
        if channel.number == _NO_NUMBER:
            return
        with trio.CancelScope(shield=True):
            try:
                await self.send_frame(channel, CLOSE, b"")
            except ChannelClosed:
                pass  # gone with its connection
        if channel.finished or self._broken:
            self._channels.pop(channel.number, None)

    async def read_frames(self) -> None:
        """Read until the peer ends the stream.

        Raises:
            ProtocolError: the peer broke a rule.
        """
        buffer = bytearray()
        try:
            while True:
                try:
                    data = await self._stream.receive_some(self._read_bytes)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                if not data:
                    if buffer:
                        raise ProtocolError(f"the stream ended inside a frame, {len(buffer)} bytes in")
                    return
                buffer += data
                await self._rate.spend(self._take_frames(buffer))
        finally:
            self._break()

    def _take_frames(self, buffer: bytearray) -> int:
        """Hand out the whole frames, leave the rest; say how many there were."""
        position = count = 0
        while len(buffer) - position >= _HEADER.size:
            length, number, kind, zero = _HEADER.unpack_from(buffer, position)
            if length > MAX_PAYLOAD_BYTES or zero != _ZERO:
                raise ProtocolError(f"bad frame header: length {length}, kind {kind}")
            end = position + _HEADER.size + length
            if len(buffer) < end:
                break
            self._dispatch(number, kind, bytes(buffer[position + _HEADER.size : end]))
            position = end
            count += 1
        del buffer[:position]
        return count

    def _dispatch(self, number: int, kind: int, payload: bytes) -> None:
        channel = self._channels.get(number) or self._new_channel(number, kind)
        if channel is None:
            return
        if kind in (MESSAGE, DATA):
            channel.feed(kind, payload)
        elif kind == CREDIT and len(payload) == _CREDIT.size:
            channel.add_credit(_CREDIT.unpack(payload)[0])
        elif kind == CLOSE and not payload:
            channel.peer_closed()
            if channel.finished:
                del self._channels[number]
        else:
            raise ProtocolError(f"bad frame: kind {kind}, {len(payload)} bytes")

    def _new_channel(self, number: int, kind: int) -> Channel | None:
        if number <= self._highest and kind in (CREDIT, CLOSE):
            return None  # late word about a channel that has ended meanwhile
        if not self._accepts or kind != MESSAGE or number <= self._highest:
            raise ProtocolError(f"frame of kind {kind} for unknown channel {number}")
        if len(self._channels) >= self._max_channels:
            raise ProtocolError(f"more than {self._max_channels} channels")
        self._highest = number
        channel = self._channels[number] = Channel(self, number)
        self._new_send.send_nowait(channel)
        return channel

    def _break(self) -> None:
        self._broken = True
        self.ended.set()
        for channel in self._channels.values():
            channel.peer_closed()
        self._channels.clear()
        self._new_send.close()


@asynccontextmanager
async def open_connection(
    stream: trio.abc.Stream, *, accepts: bool, max_channels: int = 1024, frames_per_second: float = math.inf
) -> AsyncIterator[Connection]:
    """Run a connection over ``stream`` while the block lasts; the stream is closed at its end.

    ``accepts``: this is the server side, which takes channels and opens none. ``frames_per_second``: more are left in
    the stream for a while, so that a peer who floods us waits, and takes no more than its part of our time.

    Raises:
        ProtocolError: (as part of an exception group) the peer broke a rule.
    """
    connection = Connection(stream, accepts=accepts, max_channels=max_channels, frames_per_second=frames_per_second)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.read_frames)
            yield connection
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
