"""How many connections there are, in all and from one address, and which one goes when there are too many.

A connection on which no request is being worked on has no claim: when a new one comes and there is no place, the one
that has been idle longest is closed, of the address that has most. So a client that opens thousands and says nothing
keeps nobody out. Addresses are those of the socket: what a header says about them counts for nothing.
"""

from __future__ import annotations

import logging
import math
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from supervisor.serving.addresses import counted_as

log: Final = logging.getLogger("gaoler.connections")

LOG_SECONDS: Final = 60.0
"""Refusals are counted, and told at most once in so long: a flood is no reason to fill the log."""


class Place:
    """One connection's. ``scope`` is around all of it: cancelling it ends the connection."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.scope = trio.CancelScope()
        self.sending: trio.CancelScope | None = None


class NoPlace(Exception):
    """Every place is taken, by requests that are being worked on."""


class Places:
    """All connections. Not more than ``total``, and of one address not more than ``each``."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = min(each, total)
        self._of: Counter[str] = Counter()
        self._all: dict[Place, None] = {}
        # The longest idle first.
        self._idle: dict[str, dict[Place, None]] = {}
        self._refused = 0
        self._told_at = -LOG_SECONDS
        self.deadline = math.inf
        """Until when anything may be sent, by Trio's clock."""

    @contextmanager
    def take(self, key: str) -> Iterator[Place]:
        """Have a place for the block; at first it is idle.

        Raises:
            NoPlace: there is none, and none can be made.
        """
        if not self._make_room(key):
            self._tell(key)
            raise NoPlace
        place = Place(key)
        self._of[key] += 1
        self._all[place] = None
        self.idle(place)
        try:
            yield place
        finally:
            self._forget(place)

    def busy(self, place: Place) -> None:
        """A request has come on it."""
        self._out_of_idle(place)

    def idle(self, place: Place) -> None:
        """Nothing is being done for it."""
        if place in self._all:
            self._idle.setdefault(place.key, {})[place] = None

    def hurry(self, deadline: float) -> None:
        """End those that are idle now, and let the others send no longer than until ``deadline`` (Trio's clock)."""
        self.deadline = deadline
        for place in list(self._all):
            if place in self._idle.get(place.key, {}):
                place.scope.cancel()
            elif place.sending is not None:
                place.sending.deadline = min(place.sending.deadline, deadline)

    def __len__(self) -> int:
        """Give how many there are."""
        return len(self._all)

    def _make_room(self, key: str) -> bool:
        if self._of[key] >= self._each and not self._evict(key):
            return False
        if len(self._all) < self._total:
            return True
        return any(self._evict(most) for most, _ in self._of.most_common() if most in self._idle)

    def _evict(self, key: str) -> bool:
        """End the longest idle one of an address; it counts no longer, though it takes a moment to go."""
        for place in self._idle.get(key, ()):
            place.scope.cancel()
            self._forget(place)
            return True
        return False

    def _forget(self, place: Place) -> None:
        self._out_of_idle(place)
        if self._all.pop(place, place) is not place:
            self._of[place.key] -= 1
            if not self._of[place.key]:
                del self._of[place.key]

    def _out_of_idle(self, place: Place) -> None:
        idle = self._idle.get(place.key, {})
        idle.pop(place, None)
        if not idle:
            self._idle.pop(place.key, None)

    def _tell(self, key: str) -> None:
        self._refused += 1
        if trio.current_time() - self._told_at < LOG_SECONDS:
            return
        self._told_at = trio.current_time()
        log.warning("connections refused: %d, the last from %s; %d are open", self._refused, key, len(self._all))
        self._refused = 0


def key_of(stream: trio.SocketStream) -> str:
    """Name whose connection it is: an address, the /64 of an IPv6 one, the user at the other end of a unix socket.

    Raises:
        OSError: it has gone already.
    """
    sock = stream.socket
    if sock.family == socket.AF_UNIX:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return f"uid {struct.unpack('3i', credentials)[1]}"
    return counted_as(sock.getpeername()[0])
