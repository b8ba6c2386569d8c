"""A fleet beside an embedded daemon, as an operator runs them, and what each of its processes and Redis has spent."""

from __future__ import annotations

import json
import os
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.common import measured_daemon
from tests.daemon import Daemon, descendants, eventually
from tests.fleet_world import Fleet, Member, run_fleet

_UNLIMITED: Final = {f"GAOLER_RATES_{kind}": "1000000/60" for kind in ("EXEC", "UPLOAD", "DOWNLOAD", "LISTING")}
"""Calls are counted, as in operation, and never too many."""

_AS_SHIPPED: Final = {
    **_UNLIMITED,
    "GAOLER_FLEET_HEARTBEAT_SECONDS": "2",
    "GAOLER_FLEET_LOST_SECONDS": "10",
    "GAOLER_FLEET_LEASE_SECONDS": "15",
    "GAOLER_STATE_SNAPSHOT_SECONDS": "15",
}
"""What tests set for their own sake, set back."""

_WORKER: Final = {"GAOLER_CELLS_FLOOR": "8", "GAOLER_CELLS_BARE_FLOOR": "4"}
_OWN_TICKS: Final = slice(11, 13)
_ALL_TICKS: Final = slice(11, 15)
"""Of ``/proc/PID/stat`` behind the name: user and system time, then those of children that were waited for."""


def cpu_seconds(pid: int, ticks: slice = _ALL_TICKS) -> float:
    """Read the CPU time of a process, with its dead children; 0 for one that has gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, stat.rpartition(")")[2].split()[ticks])) / os.sysconf("SC_CLK_TCK")


def family_seconds(pid: int) -> float:
    """Read the CPU time of a process and of all that it has started, living and dead."""
    return sum(cpu_seconds(each) for each in [pid, *descendants(pid)])


def machine_seconds() -> float:
    """Read the CPU time that this machine has spent on anything."""
    first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = map(int, first[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class RedisSpent:
    """What a Redis server has done since its start; differences are what lies between."""

    commands: float
    """With those that scripts call."""
    scripts: float
    reads: float
    """XREAD and XREADGROUP: with scripts, what goes over the wire for an execution."""
    cpu_seconds: float
    bytes: float

    def less(self, other: RedisSpent, times: float = 1.0) -> RedisSpent:
        """Give this without ``times`` the other."""
        return RedisSpent(
            self.commands - times * other.commands,
            self.scripts - times * other.scripts,
            self.reads - times * other.reads,
            self.cpu_seconds - times * other.cpu_seconds,
            self.bytes - times * other.bytes,
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds by process, and what Redis did, since the start or between two looks."""

    seconds: float
    """By a clock that only runs."""
    cpu: Mapping[str, float]
    redis: RedisSpent

    def __sub__(self, other: Spent) -> Spent:
        """Give what was spent between two looks."""
        cpu = {name: seconds - other.cpu.get(name, 0.0) for name, seconds in self.cpu.items()}
        return Spent(self.seconds - other.seconds, cpu, self.redis.less(other.redis))

    def less_rest(self, rest: Spent) -> Spent:
        """Take away what a fleet at rest spends at Redis in so long a time; ``rest`` is some seconds of that."""
        return Spent(self.seconds, self.cpu, self.redis.less(rest.redis, self.seconds / rest.seconds))


@dataclass
class World:
    """Use :func:`run_world`."""

    fleet: Fleet
    embedded: Daemon
    gateway: Member

    @property
    def workers(self) -> list[Member]:
        """Give those that run."""
        members = self.fleet.members.values()
        return [each for each in members if each.role == "worker" and each.daemon.process.poll() is None]

    def add_worker(self) -> Member:
        """Start one more, and wait until it has its cells and the gateway sees it."""
        count = sum(each.role == "worker" for each in self.fleet.members.values()) + 1
        (worker,) = self.fleet.start("worker", f"w{count}", settings=_AS_SHIPPED | _WORKER)
        eventually(lambda: worker.daemon.names().count("python3") >= 8)
        self.fleet.wait_workers(self.gateway, len(self.workers))
        return worker

    def remove_worker(self, worker: Member) -> None:
        """Stop it as an operator does."""
        worker.daemon.stop()
        self.fleet.wait_workers(self.gateway, len(self.workers))

    def spent(self) -> Spent:
        """Look at what has been spent until now."""
        daemons = {each.name: each.daemon.process.pid for each in self.workers}
        whole = sum(map(family_seconds, daemons.values()))
        own = sum(cpu_seconds(pid, _OWN_TICKS) for pid in daemons.values())
        times = os.times()
        cpu = {
            "gateway": family_seconds(self.gateway.daemon.process.pid),
            "workers": whole,
            "workers' daemons": own,
            "redis": cpu_seconds(self.fleet.redis.pid),
            "s3": cpu_seconds(self.fleet.s3.process.pid),
            "embedded": family_seconds(self.embedded.process.pid),
            "clients": times.user + times.system,
            "machine": machine_seconds(),
        }
        return Spent(time.monotonic(), cpu, self._redis_spent())

    def _redis_spent(self) -> RedisSpent:
        with self.fleet.redis.client() as client:
            told = client.info("all")
        calls = {name: each["calls"] for name, each in told.items() if name.startswith("cmdstat_")}
        reads = calls.get("cmdstat_xread", 0) + calls.get("cmdstat_xreadgroup", 0)
        return RedisSpent(
            sum(calls.values()),
            calls.get("cmdstat_evalsha", 0),
            reads,
            told["used_cpu_user"] + told["used_cpu_sys"],
            told["total_net_input_bytes"] + told["total_net_output_bytes"],
        )


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def run_world(image_dir: Path) -> Iterator[World]:
    """Run Redis, S3, one gateway, one worker, and an embedded daemon beside them, for the block."""
    # Read by moto when its server starts; else it would write into the current directory.
    with (
        tempfile.TemporaryDirectory(prefix="gb-") as scratch,
        _environment("MOTO_RECORDER_FILEPATH", f"{scratch}/requests"),
        run_fleet() as fleet,
        measured_daemon(image_dir, **_UNLIMITED) as embedded,
    ):
        fleet.image = image_dir
        (gateway,) = fleet.start("gateway", "g1", settings=_AS_SHIPPED)
        world = World(fleet, embedded, gateway)
        world.add_worker()
        yield world


@contextmanager
def counted_requests(world: World) -> Iterator[list[str]]:
    """Give the methods of the requests to S3 in the block; they are there after it."""
    found: list[str] = []
    _record(world, "reset-recording")
    _record(world, "start-recording")
    yield found
    _record(world, "stop-recording")
    with urllib.request.urlopen(f"{world.fleet.s3_url}/moto-api/recorder/download-recording") as answer:
        lines = answer.read().decode().splitlines()
    found += [json.loads(line)["method"] for line in lines if line]


def _record(world: World, what: str) -> None:
    request = urllib.request.Request(f"{world.fleet.s3_url}/moto-api/recorder/{what}", method="POST")
    with urllib.request.urlopen(request):
        pass
