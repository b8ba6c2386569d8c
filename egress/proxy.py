"""The proxy process: takes listeners that lie inside sandboxes, and serves each as its grant allows.

It is an ordinary user without a capability, with three ways in: the daemon's socket (rules and grants), the jailer's
(listeners, as descriptors) and the listeners themselves. What it knows lives as long as the daemon's connection: when
that ends, so does every grant, and the sandboxes have no network.
"""

from __future__ import annotations

import array
import ctypes
import logging
import os
import socket
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import Final

import msgspec
import trio

from egress import control
from egress.addresses import plain
from egress.allowlist import Ask
from egress.authority import Authority, client_context
from egress.control import CloseGrant, Configure, ControlError, Opened, OpenGrant, Record, Sync, Synced
from egress.dns_door import serve_tcp, serve_udp
from egress.gate import Destination, Incoming, Outside, is_tls
from egress.grants import Bucket, Grant
from egress.http_door import HttpVisit, Origin
from egress.names import Host
from egress.resolver import Resolver
from egress.tls_door import raw_door, serve_tunnel, tls_door

log: Final = logging.getLogger("gaoler.egress")

PROXY_PORT: Final = 3128
DNS_PORT: Final = 53
MAX_LISTENERS: Final = 64
MAX_EARLY: Final = 64
"""Sandboxes whose listeners came before their grant."""
RECORDS: Final = 1000
"""Records on their way to the daemon; then whoever makes more waits."""
STARTS_PER_SECOND: Final = 100.0
"""New connections of one sandbox."""
_DESCRIPTORS: Final = socket.CMSG_SPACE(4 * MAX_LISTENERS)


class Served:
    """A grant with its listeners: serves them until it is closed."""

    def __init__(self, grant: Grant, outside: Outside) -> None:
        self.grant = grant
        self._outside = outside
        self._scope: trio.CancelScope | None = None
        self._places = trio.Semaphore(grant.limits.connections)
        self._starts = Bucket(STARTS_PER_SECOND)

    async def serve(self, listeners: Sequence[trio.socket.SocketType]) -> None:
        """Serve what comes in, instead of what was served before, until :meth:`stop`."""
        self.stop()
        with trio.CancelScope() as self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    for listener in listeners:
                        if listener.type == socket.SOCK_DGRAM:
                            nursery.start_soon(self._until_closed, partial(serve_udp, self.grant, listener))
                        else:
                            nursery.start_soon(self._until_closed, partial(self._accept, listener, nursery))
            finally:
                for listener in listeners:
                    listener.close()

    def stop(self) -> None:
        """Close the listeners and whatever came through them."""
        if self._scope is not None:
            self._scope.cancel()

    async def _until_closed(self, serve: Callable[[], Awaitable[None]]) -> None:
        try:
            await serve()
        except OSError as error:
            log.warning("a listener is lost reason=%s", error)

    async def _accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            # Waiting here costs nobody anything: what comes meanwhile waits in the sandbox's own kernel queue.
            await self._places.acquire()
            if not self._starts.take():
                await trio.sleep(self._starts.wait_seconds)
            try:
                accepted, _ = await listener.accept()
            except OSError:
                self._places.release()
                await trio.sleep(0.1)
                continue
            except BaseException:
                self._places.release()
                raise
            nursery.start_soon(self._serve_connection, accepted)

    async def _serve_connection(self, accepted: trio.socket.SocketType) -> None:
        """Named boundary: whatever goes wrong with one connection ends that one."""
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


class EarlyListeners:
    """Listeners whose grant is not known yet: the daemon's word and the jailer's come on different ways."""

    def __init__(self) -> None:
        self._by_grant: OrderedDict[str, list[trio.socket.SocketType]] = OrderedDict()

    def put(self, grant: str, listeners: list[trio.socket.SocketType]) -> None:
        """Keep them for a while; the oldest make room."""
        self.drop(grant)
        self._by_grant[grant] = listeners
        while len(self._by_grant) > MAX_EARLY:
            self.drop(next(iter(self._by_grant)))

    def take(self, grant: str) -> list[trio.socket.SocketType] | None:
        """Give those of a grant, if they are there."""
        return self._by_grant.pop(grant, None)

    def clear(self) -> None:
        """Close all."""
        for grant in list(self._by_grant):
            self.drop(grant)

    def drop(self, grant: str) -> None:
        """Close those of a grant."""
        for listener in self._by_grant.pop(grant, ()):
            listener.close()


class Proxy:
    """Everything behind one connection of the daemon."""

    def __init__(
        self, nursery: trio.Nursery, records: trio.MemorySendChannel[control.Message], early: EarlyListeners
    ) -> None:
        self._nursery = nursery
        self._send = records
        self._configuration = Configure(rule_sets={})
        self._outside = Outside(Resolver())
        self._served: dict[str, Served] = {}
        self._early = early

    async def take(self, message: control.FromDaemon) -> None:
        """Do what the daemon says."""
        match message:
            case Configure():
                self._configure(message)
            case OpenGrant():
                self._open(message)
                if message.answer:
                    await self._send.send(Opened(grant=message.grant))
            case CloseGrant():
                self._close(message.grant)
            case Sync():
                await self._send.send(Synced(number=message.number))

    def _configure(self, message: Configure) -> None:
        self._configuration = message
        outside = self._outside
        outside.resolver.configure(message.name_servers, message.hosts)
        outside.credentials = message.credentials
        if message.authority is not None and outside.authority is None:
            outside.authority = Authority(*message.authority)
            outside.checked = client_context(message.trusted)
        for served in self._served.values():
            served.grant.apply(message.rule_sets)

    def _open(self, message: OpenGrant) -> None:
        served = self._served.get(message.grant)
        if served is None:
            grant = Grant(message, self._configuration.limits, self._report)
            served = self._served[message.grant] = Served(grant, self._outside)
        served.grant.apply(self._configuration.rule_sets, message)
        early = self._early.take(message.grant)
        if early is not None:
            self._nursery.start_soon(served.serve, early)

    def _close(self, grant: str) -> None:
        served = self._served.pop(grant, None)
        if served is not None:
            served.grant.close()
            served.stop()
        self._early.drop(grant)

    def attach(self, grant: str, listeners: list[trio.socket.SocketType]) -> None:
        """Take the listeners of a sandbox."""
        served = self._served.get(grant)
        if served is not None:
            self._nursery.start_soon(served.serve, listeners)
            return
        self._early.put(grant, listeners)

    def close(self) -> None:
        """Close what nobody serves."""
        for grant in list(self._served):
            self._close(grant)

    async def _report(self, record: Record) -> None:
        await self._send.send(record)


class Process:
    """The process: one daemon at a time, and the jailer's listeners for whoever it is."""

    def __init__(self) -> None:
        self._proxy: Proxy | None = None
        self._early = EarlyListeners()
        self._turn = trio.Lock()

    async def serve_daemon(self, stream: trio.SocketStream) -> None:
        """Serve a daemon until its connection ends; then nothing of what it granted holds."""
        async with self._turn, stream:
            try:
                await self._converse(stream)
            except* (ControlError, msgspec.DecodeError) as group:
                log.error("the daemon's connection is closed: %s", group.exceptions[0])
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        log.info("the daemon is gone: no sandbox has a network")

    async def _converse(self, stream: trio.SocketStream) -> None:
        send, receive = trio.open_memory_channel[control.Message](RECORDS)
        async with trio.open_nursery() as nursery:
            proxy = self._proxy = Proxy(nursery, send, self._early)
            try:
                nursery.start_soon(_write, stream, receive)
                async for payload in control.frames(stream):
                    await proxy.take(control.daemon_decoder.decode(payload))
            finally:
                self._proxy = None
                proxy.close()
                self._early.clear()
                nursery.cancel_scope.cancel()

    async def take_listeners(self, jailer: trio.socket.SocketType) -> None:
        """Take listeners from the jailer, for ever: a datagram is a grant, its descriptors are listeners."""
        while True:
            data, ancillary, _flags, _ = await jailer.recvmsg(64, _DESCRIPTORS)
            listeners = [trio.socket.from_stdlib_socket(each) for each in _sockets(ancillary)]
            grant = data.decode("ascii", "replace")
            if self._proxy is not None:
                self._proxy.attach(grant, listeners)
            else:
                self._early.put(grant, listeners)


async def _write(stream: trio.SocketStream, messages: trio.MemoryReceiveChannel[control.Message]) -> None:
    async for message in messages:
        await stream.send_all(control.frame(message))


def _sockets(ancillary: list[tuple[int, int, bytes]]) -> list[socket.socket]:
    found: list[socket.socket] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            for number in numbers:
                os.set_inheritable(number, False)
                each = socket.socket(fileno=number)
                each.setblocking(False)
                found.append(each)
    return found


@asynccontextmanager
async def open_process(daemon: socket.socket, jailer: socket.socket) -> AsyncIterator[None]:
    """Serve for the block on a listening socket for the daemon and a datagram socket from the jailer."""
    process = Process()
    incoming = trio.SocketListener(trio.socket.from_stdlib_socket(daemon))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.take_listeners, trio.socket.from_stdlib_socket(jailer))
        await nursery.start(trio.serve_listeners, process.serve_daemon, [incoming])
        yield
        nursery.cancel_scope.cancel()


async def _serve(daemon: socket.socket, jailer: socket.socket) -> None:
    async with open_process(daemon, jailer):
        log.info("egress proxy ready")
        await trio.sleep_forever()


def _set_process_name(name: bytes) -> None:
    """Name the process for ps(1): prctl(2), PR_SET_NAME."""
    ctypes.CDLL(None).prctl(15, name, 0, 0, 0)


def main() -> None:
    """Serve; descriptors in argv: the daemon's listening socket, the jailer's datagrams. Then the level of the log."""
    _set_process_name(b"gaoler-egress")
    logging.basicConfig(level=sys.argv[3], format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    sockets = [socket.socket(fileno=int(number)) for number in sys.argv[1:3]]
    for each in sockets:
        each.set_inheritable(False)
    trio.run(_serve, sockets[0], sockets[1])


if __name__ == "__main__":
    main()
