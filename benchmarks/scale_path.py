"""Where the time of an execution through a fleet goes: by the clock of Redis, at each step that it sees."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import redis

from benchmarks.scale_world import World
from supervisor.fleet.scripts import BEGIN, FINISH, SUBMIT

_SCRIPTS: Final = {SUBMIT.digest: "submit", BEGIN.digest: "begin", FINISH.digest: "finish"}
STEPS: Final = {
    "submit": "caller to Redis: HTTP, checks, signature",
    "begin": "Redis to worker, signature checked, and begun",
    "finish": "the sandbox: from begun to the result in Redis",
    "answer": "Redis to gateway to caller",
}


@contextmanager
def _seen(world: World) -> Iterator[list[tuple[float, str]]]:
    """Have every script that Redis runs in the block noted, with its time; MONITOR makes Redis a little slower."""
    found: list[tuple[float, str]] = []
    with world.fleet.redis.client() as client, client.monitor() as monitor:
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                try:
                    heard = monitor.next_command()
                except (redis.RedisError, OSError, ValueError):
                    return
                words = heard["command"].split(" ", 2)
                if words[0].upper() == "EVALSHA" and words[1] in _SCRIPTS:
                    found.append((heard["time"], _SCRIPTS[words[1]]))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield found
        finally:
            over.set()
            world.fleet.redis.command("PING")  # is seen too, and ends the wait
            thread.join()


def steps(world: World, work: Callable[[], object], runs: int, gap_seconds: float) -> dict[str, float]:
    """Give the median milliseconds of each of :data:`STEPS`; ``work`` is one execution, alone."""
    calls: list[tuple[float, float]] = []
    with _seen(world) as seen:
        for _ in range(runs):
            began = time.time()
            work()
            calls.append((began, time.time()))
            time.sleep(gap_seconds)
    found: dict[str, list[float]] = {name: [] for name in STEPS}
    for began, ended in calls:
        at = {name: when for when, name in seen if began <= when <= ended}
        if at.keys() != set(_SCRIPTS.values()):
            continue  # a step was another's, or was seen too late
        marks = [began, at["submit"], at["begin"], at["finish"], ended]
        for name, first, last in zip(STEPS, marks, marks[1:], strict=False):
            found[name].append((last - first) * 1000)
    return {name: statistics.median(durations) for name, durations in found.items()}
