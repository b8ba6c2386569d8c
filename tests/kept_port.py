"""A port that stays ours while nobody listens on it: for servers that go away and come back where they were."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port() -> Iterator[int]:
    """Have a port of the loopback for the block that nobody else is given, also while nobody listens there.

    It is bound and not listened on: Linux lets those listen there who set ``SO_REUSEADDR``, as servers do, refuses
    connections while none does, and gives it to nobody who asks for any port, or who only connects somewhere.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


@contextmanager
def kept_address() -> Iterator[str]:
    """Have such a port, as ``host:port``."""
    with held_port() as port:
        yield f"127.0.0.1:{port}"
