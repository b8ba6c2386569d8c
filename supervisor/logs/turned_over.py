"""Read a file of lines that is put aside when it is full, as FILE.1 and so on: its latest lines, and those that come.

It lies in a directory of the daemon's and is read perhaps as root: no link is followed, nothing but a file is opened.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from supervisor.errors import ConfigurationError

FOLLOW_SECONDS: Final = 0.25
MAX_LINE_BYTES: Final = 1 << 20
"""A longer one is shown in pieces."""
_MOST_ASIDE: Final = 1000
_PIECE_BYTES: Final = 1 << 18
_TRIES: Final = 20
_TRY_SECONDS: Final = 0.05
"""For a file that is being put aside: for a moment nothing has its name."""
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


Picks = Callable[[], Callable[[str], bool]]
"""Makes, for each file, what says of each of its lines whether it is wanted. It may go by the lines before."""


def read_lines(path: Path, most: int, *, follow: bool, picks: Picks = lambda: lambda _line: True) -> Iterator[str]:
    """Give the latest ``most`` lines that are wanted, the oldest first; with ``follow`` then those to come, for ever.

    Files that are put aside meanwhile cost no line, and none is given twice.

    Raises:
        ConfigurationError: it cannot be read.
    """
    fd, pieces = _open_current(path), _Lines(picks())
    try:
        latest = deque(pieces.of(fd), maxlen=most)
        yield from _older(path, most - len(latest), picks, _identity(fd))
        yield from latest
        while follow:
            yield from pieces.of(fd)
            if _was_put_aside(path, fd):
                # What was written between the look and its being put aside.
                yield from pieces.of(fd)
                yield from _between(path, _identity(fd), picks)
                fresh = _open_current(path)
                os.close(fd)
                fd, pieces = fresh, _Lines(picks())
            else:
                time.sleep(FOLLOW_SECONDS)
    finally:
        os.close(fd)


class _Lines:
    """Makes lines of what is read; what has no end yet waits for it."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self._rest = b""
        self._wanted = wanted

    def of(self, fd: int) -> Iterator[str]:
        """Give those that are wanted, from where ``fd`` is to its end."""
        yield from filter(self._wanted, self._all(fd))

    def _all(self, fd: int) -> Iterator[str]:
        while piece := os.read(fd, _PIECE_BYTES):
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
            if len(self._rest) > MAX_LINE_BYTES:
                yield self._rest.decode("utf-8", "replace")
                self._rest = b""


def _aside(path: Path) -> Iterator[int]:
    """Give a descriptor of each file that was put aside, the latest first; each is closed when the next is asked for.

    While files are put aside one number is missing for a moment: that file has the next one already.
    """
    missing = 0
    for number in range(1, _MOST_ASIDE):
        try:
            fd = _open(path.with_name(f"{path.name}.{number}"))
        except ConfigurationError:
            missing += 1
            if missing > 1:
                return
            continue
        try:
            yield fd
        finally:
            os.close(fd)


def _older(path: Path, most: int, picks: Picks, current: _Identity) -> Iterator[str]:
    """Give the latest lines of those that were put aside. ``current``: was read already."""
    found: list[list[str]] = []
    seen = {current}
    for fd in _aside(path) if most > 0 else ():
        # It may have become older while the ones before it were read.
        if _identity(fd) in seen:
            continue
        seen.add(_identity(fd))
        lines = deque(_Lines(picks()).of(fd), maxlen=most)
        found.append(list(lines))
        most -= len(lines)
        if most <= 0:
            break
    for each in reversed(found):
        yield from each


def _between(path: Path, last: _Identity, picks: Picks) -> Iterator[str]:
    """Give the lines of files that came and went since ``last`` was the current one; none if that one is gone."""
    found: list[list[str]] = []
    for fd in _aside(path):
        if _identity(fd) == last:
            for each in reversed(found):
                yield from each
            return
        found.append(list(_Lines(picks()).of(fd)))


_Identity = tuple[int, int]


def _identity(fd: int) -> _Identity:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _open_current(path: Path) -> int:
    """Open the file; where older ones are it may be missing for a moment."""
    first = path.with_name(f"{path.name}.1")
    for _ in range(_TRIES):
        if path.is_symlink() or path.exists() or not first.exists():
            break
        time.sleep(_TRY_SECONDS)
    return _open(path)


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
