"""The way to Redis: one pool of connections, used in threads; and lines of their own for calls that wait.

redis-py is blocking, and its asyncio half has no place beside Trio, so every call is a function that is given the
client in a thread (about 0.15 ms a call); brief scripts need none (:mod:`supervisor.redis_link.brief`). A call is
bounded by ``redis.socket_seconds`` and not abandoned when it is cancelled: it happened whole or not at all.

All keys of one daemon share one hash tag, ``{prefix}``, so that scripts over several keys hold in a Redis cluster too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import redis
import trio

from supervisor.connector.dialling import Dial
from supervisor.errors import ConfigurationError, StorageFull, StoreSpoilt, StoreUnavailable
from supervisor.metrics.troubles import Troubles
from supervisor.redis_link.brief import BriefConnections, Word, answer_so_far, fits, send
from supervisor.redis_link.dialling import Cut, ServerRefused
from supervisor.redis_link.facts import RedisFacts, check_server, read_facts
from supervisor.redis_link.faults import SPOILT, Fault, fault_of
from supervisor.redis_link.servers import ServerConnection, Servers
from supervisor.settings.fleet import RedisSettings

log: Final = logging.getLogger("gaoler.redis")
_T = TypeVar("_T")
Work = Callable[["redis.Redis"], _T]

_SILENT: Final = "the server's Redis does not answer"
_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 0.5


class Script:
    """A Lua script, sent once and then named by its hash. ``text`` uses KEYS and ARGV; values are bytes.

    ``brief``: its answer is a few words, whatever is asked.
    """

    def __init__(self, text: str, *, brief: bool = False) -> None:
        self.text = text
        self.brief = brief
        # Not for secrecy: it is how Redis names scripts.
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: redis.Redis, keys: Sequence[str], arguments: Sequence[str | bytes | int | float] = ()) -> Any:
        """Run it, in a thread; a server that has forgotten it (a restart, a fail-over) is told it again."""
        try:
            return client.evalsha(self.digest, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            return client.eval(self.text, len(keys), *keys, *arguments)


_TRIAL: Final = Script("redis.call('SET', KEYS[1], '1', 'PX', 1) return redis.call('TIME')")


class RedisLink:
    """Use :func:`open_redis`."""

    def __init__(self, servers: Servers, settings: RedisSettings) -> None:
        self._servers = servers
        self._client = servers.client(settings.connections, answer_seconds=settings.socket_seconds)
        self._settings = settings
        self.troubles = Troubles()
        # Places are waited for here and for a time: a thread's limiter would have callers wait as long as all before
        # them together, when no server answers.
        self._places = trio.Semaphore(settings.connections)
        self._limiter = trio.CapacityLimiter(settings.connections)
        kept = max(1, settings.connections // 2)
        self._brief = BriefConnections(servers, kept, settings.socket_seconds, self._limiter)

    def key(self, *parts: str) -> str:
        """Give the name of a key: ``{prefix}:part:part``."""
        return ":".join((f"{{{self._settings.prefix}}}", *parts))

    @property
    def patience_seconds(self) -> float:
        """So long, at least, :meth:`call` is tried where the server is silent."""
        settings = self._settings
        return 0.9 * max(settings.socket_seconds, settings.retry_seconds - _LONGEST_PAUSE_SECONDS)

    async def call(self, work: Work[_T], *, lasting: bool = False) -> _T:
        """Have ``work`` done with the client, in a thread; answers are bytes.

        While no server answers it is tried again, for ``redis.retry_seconds``: ``work`` has to be fit to be done twice,
        because an answer may have been lost on its way. ``lasting``: what it wrote has to reach ``redis.replicas``
        replicas before it counts.

        Raises:
            StoreUnavailable: no server answered in time, or too few replicas did.
            StorageFull: the server has no room.
            StoreSpoilt: what it keeps is not what we wrote.
        """
        return await self._retry(lambda: trio.to_thread.run_sync(self._do, work, lasting, limiter=self._limiter))

    async def _retry(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        deadline = trio.current_time() + self._settings.retry_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._once(attempt, deadline)
            except (redis.RedisError, OSError) as error:
                again, said = self._judge(error), str(error)
            if not again or trio.current_time() + pause > deadline:
                log.warning("Redis is given up for now: %s", said)
                self.troubles.given_up += 1
                raise StoreUnavailable(_SILENT)
            self.troubles.retries += 1
            await trio.sleep(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[str | bytes | int | float] = (),
        *,
        lasting: bool = False,
    ) -> Any:
        """Run a script, as :meth:`call`; a brief one without a thread, where that can be."""
        if (
            script.brief
            and not self._servers.plan.tls
            and not (lasting and self._settings.replicas)
            and fits(arguments)
        ):
            words = (len(keys), *keys, *arguments)

            async def attempt() -> Any:
                try:
                    return await self._brief.ask(("EVALSHA", script.digest, *words))
                except redis.exceptions.NoScriptError:
                    return await self._brief.ask(("EVAL", script.text, *words))

            return await self._retry(attempt)
        return await self.call(lambda client: script.run(client, keys, arguments), lasting=lasting)

    async def time(self) -> float:
        """Give the server's clock, in seconds since the epoch: the one clock that a fleet shares."""
        seconds, microseconds = await self.call(lambda client: client.time())
        return float(seconds) + float(microseconds) / 1e6

    async def facts(self) -> RedisFacts:
        """Say what server this is, for the doctor."""
        return await self.call(read_facts)

    @asynccontextmanager
    async def open_line(self) -> AsyncIterator[Line]:
        """Have a connection of one's own for the block, for calls that wait."""
        line = Line(self._servers)
        try:
            yield line
        finally:
            line.drop()

    def close(self) -> None:
        """Close all connections that nobody uses."""
        self._client.connection_pool.disconnect()
        self._brief.close()

    async def _once(self, attempt: Callable[[], Awaitable[_T]], deadline: float) -> _T:
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            taken = False
            with trio.move_on_at(deadline + self._settings.socket_seconds):
                await self._places.acquire()
                taken = True
            if not taken:
                raise StoreUnavailable(_SILENT) from None
        try:
            return await attempt()
        finally:
            self._places.release()

    def _do(self, work: Work[_T], lasting: bool) -> _T:  # noqa: FBT001 - threads take no names
        if not lasting or not self._settings.replicas:
            return work(self._client)
        with self._client.client() as own:  # type: ignore[no-untyped-call]  # redis-py has no types there
            result = work(own)
            # WAIT is about what this connection wrote. Work that is done a second time may have nothing left to write,
            # and what it wrote the first time went over another one: a write of ours stands behind both.
            own.set(self.key("settled"), b"1", ex=60)
            reached = own.wait(self._settings.replicas, round(self._settings.replica_seconds * 1000))
        if reached < self._settings.replicas:
            log.warning("only %d replicas of %d have what was written", reached, self._settings.replicas)
            raise StoreUnavailable("the replicas of the server's Redis do not answer")
        return result

    def _judge(self, error: Exception) -> bool:
        """Say whether to try again.

        Raises:
            StorageFull: there is no room.
            StoreSpoilt: there is something else.
            Exception: the error itself, if it is our own.
        """
        fault = fault_of(error)
        self.troubles.faults[fault.name.lower()] += 1
        match fault:
            case Fault.LOST:
                return True
            case Fault.ELSEWHERE:
                self._servers.forget()
                return True
            case Fault.REFUSED:
                return False
            case Fault.FULL:
                log.error("Redis keeps nothing more: %s", error)
                raise StorageFull("the server's Redis has no room") from None
            case Fault.SPOILT:
                log.error("Redis holds what is not ours: %s", error)
                raise StoreSpoilt(SPOILT) from None
            case Fault.OURS:
                raise error


class Line:
    """A connection of its own, for one task that asks what may take long (XREADGROUP with BLOCK, say).

    Cancelling a call ends it at once, by closing the connection; the next call has a new one.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._connection: ServerConnection | None = None
        self._cut = Cut()

    async def ask(self, *words: Word) -> Any:
        """Send a command of a few words and give the server's answer, which may take as long as it likes, as it is.

        Not tried again. A call that is cancelled while it still connects leaves its thread behind until that is over,
        at most ``redis.connect_seconds``.

        Raises:
            StoreUnavailable: the server is gone.
            StoreSpoilt: what it keeps is not what we wrote.
            redis.ResponseError: what it says else.
        """
        try:
            connection = await self._connected()
            send(connection, words)
            whole, answer = False, None
            if not self._servers.plan.tls:
                await trio.lowlevel.wait_readable(connection.descriptor)
                whole, answer = answer_so_far(connection)
            return answer if whole else await self._in_thread(connection, connection.read_response)
        except trio.Cancelled:
            self.drop()
            raise
        except (redis.RedisError, OSError) as error:
            fault = fault_of(error)
            if fault is Fault.OURS:
                raise
            if fault is Fault.SPOILT:
                log.error("Redis holds what is not ours: %s", error)
                raise StoreSpoilt(SPOILT) from None
            self.drop()
            if fault is Fault.ELSEWHERE:
                self._servers.forget()
            log.warning("Redis is given up for now: %s", error)
            raise StoreUnavailable(_SILENT) from None

    async def _connected(self) -> ServerConnection:
        if self._connection is not None and not (self._connection.usable and self._connection.silent):
            self.drop()
        if self._connection is None:
            self._cut = Cut()
            self._connection = self._servers.connection(None, self._cut)
            await self._in_thread(self._connection, self._connection.connect)
        return self._connection

    async def _in_thread(self, connection: ServerConnection, work: Callable[[], _T]) -> _T:
        """Have the connection used by a thread, which closes it if it is cut meanwhile."""
        cut = self._cut

        def do() -> _T:
            try:
                return work()
            finally:
                if cut.done:
                    connection.disconnect()  # type: ignore[no-untyped-call]  # redis-py has no types there

        limiter = trio.CapacityLimiter(1)
        try:
            return await trio.to_thread.run_sync(do, abandon_on_cancel=True, limiter=limiter)
        except trio.Cancelled:
            self._cut.cut()
            # A thread closes it, and has the place until it ends; who was cancelled just before has begun none.
            if limiter.borrowed_tokens:
                self._connection = None
            raise

    def drop(self) -> None:
        """Close the connection. The next call makes a new one."""
        self._cut.cut()
        if self._connection is not None:
            self._connection.disconnect()  # type: ignore[no-untyped-call]  # as above
            self._connection = None


@asynccontextmanager
async def open_redis(settings: RedisSettings, dial: Dial) -> AsyncIterator[RedisLink]:
    """Connect for the block.

    Raises:
        ConfigurationError: the settings are wrong.
        StoreUnavailable: no server answers.
    """
    # Reads the authorities' files: milliseconds.
    servers = await trio.to_thread.run_sync(Servers, settings, dial)
    link = RedisLink(servers, settings)
    try:
        await _check(link, settings)
        yield link
    finally:
        link.close()


async def _check(link: RedisLink, settings: RedisSettings) -> None:
    def look(client: redis.Redis) -> RedisFacts:
        try:
            return read_facts(client)
        except (redis.RedisError, OSError) as error:
            raise _refusal(error) or error from None

    def attempt(client: redis.Redis) -> None:
        try:
            _TRIAL.run(client, [link.key("trial")])
        except redis.RedisError as error:
            # A server without room can still be read.
            if fault_of(error) is not Fault.FULL:
                raise _refusal(error) or error from None

    check_server(await link.call(look), settings)
    await link.call(attempt)


def _refusal(error: Exception) -> ConfigurationError | None:
    if isinstance(error, ServerRefused):
        return ConfigurationError(error.message, field=error.field)
    if fault_of(error) is Fault.REFUSED:
        return ConfigurationError(f"Redis does not let us in, or do what we have to: {error}", field="redis.password")
    if "DB index" in str(error):
        return ConfigurationError("Redis has no database of this number", field="redis.db")
    return None
