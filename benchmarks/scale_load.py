"""Clients of a fleet: as many as wanted without a pause, and arrivals by chance at a given rate."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable

from benchmarks.common import PRINT, Client


def _together(work: Callable[[int], None], clients: int) -> None:
    faults: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as fault:  # noqa: BLE001 - it is told by the thread that waits
            faults.append(fault)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def saturate(address: str, clients: int, seconds: float) -> tuple[int, float]:
    """Keep so many clients busy; give the executions that ended well, and how long it took."""
    done = [0] * clients
    began = time.monotonic()

    def work(number: int) -> None:
        client = Client(address, user=f"user-{number}")
        while time.monotonic() < began + seconds:
            client.execute(*PRINT)
            done[number] += 1
        client.close()

    _together(work, clients)
    return sum(done), time.monotonic() - began


def arrivals(address: str, rate: float, seconds: float, clients: int = 32) -> list[float]:
    """Let callers come by chance, ``rate`` a second, whoever is still there; give the milliseconds of each, sorted.

    Each is measured from when it was to come, so one that had to wait for a free client counts its waiting.
    """
    chance = random.Random(1)
    due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    durations: list[float] = []
    at = time.monotonic() + 0.1
    end = at + seconds
    while (at := at + chance.expovariate(rate)) < end:
        due.put(at)
    for _ in range(clients):
        due.put(None)

    def work(number: int) -> None:
        client = Client(address, user=f"user-{number}")
        while (when := due.get()) is not None:
            time.sleep(max(0.0, when - time.monotonic()))
            client.execute(*PRINT)
            durations.append((time.monotonic() - when) * 1000)
        client.close()

    _together(work, clients)
    return sorted(durations)
