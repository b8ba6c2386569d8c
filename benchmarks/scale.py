"""What a fleet costs beside the embedded path: latency and where it goes, executions a second, CPU, Redis, S3.

One Redis, one S3 server (moto's, in Python), one gateway, one or two workers and an embedded daemon on this machine, in
one run and in turns. Then :mod:`benchmarks.scale_model` is fed with it; if it does not come to the measured rates, the
program ends with 1.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from benchmarks.common import BASH, PRINT, Client, percentile
from benchmarks.scale_load import arrivals, saturate
from benchmarks.scale_model import Measured
from benchmarks.scale_path import STEPS, steps
from benchmarks.scale_redis import Busy, busy_redis
from benchmarks.scale_world import Spent, World, counted_requests, run_world
from benchmarks.transfer import PIECE, download, forget_peak, peak_mebibytes, upload

GAP_SECONDS = 0.05
MOST_OVERHEAD_MS = 5.0
FLAT_MEBIBYTES = 24.0
CLIENTS = 16
PLACES = 8
REST_SECONDS = 4.0
HEARTBEAT_SECONDS = 2.0
OURS = ("gateway", "workers", "redis", "s3", "embedded", "clients")
REDIS = ("commands", "scripts", "reads", "cpu_seconds", "bytes")
RESULT = ("py", "open('result.txt', 'w').write('x')")


def say(name: str, value: str, asked: str = "", *, met: bool = True) -> None:
    """Print one line of a table."""
    verdict = f"asked: {asked}: {'met' if met else 'NOT MET'}" if asked else ""
    print(f"  {name:<70} {value:<44} {verdict}".rstrip(), flush=True)


def overhead(world: World, runs: int) -> dict[str, float]:
    """Compare latencies, call by call in turns; give medians in milliseconds."""
    medians: dict[str, float] = {}
    clients = {"embedded": Client(world.embedded.address), "fleet": Client(world.gateway.daemon.address)}
    print(f"Latency of POST /exec, one client, {runs} runs each, in turns; every call is a new session:")
    for name, program in {"print(1)": PRINT, "bash": BASH}.items():
        for pace, gap in {f"one every {GAP_SECONDS * 1000:.0f} ms": GAP_SECONDS, "back to back": 0.0}.items():
            durations = _in_turns(
                {where: lambda each=each, program=program: each.execute(*program) for where, each in clients.items()},  # type: ignore[misc]
                runs,
                gap,
            )
            p50 = {where: statistics.median(each) for where, each in durations.items()}
            p95 = {where: percentile(each, 0.95) for where, each in durations.items()}
            more = p50["fleet"] - p50["embedded"]
            say(
                f"{name}, {pace}: embedded, fleet",
                f"p50 {p50['embedded']:.1f}, {p50['fleet']:.1f} ms  p95 {p95['embedded']:.1f}, {p95['fleet']:.1f} ms",
            )
            asked = f"<= {MOST_OVERHEAD_MS:g} ms" if gap else ""
            say(f"{name}, {pace}: the fleet takes", f"p50 {more:+.2f} ms", asked, met=more <= MOST_OVERHEAD_MS)
            medians[f"{name} {'calm' if gap else 'busy'}"] = p50["fleet"]
    return medians


def _in_turns(calls: dict[str, Callable[[], object]], runs: int, gap: float) -> dict[str, list[float]]:
    """Give the milliseconds of each, sorted. A tenth more are made first, which are not counted."""
    durations: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(runs + runs // 10):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if number >= runs // 10:
                durations[name].append((time.perf_counter() - began) * 1000)
            time.sleep(gap)
    return {name: sorted(each) for name, each in durations.items()}


def path(world: World, runs: int) -> None:
    """Say where the time of one execution goes."""
    client = Client(world.gateway.daemon.address)
    print("Where the time of print(1) goes, by Redis' clock (with MONITOR, which itself takes some):")
    for name, milliseconds in steps(world, lambda: client.execute(*PRINT), runs, GAP_SECONDS).items():
        say(STEPS[name], f"p50 {milliseconds:.2f} ms")


def live(world: World, runs: int) -> None:
    """Measure a further execution of a live session, which a lease keeps where it is."""
    calls: dict[str, Callable[[], object]] = {}
    for where, daemon in {"embedded": world.embedded, "fleet": world.gateway.daemon}.items():
        client = Client(daemon.address)
        session = client.execute("py", "n = 0", stateful=True)["session_id"]
        calls[where] = lambda client=client, session=session: client.execute(  # type: ignore[misc]
            "py", "n += 1; n", stateful=True, session_id=session
        )
    p50 = {where: statistics.median(each) for where, each in _in_turns(calls, runs, GAP_SECONDS).items()}
    print("A further execution of a live session, with its lease:")
    more = p50["fleet"] - p50["embedded"]
    say("embedded, fleet, difference", f"p50 {p50['embedded']:.1f}, {p50['fleet']:.1f} ms, {more:+.2f} ms")


@dataclass(frozen=True, slots=True)
class Rate:
    """Clients that never pause, for some seconds: what they got, and what each execution took."""

    executions: int
    seconds: float
    spent: Spent

    @property
    def per_second(self) -> float:
        """Executions a second."""
        return self.executions / self.seconds

    def cpu_ms(self, name: str) -> float:
        """CPU of one execution in these processes."""
        return self.spent.cpu[name] * 1000 / self.executions


def rest(world: World, seconds: float) -> Spent:
    """Look at what a fleet spends that does nothing."""
    before = world.spent()
    time.sleep(seconds)
    return world.spent() - before


def rate(world: World, seconds: float, resting: Spent, *, embedded: bool = False) -> Rate:
    """Keep :data:`CLIENTS` clients busy."""
    address = world.embedded.address if embedded else world.gateway.daemon.address
    before = world.spent()
    executions, took = saturate(address, CLIENTS, seconds)
    return Rate(executions, took, (world.spent() - before).less_rest(resting))


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of all kinds, taken in turns."""

    embedded: list[Rate]
    one: list[Rate]
    two: list[Rate]
    heartbeat_commands: float
    """Of one worker, each heartbeat."""


def rates(world: World, seconds: float) -> Rates:
    """Measure with one worker and with two, twice each."""
    alone: list[Rate] = []
    one: list[Rate] = []
    two: list[Rate] = []
    by_workers: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(2):
        resting = rest(world, REST_SECONDS)
        by_workers[1].append(resting.redis.commands / resting.seconds)
        alone.append(rate(world, seconds, resting, embedded=True))
        one.append(rate(world, seconds, resting))
        second = world.add_worker()
        resting = rest(world, REST_SECONDS)
        by_workers[2].append(resting.redis.commands / resting.seconds)
        two.append(rate(world, seconds, resting))
        world.remove_worker(second)
    more = statistics.mean(by_workers[2]) - statistics.mean(by_workers[1])
    return Rates(alone, one, two, max(0.0, more * HEARTBEAT_SECONDS))


def _mean(found: Sequence[Rate], what: Callable[[Rate], float]) -> float:
    return statistics.mean(map(what, found))


def show_rates(found: Rates) -> None:
    """Print the rates, and what limits them."""
    print(
        f"Executions a second, {CLIENTS} clients without a pause, print(1), each a new session; CPU of one execution:"
    )
    for name, some in {"embedded": found.embedded, "one worker": found.one, "two workers": found.two}.items():
        own = _mean(some, lambda each: each.cpu_ms("embedded" if each in found.embedded else "workers"))
        spent = sum(_mean(some, lambda each, name=name: each.spent.cpu[name]) for name in OURS)  # type: ignore[misc]
        busy = _mean(some, lambda each: each.spent.cpu["machine"])
        cores = (os.cpu_count() or 1) * _mean(some, lambda each: each.spent.seconds)
        say(
            f"{name}: rate; CPU with sandboxes; our part, all of the cores",
            f"{_mean(some, lambda each: each.per_second):.1f}/s; {own:.1f} ms; {spent / cores:.0%}, {busy / cores:.0%}",
        )


def show_costs(found: Rates) -> None:
    """Print what one execution costs each process."""
    print("Costs of one execution through the fleet, with one worker:")
    one = found.one
    for title, name in {
        "worker, with jailer, sandbox, program and the next cell": "workers",
        "of these the worker's daemon": "workers' daemons",
        "gateway": "gateway",
        "redis-server": "redis",
        "the clients of this bench": "clients",
        "S3 server": "s3",
    }.items():
        say(f"CPU: {title}", f"{_mean(one, lambda each, name=name: each.cpu_ms(name)):.2f} ms")  # type: ignore[misc]
    redis = {name: statistics.mean(getattr(each.spent.redis, name) / each.executions for each in one) for name in REDIS}
    say("Redis: commands, with those in scripts", f"{redis['commands']:.1f}")
    say("Redis: scripts and reads of streams, as sent", f"{redis['scripts']:.2f} + {redis['reads']:.2f}")
    say("Redis: CPU of a command, at this pace", f"{redis['cpu_seconds'] / redis['commands'] * 1e6:.1f} us")
    say("Redis: bytes, both ways", f"{redis['bytes']:.0f}")
    say("Redis: commands of a worker at rest, each heartbeat", f"{found.heartbeat_commands:.1f}")


def busy(seconds: float) -> Busy:
    """Measure what an execution takes of a Redis that does nothing but that."""
    found = busy_redis(seconds)
    print("What an execution takes of a Redis that has no rest, without sandboxes:")
    say(
        "executions a second, CPU of one, of one command",
        f"{found.per_second:.0f}/s, {found.cpu_us:.0f} us, {found.cpu_us_per_command:.1f} us",
    )
    say("of its thread these took", f"{found.part_busy:.0%}")
    return found


def requests_to_s3(world: World) -> None:
    """Count what goes to S3 for an execution without files, and for one with a result."""
    client = Client(world.gateway.daemon.address)
    print("Requests to S3 of one execution, of ten:")
    for name, program, most in (("print(1)", PRINT, 0.0), ("one file written", RESULT, None)):
        with counted_requests(world) as found:
            for _ in range(10):
                client.execute(*program)
        asked = "" if most is None else f"{most:g}"
        kinds = " ".join(f"{kind} {found.count(kind) / 10:g}" for kind in sorted(set(found)))
        say(name, f"{len(found) / 10:g} {kinds}", asked, met=most is None or len(found) <= most)


def half_load(world: World, full: float, seconds: float) -> None:
    """Measure latencies when callers come by chance at half of the rate."""
    durations = arrivals(world.gateway.daemon.address, full / 2, seconds)
    print(f"Latency with one worker when callers come by chance, {full / 2:.1f} a second:")
    p50, p95 = percentile(durations, 0.5), percentile(durations, 0.95)
    say(f"{len(durations)} executions", f"p50 {p50:.1f} ms  p95 {p95:.1f} ms")


def transfers(world: World, megabytes: int) -> None:
    """Move a file through the gateway, to S3 and back, beside the S3 server's own speed."""
    size = megabytes * 1_000_000 // len(PIECE) * len(PIECE)
    bucket, s3 = world.fleet.bucket, world.fleet.s3.client()
    pid = world.gateway.daemon.process.pid
    file: dict[str, str] = {}
    body = bytes(size)

    def fetch() -> None:
        s3.get_object(Bucket=bucket, Key="bench/direct")["Body"].read()

    print(f"A file of {size / 1e6:.0f} MB through the gateway:")
    direct = {
        "upload": lambda: s3.put_object(Bucket=bucket, Key="bench/direct", Body=body),
        "download": fetch,
    }
    ours = {
        "upload": lambda: file.update(upload(world.gateway.daemon, size)),
        "download": lambda: download(world.gateway.daemon, file, size),
    }
    for name, plainly in direct.items():
        floor = _seconds(plainly)
        forget_peak(pid)
        before = peak_mebibytes(pid)
        took = _seconds(ours[name])
        grown = peak_mebibytes(pid) - before
        say(f"{name}; boto3 alone with this S3 server", f"{size / took / 1e6:.0f} MB/s; {size / floor / 1e6:.0f} MB/s")
        say(
            f"{name}: memory of the gateway",
            f"{grown:+.1f} MiB",
            f"< {FLAT_MEBIBYTES:g} MiB",
            met=grown < FLAT_MEBIBYTES,
        )
    s3.delete_object(Bucket=bucket, Key="bench/direct")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(found: Rates, latency_ms: float, redis: Busy) -> Measured:
    """Give what the model takes. Redis' costs are those of a busy one, for it is to say where that ends."""
    one = found.one
    commands = _mean(one, lambda each: each.spent.redis.commands / each.executions)
    return Measured(
        executions_per_second={
            "1": _mean(one, lambda each: each.per_second),
            "2": _mean(found.two, lambda each: each.per_second),
        },
        gateway_cpu_ms=_mean(one, lambda each: each.cpu_ms("gateway")),
        worker_cpu_ms=_mean(one, lambda each: each.cpu_ms("workers")),
        redis_ops=commands,
        redis_cpu_us_per_op=redis.cpu_us_per_command,
        latency_ms_p50=latency_ms,
        cores=os.cpu_count() or 1,
        clients=CLIENTS,
        client_cpu_ms=_mean(one, lambda each: each.cpu_ms("clients")),
        places=PLACES,
        redis_bytes=_mean(one, lambda each: each.spent.redis.bytes / each.executions),
        heartbeat_ops=found.heartbeat_commands,
        heartbeat_seconds=HEARTBEAT_SECONDS,
    )


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=80, help="Measured runs of each program.")
@click.option("--seconds", default=8.0, help="Length of each measurement of a rate.")
@click.option("--megabytes", default=64, help="Size of the file.")
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Where the measurement goes.")
def main(image_dir: Path, runs: int, seconds: float, megabytes: int, target: Path | None) -> None:
    """Run a fleet, measure, stop it; then ask the model."""
    with run_world(image_dir) as world:
        latencies = overhead(world, runs)
        path(world, runs)
        live(world, runs)
        found = rates(world, seconds)
        show_rates(found)
        show_costs(found)
        half_load(world, _mean(found.one, lambda each: each.per_second), seconds)
        requests_to_s3(world)
        transfers(world, megabytes)
    no_rest = busy(seconds / 2)
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"Load of the machine in the last 1, 5 and 15 minutes: {load}\n", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        file = target or Path(scratch) / "measured.json"
        file.write_bytes(msgspec.json.format(msgspec.json.encode(measured(found, latencies["print(1) calm"], no_rest))))
        sys.exit(subprocess.run([sys.executable, "-m", "benchmarks.scale_model", str(file)], check=False).returncode)


if __name__ == "__main__":
    main()
