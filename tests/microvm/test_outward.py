"""The host's end of a guest's network, in a network namespace of the test's own, against a hostile guest too."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from supervisor.jailer.channels import DATA, Channel, Connection, ProtocolError, open_connection
from supervisor.microvm import protocol
from supervisor.microvm.outward import serve_outward


@asynccontextmanager
async def outward() -> AsyncIterator[tuple[Connection, Channel]]:
    """Serve a guest that is us: give the guest's connection, and the channel on which it tells what it wants."""
    host_stream, guest_stream = trio.testing.memory_stream_pair()
    pidfd = os.pidfd_open(os.getpid())
    try:
        async with (
            open_connection(host_stream, accepts=False) as host,
            open_connection(guest_stream, accepts=True) as guest,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(serve_outward, host, pidfd)
            channel = await guest.accept()
            assert isinstance(protocol.decode_order(await channel.receive_message()), protocol.Egress)
            yield guest, channel
            nursery.cancel_scope.cancel()
    finally:
        os.close(pidfd)


async def want(guest: Connection, channel: Channel, number: int, address: str, port: int) -> Channel:
    await channel.send_message(protocol.encode(protocol.Wanted(number=number, address=address, port=port)))
    carried = await guest.accept()
    order = protocol.decode_order(await carried.receive_message())
    assert order == protocol.Carry(number=number)
    return carried


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_connection_is_carried_both_ways_and_each_end_arrives(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    async with trio.open_nursery() as nursery:

        async def echo(stream: trio.SocketStream) -> None:
            said = b"".join([piece async for piece in stream])
            await stream.send_all(said.upper())
            await stream.send_eof()

        listener = trio.socket.socket(family)
        await listener.bind((address, 0))
        listener.listen()
        await nursery.start(trio.serve_listeners, echo, [trio.SocketListener(listener)])
        async with outward() as (guest, channel):
            carried = await want(guest, channel, 5, address, listener.getsockname()[1])
            await carried.send_data(b"hello ")
            await carried.send_data(b"there")
            await carried.send_message(protocol.encode(protocol.Finished()))
            assert await carried.receive() == (DATA, b"HELLO THERE")
            assert isinstance(protocol.decode_word(await carried.receive_message()), protocol.Finished)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "not an address", "", "127.0.0.1%lo", "::1%lo", "::1%\0", "::1%\u00e4..\u00e4", "::1%" + "x" * 40],
)
async def test_what_cannot_be_reached_is_a_channel_that_closes(address: str) -> None:
    async with outward() as (guest, channel):
        carried = await want(guest, channel, 1, address, 1)
        await carried.peer_gone.wait()
        asked = protocol.Datagram(number=2, address=address, port=1, payload=b"who?")
        await channel.send_message(protocol.encode(asked))
        # It goes on.
        again = await want(guest, channel, 3, "127.0.0.1", 1)
        await again.peer_gone.wait()


async def test_a_datagram_is_answered_under_its_number() -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        async with outward() as (_guest, channel):
            asked = protocol.Datagram(number=9, address="127.0.0.1", port=port, payload=b"who?")
            await channel.send_message(protocol.encode(asked))
            said, sender = await server.recvfrom(100)
            assert said == b"who?"
            await server.sendto(b"me", sender)
            word = protocol.decode_word(await channel.receive_message())
            assert word == protocol.Datagram(number=9, address="127.0.0.1", port=port, payload=b"me")


@pytest.mark.parametrize("payload", [b"", b"\xc1", protocol.encode(protocol.Begun()), b"\x81\xa4type\xa3xyz"])
async def test_what_no_carrier_says_breaks_the_protocol(payload: bytes) -> None:
    with pytest.RaisesGroup(ProtocolError, flatten_subgroups=True):
        async with outward() as (_guest, channel):
            await channel.send_message(payload)
            await trio.sleep_forever()


async def test_one_connection_too_many_is_closed_and_the_others_go_on() -> None:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(protocol.MAX_CARRIED + 8)
    with listener:
        port = listener.getsockname()[1]
        async with outward() as (guest, channel):
            carried = [
                await want(guest, channel, number + 1, "127.0.0.1", port) for number in range(protocol.MAX_CARRIED)
            ]
            extra = await want(guest, channel, 1000, "127.0.0.1", port)
            await extra.peer_gone.wait()
            assert not any(each.peer_gone.is_set() for each in carried)
