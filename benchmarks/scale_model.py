"""How far a fleet goes: a simulation fed with what was measured here, for 10, 100 and 1 000 hosts.

    python -m benchmarks.scale_model MEASURED.json

First the measured points are simulated, on one machine whose cores gateway, Redis, workers and the bench's clients
share; if one is not met within 25 %, the model is wrong and the program ends with 1. Then each fleet: hosts with
workers only, a Redis of its own with one thread, and as many gateways as keep each below 60 %.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import click
import msgspec
from msgspec import Meta, Struct

from benchmarks.scale_engine import (
    ENDLESS,
    Draw,
    Leave,
    Load,
    Outcome,
    Stations,
    Step,
    Take,
    Use,
    exponential,
    fixed,
    sampled,
    simulate,
)

TOLERANCE: Final = 0.25
GATEWAY_TARGET: Final = 0.6
"""How busy a gateway is to be: it is one process, so one core."""
QUANTUM_SECONDS: Final = 0.003
"""Turns that the kernel's scheduler gives where several processes want one core."""
REDIS_VISITS: Final = 3
"""Times that a job goes to Redis: handed in, begun, finished. The operations are spread over them."""
FEWEST_JOBS: Final = 4000
"""Of a simulation; fewer say little."""
FULL: Final = 0.9
"""A station that is this busy is where it ends."""

_Positive = Annotated[float, Meta(gt=0)]
_Amount = Annotated[float, Meta(ge=0)]


class UnlikelyMeasurement(Exception):
    """The file is no measurement; the message names the field."""


class Measured(Struct, frozen=True, forbid_unknown_fields=True):
    """What the bench of the fleet prints, measured with gateway, Redis, workers and clients on one machine."""

    executions_per_second: Annotated[dict[str, _Positive], Meta(min_length=1)]
    """By the number of workers, with ``clients`` that never pause."""
    gateway_cpu_ms: _Positive
    worker_cpu_ms: _Positive
    """Of one execution, with all below the worker: jailer, sandbox, program, and the building of the next cell."""
    redis_ops: _Positive
    redis_cpu_us_per_op: _Positive
    latency_ms_p50: _Positive
    """Of one client alone: what of it is no CPU is waiting, and goes by in parallel."""
    cores: Annotated[int, Meta(ge=1, le=4096)]
    clients: Annotated[int, Meta(ge=1, le=100_000)] = 16
    client_cpu_ms: _Amount = 0.0
    """Of the bench itself, on the same cores."""
    places: Annotated[int, Meta(ge=1, le=1024)] = 8
    """Of each worker."""
    redis_bytes: _Amount = 0.0
    """To and from Redis, of one execution."""
    heartbeat_ops: _Amount = 3.0
    """Of one worker at Redis, each heartbeat."""
    heartbeat_seconds: _Positive = 2.0
    worker_cpu_ms_samples: list[_Positive] = []
    """How single executions differ; only their shape counts. Without them they differ by chance (exponentially)."""

    @property
    def cpu_seconds(self) -> float:
        """Of one execution, all processes together."""
        redis = self.redis_ops * self.redis_cpu_us_per_op / 1e6
        return (self.gateway_cpu_ms + self.worker_cpu_ms + self.client_cpu_ms) / 1e3 + redis

    @property
    def waiting_seconds(self) -> float:
        """Of one execution: the part of its latency in which no processor works on it."""
        return max(0.0, self.latency_ms_p50 / 1e3 - self.cpu_seconds)


@dataclass(frozen=True, slots=True)
class Point:
    """A measured point, simulated."""

    workers: int
    measured: float
    simulated: float

    @property
    def ratio(self) -> float:
        """Simulated by measured."""
        return self.simulated / self.measured


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a fleet can do."""

    hosts: int
    gateways: int
    rate: float
    """Executions a second, simulated with more clients than places."""
    bound: float
    """What the arithmetic of the slowest station allows."""
    bottleneck: str
    busy: Mapping[str, float]
    p50_seconds: float
    """At seven tenths of ``rate``."""
    p95_seconds: float


def read_measured(text: bytes) -> Measured:
    """Read what the bench printed.

    Raises:
        UnlikelyMeasurement: a field is missing, unknown or out of bounds.
    """
    try:
        found = msgspec.json.decode(text, type=Measured)
    except msgspec.ValidationError as error:
        raise UnlikelyMeasurement(str(error)) from None
    if not all(name.isdigit() and int(name) for name in found.executions_per_second):
        raise UnlikelyMeasurement("executions_per_second: its names are numbers of workers")
    return found


def measured_points(measured: Measured, *, seed: int) -> list[Point]:
    """Simulate each measured point on the machine of the bench: all share its cores, and take turns."""
    points: list[Point] = []
    for name, rate in sorted(measured.executions_per_second.items(), key=lambda each: int(each[0])):
        workers = int(name)
        stations = Stations(
            {"machine": measured.cores, "redis": 1, "waiting": ENDLESS},
            places=[measured.places] * workers,
            quantum=QUANTUM_SECONDS,
        )
        load = Load(jobs=2000, clients=measured.clients)
        # Redis has one thread, which on the bench's machine needs a core too; the time is counted once.
        outcome = simulate(stations, _way(measured, "machine", "machine", "machine"), load, seed=seed)
        points.append(Point(workers, rate, outcome.rate))
    return points


def fleet(
    measured: Measured, hosts: int, *, seed: int, cores: int = 0, jobs_per_place: int = 8, gigabits: float = 10.0
) -> Fleet:
    """Simulate a fleet of so many hosts of ``cores`` each (0: as many as the machine of the bench has)."""
    cores = cores or measured.cores
    bounds = _bounds(measured, hosts, cores, gigabits)
    gateways = max(2, math.ceil(min(bounds.values()) * measured.gateway_cpu_ms / 1e3 / GATEWAY_TARGET))
    servers = {"gateway": gateways, "redis": 1, "network of redis": 1, "waiting": ENDLESS}
    stations = Stations(
        servers | {f"host{number}": cores for number in range(hosts)},
        places=[measured.places] * hosts,
        quantum=QUANTUM_SECONDS,
    )
    way = _way(measured, "gateway", "redis", "host{host}", busy_redis=_heartbeats(measured, hosts), gigabits=gigabits)
    places = hosts * measured.places
    jobs = max(FEWEST_JOBS, places * jobs_per_place)
    full = simulate(stations, way, Load(jobs=jobs, clients=places * 2), seed=seed)
    calm = simulate(stations, way, Load(jobs=jobs, rate=full.rate * 0.7), seed=seed + 1)
    busy = _busy(full, hosts)
    return Fleet(
        hosts=hosts,
        gateways=gateways,
        rate=full.rate,
        bound=min(bounds.values()),
        bottleneck=_bottleneck(busy),
        busy=busy,
        p50_seconds=calm.latency(0.5),
        p95_seconds=calm.latency(0.95),
    )


def _way(
    measured: Measured, gateway: str, redis: str, host: str, *, busy_redis: float = 0.0, gigabits: float = 0.0
) -> list[Step]:
    """Give the way of an execution: in at a gateway, by Redis to a worker, and back."""
    half = exponential(measured.gateway_cpu_ms / 2e3)
    each = measured.redis_ops / REDIS_VISITS * measured.redis_cpu_us_per_op / 1e6
    # What heartbeats take of Redis' one thread makes all else there take longer.
    visit: list[Step] = [Use(redis, exponential(each / (1 - busy_redis)))]
    if gigabits and measured.redis_bytes:
        visit.append(Use("network of redis", fixed(measured.redis_bytes / REDIS_VISITS * 8 / (gigabits * 1e9))))
    client: list[Step] = [Use(gateway, exponential(measured.client_cpu_ms / 1e3))] if not gigabits else []
    return [
        *client,
        Use(gateway, half),
        *visit,
        Take(),
        *visit,
        Use(host, _program(measured)),
        Use("waiting", fixed(measured.waiting_seconds)),
        *visit,
        Leave(),
        Use(gateway, half),
    ]


def _program(measured: Measured) -> Draw:
    mean = measured.worker_cpu_ms / 1e3
    return sampled(measured.worker_cpu_ms_samples, mean) if measured.worker_cpu_ms_samples else exponential(mean)


def _heartbeats(measured: Measured, hosts: int) -> float:
    """Give the part of Redis' thread that heartbeats take, of which at most nine tenths are believed."""
    a_second = hosts * measured.heartbeat_ops / measured.heartbeat_seconds
    return min(0.9, a_second * measured.redis_cpu_us_per_op / 1e6)


def _bounds(measured: Measured, hosts: int, cores: int, gigabits: float) -> dict[str, float]:
    """Give the executions a second that each station could do at most."""
    redis = measured.redis_ops * measured.redis_cpu_us_per_op / 1e6
    bounds = {
        "workers": hosts * cores / (measured.worker_cpu_ms / 1e3),
        "redis": (1 - _heartbeats(measured, hosts)) / redis,
        "places": hosts * measured.places / (measured.worker_cpu_ms / 1e3 + measured.waiting_seconds),
    }
    if measured.redis_bytes:
        bounds["network of redis"] = gigabits * 1e9 / 8 / measured.redis_bytes
    return bounds


def _busy(outcome: Outcome, hosts: int) -> dict[str, float]:
    """Put the hosts together."""
    workers = sum(outcome.busy[f"host{number}"] for number in range(hosts)) / hosts
    named = {name: outcome.busy[name] for name in ("gateway", "redis", "network of redis")}
    return {"workers": workers, **named, "places": outcome.places_busy}


def _bottleneck(busy: Mapping[str, float]) -> str:
    """Name what is full. Places fill up behind whatever is slow, so they count only when nothing else is full."""
    name, most = max(((name, part) for name, part in busy.items() if name != "places"), key=lambda each: each[1])
    return name if most >= FULL or busy["places"] < FULL else "places"


def _table(fleets: Sequence[Fleet], cores: int) -> str:
    lines = [
        "| hosts | cores | gateways | executions/s | at most | workers busy | Redis busy | bottleneck | p50 | p95 |",
        "|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    lines += [
        f"| {each.hosts} | {each.hosts * cores} | {each.gateways} | {each.rate:.0f} | {each.bound:.0f} "
        f"| {each.busy['workers']:.0%} | {each.busy['redis']:.0%} | {each.bottleneck} "
        f"| {each.p50_seconds * 1e3:.1f} ms | {each.p95_seconds * 1e3:.1f} ms |"
        for each in fleets
    ]
    return "\n".join(lines)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--hosts", default="10,100,1000", help="Sizes of fleets.")
@click.option("--cores", default=0, help="Of each host (default: as the bench's machine).")
@click.option("--gigabits", default=10.0, help="A second, to and from Redis.")
@click.option("--jobs-per-place", default=8, help="Length of each simulation.")
@click.option("--seed", default=1, help="The same one gives the same figures.")
def main(file: Path, hosts: str, cores: int, gigabits: float, jobs_per_place: int, seed: int) -> None:
    """Simulate what was measured, then fleets."""
    try:
        measured = read_measured(file.read_bytes())
    except UnlikelyMeasurement as error:
        raise SystemExit(f"{file}: {error}") from None
    points = measured_points(measured, seed=seed)
    print("| workers | measured/s | simulated/s | ratio |\n|---:|---:|---:|---:|")
    for point in points:
        print(f"| {point.workers} | {point.measured:.1f} | {point.simulated:.1f} | {point.ratio:.2f} |")
    agreed = all(abs(point.ratio - 1) <= TOLERANCE for point in points)
    print(f"\nEvery point within {TOLERANCE:.0%}: {'yes' if agreed else 'no'}\n".replace("%", " %"))
    sizes = [int(each) for each in hosts.split(",")]
    fleets = [
        fleet(measured, size, seed=seed, cores=cores, jobs_per_place=jobs_per_place, gigabits=gigabits)
        for size in sizes
    ]
    print(_table(fleets, cores or measured.cores))
    sys.exit(0 if agreed else 1)


if __name__ == "__main__":
    main()
