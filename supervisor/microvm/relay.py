"""Passes frames from one channel to another, both ways: from a daemon to a guest, and from a guest to its jailer.

Each direction waits for the reader at its end, by the windows of the two channels: what a reader has not taken stays
where it is, and nothing is kept here but the one frame in hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import msgspec
import trio

from supervisor.jailer import protocol
from supervisor.jailer.channels import MESSAGE, Channel, ChannelClosed

Look = Callable[[int, bytes], None]
"""Is shown each frame's kind and payload before it is passed on, and raises what ends the relay."""


Pause = Callable[[bytes], Awaitable[None]]


def _let_pass(_kind: int, _payload: bytes) -> None:
    """Let everything pass."""


async def _at_once(_payload: bytes) -> None:
    """Wait for nothing."""


async def splice(
    near: Channel,
    far: Channel,
    *,
    asked: Look = _let_pass,
    answered: Look = _let_pass,
    to_the_end: bool = False,
    pause: Pause = _at_once,
) -> None:
    """Pass everything on until one of the two is closed by its peer; closing them is the caller's.

    ``near`` leads to who asks, ``far`` to who answers. What the answering side has said before it closed still reaches
    the other; when who asks has gone, nothing is passed on any more, but with ``to_the_end`` what it has said before.
    ``asked`` and ``answered`` see every frame first, and what they raise is raised here, in an exception group.
    Cancelling stops in the middle of nothing: frames are passed on whole. ``pause`` is waited for after each answer.
    """
    async with trio.open_nursery() as nursery:

        async def forward(source: Channel, target: Channel, look: Look, pause: Pause) -> None:
            with suppress(ChannelClosed):
                while True:
                    kind, payload = await source.receive()
                    look(kind, payload)
                    if kind == MESSAGE:
                        await target.send_message(payload, hold=source.pending)
                    else:
                        await target.send_data(payload, hold=source.pending)
                    await pause(payload)
            nursery.cancel_scope.cancel()

        async def watch() -> None:
            await near.peer_gone.wait()
            nursery.cancel_scope.cancel()

        if not to_the_end:
            nursery.start_soon(watch)
        nursery.start_soon(forward, near, far, asked, _at_once)
        nursery.start_soon(forward, far, near, answered, pause)


def translated(request: protocol.Background, numbers: Mapping[int, int]) -> protocol.Background | None:
    """Give the request with the number that its jail has at the next hop; ``None``: there is no such jail."""
    number = numbers.get(request.jail)
    if number is None:
        return None
    return msgspec.structs.replace(request, jail=number)
