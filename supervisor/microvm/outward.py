"""The host's end of a guest's network: what programs in the guest connect to is dialled again, on the host.

Not on the host's own network: in the namespace of the virtual machine's own jail, which has nothing but the egress
proxy's listeners on every address (:mod:`supervisor.jailer.netns`). So the proxy sees the same as of any other jail,
and a guest that lies about what its programs want reaches what they could reach, and nothing else.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import Final

import msgspec
import trio

from supervisor.jailer import netns
from supervisor.jailer.channels import DATA, Channel, ChannelClosed, Connection, ProtocolError
from supervisor.microvm import protocol

log: Final = logging.getLogger("gaoler.microvm.outward")

DIAL_SECONDS: Final = 10.0
DATAGRAM_SECONDS: Final = 10.0
MAX_DATAGRAMS: Final = 64
"""Of one guest, that wait for their answer."""
WORD_SECONDS: Final = 0.002
"""At least, from one connection or datagram that a guest wants to the next."""
READ_BYTES: Final = 65_536
_Address = tuple[str, int]


async def serve_outward(connection: Connection, pidfd: int) -> None:
    """Serve what the guest wants until its connection ends. ``pidfd``: of a process in the namespace to dial in.

    Raises:
        ProtocolError: the guest says what no carrier says.
        ChannelClosed: the guest has closed the channel.
    """
    channel = await connection.open_channel()
    await channel.send_message(protocol.encode(protocol.Egress()))
    outward = _Outward(connection, channel, pidfd)
    async with trio.open_nursery() as nursery:
        while True:
            word = _decode(await channel.receive_message())
            if isinstance(word, protocol.Wanted):
                await outward.want(nursery, word)
            elif isinstance(word, protocol.Datagram):
                outward.ask(nursery, word)
            else:
                raise ProtocolError(f"{type(word).__name__} from the guest's carrier")
            # A short-lived thread for each: who wants too much waits.
            await trio.sleep(WORD_SECONDS)


class _Outward:
    def __init__(self, connection: Connection, channel: Channel, pidfd: int) -> None:
        self._connection = connection
        self._channel = channel
        self._pidfd = pidfd
        self._carried = 0
        self._asked = 0

    async def want(self, nursery: trio.Nursery, wanted: protocol.Wanted) -> None:
        """Begin to carry a connection; one too many is closed."""
        if self._carried < protocol.MAX_CARRIED:
            self._carried += 1
            nursery.start_soon(self._carry, wanted)
        else:
            await (await self._name(wanted)).aclose()

    def ask(self, nursery: trio.Nursery, datagram: protocol.Datagram) -> None:
        """Begin to answer a datagram; one too many is dropped, as datagrams are."""
        if self._asked < MAX_DATAGRAMS:
            self._asked += 1
            nursery.start_soon(self._answer, datagram)

    async def _carry(self, wanted: protocol.Wanted) -> None:
        # Named first: a connection that cannot be had is a channel that is closed at once.
        channel = await self._name(wanted)
        try:
            with trio.fail_after(DIAL_SECONDS):
                stream = await self._dial(_address(wanted.address, wanted.port))
            async with stream:
                await pump(channel, stream)
        except (OSError, trio.TooSlowError, ChannelClosed):
            pass  # the program sees its connection closed
        finally:
            self._carried -= 1
            await channel.aclose()

    async def _name(self, wanted: protocol.Wanted) -> Channel:
        channel = await self._connection.open_channel()
        await channel.send_message(protocol.encode(protocol.Carry(number=wanted.number)))
        return channel

    async def _dial(self, address: _Address) -> trio.SocketStream:
        dialled = await self._socket(socket.SOCK_STREAM)
        try:
            await dialled.connect(address)
            return trio.SocketStream(dialled)
        except BaseException:
            dialled.close()
            raise

    async def _answer(self, datagram: protocol.Datagram) -> None:
        try:
            with await self._socket(socket.SOCK_DGRAM) as asking:
                await asking.connect(_address(datagram.address, datagram.port))
                await asking.send(datagram.payload)
                with trio.fail_after(DATAGRAM_SECONDS):
                    answer = await asking.recv(protocol.MAX_DATAGRAM_BYTES)
            back = msgspec.structs.replace(datagram, payload=answer)
            await self._channel.send_message(protocol.encode(back))
        except (OSError, trio.TooSlowError, ChannelClosed):
            pass  # as on any network
        finally:
            self._asked -= 1

    async def _socket(self, kind: socket.SocketKind) -> trio.socket.SocketType:
        def make() -> socket.socket:
            return socket.socket(socket.AF_INET6, kind | socket.SOCK_CLOEXEC)

        return trio.socket.from_stdlib_socket(await netns.inside(self._pidfd, make))


async def pump(channel: Channel, stream: trio.SocketStream) -> None:
    """Carry data both ways between a channel and a connection until both directions have ended, or one is broken.

    The end of one direction is :class:`protocol.Finished` on the channel and a shutdown on the connection. Neither is
    closed here.

    Raises:
        ChannelClosed: the other side of the channel has gone.
        ProtocolError: it says what does not belong there.
    """
    async with trio.open_nursery() as watching:
        scope = watching.cancel_scope

        async def watch() -> None:
            await channel.peer_gone.wait()
            scope.cancel()

        async with trio.open_nursery() as both:
            both.start_soon(_to_channel, channel, stream, scope)
            await _to_stream(channel, stream, scope)
            # Not sooner: what has come before the end is still to be written.
            watching.start_soon(watch)
        scope.cancel()


async def _to_channel(channel: Channel, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        while data := await stream.receive_some(READ_BYTES):
            await channel.send_data(data)
        await channel.send_message(protocol.encode(protocol.Finished()))
    except (trio.BrokenResourceError, trio.ClosedResourceError, ChannelClosed):
        scope.cancel()


async def _to_stream(channel: Channel, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        while True:
            kind, payload = await channel.receive()
            if kind == DATA:
                await stream.send_all(payload)
            elif isinstance(_decode(payload), protocol.Finished):
                await stream.send_eof()
                return
            else:
                raise ProtocolError("a message on a carried connection")
    except (trio.BrokenResourceError, trio.ClosedResourceError, ChannelClosed):
        scope.cancel()


def _decode(payload: bytes) -> protocol.Word:
    try:
        return protocol.decode_word(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the guest breaks the protocol: {error}") from None


def _address(text: str, port: int) -> _Address:
    """Give the address for a socket of both families.

    Raises:
        OSError: it is none.
    """
    try:
        # Without a zone: that may be any text at all, which a resolver would be asked about.
        address = ipaddress.ip_address("" if "%" in text else text)
    except ValueError:
        raise OSError(f"no address: {text!a}") from None
    return (f"::ffff:{address}" if address.version == 4 else str(address)), port
