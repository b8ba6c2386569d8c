"""Keeps the screen and the keyboard for as long as somebody looks; both are given back whatever happens."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import trio
from rich.console import Console
from rich.live import Live

from supervisor.commands.api_client import Api, segment
from supervisor.commands.api_follow import Listener, follow
from supervisor.errors import GaolerError
from supervisor.top.board import Board, keys_of
from supervisor.top.screen import Screen

FRAME_SECONDS: Final = 0.25
"""Between two pictures, however much happens."""
EVENTS: Final = "/v1/admin/executions/events"


@contextmanager
def keyboard(fd: int) -> Iterator[None]:
    """Have keys come one by one and unseen, for the block. Source: termios(3)."""
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def watch(api: Api, console: Console) -> None:
    """Show what happens until the person quits or a signal comes; a daemon that goes is waited for.

    Raises:
        NotRunning: no daemon was there at first.
        GaolerError: it refuses.
    """
    board = Board()
    fd = sys.stdin.fileno()
    async with trio.open_nursery() as nursery:
        # Before the terminal is changed: a signal that ends us changes it back.
        await nursery.start(_end_at_signals, nursery.cancel_scope)
        with keyboard(fd), _live(board, api.place.shown, console) as live:
            async with trio.open_nursery() as inner:
                inner.start_soon(_follow, api, board)
                inner.start_soon(_draw, api, board, live)
                await _press(api, board, fd)
                inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


def _live(board: Board, shown: str, console: Console) -> Live:
    first = Screen(board, shown, time.time())
    return Live(first, console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)


async def _end_at_signals(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """End everything in order, so that the terminal is given back."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


async def _follow(api: Api, board: Board) -> None:
    def take(name: str, data: Mapping[str, Any]) -> None:
        board.take(name, data, time.time())

    def lost(why: str, seconds: float) -> None:
        board.lose(why, time.time() + seconds)

    await follow(api, EVENTS, Listener(take, lost))


async def _draw(api: Api, board: Board, live: Live) -> None:
    while True:
        live.update(Screen(board, api.place.shown, time.time()), refresh=True)
        await trio.sleep(FRAME_SECONDS)


async def _press(api: Api, board: Board, fd: int) -> None:
    """Take keys until one of them quits, or nobody can type any more."""
    while True:
        await trio.lowlevel.wait_readable(fd)
        data = os.read(fd, 64)
        if not data:
            return
        for key in keys_of(data):
            match board.press(key):
                case "quit":
                    return
                case "cancel":
                    await _cancel(api, board)


async def _cancel(api: Api, board: Board) -> None:
    one, board.asked = board.asked, ""
    try:
        await api.ask("POST", f"/v1/admin/executions/{segment(one)}/cancel")
    except GaolerError as error:
        board.said = error.message
    else:
        board.said = f"{one} is being ended"
