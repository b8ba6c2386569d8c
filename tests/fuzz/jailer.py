"""The protocol between daemon and jailer, with either side hostile: frames, messages, and a daemon that is lied to."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, get_args

import msgspec
import trio
import trio.testing

from supervisor.errors import SandboxFailed
from supervisor.jailer import protocol
from supervisor.jailer.channels import (
    CLOSE,
    CREDIT,
    DATA,
    FRAME_COST,
    MAX_PAYLOAD_BYTES,
    MESSAGE,
    WINDOW_BYTES,
    Connection,
    ProtocolError,
    open_connection,
)
from supervisor.jailer.client import JailRefused, RemoteJail
from supervisor.jailer.remote_program import LostIsTyped
from tests.fuzz.names import Disagreement

CHANNELS = 4
SECONDS = 30
SILENCE_SECONDS = 5


def frame(number: int, kind: int, payload: bytes) -> bytes:
    return struct.pack("!IIB3s", len(payload), number, kind, b"\0\0\0") + payload


class Nothing(trio.abc.Stream):
    """A stream that nobody reads or writes: frames are given to the connection by hand."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return b""

    async def send_all(self, data: Any) -> None:
        return

    async def wait_send_all_might_not_block(self) -> None:
        return

    async def aclose(self) -> None:
        return


@dataclass
class Rules:
    """What the rules alone say: what each channel has got, and whether one was broken."""

    got: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    highest: int = 0
    broken: bool = False

    def read(self, data: bytes) -> None:
        while len(data) >= 12 and not self.broken:
            length, number, kind = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big"), data[8]
            if length > MAX_PAYLOAD_BYTES or data[9:12] != b"\0\0\0":
                self.broken = True
                return
            if len(data) < 12 + length:
                return
            self.broken = not self.take(number, kind, data[12 : 12 + length])
            data = data[12 + length :]

    def take(self, number: int, kind: int, payload: bytes) -> bool:
        if number not in self.got:
            if number <= self.highest and kind in (CREDIT, CLOSE):
                return True
            if kind != MESSAGE or number <= self.highest or len(self.got) >= CHANNELS:
                return False
            self.got[number], self.highest = [], number
        if kind in (MESSAGE, DATA):
            self.held[number] = self.held.get(number, 0) + len(payload) + FRAME_COST
            if number in self.closed or self.held[number] > WINDOW_BYTES:
                return False
            self.got[number].append((kind, payload))
            return True
        if kind == CREDIT and len(payload) == 4:
            # Nothing was sent to it, so the only credit that can be given is none.
            return not any(payload)
        self.closed |= {number} if kind == CLOSE else set()
        return kind == CLOSE and not payload


async def _frames(data: bytes) -> str:
    rules = Rules()
    rules.read(data)
    connection = Connection(Nothing(), accepts=True, max_channels=CHANNELS)
    buffer, refused = bytearray(), False
    rng = Random(len(data))
    try:
        while data:
            size = rng.choice((1, 11, 13, 4096, 1 << 20))
            buffer += data[:size]
            data = data[size:]
            connection._take_frames(buffer)
    except ProtocolError:
        refused = True
    if refused != rules.broken:
        raise Disagreement(f"we say {refused}, the rules {rules.broken}")
    for number, frames in rules.got.items():
        channel = connection._channels.get(number)
        if channel is None or list(channel._incoming)[: len(frames)] != frames:
            raise Disagreement(f"channel {number} has got something else than {frames!r}")
        if len(channel._incoming) * FRAME_COST > WINDOW_BYTES:
            raise Disagreement(f"channel {number} holds {len(channel._incoming)} frames")
    return "refused" if refused else "accepted"


def check_frames(data: bytes) -> str:
    """Frames of a client that we do not trust: each rule is kept, and what is held is bounded."""
    return trio.run(_frames, data)


@cache
def _types(union: Any) -> dict[str, type[protocol.Message]]:
    return {each.__struct_config__.tag: each for each in get_args(union)}


def _check_message(data: bytes, decode: Any, union: Any) -> str:
    try:
        message = decode(data)
    except msgspec.DecodeError:
        return "refused"
    plain = msgspec.msgpack.decode(data)
    kind = _types(union)[plain["type"]]
    if type(message) is not kind or not set(plain) - {"type"} <= set(kind.__struct_fields__):
        raise Disagreement(f"{plain!r} is read as {message!r}")
    if decode(protocol.encode(message)) != message:
        raise Disagreement(f"{message!r} is not read as it is written")
    for name, value in _numbers(plain):
        if name in ("size", "limit_bytes", "memory_peak_bytes", "omitted_before") and not 0 <= value <= 1 << 40:
            raise Disagreement(f"{name} = {value}")
    return "accepted"


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        for name, each in value.items():
            if isinstance(each, int):
                yield name, each
            yield from _numbers(each)


def check_request(data: bytes) -> str:
    """What a daemon may ask."""
    return _check_message(data, protocol.decode_request, protocol.Request)


def check_answer(data: bytes) -> str:
    """What a jailer may say."""
    return _check_message(data, protocol.decode_answer, protocol.Answer)


async def _ignore(_output: protocol.Output) -> None:
    return


async def _no_tools(line: bytes) -> bytes:
    return b"[]" if len(line) < 1 << 20 else b"{}"


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _ask_everything(connection: Connection) -> None:
    """Do all that the daemon does with a jail."""
    with LostIsTyped():
        channel = await connection.open_channel()
    jail = RemoteJail(channel)
    try:
        with LostIsTyped():
            await jail._ask(protocol.OpenJail(policy="default"), protocol.Opened)
        await jail.put_file(b"a", 1, _one(b"x"))
        await jail.make_directory(b"d")
        run = protocol.RunScript(display_bytes=100)
        ended = await jail.run(run, _ignore, scan=True, on_calls=_no_tools)
        assert isinstance(ended, protocol.Ended)
        manifest = await jail.scan()
        assert len(manifest.entries) <= protocol.MAX_MANIFEST_ENTRIES
        await jail.display(1 << 20)
        async with jail.get_file(b"a") as (_, content):
            async for _ in content:
                pass
        async with jail.save(1 << 20) as (_, content):
            async for _ in content:
                pass
        await jail.restore(1, _one(b"x"))
        await jail.finish()
    finally:
        await channel.aclose()


async def _lied_to(data: bytes) -> str:
    ours, theirs = trio.testing.memory_stream_pair()
    verdict = "accepted"

    async def lie() -> None:
        try:
            # Nothing may be said about a channel before it is there.
            await theirs.receive_some(65_536)
            await theirs.send_all(data)
            # Whoever waits for more finds nothing, and then the end. The clock jumps.
            with trio.move_on_after(SILENCE_SECONDS):
                while await theirs.receive_some(65_536):
                    pass
            await theirs.send_stream.aclose()
            while await theirs.receive_some(65_536):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    with trio.move_on_after(SECONDS) as patience:
        async with trio.open_nursery() as nursery:
            try:
                async with open_connection(ours, accepts=False) as connection:
                    nursery.start_soon(lie)
                    await _ask_everything(connection)
            except* (SandboxFailed, JailRefused, ProtocolError):
                verdict = "refused"
            nursery.cancel_scope.cancel()
    if patience.cancelled_caught:
        raise Disagreement("the daemon waits for a jailer that has gone")
    return verdict


def check_client(data: bytes) -> str:
    """The daemon's side, with whatever a captured jailer says: it gets typed errors and does not hang."""
    return trio.run(_lied_to, data, clock=trio.testing.MockClock(autojump_threshold=0.02))
