"""Read a file of lines that is put aside when it is full, as FILE.1 and so on: its latest lines, and those that come.

It lies in a directory of the daemon's and is read perhaps as root: no link is followed, nothing but a file is opened.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from supervisor.errors import ConfigurationError

FOLLOW_SECONDS: Final = 0.25
MAX_LINE_BYTES: Final = 1 << 20
"""A longer one is shown in pieces."""
_MOST_ASIDE: Final = 1000
_PIECE_BYTES: Final = 1 << 18
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_lines(path: Path, most: int, *, follow: bool) -> Iterator[str]:
    """Give the latest ``most`` lines, the oldest first; with ``follow`` then those that are written, without end.

    Raises:
        ConfigurationError: it cannot be read.
    """
    fd, pieces = _open(path), _Lines()
    try:
        latest = deque(pieces.of(fd), maxlen=most)
        yield from _older(path, most - len(latest))
        yield from latest
        while follow:
            yield from pieces.of(fd)
            if _was_put_aside(path, fd):
                # What was written between the look and its being put aside.
                yield from pieces.of(fd)
                os.close(fd)
                fd, pieces = _open(path), _Lines()
            else:
                time.sleep(FOLLOW_SECONDS)
    finally:
        os.close(fd)


class _Lines:
    """Makes lines of what is read; what has no end yet waits for it."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, fd: int) -> Iterator[str]:
        """Give the lines from where ``fd`` is to its end."""
        while piece := os.read(fd, _PIECE_BYTES):
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
            if len(self._rest) > MAX_LINE_BYTES:
                yield self._rest.decode("utf-8", "replace")
                self._rest = b""


def _older(path: Path, most: int) -> Iterator[str]:
    """Give the latest lines of those that were put aside."""
    found: list[list[str]] = []
    for number in range(1, _MOST_ASIDE):
        if most <= 0:
            break
        try:
            fd = _open(path.with_name(f"{path.name}.{number}"))
        except ConfigurationError:
            break
        try:
            lines = deque(_Lines().of(fd), maxlen=most)
        finally:
            os.close(fd)
        found.append(list(lines))
        most -= len(lines)
    for each in reversed(found):
        yield from each


def _open(path: Path) -> int:
    try:
        fd = os.open(path, _FLAGS)
    except PermissionError:
        raise ConfigurationError(f"{path} belongs to the daemon: run it with sudo", field="state_dir") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", field="state_dir") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ConfigurationError(f"{path} is no file", field="state_dir")
    return fd


def _was_put_aside(path: Path, fd: int) -> bool:
    try:
        return path.stat(follow_symlinks=False).st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return False
