"""What watching an execution costs: nothing, its table and figures, its trace; then a scrape, and the start.

First in one process, where an execution does nothing but take its five steps, so that all there is is the watching.
Then with two daemons, one that traces to a receiver and one that does not, asked in turn.

    python -m benchmarks.observing --image-dir .cache/images
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import trio

from benchmarks.common import PRINT, Client, measured_daemon, percentile
from supervisor.activity.activity import Activity
from supervisor.activity.timeline import STEPS, steps
from supervisor.activity.watched import WatchedExecutor
from supervisor.connector.dialling import dial_directly
from supervisor.execution.request_context import begin_request
from supervisor.execution.values import (
    CapturedOutput,
    ExecutionRequest,
    ExecutionResult,
    Exited,
    Listener,
    Principal,
    SessionId,
    Usage,
)
from supervisor.settings.tracing import TracingSettings
from supervisor.tracing.exporter import open_tracing
from tests.daemon import Daemon
from tests.otlp_receiver import run_receiver

RUNS: Final = 250
ROUNDS: Final = 15
DRAINED_SECONDS: Final = 20.0
REQUEST: Final = ExecutionRequest(Principal("default", "key", "ann"), "python", "1")
PARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_RESULT: Final = ExecutionResult(
    SessionId("s" * 21), Exited(0), CapturedOutput(b"1\n"), CapturedOutput(), Usage(0.01, 0.01, 1 << 20), tier="nsjail"
)
_IMPORT: Final = """
import h11, ssl, time, trio, urllib.parse
began = time.perf_counter()
import supervisor.tracing.{module}
spent = time.perf_counter() - began
print(spent, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS:")))
"""


class Nothing:
    """An execution that takes its steps and does nothing in them."""

    async def execute(
        self,
        request: ExecutionRequest,
        listener: Listener | None = None,
        on_admitted: Callable[[], None] | None = None,
    ) -> ExecutionResult:
        """Take the steps."""
        del request, listener, on_admitted
        timeline = steps()
        for step in STEPS:
            timeline.passed(step)
        return _RESULT


Work = Callable[[], Awaitable[object]]


async def per_call(work: Work) -> float:
    """Give the microseconds of one call: processor time of this thread, which is the one that serves everybody."""
    began = time.thread_time()
    for _ in range(RUNS):
        await work()
    return (time.thread_time() - began) / RUNS * 1e6


async def in_one_process(url: str) -> None:
    """Print what the watching alone costs, medians of rounds in which each kind has its turn."""
    begin_request("r-1", PARENT)
    bare = Nothing()
    async with AsyncExitStack() as stack:
        settings = TracingSettings(url=url)
        tracer = await stack.enter_async_context(open_tracing(settings, dial_directly, name="b", role="all"))
        kinds: dict[str, Work] = {
            "not watched": lambda: bare.execute(REQUEST),
            "watched (table, figures)": _watched(Activity()),
            "watched, tracing on, not sampled": _unsampled(_watched(Activity(tracer=tracer))),
            "watched and traced": _watched(Activity(tracer=tracer)),
        }
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(ROUNDS):
            for name, work in kinds.items():
                found[name].append(await per_call(work))
                with trio.move_on_after(DRAINED_SECONDS):
                    # What the thread still has to deliver would be another kind's cost.
                    await tracer.wait_empty()
    print("  in one process, for one execution that does nothing:")
    whole = statistics.median(found["watched (table, figures)"])
    for name, rounds in found.items():
        median = statistics.median(rounds)
        print(f"    {name:<36} p50 {median:7.1f} us  {median / whole:5.2f} x watched  asked: under 1000 us")


def _watched(activity: Activity) -> Work:
    executor = WatchedExecutor(Nothing(), activity, "http")
    return lambda: executor.execute(REQUEST)


def _unsampled(work: Work) -> Work:
    async def unsampled() -> object:
        begin_request("r-1", PARENT.removesuffix("01") + "00")
        try:
            return await work()
        finally:
            begin_request("r-1", PARENT)

    return unsampled


def with_daemons(image_dir: Path, url: str, runs: int) -> None:
    """Print the same call at a daemon that traces and at one that does not, in turn."""
    with measured_daemon(image_dir) as plain, measured_daemon(image_dir, GAOLER_TRACING_URL=url) as traced:
        clients = {"not traced": Client(plain.address), "traced": Client(traced.address)}
        found: dict[str, list[float]] = {name: [] for name in clients}
        for number in range(runs + runs // 10):
            for name, client in clients.items():
                began = time.perf_counter()
                client.execute(*PRINT)
                if number >= runs // 10:
                    found[name].append((time.perf_counter() - began) * 1000)
        print(f"  a real call, {PRINT[1]}, of {runs} each in turn:")
        floor = statistics.median(found["not traced"])
        for name, durations in found.items():
            ordered = sorted(durations)
            median = statistics.median(ordered)
            p95 = percentile(ordered, 0.95)
            print(f"    {name:<36} p50 {median:7.2f} ms  p95 {p95:7.2f} ms  {median / floor:5.3f} x not traced")
        for client in clients.values():
            client.close()
        resident = {name: _resident(each) for name, each in (("not traced", plain), ("traced", traced))}
        print("    memory of the daemon: " + ", ".join(f"{name} {size:.1f} MiB" for name, size in resident.items()))
        _scrape(plain)


def _resident(daemon: Daemon) -> float:
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _scrape(daemon: Daemon) -> None:
    environment = {"PATH": os.environ["PATH"], "GAOLER_STATE_DIR": str(daemon.state_dir)}
    command = [sys.executable, "-m", "supervisor", "keys", "add", "operator", "--admin"]
    key = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    durations: list[float] = []
    for _ in range(50):
        began = time.perf_counter()
        answer = daemon.request("GET", "/metrics", key=key)
        durations.append((time.perf_counter() - began) * 1000)
    size = len(answer.body)
    print(
        f"  GET /metrics{'':<26} p50 {statistics.median(durations):7.2f} ms  {size} bytes, connection and key included"
    )


def imports() -> None:
    """Print what a daemon that traces imports more than one that does not."""
    found: dict[str, list[tuple[float, float]]] = {"tracer": [], "exporter": []}
    for _ in range(ROUNDS):
        for module, rounds in found.items():
            program = [sys.executable, "-c", _IMPORT.format(module=module)]
            seconds, kib = subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()
            rounds.append((float(seconds) * 1000, int(kib) / 1024))
    off, on = (tuple(statistics.median(each[n] for each in found[name]) for n in (0, 1)) for name in found)
    print(f"  tracing on: {on[0] - off[0]:.0f} ms more at the start, {on[1] - off[1]:.1f} MiB more of modules")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-dir", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    print("What watching costs")
    with run_receiver() as receiver:
        trio.run(in_one_process, receiver.url)
        with_daemons(arguments.image_dir, receiver.url, arguments.runs)
        print(f"    the receiver has {len(receiver.spans)} spans")
    imports()


if __name__ == "__main__":
    main()
