"""Frames, credit and broken peers, over streams in memory."""

from __future__ import annotations

import struct

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.jailer import channels
from supervisor.jailer.channels import (
    CLOSE,
    CREDIT,
    DATA,
    MESSAGE,
    WINDOW_BYTES,
    ChannelClosed,
    ProtocolError,
    open_connection,
)


def frame(number: int, kind: int, payload: bytes = b"", length: int | None = None, zero: bytes = b"\0\0\0") -> bytes:
    return struct.pack("!IIB3s", len(payload) if length is None else length, number, kind, zero) + payload


async def test_messages_and_data_arrive_in_order_on_their_channels() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with open_connection(left, accepts=False) as client, open_connection(right, accepts=True) as server:
        one, two = await client.open_channel(), await client.open_channel()
        await two.send_message(b"two")
        await one.send_message(b"one")
        await one.send_data(b"x" * 200_000)
        second, first = await server.accept(), await server.accept()
        assert (await first.receive_message(), await second.receive_message()) == (b"one", b"two")
        assert b"".join([piece async for piece in first.receive_data(200_000)]) == b"x" * 200_000
        await second.send_message(b"back")
        assert await two.receive_message() == b"back"


async def test_a_slow_reader_stops_its_own_channel_and_no_other() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with open_connection(left, accepts=False) as client, open_connection(right, accepts=True) as server:
        slow, quick = await client.open_channel(), await client.open_channel()
        sent = trio.Event()

        async def flood() -> None:
            await slow.send_message(b"")
            await slow.send_data(bytes(3 * WINDOW_BYTES))
            sent.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await trio.testing.wait_all_tasks_blocked()
            assert not sent.is_set()
            await quick.send_message(b"hello")
            incoming = {channel.number: channel for channel in [await server.accept(), await server.accept()]}
            assert await incoming[quick.number].receive_message() == b"hello"
            await incoming[slow.number].receive_message()
            total = 0
            async for piece in incoming[slow.number].receive_data(3 * WINDOW_BYTES):
                total += len(piece)
            assert total == 3 * WINDOW_BYTES
        assert sent.is_set()


async def test_a_cancelled_sender_never_leaves_half_a_frame() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with open_connection(left, accepts=False) as client, open_connection(right, accepts=True) as server:
        doomed, other = await client.open_channel(), await client.open_channel()
        with trio.CancelScope() as scope:
            scope.cancel()
            with pytest.raises(trio.Cancelled):
                await doomed.send_data(b"x" * 100_000)
        await other.send_message(b"fine")
        assert await (await server.accept()).receive_message() == b"fine"


async def test_closing_ends_the_peer_that_reads_and_the_peer_that_writes() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with open_connection(left, accepts=False) as client, open_connection(right, accepts=True) as server:
        channel = await client.open_channel()
        await channel.send_message(b"hi")
        peer = await server.accept()
        await peer.receive_message()
        await peer.aclose()
        with pytest.raises(ChannelClosed):
            await channel.receive()
        with pytest.raises(ChannelClosed):
            await channel.send_message(b"late")


async def test_a_lost_connection_ends_every_channel() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with open_connection(left, accepts=False) as client:
        channel = await client.open_channel()
        await channel.send_message(b"hi")
        await right.aclose()
        with pytest.raises(ChannelClosed):
            await channel.receive()
        await client.ended.wait()
        with pytest.raises(ChannelClosed):
            await client.open_channel()


BROKEN = {
    "a length over the limit": frame(1, MESSAGE, length=channels.MAX_PAYLOAD_BYTES + 1),
    "4 GiB": frame(1, MESSAGE, length=0xFFFFFFFF),
    "padding that is not zero": frame(1, MESSAGE, zero=b"\0\0\1"),
    "an unknown kind": frame(1, MESSAGE, b"x") + frame(1, 9),
    "data on a channel that is not there": frame(1, DATA, b"x"),
    "a number used again": frame(2, MESSAGE, b"x") + frame(1, MESSAGE, b"x"),
    "credit that was never owed": frame(1, MESSAGE, b"x") + frame(1, CREDIT, struct.pack("!I", 1)),
    "credit of a wrong size": frame(1, MESSAGE, b"x") + frame(1, CREDIT, b"x"),
    "close with a payload": frame(1, MESSAGE, b"x") + frame(1, CLOSE, b"x"),
    "a frame after close": frame(1, MESSAGE, b"x") + frame(1, CLOSE) + frame(1, DATA, b"x"),
    "an overrun window": frame(1, MESSAGE, b"") + frame(1, DATA, bytes(channels.MAX_PAYLOAD_BYTES)) * 5,
    "half a frame": frame(1, MESSAGE, b"xyz")[:-1],
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN.keys())
async def test_a_peer_that_breaks_the_rules_loses_its_connection(sent: bytes) -> None:
    left, right = trio.testing.memory_stream_pair()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_connection(right, accepts=True) as server:
            await left.send_all(sent)
            await left.send_eof()
            await server.ended.wait()
    assert caught.group_contains(ProtocolError)


async def test_too_many_channels_are_refused() -> None:
    left, right = trio.testing.memory_stream_pair()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_connection(right, accepts=True, max_channels=3) as server:
            await left.send_all(b"".join(frame(number, MESSAGE, b"x") for number in range(1, 6)))
            await server.ended.wait()
    assert caught.group_contains(ProtocolError)


async def test_channels_that_the_peer_does_not_close_count_and_one_too_many_is_refused_alone() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with open_connection(left, accepts=False, max_channels=2) as client, open_connection(right, accepts=True):
        first = await client.open_channel()
        for _ in range(2):
            channel = first if first.number == 0 else await client.open_channel()
            await channel.send_message(b"x")
        await first.aclose()
        with pytest.raises(ChannelClosed, match="2 channels are open already"):
            await (await client.open_channel()).send_message(b"x")
        assert not client.ended.is_set()


async def test_of_a_peer_who_floods_us_so_many_frames_a_second_are_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = trio.testing.memory_stream_pair()
    async with (
        open_connection(left, accepts=False) as client,
        open_connection(right, accepts=True, frames_per_second=10) as server,
    ):
        channel = await client.open_channel()
        started = trio.current_time()
        for number in range(50):
            await channel.send_message(b"%d" % number)
        incoming = await server.accept()
        assert [await incoming.receive_message() for _ in range(50)] == [b"%d" % number for number in range(50)]
        await channel.send_message(b"the next one")
        assert await incoming.receive_message() == b"the next one"
        # Ten are free; what comes at once is taken at once, and is to be earned before anything else is read.
        assert trio.current_time() - started == pytest.approx(4.0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=64), st.builds(frame, st.integers(0, 3), st.integers(0, 5), st.binary(max_size=32))
        ),
        max_size=8,
    )
)
def test_no_bytes_at_all_do_more_than_end_the_connection(pieces: list[bytes]) -> None:
    async def main() -> None:
        left, right = trio.testing.memory_stream_pair()
        try:
            async with open_connection(right, accepts=True) as server:
                await left.send_all(b"".join(pieces) or b"\0")
                await left.send_eof()
                await server.ended.wait()
        except* ProtocolError:
            pass

    trio.run(main)
