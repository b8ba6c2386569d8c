"""Commands without a thread: the task itself sends, waits, and has redis-py read what has come.

Handing a call to a thread and back wakes both, which is most of the time that a short script takes; every execution of
a fleet runs some. What is sent fits into the socket's buffer. Most answers are there whole when the socket is readable;
the rest of any other is waited for, and read, by a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis
import trio

from supervisor.redis_link.servers import ServerConnection, Servers

SENT_BYTES: Final = 48 << 10
"""More than that goes by a thread: the socket might not take it at once."""

Word = str | bytes | int | float


def fits(arguments: Sequence[Word]) -> bool:
    """Say whether these are few enough."""
    return sum(len(each) for each in arguments if isinstance(each, str | bytes)) <= SENT_BYTES


def send(connection: ServerConnection, words: Sequence[Word]) -> None:
    """Send a command, over a connection that is open.

    Raises:
        redis.RedisError: it is gone.
    """
    packed = connection.pack_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no types there
    connection.send_packed_command(packed, check_health=False)  # type: ignore[no-untyped-call]  # as above


def answer_so_far(connection: ServerConnection) -> tuple[bool, Any]:
    """Give the answer if it is there whole; if it is not, what has come of it is kept for the next look.

    Raises:
        redis.RedisError: what the server says, or that it is gone.
    """
    try:
        return True, connection.read_response(timeout=0, disconnect_on_error=False)
    except redis.TimeoutError:
        return False, None


class BriefConnections:
    """Connections for brief scripts. Not for TLS, where what is readable is not yet an answer."""

    def __init__(self, servers: Servers, kept: int, answer_seconds: float, limiter: trio.CapacityLimiter) -> None:
        self._servers = servers
        self._kept = kept
        self._answer_seconds = answer_seconds
        self._limiter = limiter
        self._idle: list[ServerConnection] = []

    async def ask(self, words: Sequence[Word]) -> Any:
        """Send a command and give its answer. Not abandoned when cancelled: what was sent is waited for.

        Raises:
            redis.RedisError: what the server says, or that it says nothing in time.
            OSError: it is gone.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):
            connection = await self._connection()
            whole = False
            try:
                answer = await self._ask(connection, words)
                whole = True
                return answer
            except redis.ResponseError:
                whole = True
                raise
            finally:
                if whole and connection.usable and len(self._idle) < self._kept:
                    self._idle.append(connection)
                else:
                    connection.disconnect()  # type: ignore[no-untyped-call]  # redis-py has no types there

    def close(self) -> None:
        """Close what nobody uses."""
        while self._idle:
            self._idle.pop().disconnect()  # type: ignore[no-untyped-call]  # as above

    async def _ask(self, connection: ServerConnection, words: Sequence[Word]) -> Any:
        send(connection, words)
        with trio.move_on_after(self._answer_seconds) as patience:
            await trio.lowlevel.wait_readable(connection.descriptor)
        if patience.cancelled_caught:
            raise redis.TimeoutError("the server has not answered in time")
        whole, answer = answer_so_far(connection)
        if not whole:
            answer = await trio.to_thread.run_sync(connection.read_response, limiter=self._limiter)
        return answer

    async def _connection(self) -> ServerConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.disconnect()  # type: ignore[no-untyped-call]  # as above
        connection = self._servers.connection(self._answer_seconds)
        await trio.to_thread.run_sync(connection.connect, limiter=self._limiter)
        return connection
