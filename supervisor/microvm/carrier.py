"""Egress in a guest: takes listeners as the egress proxy does, and tells the host of each who comes through them.

The keeper starts it in the proxy's place, with the same descriptors, uid and filter. There is no way out of a guest, so
it dials nobody: the host connects to the same address in a network namespace of its own, where the real proxy listens,
and the data are carried over the port. What a program sends waits in its own kernel queue until then.

Over the proxy's socket the guest's first program passes on ``Egress`` and ``Carry``, see
:mod:`supervisor.microvm.protocol`.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections import OrderedDict
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Final

import msgspec
import trio

from supervisor.jailer import kernel
from supervisor.jailer.channels import Channel, ChannelClosed, ProtocolError, open_connection
from supervisor.logs.limit import limit_logging
from supervisor.microvm.outward import pump
from supervisor.microvm.protocol import (
    MAX_CARRIED,
    MAX_DATAGRAM_BYTES,
    Carry,
    Datagram,
    Egress,
    Order,
    Wanted,
    decode_order,
    decode_word,
    encode,
)

log: Final = logging.getLogger("gaoler.carrier")

Listener = trio.socket.SocketType
MAX_LISTENERS: Final = 64
MAX_GRANTS: Final = 64
"""Sets of listeners; those of the oldest grant are closed, whose jail has gone."""
MAX_ASKED: Final = 256
"""Datagrams that may be answered yet."""
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_GONE: Final = (OSError, trio.ClosedResourceError, trio.BrokenResourceError)


class Asked(msgspec.Struct, frozen=True):
    """Who sent a datagram, and to which address of his."""

    listener: Listener
    sender: object
    control: list[tuple[int, int, bytes]]


class Carrier:
    """Everything that comes through the listeners, whether the host has asked for it yet or not."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._grants: OrderedDict[str, trio.CancelScope] = OrderedDict()
        self._places = trio.Semaphore(MAX_CARRIED)
        self._waiting: dict[int, trio.SocketStream] = {}
        self._asked: OrderedDict[int, Asked] = OrderedDict()
        self._number = 0
        self._host: Channel | None = None
        self._host_came = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the listeners that are attached, for ever."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def attach(self, grant: str, listeners: list[Listener]) -> None:
        """Serve these listeners, instead of what the grant had before; what is connected stays so."""
        before = self._grants.pop(grant, None)
        if before is None and len(self._grants) >= MAX_GRANTS:
            _oldest, before = self._grants.popitem(last=False)
        if before is not None:
            before.cancel()
        scope = self._grants[grant] = trio.CancelScope()
        assert self._nursery is not None, "attached before it runs"
        self._nursery.start_soon(self._listen, listeners, scope)

    async def _listen(self, listeners: list[Listener], scope: trio.CancelScope) -> None:
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    for listener in listeners:
                        datagrams = listener.type == socket.SOCK_DGRAM
                        nursery.start_soon(self._receive if datagrams else self._accept, listener)
        finally:
            for listener in listeners:
                listener.close()

    async def _accept(self, listener: Listener) -> None:
        while True:
            # Waiting here costs nobody anything: what comes meanwhile waits in the sandbox's own kernel queue.
            await self._places.acquire()
            try:
                accepted, _ = await listener.accept()
                stream = trio.SocketStream(accepted)
            except OSError as error:
                self._places.release()
                log.warning("nothing can be accepted reason=%s", error)
                await trio.sleep(0.1)
                continue
            except BaseException:
                self._places.release()
                raise
            self._number += 1
            number = self._number
            self._waiting[number] = stream
            address, port = stream.socket.getsockname()[:2]
            if not await self._tell(Wanted(number=number, address=plain(address), port=port)):
                self._forget(number)

    async def _receive(self, listener: Listener) -> None:
        """Tell of datagrams; an answer goes out from the very address that was asked."""
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        port = listener.getsockname()[1]
        while True:
            packet, ancillary, flags, sender = await listener.recvmsg(MAX_DATAGRAM_BYTES + 1, 128)
            control = [(level, kind, data) for level, kind, data in ancillary if kind == _IPV6_PKTINFO]
            if flags & socket.MSG_TRUNC or len(packet) > MAX_DATAGRAM_BYTES or not control:
                continue
            self._number += 1
            self._asked[self._number] = Asked(listener, sender, control)
            if len(self._asked) > MAX_ASKED:
                self._asked.popitem(last=False)
            address = plain(socket.inet_ntop(socket.AF_INET6, control[0][2][:16]))
            await self._tell(Datagram(number=self._number, address=address, port=port, payload=packet))

    async def _tell(self, word: Wanted | Datagram) -> bool:
        """Tell the host, as soon as it listens; say whether it heard."""
        await self._host_came.wait()
        if self._host is None:
            return False
        try:
            await self._host.send_message(encode(word))
        except ChannelClosed:
            return False
        return True

    def _forget(self, number: int) -> None:
        """Close a connection that nobody carries."""
        stream = self._waiting.pop(number, None)
        if stream is not None:
            stream.socket.close()
            self._places.release()

    async def serve_host(self, stream: trio.abc.Stream) -> None:
        """Serve the guest's first program until its connection ends; with it goes all that waits.

        Raises:
            ProtocolError: (as part of an exception group) it broke a rule.
        """
        try:
            async with open_connection(stream, accepts=True) as connection, trio.open_nursery() as nursery:
                with suppress(ChannelClosed):
                    while True:
                        nursery.start_soon(self._serve_channel, await connection.accept())
                nursery.cancel_scope.cancel()
        finally:
            for number in list(self._waiting):
                self._forget(number)

    async def _serve_channel(self, channel: Channel) -> None:
        try:
            order = order_of(channel, await channel.receive_message())
            if isinstance(order, Egress) and self._host is None:
                await self._hear(channel)
            elif isinstance(order, Carry):
                await self._carry(channel, order.number)
            else:
                raise ProtocolError(f"channel {channel.number}: no {type(order).__name__} is due")
        except* ChannelClosed:
            pass
        finally:
            await channel.aclose()

    async def _hear(self, channel: Channel) -> None:
        """Be told of answers to datagrams, and let the rest know that the host listens."""
        self._host = channel
        self._host_came.set()
        try:
            while True:
                word = _datagram(channel, await channel.receive_message())
                asked = self._asked.pop(word.number, None)
                if asked is not None:
                    with suppress(*_GONE):
                        # Whoever asked may be gone, and his socket full: he will ask again.
                        await asked.listener.sendmsg([word.payload], asked.control, 0, asked.sender)
        finally:
            self._host, self._host_came = None, trio.Event()

    async def _carry(self, channel: Channel, number: int) -> None:
        """Carry a connection; closing the channel instead is how the host refuses it."""
        stream = self._waiting.pop(number, None)
        if stream is None:
            return
        try:
            await pump(channel, stream)
        finally:
            await trio.aclose_forcefully(stream)
            self._places.release()


def order_of(channel: Channel, payload: bytes) -> Order | None:
    """Give the order, or ``None`` for a message of the jailer protocol.

    Raises:
        ProtocolError: it is neither.
    """
    try:
        return decode_order(payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"channel {channel.number}: {error}") from None


def _datagram(channel: Channel, payload: bytes) -> Datagram:
    try:
        word = decode_word(payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"channel {channel.number}: {error}") from None
    if not isinstance(word, Datagram):
        raise ProtocolError(f"channel {channel.number}: no {type(word).__name__} is due")
    return word


def plain(text: str) -> str:
    """Give the address as a program meant it: an IPv4 one is mapped on these sockets."""
    address = IPv6Address(text.partition("%")[0])
    return str(address.ipv4_mapped or address)


async def take_listeners(carrier: Carrier, jailer: socket.socket) -> None:
    """Take listeners from the jailer, for ever: a datagram is a grant, its descriptors are listeners."""
    while True:
        await trio.lowlevel.wait_readable(jailer)
        data, fds, _flags, _ = socket.recv_fds(jailer, 64, MAX_LISTENERS, socket.MSG_DONTWAIT)
        carrier.attach(data.decode("ascii", "replace"), [_listener(fd) for fd in fds])


def _listener(fd: int) -> Listener:
    os.set_inheritable(fd, False)
    made = socket.socket(fileno=fd)
    made.setblocking(False)
    return trio.socket.from_stdlib_socket(made)


async def serve(incoming: socket.socket, jailer: socket.socket) -> None:
    """Serve the first who comes, the guest's first program, until his connection ends."""
    carrier = Carrier()
    async with trio.open_nursery() as nursery:
        await nursery.start(carrier.run)
        nursery.start_soon(take_listeners, carrier, jailer)
        stream = await trio.SocketListener(trio.socket.from_stdlib_socket(incoming)).accept()
        await carrier.serve_host(stream)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Serve; descriptors in argv: where the guest's first program comes, the jailer's datagrams, our own filter.

    Then the level of the log.
    """
    kernel.set_process_name("gaoler-carrier")
    logging.basicConfig(level=sys.argv[4], format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    limit_logging()
    incoming, jailer = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    for each in (incoming, jailer):
        each.set_inheritable(False)
    with os.fdopen(int(sys.argv[3]), "rb") as file:
        kernel.install_seccomp(file.read())
    trio.run(serve, incoming, jailer)


if __name__ == "__main__":
    main()
