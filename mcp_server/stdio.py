"""MCP on standard input and output: lines of JSON, for clients that start a program.

Our own streams, so that waiting for a line can be cancelled: the SDK reads in a thread that cannot be given up, and
the program would not end before the next line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import trio
from mcp.server import Server
from mcp.server.stdio import stdio_server

READ_BYTES: Final = 65_536
MAX_LINE_BYTES: Final = 64 << 20


class _Lines:
    """Lines of a descriptor, as the SDK wants them."""

    def __init__(self, fd: int) -> None:
        self._stream = trio.lowlevel.FdStream(fd)
        self._held = bytearray()

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        seen = 0
        while (end := self._held.find(b"\n", seen)) < 0:
            seen = len(self._held)
            if seen > MAX_LINE_BYTES:
                raise StopAsyncIteration
            data = await self._stream.receive_some(READ_BYTES)
            if not data:
                raise StopAsyncIteration
            self._held += data
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line.decode("utf-8", "replace")


class _Writer:
    """Text to a descriptor, as the SDK wants it."""

    def __init__(self, fd: int) -> None:
        self._stream = trio.lowlevel.FdStream(fd)

    async def write(self, text: str) -> None:
        """Write all of it."""
        try:
            await self._stream.send_all(text.encode())
        except trio.BrokenResourceError:
            return  # the client has gone; the end of its input follows

    async def flush(self) -> None:
        """Nothing is held back."""


@contextmanager
def claimed() -> Iterator[tuple[int, int]]:
    """Take standard input and output for the protocol, before anything else is started.

    Whatever is written to standard output from now on goes to standard error.
    """
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    yield read_fd, write_fd


async def serve(server: Server[Any], read_fd: int, write_fd: int) -> None:
    """Serve one client until its input ends. The descriptors are closed with the process."""
    lines, writer = cast("Any", _Lines(read_fd)), cast("Any", _Writer(write_fd))
    async with stdio_server(lines, writer) as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
