"""A part of a text file, cut out of its chunks as they come. Pure."""

from __future__ import annotations

import codecs

from supervisor.errors import InvalidRequest
from supervisor.execution.values import StoredFile


def check_text(decoder: codecs.IncrementalDecoder, data: bytes, file: StoredFile, *, final: bool = False) -> None:
    """Refuse what is not UTF-8, or has a NUL.

    Raises:
        InvalidRequest: it is no text.
    """
    try:
        text = decoder.decode(data, final)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidRequest(
            f"{file.name} is not UTF-8 text but {file.content_type}: read it with encoding 'base64'", field="path"
        )


class Cutter:
    """Takes lines ``first`` to ``first + count - 1`` out of chunks, ``limit`` bytes at most; counts all lines.

    Chunks that are not wanted are only counted: a file may have millions of lines.
    """

    def __init__(self, first: int, count: int, limit: int) -> None:
        self._skip = first - 1
        self._count = count
        self._limit = limit
        self._whole = 0
        self._ends_in_line = False
        self.taken = bytearray()
        self.cut = False

    @property
    def lines(self) -> int:
        """Lines so far; one without an end counts."""
        return self._whole + self._ends_in_line

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        start, end = 0, len(chunk)
        before, self._whole = self._whole, self._whole + chunk.count(b"\n")
        self._ends_in_line = not chunk.endswith(b"\n")
        if self._whole < self._skip or before >= self._skip + self._count or self.cut:
            return
        for _ in range(self._skip - before):
            start = chunk.find(b"\n", start) + 1
        left = self._skip + self._count - max(before, self._skip)
        if self._whole >= self._skip + self._count:
            end = start
            for _ in range(left):
                end = chunk.find(b"\n", end) + 1
        room = self._limit - len(self.taken)
        self.cut = end - start > room
        self.taken += chunk[start : min(end, start + room)]
