"""A log file that is put aside when it is full. Opened with rights, if there are some; put aside without any."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Final

from supervisor.errors import ConfigurationError
from supervisor.logs.lossy import LossyHandler

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_log_file(path: Path, owner: int) -> int:
    """Open the file, which becomes uid ``owner``'s, and make its directory if that is missing; give the descriptor.

    Whoever opens it may be root and the directory another's, who might have put anything there: what is not an
    ordinary file of the owner's is refused.

    Raises:
        ConfigurationError: directory or file is not the owner's, or cannot be made.
    """
    try:
        _refuse_others_directory(path.parent, owner)
        return _open(path, owner)
    except OSError as error:
        raise ConfigurationError(f"log.file: {path}: {error.strerror}", field="log.file") from None


def _refuse_others_directory(directory: Path, owner: int) -> None:
    try:
        directory.mkdir(mode=0o750)
        os.chown(directory, owner, owner, follow_symlinks=False)
    except FileExistsError:
        pass
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or status.st_mode & 0o022:
        raise ConfigurationError(
            f"log.file: {directory} has to be a directory of uid {owner} that nobody else may write to; one that does "
            "not exist is made",
            field="log.file",
        )


def _open(path: Path, owner: int) -> int:
    try:
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o640)
    except FileExistsError:
        fd = os.open(path, _FLAGS)
    else:
        os.fchown(fd, owner, owner)
        return fd
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
        os.close(fd)
        raise ConfigurationError(f"log.file: {path} is no file of uid {owner}: remove it", field="log.file")
    return fd


class RotatingFile(LossyHandler):
    """Writes lines to a file of at most so many bytes; ``kept`` earlier ones are beside it, the newest is ``.1``.

    It owns the descriptor. When the file cannot be put aside it is written on, and tried again after as much more.
    """

    def __init__(self, path: Path, fd: int, file_bytes: int, kept: int) -> None:
        super().__init__()
        self._path = path
        self._fd = fd
        self._most = file_bytes
        self._kept = kept
        self._size = os.fstat(fd).st_size
        self._torn = bool(self._size) and os.pread(fd, 1, self._size - 1) != b"\n"
        """The last line is not whole: who wrote it was killed, or a full disk took a part of it."""

    def write(self, record: logging.LogRecord) -> None:
        """Write a line."""
        line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
        if self._size and self._size + len(line) > self._most:
            self._put_aside()
        if self._torn:
            line = b"\n" + line
        # One call: of a line that does not fit on the disk there may be a part, but never two in one.
        written = os.write(self._fd, line)
        self._size += written
        self._torn = written != len(line)

    def _put_aside(self) -> None:
        self._size = 0
        aside = [self._path.with_name(f"{self._path.name}.{number}") for number in range(1, self._kept + 1)]
        names = [self._path, *aside]
        try:
            if self._kept == 0:
                self._path.unlink(missing_ok=True)
            for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
                if newer.exists():
                    newer.rename(older)
            fresh = os.open(self._path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o640)
        except OSError:
            return
        os.close(self._fd)
        self._fd, self._torn = fresh, False

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()
