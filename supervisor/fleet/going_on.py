"""Tasks that a process of a fleet needs for as long as it lives, whatever somebody writes into Redis."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVarTuple

import trio

log: Final = logging.getLogger("gaoler.fleet")

PAUSE_SECONDS: Final = 1.0

_Arguments = TypeVarTuple("_Arguments")


async def go_on(work: Callable[[*_Arguments], Awaitable[None]], *arguments: *_Arguments) -> None:
    """Do ``work``, and do it again after a pause whenever it fails; until it ends by itself, or is cancelled.

    Named boundary: each task says itself what it does about what it knows of; this is for what nobody has thought of,
    which ends neither the process nor the task.
    """
    while True:
        try:
            await work(*arguments)
        except Exception:
            log.exception("a task of the fleet has failed and begins again: %s", getattr(work, "__qualname__", work))
        else:
            return
        await trio.sleep(PAUSE_SECONDS)
