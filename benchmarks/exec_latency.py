"""Latency and throughput of ``POST /exec`` on a daemon of its own, beside the floor: ``nsjail /bin/true``.

    make bench        (or: python -m benchmarks.exec_latency --image-dir DIR [--runs N] [--seconds S])

Machines are noisy: compare rows of one run, not runs.
"""

from __future__ import annotations

import http.client
import json
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click

from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.prepare import nsjail_path
from tests.daemon import KEY, Daemon, start_daemon

PROGRAMS = {
    "bash: echo": ("bash", "echo hi"),
    "python: print(1)": ("py", "print(1)"),
    "python: one file out": ("py", "open('a.txt', 'w').write('x')"),
    "python: import pandas": ("py", "import pandas; print(pandas.DataFrame({'a': [1, 2]}).a.sum())"),
}


def timed(work: Callable[[], None], runs: int) -> list[float]:
    """Give the durations in milliseconds, sorted; the first tenth is warm-up and not counted."""
    durations: list[float] = []
    for number in range(runs + runs // 10):
        started = time.perf_counter()
        work()
        if number >= runs // 10:
            durations.append((time.perf_counter() - started) * 1000)
    return sorted(durations)


def row(name: str, durations: list[float], floor: float | None = None) -> None:
    """Print one line of the table."""
    p50, p95 = statistics.median(durations), durations[int(len(durations) * 0.95) - 1]
    ratio = f"{p50 / floor:6.1f} x floor" if floor else ""
    print(f"  {name:<34} p50 {p50:8.1f} ms   p95 {p95:8.1f} ms   {ratio}")


class Client:
    """One kept connection, as LibreChat's library keeps it."""

    def __init__(self, daemon: Daemon) -> None:
        self._connection = http.client.HTTPConnection(daemon.address, timeout=120)

    def execute(self, lang: str, code: str) -> None:
        """Run a program and check that it ended well."""
        body = json.dumps({"lang": lang, "code": code})
        self._connection.request("POST", "/v1/exec", body, {"X-API-Key": KEY, "Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200 or answer["code"] != 0:
            raise SystemExit(f"unexpected answer: {answer}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def floor_run() -> None:
    """Run the least that nsjail can do, without the daemon."""
    mounts = ["-R", "/usr", "-s", "usr/bin:/bin", "-s", "usr/lib:/lib", "-s", "usr/lib64:/lib64"]
    subprocess.run([str(nsjail_path()), "-Mo", "-Q", *mounts, "--", "/usr/bin/true"], check=True)


def throughput(daemon: Daemon, clients: int, seconds: float, lang: str, code: str) -> float:
    """Give executions per second at so many clients."""
    done = [0] * clients
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        client = Client(daemon)
        while time.monotonic() < end:
            client.execute(lang, code)
            done[number] += 1
        client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - started)


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=60, help="Measured runs of each program.")
@click.option("--seconds", default=6.0, help="Length of each throughput measurement.")
def main(image_dir: Path, runs: int, seconds: float) -> None:
    """Start a daemon, measure, stop it."""
    state = Path(tempfile.mkdtemp(prefix="gb-"))
    state.chmod(0o755)
    daemon = start_daemon(state, image_dir)
    try:
        print(f"Latency of POST /exec, one client, {runs} runs each; every call builds its own sandbox:")
        floor = timed(floor_run, runs)
        row("floor: nsjail /usr/bin/true", floor)
        client = Client(daemon)
        for name, (lang, code) in PROGRAMS.items():
            row(name, timed(lambda lang=lang, code=code: client.execute(lang, code), runs), statistics.median(floor))  # type: ignore[misc]
        client.close()
        print(f"\nThroughput, {seconds:g} s each:")
        for name in ("bash: echo", "python: print(1)"):
            rates = {clients: throughput(daemon, clients, seconds, *PROGRAMS[name]) for clients in (1, 8)}
            print(f"  {name:<34} 1 client {rates[1]:6.1f}/s   8 clients {rates[8]:6.1f}/s")
    finally:
        daemon.stop()
        remove_subtree(state)
        shutil.rmtree(state)


if __name__ == "__main__":
    main()
