"""Ends of processes that the jailer, as PID 1, inherits: whatever was orphaned in its pid namespace ends here."""

from __future__ import annotations

import os
import signal
from collections import OrderedDict
from typing import Final

import trio

from supervisor.jailer.launcher import Process

REMEMBERED: Final = 4096
LOST_SECONDS: Final = 2
_LOST: Final = signal.SIGKILL
"""Status of a process whose end nobody saw: its parent took it along. As if it had been killed."""


class Orphans:
    """Reaps; and tells the children of a dead zygote how they ended. Their statuses are the kernel's, as ever."""

    def __init__(self) -> None:
        self._adopted: dict[int, Process] = {}
        self._recent: OrderedDict[int, int] = OrderedDict()

    def adopt(self, process: Process) -> None:
        """Take care of a process whose zygote is dead; its end may have been reaped a moment ago."""
        status = self._recent.pop(process.pid, None)
        if status is None:
            self._adopted[process.pid] = process
        else:
            process.end(status)

    async def reap(self) -> None:
        """Reap for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._find_lost)
            with trio.open_signal_receiver(signal.SIGCHLD) as children:
                async for _ in children:
                    self._reap_all()

    def _reap_all(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self._adopted.pop(pid, None)
            if process is not None:
                process.end(status)
                continue
            self._recent[pid] = status
            while len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)

    async def _find_lost(self) -> None:
        """A zygote may have reaped a child and died before it could say so."""
        while True:
            await trio.sleep(LOST_SECONDS)
            for pid, process in list(self._adopted.items()):
                try:
                    os.kill(pid, 0)
                except ProcessLookupError:
                    self._adopted.pop(pid, None)
                    process.end(_LOST)
