"""The watchdog is fed by the daemon's own event loop, and only after it has seen that work can be done.

A thread would go on feeding it while the loop hangs; a timer alone would while the jailer does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from supervisor.errors import GaolerError
from supervisor.service.given import Service

log: Final = logging.getLogger("gaoler.service")

LOOKS: Final = 4
"""In one period of the watchdog: a jailer that is being started anew may miss some."""


async def feed(service: Service, look: Callable[[], Awaitable[None]]) -> None:
    """Until cancelled: look, and tell the service manager. ``look`` raises a :class:`GaolerError` if it saw no work.

    Without a watchdog nothing is done.
    """
    if service.watchdog_seconds is None:
        return
    pause = service.watchdog_seconds / LOOKS
    while True:
        try:
            with trio.fail_after(pause):
                await look()
        except (GaolerError, trio.TooSlowError) as error:
            log.warning("the watchdog is not fed: %s", str(error) or f"no answer in {pause:g} s")
        else:
            service.notifier.tell("WATCHDOG=1")
        await trio.sleep(pause)


async def alive() -> None:
    """See nothing but that the event loop goes round: for a process without sandboxes."""
    await trio.lowlevel.checkpoint()
