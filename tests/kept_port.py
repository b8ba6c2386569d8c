"""A port that stays ours while no daemon listens on it: for daemons that come back where they were."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_address() -> Iterator[str]:
    """An address of this host, for the block. The kernel gives its port to nobody who asks for any; who names it may listen."""
    with socket.socket() as keeper:
        # Two who both say so may have one address, as long as but one of them listens.
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{keeper.getsockname()[1]}"
