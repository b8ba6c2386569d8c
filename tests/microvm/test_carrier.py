"""Egress of a guest without a guest: real listeners on loopback, the carrier, and the host's end by hand."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from supervisor.jailer.channels import DATA, MESSAGE, Channel, ChannelClosed, Connection, open_connection
from supervisor.microvm import carrier as carriers
from supervisor.microvm.carrier import Carrier, plain
from supervisor.microvm.protocol import Carry, Datagram, Egress, Finished, Wanted, decode_word, encode


def listening(kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(socket.AF_INET6, kind | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind(("::", 0))
    if kind == socket.SOCK_STREAM:
        made.listen(256)
    return made


@asynccontextmanager
async def carrying(kind: socket.SocketKind = socket.SOCK_STREAM) -> AsyncIterator[tuple[Connection, Carrier, int]]:
    """Give the host's connection, the carrier, and the port of a listener that it has."""
    ours, theirs = trio.testing.memory_stream_pair()
    carrier, listener = Carrier(), listening(kind)
    port = listener.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(carrier.run)
        carrier.attach("grant", [trio.socket.from_stdlib_socket(listener)])
        nursery.start_soon(carrier.serve_host, theirs)
        async with open_connection(ours, accepts=False) as host:
            with trio.fail_after(20):
                yield host, carrier, port
        nursery.cancel_scope.cancel()


async def opened(host: Connection, order: Egress | Carry) -> Channel:
    channel = await host.open_channel()
    await channel.send_message(encode(order))
    return channel


async def wanted(egress: Channel) -> Wanted:
    word = decode_word(await egress.receive_message())
    assert isinstance(word, Wanted)
    return word


async def test_a_connection_is_told_of_with_the_address_that_it_went_to_and_carried_both_ways() -> None:
    async with carrying() as (host, _carrier, port):
        egress = await opened(host, Egress())
        async with await trio.open_tcp_stream("127.0.0.9", port) as program:
            word = await wanted(egress)
            assert (word.address, word.port) == ("127.0.0.9", port)
            channel = await opened(host, Carry(number=word.number))
            await program.send_all(b"question")
            assert await channel.receive() == (DATA, b"question")
            await program.send_eof()
            kind, payload = await channel.receive()
            assert (kind, decode_word(payload)) == (MESSAGE, Finished())
            await channel.send_data(b"answer")
            assert await program.receive_some() == b"answer"
            await channel.send_message(encode(Finished()))
            assert await program.receive_some() == b""
            with pytest.raises(ChannelClosed):
                await channel.receive()


async def test_what_comes_before_the_host_listens_is_told_when_it_does() -> None:
    async with carrying() as (host, _carrier, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as program:
            await program.send_all(b"early")
            word = await wanted(await opened(host, Egress()))
            channel = await opened(host, Carry(number=word.number))
            assert await channel.receive() == (DATA, b"early")


async def test_a_connection_that_the_host_closes_is_closed_for_the_program() -> None:
    async with carrying() as (host, _carrier, port):
        egress = await opened(host, Egress())
        async with await trio.open_tcp_stream("127.0.0.1", port) as program:
            channel = await opened(host, Carry(number=(await wanted(egress)).number))
            await channel.aclose()
            assert await program.receive_some() == b""


async def test_a_host_that_has_gone_ends_a_connection_whose_program_says_nothing() -> None:
    async with carrying() as (host, _carrier, port):
        egress = await opened(host, Egress())
        async with await trio.open_tcp_stream("127.0.0.1", port) as program:
            channel = await opened(host, Carry(number=(await wanted(egress)).number))
            await channel.send_data(b"the last words")
            await channel.send_message(encode(Finished()))
            await channel.aclose()
            assert await program.receive_some() == b"the last words"
            assert await program.receive_some() == b""
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    # The first one may still be taken: it is answered by a reset.
                    await program.send_all(b"x")
                    await trio.testing.wait_all_tasks_blocked()


async def test_an_unknown_connection_is_closed_at_once() -> None:
    async with carrying() as (host, _carrier, _port):
        with pytest.raises(ChannelClosed):
            await (await opened(host, Carry(number=77))).receive()


async def test_so_many_connections_are_carried_and_the_next_waits_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carriers, "MAX_CARRIED", 2)
    async with carrying() as (host, _carrier, port):
        egress = await opened(host, Egress())
        programs = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
        # They wait in the kernel's queue, where nothing of ours sees them.
        first, _second = await wanted(egress), await wanted(egress)
        await trio.testing.wait_all_tasks_blocked()
        assert not egress.pending
        await (await opened(host, Carry(number=first.number))).aclose()
        assert (await wanted(egress)).number == first.number + 2
        for each in programs:
            await each.aclose()


async def test_a_datagram_is_answered_from_the_address_that_was_asked() -> None:
    async with carrying(socket.SOCK_DGRAM) as (host, _carrier, port):
        egress = await opened(host, Egress())
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
            await program.connect(("127.0.0.8", port))
            await trio.testing.wait_all_tasks_blocked()
            await program.send(b"who?")
            word = decode_word(await egress.receive_message())
            assert isinstance(word, Datagram)
            assert (word.address, word.port, word.payload) == ("127.0.0.8", port, b"who?")
            await egress.send_message(encode(Datagram(word.number, word.address, word.port, b"me")))
            # A connected socket hears nobody else.
            assert await program.recv(100) == b"me"


async def test_listeners_of_a_grant_replace_those_it_had_and_the_oldest_grant_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(carriers, "MAX_GRANTS", 2)
    async with carrying() as (_host, carrier, first):
        made = [listening(socket.SOCK_STREAM) for _ in range(3)]
        for grant, each in zip(("other", "other", "third"), made, strict=True):
            carrier.attach(grant, [trio.socket.from_stdlib_socket(each)])
        ports = [each.getsockname()[1] for each in made[1:]]
        await trio.testing.wait_all_tasks_blocked()
        for port in ports:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        assert made[0].fileno() == -1
        with pytest.raises(OSError, match="failed"):
            await trio.open_tcp_stream("127.0.0.1", first)


def test_an_address_is_told_as_the_program_meant_it() -> None:
    assert plain("::ffff:192.0.2.7") == "192.0.2.7"
    assert plain("2001:db8::7") == "2001:db8::7"
    assert plain("fe80::1%lo") == "fe80::1"
