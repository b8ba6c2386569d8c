"""Following a daemon's stream of events beyond its restarts: what breaks off is said, and begun again after a while."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import trio

from supervisor.commands.api_client import Api, NotRunning, Refused

FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 60.0
"""A stream that says nothing for so long is dead: a daemon says something every few seconds."""
_PASSING: Final = frozenset({429, 500, 502, 503, 504})
"""Status of refusals that go over: a daemon that is starting or stopping, or has enough followers."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told. ``take``: an event's name and data; ``lost``: why the stream is gone, the seconds until a try."""

    take: Callable[[str, Any], None]
    lost: Callable[[str, float], None]


async def follow(api: Api, path: str, listener: Listener) -> NoReturn:
    """Follow for ever; cancelling hangs up.

    Only what had begun is begun again: who names a daemon that is not there is told so at once.

    Raises:
        NotRunning: nobody answers the first time.
        Refused: the daemon says no, and will go on to; a key that has been revoked, for one.
        GaolerError: what comes is no answer of a daemon.
    """
    begun, wait = False, FIRST_WAIT_SECONDS
    while True:
        try:
            async with api.open("GET", path) as answer:
                events = answer.events()
                while (event := await _next(events)) is not None:
                    begun, wait = True, FIRST_WAIT_SECONDS
                    listener.take(*event)
            why = f"{api.place.shown} has ended the stream, or says nothing any more"
        except NotRunning as error:
            if not begun:
                raise
            why = error.message
        except Refused as error:
            if not begun or error.status not in _PASSING:
                raise
            why = error.message
        listener.lost(why, wait)
        await trio.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


async def _next(events: AsyncIterator[tuple[str, Any]]) -> tuple[str, Any] | None:
    """Give the next event; ``None``: the stream has ended, or is dead."""
    with trio.move_on_after(SILENT_SECONDS):
        return await anext(events, None)
    return None
