"""What one Redis does when it has no time to rest: the scripts and reads of executions, without executions.

Many connections with one job at a time each, as gateways and workers have them. A Redis that rests in between takes
several times as long for each command, because it has to wake up for it and finds its caches cold; that says nothing of
where it ends.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from supervisor.fleet.scripts import BEGIN, FINISH, GROUP, SUBMIT
from supervisor.fleet.streams import entries
from tests.redis_server import run_redis

_BASE: Final = "{busy}"
_KEEP: Final = 3_600_000
_SIGNED: Final = bytes(300)
_BODY: Final = bytes(250)
_ANSWER: Final = bytes(350)
"""As long as those of ``print(1)``."""


@dataclass(frozen=True, slots=True)
class Busy:
    """What an execution took of a busy Redis. ``part_busy``: of its thread; less than one: our clients set the pace."""

    per_second: float
    cpu_us: float
    cpu_us_per_command: float
    part_busy: float


def busy_redis(seconds: float, clients: int = 4) -> Busy:
    """Run a Redis of our own, with its log on, and keep so many clients at it."""
    with tempfile.TemporaryDirectory(prefix="gb-") as home, run_redis(Path(home)) as server:
        pool = redis.ConnectionPool(host="127.0.0.1", port=server.port, max_connections=clients + 1)
        client = redis.Redis(connection_pool=pool)
        for script in (SUBMIT, BEGIN, FINISH):
            client.script_load(script.text)
        before = _thread_seconds(client)
        began = time.monotonic()
        done = [0] * clients
        threads = [
            threading.Thread(target=_work, args=(redis.Redis(connection_pool=pool), number, began + seconds, done))
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        cpu, commands = (after - first for after, first in zip(_thread_seconds(client), before, strict=True))
        pool.disconnect()
    return Busy(sum(done) / took, cpu / sum(done) * 1e6, cpu / commands * 1e6, cpu / took)


def _thread_seconds(client: redis.Redis) -> tuple[float, float]:
    """Give the CPU seconds of the one thread that does commands, and how many it has done."""
    told: Any = client.info("all")
    calls = sum(each["calls"] for name, each in told.items() if name.startswith("cmdstat_"))
    return told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"], calls


def _work(client: redis.Redis, number: int, end: float, done: list[int]) -> None:
    """Hand in, read, begin, finish, read."""
    gateway, worker, lane, last = f"g{number}", f"w{number}", f"pool:busy{number}", "0-0"
    stream, replies, token = f"{_BASE}:lane:{lane}", f"{_BASE}:replies:{gateway}", secrets.token_hex(16)
    client.xgroup_create(stream, GROUP, id="0", mkstream=True)
    while time.monotonic() < end:
        job, expires = secrets.token_urlsafe(16), int(time.time() * 1000) + 60_000
        SUBMIT.run(client, [_BASE], [job, lane, gateway, _SIGNED, _BODY, expires, "", 1000, 20_000, _KEEP, expires])
        ((_, entry, _),) = entries(client.xreadgroup(GROUP, worker, {stream: ">"}, count=8))
        began = BEGIN.run(client, [_BASE], [job, lane, entry, worker, token, _KEEP, b""])
        held = FINISH.run(client, [_BASE], [job, lane, entry, token, "done", _ANSWER, 1, _KEEP])
        ((_, last, _),) = entries(client.xread({replies: last}, count=500))
        if not (began and held):
            raise SystemExit(f"a job of this bench was not begun, or not held: {job}")
        done[number] += 1
