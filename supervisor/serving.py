"""Hypercorn under Trio, with one thing mended: a kept connection that its client closes is let go at once.

Its TCP server waits for the keep-alive timer of such a connection before it closes its socket, so every client that
goes would hold a descriptor for as long as that (hypercorn 0.18, ``trio/tcp_server.py``: ``_read_data`` returns, but
the timer still runs in the task group). A test counts descriptors.
"""

from __future__ import annotations

from typing import Any, Final

import hypercorn.trio.run
from hypercorn.trio import serve
from hypercorn.trio.tcp_server import TCPServer

__all__ = ["serve"]

_ORIGINAL: Final = TCPServer


class _LettingGo(TCPServer):
    """Stops the timer when nothing more can come."""

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        finally:
            await self.idle_task.stop()


_module: Any = hypercorn.trio.run
assert _module.TCPServer is _ORIGINAL, "hypercorn is laid out differently: look whether it needs mending still"
_module.TCPServer = _LettingGo
