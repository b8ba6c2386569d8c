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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from egress import control
from egress.authority import Authority, client_context
from egress.confinement import confine
from egress.control import CloseGrant, Configure, ControlError, Opened, OpenGrant, Record, Sync, Synced
from egress.gate import Outside
from egress.grants import Grant
from egress.listeners import EarlyListeners, Listener, Served
from egress.resolver import Resolver

log: Final = logging.getLogger("gaoler.egress")

MAX_LISTENERS: Final = 64
RECORDS: Final = 1000
"""Records on their way to the daemon; then whoever makes more waits."""
_DESCRIPTORS: Final = socket.CMSG_SPACE(4 * MAX_LISTENERS)


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
                served = self._served.get(message.grant or "")
                if served is None or not served.connected:
                    await self._send.send(Synced(number=message.number))
                else:
                    self._nursery.start_soon(self._settle, served, message.number)

    async def _settle(self, served: Served, number: int) -> None:
        await served.settle()
        await self._send.send(Synced(number=number))

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
            self._nursery.start_soon(served.serve)
        served.grant.apply(self._configuration.rule_sets, message)
        early = self._early.take(message.grant)
        if early is not None:
            served.attach(early)

    def _close(self, grant: str) -> None:
        served = self._served.pop(grant, None)
        if served is not None:
            served.grant.close()
            served.stop()
        self._early.forget(grant)

    def attach(self, grant: str, listeners: list[Listener]) -> None:
        """Take the listeners of a sandbox."""
        served = self._served.get(grant)
        if served is not None:
            served.attach(listeners)
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
    """Serve; descriptors in argv: the daemon's listening socket, the jailer's datagrams, the proxy's own filter.

    Then the level of the log.
    """
    _set_process_name(b"gaoler-egress")
    logging.basicConfig(level=sys.argv[4], format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    sockets = [socket.socket(fileno=int(number)) for number in sys.argv[1:3]]
    for each in sockets:
        each.set_inheritable(False)
    with os.fdopen(int(sys.argv[3]), "rb") as file:
        confine(file.read())
    trio.run(_serve, sockets[0], sockets[1])


if __name__ == "__main__":
    main()
