"""HTTP/2 frames are weighed before they are read: what brings no work has a budget.

Most attacks on HTTP/2 are many frames that are cheap to send and dear to answer: streams that are opened and reset,
pings, settings, priorities, windows byte by byte, empty pieces, headers that go on and on. So every frame costs one of
a credit. Work gives credit back: bytes of a body, a request that was answered, frames that we send; and time does,
slowly. A connection whose credit is used up is ended. Header blocks are bounded as those of HTTP/1.1 are.
"""

from __future__ import annotations

import struct
from typing import Final

from supervisor.serving.http1 import HEADER_BYTES

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
FRAME_BYTES: Final = 1 << 14
CONTINUATIONS: Final = 8
CREDIT: Final = 1000.0
PER_SECOND: Final = 5.0
PER_KIBIBYTE: Final = 4.0
"""Of a body: pieces of 256 bytes cost nothing."""
PER_REQUEST: Final = 10.0
PER_SENT: Final = 3.0
"""A client tells us of each frame that it has taken, for the stream and for the connection."""
_DATA, _HEADERS, _PUSH, _CONTINUATION = 0x0, 0x1, 0x5, 0x9
_END_HEADERS: Final = 0x4


class TooMuch(Exception):
    """The credit is used up, or a header block goes on and on."""


class FrameMeter:
    """Weighs what one client sends. ``now`` in seconds, of any steady clock."""

    def __init__(self, now: float) -> None:
        self._credit = CREDIT
        self._at = now
        self._head = bytearray()
        self._preface = len(PREFACE)
        self._skip = 0
        self._block = self._continuations = 0
        self._in_block = False

    @property
    def waiting_bytes(self) -> int:
        """Give how much is there of something that is not complete: 0 between frames."""
        begun = 0 < self._preface < len(PREFACE)
        return len(self._head) + bool(self._skip) + self._in_block + begun

    def earn(self, credit: float) -> None:
        """Work was done."""
        self._credit = min(CREDIT, self._credit + credit)

    def weigh(self, data: bytes, now: float) -> None:
        """Look at the heads of all frames in what has come.

        Raises:
            TooMuch: the connection has to be ended; what has come is not read.
        """
        self.earn(max(0.0, now - self._at) * PER_SECOND)
        self._at = now
        at = min(self._preface, len(data))
        self._preface -= at
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            step = min(HEAD_BYTES - len(self._head), len(data) - at)
            self._head += data[at : at + step]
            at += step
            if len(self._head) == HEAD_BYTES:
                high, low, kind, flags, _ = struct.unpack(">BHBBI", self._head)
                self._head.clear()
                self._skip = high << 16 | low
                self._charge(kind, flags, self._skip)

    def _charge(self, kind: int, flags: int, length: int) -> None:
        if length > FRAME_BYTES:
            raise TooMuch(f"a frame has at most {FRAME_BYTES} bytes")
        self._credit -= 1
        if kind == _DATA:
            self.earn(length / 1024 * PER_KIBIBYTE)
        if self._credit < 0:
            raise TooMuch("too many frames without work in them")
        if kind in (_HEADERS, _PUSH):
            self._block, self._continuations = length, 0
        elif kind == _CONTINUATION:
            self._block += length
            self._continuations += 1
        else:
            return
        self._in_block = not flags & _END_HEADERS
        if self._block > HEADER_BYTES or self._continuations > CONTINUATIONS:
            raise TooMuch(f"a header block has at most {HEADER_BYTES} bytes and {CONTINUATIONS} continuations")
