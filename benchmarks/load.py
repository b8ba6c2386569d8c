"""What a busy host sustains: many clients, every call a new session with pandas; and what an execution costs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import click

from benchmarks.common import PANDAS, Client, busy_seconds, measured_daemon, percentile
from tests.daemon import Daemon


def load(daemon: Daemon, clients: int, seconds: float) -> tuple[list[float], int, float]:
    """Keep so many clients busy; give the durations (ms, sorted), the refusals, and the CPU seconds spent on it."""
    durations: list[list[float]] = [[] for _ in range(clients)]
    refused = [0] * clients
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        client = Client(daemon.address, user=f"user-{number}")
        while time.monotonic() < end:
            started = time.perf_counter()
            status, answer = client.attempt(*PANDAS)
            if status == 429:
                refused[number] += 1
                continue
            if status != 200 or answer["code"] != 0:
                raise SystemExit(f"unexpected answer: {status} {answer}")
            durations[number].append((time.perf_counter() - started) * 1000)
        client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    before = busy_seconds()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(each for some in durations for each in some), sum(refused), busy_seconds() - before


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--seconds", default=30.0, help="Length of each measurement.")
@click.option("--clients", default="1,2,4,8,16,64", help="Numbers of clients.")
def main(image_dir: Path, seconds: float, clients: str) -> None:
    """Start a daemon, measure, stop it."""
    with measured_daemon(image_dir) as daemon:
        print(f"Sustained for {seconds:g} s, every call a new session with numpy, pandas, pyplot and a frame")
        print("(asked at 8 clients: >= 60/s, p95 <= 250 ms, none refused). CPU is the machine's, less the client's:")
        for number in map(int, clients.split(",")):
            durations, refused, cpu = load(daemon, number, seconds)
            print(
                f"  {number:>3} clients  {len(durations) / seconds:6.1f}/s  p50 {percentile(durations, 0.5):7.1f} ms"
                f"  p95 {percentile(durations, 0.95):7.1f} ms  refused {refused}"
                f"  CPU {cpu * 1000 / max(1, len(durations)):5.1f} ms each",
                flush=True,
            )


if __name__ == "__main__":
    main()
