"""Listeners that lie inside a sandbox: who comes through them is served as its grant allows."""

from __future__ import annotations

import logging
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from ipaddress import ip_address
from typing import Final

import trio

from egress.addresses import plain
from egress.allowlist import Ask
from egress.bucket import Bucket
from egress.dns_door import serve_tcp, serve_udp
from egress.gate import Destination, Incoming, Outside, is_tls
from egress.grants import Grant
from egress.http_door import HttpVisit, Origin
from egress.names import Host
from egress.tls_door import raw_door, serve_tunnel, tls_door

log: Final = logging.getLogger("gaoler.egress.listeners")

Listener = trio.socket.SocketType
PROXY_PORT: Final = 3128
DNS_PORT: Final = 53
MAX_CLOSED: Final = 4096
MAX_EARLY: Final = 64
"""Sandboxes whose listeners came before their grant."""
QUIET_TURNS: Final = 8
"""Turns of the loop between the last byte that was read and the record of what it led to; the longest way needs 3."""
MAX_TURNS: Final = 64
"""Turns for a sandbox that does not stop sending."""
STARTS_PER_SECOND: Final = 100.0
"""New connections of one sandbox."""


class Served:
    """A grant with its listeners: serves what comes through them until it is closed."""

    def __init__(self, grant: Grant, outside: Outside) -> None:
        self.grant = grant
        self._outside = outside
        self._scope = trio.CancelScope()
        self._places = trio.Semaphore(grant.limits.connections)
        self._starts = Bucket(STARTS_PER_SECOND)
        self._accepted: set[trio.socket.SocketType] = set()
        self._replaced, self._listeners = trio.open_memory_channel[list[Listener]](MAX_EARLY)

    def attach(self, listeners: list[Listener]) -> None:
        """Serve these listeners instead of what was served before; what is connected stays so."""
        try:
            self._replaced.send_nowait(listeners)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            close_all(listeners)

    @property
    def connected(self) -> bool:
        """There is a connection."""
        return bool(self._accepted)

    async def settle(self) -> None:
        """Let what the sandbox has sent be read, and what follows from it be recorded; bounded.

        A client that refuses our certificate says so and may end at once: nothing that it waits for comes after.
        """
        quiet = 0
        for _ in range(MAX_TURNS):
            if quiet == QUIET_TURNS or not self._accepted:
                return
            quiet = 0 if any(map(_has_news, self._accepted)) else quiet + 1
            await trio.lowlevel.checkpoint()

    async def serve(self) -> None:
        """Serve for ever, until :meth:`stop`."""
        with self._scope:
            async with trio.open_nursery() as connections:
                listening = trio.CancelScope()
                async for listeners in self._listeners:
                    listening.cancel()
                    listening = trio.CancelScope()
                    connections.start_soon(self._listen, listeners, listening, connections)
        self._listeners.close()

    async def _listen(self, listeners: list[Listener], scope: trio.CancelScope, connections: trio.Nursery) -> None:
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    for listener in listeners:
                        if listener.type == socket.SOCK_DGRAM:
                            nursery.start_soon(self._until_closed, partial(serve_udp, self.grant, listener))
                        else:
                            accept = partial(self._accept, listener, connections)
                            nursery.start_soon(self._until_closed, accept)
        finally:
            close_all(listeners)

    def stop(self) -> None:
        """Close the listeners and whatever came through them."""
        self._scope.cancel()
        self._replaced.close()
        while True:
            try:
                close_all(self._listeners.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
                return

    async def _until_closed(self, serve: Callable[[], Awaitable[None]]) -> None:
        try:
            await serve()
        except OSError as error:
            log.warning("a listener is lost reason=%s", error)

    async def _accept(self, listener: Listener, connections: trio.Nursery) -> None:
        while True:
            await self._starts.wait()
            try:
                accepted, _ = await listener.accept()
            except OSError:
                await trio.sleep(0.1)
                continue
            try:
                # Waiting here costs nobody anything: what comes meanwhile waits in the sandbox's own kernel queue.
                await self._places.acquire()
            except BaseException:
                accepted.close()
                raise
            connections.start_soon(self._serve_connection, accepted)

    async def _serve_connection(self, accepted: trio.socket.SocketType) -> None:
        """Named boundary: whatever goes wrong with one connection ends that one."""
        self._accepted.add(accepted)
        try:
            stream = trio.SocketStream(accepted)
            try:
                await self._sort(stream)
            finally:
                await trio.aclose_forcefully(stream)
        except* OSError:
            pass
        except* Exception as group:
            log.exception("connection lost", exc_info=group)
        finally:
            self._accepted.discard(accepted)
            self._places.release()

    async def _sort(self, stream: trio.SocketStream) -> None:
        """Find out where a connection went and what it speaks."""
        text, port = stream.socket.getsockname()[:2]
        if port == DNS_PORT:
            await serve_tcp(self.grant, stream)
            return
        incoming = Incoming(stream)
        if port == PROXY_PORT:
            origin = Origin(explicit=True, on_connect=partial(serve_tunnel, self._outside))
            await HttpVisit(self.grant, self._outside, stream, origin).serve()
            return
        address = plain(ip_address(text))
        name = self.grant.names.host(address)
        to = Destination(name or Host(str(address), address), port, by_name=name is not None)
        if self.grant.allows(Ask(to.host, port, "raw")):
            await raw_door(self.grant, self._outside, incoming, to)
            return
        first = await incoming.first_byte()
        if first is None:
            return
        if port == 443 or is_tls(first):
            await tls_door(self.grant, self._outside, incoming, to)
        else:
            origin = Origin(explicit=False, host=name, port=port)
            await HttpVisit(self.grant, self._outside, stream, origin, incoming.data).serve()


def _has_news(accepted: trio.socket.SocketType) -> bool:
    return accepted.fileno() >= 0 and accepted.is_readable()


def close_all(listeners: Iterable[Listener]) -> None:
    """Close them."""
    for listener in listeners:
        listener.close()


class EarlyListeners:
    """Listeners whose grant is not known yet: the daemon's word and the jailer's come on different ways."""

    def __init__(self) -> None:
        self._by_grant: OrderedDict[str, list[Listener]] = OrderedDict()
        self._closed: OrderedDict[str, None] = OrderedDict()
        """Grants that are over: what still comes for them is closed."""

    def put(self, grant: str, listeners: list[Listener]) -> None:
        """Keep them for a while; the oldest make room."""
        self._drop(grant)
        if grant in self._closed:
            close_all(listeners)
            return
        self._by_grant[grant] = listeners
        while len(self._by_grant) > MAX_EARLY:
            self._drop(next(iter(self._by_grant)))

    def take(self, grant: str) -> list[Listener] | None:
        """Give those of a grant, if they are there."""
        return self._by_grant.pop(grant, None)

    def clear(self) -> None:
        """Close all."""
        for grant in list(self._by_grant):
            self._drop(grant)

    def forget(self, grant: str) -> None:
        """The grant is over: close its listeners, also those that are still on their way."""
        self._drop(grant)
        self._closed[grant] = None
        while len(self._closed) > MAX_CLOSED:
            self._closed.popitem(last=False)

    def _drop(self, grant: str) -> None:
        close_all(self._by_grant.pop(grant, ()))
