"""Files of lines that are turned over when they have grown: written, and read from their end."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

_PIECE_BYTES: Final = 64 << 10
_MOST_FILES: Final = 1000
MAX_LINE_BYTES: Final = 1 << 20
"""A longer one is none of ours."""


def latest(path: Path, most_bytes: int) -> Iterator[dict[str, Any]]:
    """Give the records of a file and of those that it was turned over to, the latest first.

    Not more than ``most_bytes`` are read. A line that is being written, or is no record, is passed over.

    Raises:
        OSError: a file that is there cannot be read.
    """
    left = most_bytes
    for number in range(_MOST_FILES):
        try:
            fd = os.open(path if number == 0 else f"{path}.{number}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if number == 0:
                continue  # it is being turned over
            return
        try:
            for line, cost in _backwards(fd, left):
                left -= cost
                record = _decoded(line)
                if record is not None:
                    yield record
        finally:
            os.close(fd)
        if left <= 0:
            return


def _backwards(fd: int, most_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Give the lines of a file, the last first, and how many bytes had to be read for each."""
    at = os.fstat(fd).st_size
    rest, cost = b"", 0
    while at > 0 and most_bytes > 0:
        size = min(_PIECE_BYTES, at)
        at -= size
        most_bytes -= size
        cost += size
        head, *lines = (os.pread(fd, size, at) + rest).split(b"\n")
        for line in reversed(lines):
            if line:
                yield line, cost
                cost = 0
        rest = head if len(head) <= MAX_LINE_BYTES else b""
    if at == 0 and rest:
        yield rest, cost


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def visible(text: str) -> str:
    """Give a text whose control characters, and others that nobody sees, are written out."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class LineFile:
    """Lines that are appended: to ``path``, which is turned over to ``path.1`` and so on when it has grown.

    There are at most ``files`` of ``file_bytes``, at least two. Readable to the daemon's user only, whatever its umask:
    lines name who did what. Not buffered: what a buffer could not write it would write later, once more.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, *, file_bytes: int, files: int) -> None:
        self.path = path
        self._file_bytes = file_bytes
        self._older = max(1, files - 1)
        self._torn = False
        """The last line is not whole: a full disk took a part of it."""
        self._fd: int | None = None
        self._open()

    def write_line(self, text: str) -> None:
        """Write a line, and have it on the disk's way at once.

        Raises:
            OSError: it could not be written, or only a part of it was.
        """
        data = f"{text}\n".encode("utf-8", "backslashreplace")
        fd = self._open()
        size = os.fstat(fd).st_size
        if size and size + len(data) > self._file_bytes:
            fd = self._turn_over()
        if self._torn:
            data = b"\n" + data
        written = os.write(fd, data)
        self._torn = written != len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, "only a part of a line was written")

    def close(self) -> None:
        """Close the file; another line would open it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        if self._fd is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self.path, flags, 0o600)
        return self._fd

    def _turn_over(self) -> int:
        for number in range(self._older, 0, -1):
            newer = self.path if number == 1 else Path(f"{self.path}.{number - 1}")
            with suppress(FileNotFoundError):
                newer.rename(f"{self.path}.{number}")
        self.close()
        self._torn = False
        return self._open()
