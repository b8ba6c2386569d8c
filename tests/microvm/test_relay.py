"""Frames passed on between two connections: in order, whole, with the windows of both, and to the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from supervisor.jailer import protocol
from supervisor.jailer.channels import (
    DATA,
    MESSAGE,
    WINDOW_BYTES,
    Channel,
    ChannelClosed,
    ProtocolError,
    open_connection,
)
from supervisor.microvm.relay import splice, translated


@asynccontextmanager
async def relayed(**looks: object) -> AsyncIterator[tuple[Channel, Channel, trio.Event]]:
    """Give both ends of a way over a relay, and an event for its end; the first message has been passed on."""
    client_stream, near_stream = trio.testing.memory_stream_pair()
    far_stream, server_stream = trio.testing.memory_stream_pair()
    ended = trio.Event()
    async with (
        open_connection(client_stream, accepts=False) as client,
        open_connection(near_stream, accepts=True) as near_connection,
        open_connection(far_stream, accepts=False) as far_connection,
        open_connection(server_stream, accepts=True) as server,
        trio.open_nursery() as nursery,
    ):
        channel = await client.open_channel()
        await channel.send_message(b"first")
        near, far = await near_connection.accept(), await far_connection.open_channel()

        async def relay() -> None:
            try:
                await splice(near, far, **looks)  # type: ignore[arg-type]
            finally:
                await far.aclose()
                await near.aclose()
                ended.set()

        nursery.start_soon(relay)
        other = await server.accept()
        assert await other.receive_message() == b"first"
        yield channel, other, ended
        nursery.cancel_scope.cancel()


async def test_everything_arrives_in_order_both_ways() -> None:
    async with relayed() as (client, server, _ended):
        await client.send_message(b"a file follows")
        await client.send_data(b"x" * 200_000)
        await client.send_message(b"end")
        assert await server.receive_message() == b"a file follows"
        assert b"".join([piece async for piece in server.receive_data(200_000)]) == b"x" * 200_000
        assert await server.receive_message() == b"end"
        await server.send_message(b"answer")
        await server.send_data(b"y")
        assert await client.receive() == (MESSAGE, b"answer")
        assert await client.receive() == (DATA, b"y")


async def test_who_does_not_read_stops_who_writes() -> None:
    async with relayed() as (client, server, _ended):
        sent = trio.Event()

        async def flood() -> None:
            await client.send_data(bytes(6 * WINDOW_BYTES))
            sent.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await trio.testing.wait_all_tasks_blocked()
            assert not sent.is_set()
            assert len(b"".join([piece async for piece in server.receive_data(6 * WINDOW_BYTES)])) == 6 * WINDOW_BYTES
            await sent.wait()


async def test_what_was_said_before_the_end_still_arrives() -> None:
    async with relayed() as (client, server, ended):
        await server.send_message(b"last words")
        await server.aclose()
        assert await client.receive_message() == b"last words"
        with pytest.raises(ChannelClosed):
            await client.receive_message()
        await ended.wait()


async def test_who_asks_goes_and_the_other_side_hears_of_it_at_once() -> None:
    async with relayed() as (client, server, ended):
        await client.send_data(bytes(WINDOW_BYTES // 2))
        await client.aclose()
        await server.peer_gone.wait()
        await ended.wait()


async def test_what_a_look_raises_ends_the_relay() -> None:
    def refuse(kind: int, payload: bytes) -> None:
        if kind == MESSAGE and payload == b"bad":
            raise ProtocolError("bad")

    with pytest.RaisesGroup(ProtocolError, flatten_subgroups=True):
        async with relayed(answered=refuse) as (_client, server, ended):
            await server.send_message(b"bad")
            await ended.wait()


def test_the_jail_of_a_background_program_is_translated() -> None:
    request = protocol.Background(jail=3, arguments=["/bin/true"], environment={}, seccomp="bash")
    there = translated(request, {3: 8})
    assert there is not None
    assert (there.jail, there.arguments) == (8, ["/bin/true"])
    assert translated(request, {}) is None
