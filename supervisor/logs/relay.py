"""What our other processes say, in the daemon's log: jailer, proxy and connector write lines to their standard error.

Where that is the daemon's own they need nobody. Where the log is a file, or has a form, their lines come through a pipe
and are records like others, limited and made harmless like others. They never wait: a pipe that nobody empties costs
lines.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import trio

PIPE_BYTES: Final = 1 << 20
LINE_BYTES: Final = 8192
_MOST_LOGGERS: Final = 64
_LINE: Final = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (gaoler(?:\.[a-z_]{1,32}){1,3}) (.*)", re.DOTALL)
OTHERWISE: Final = "gaoler.process"
"""What is no line of a logger: the interpreter's last words, say."""


class Relay:
    """A pipe, and what comes out of it. Both ends are its own; close it when the processes are gone."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with suppress(OSError):  # more than this user may have
            fcntl.fcntl(self._write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._rest = b""
        self._loggers: set[str] = set()

    @contextmanager
    def as_standard_error(self) -> Iterator[None]:
        """Have standard error be the pipe for the block: processes that are started in it keep it.

        After it only they have its writing end. When the block fails, what they have said is in the log first.
        """
        saved = os.dup(2)
        os.dup2(self._write_fd, 2)
        try:
            yield
        except BaseException:
            self.drain()
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(self._write_fd)
            self._write_fd = -1

    def drain(self) -> None:
        """Log what is in the pipe now."""
        with suppress(BlockingIOError):
            while data := os.read(self._read_fd, PIPE_BYTES):
                self._take(data)
        self._take(b"\n" if self._rest else b"")

    async def beside(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Log what comes for as long as ``serve`` goes on, and then what is left."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run)
                await serve()
                nursery.cancel_scope.cancel()
        finally:
            self.drain()

    async def _run(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._read_fd)
            try:
                data = os.read(self._read_fd, PIPE_BYTES)
            except BlockingIOError:
                continue
            if not data:
                return
            self._take(data)

    def close(self) -> None:
        """Close what is left of it."""
        for fd in (self._read_fd, self._write_fd):
            if fd >= 0:
                os.close(fd)
        self._read_fd = self._write_fd = -1

    def _take(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        # A line has an end even if nobody writes it.
        self._rest = rest if len(rest) <= LINE_BYTES else b""
        for line in [*lines, rest] if not self._rest else lines:
            if line.strip():
                self._tell(line[:LINE_BYTES].decode("utf-8", "backslashreplace"))

    def _tell(self, line: str) -> None:
        found = _LINE.fullmatch(line)
        level, name, message = found.groups() if found else ("WARNING", OTHERWISE, line)
        if name not in self._loggers:
            # Names are kept for ever, and these are another process' words.
            name = name if len(self._loggers) < _MOST_LOGGERS else OTHERWISE
            self._loggers.add(name)
        logger, number = logging.getLogger(name), logging.getLevelNamesMapping()[level]
        if logger.isEnabledFor(number):
            # Kinds are counted by place: that of another process is its logger.
            logger.handle(logging.LogRecord(name, number, name, number, message, None, None))
