"""What somebody notices of a neighbour's flood: one caller's latencies alone, and beside many impatient clients."""

from __future__ import annotations

import multiprocessing
import statistics
import threading
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import click

from benchmarks.common import PANDAS, PRINT, Client, measured_daemon, row, timed
from tests.daemon import Daemon

GAP_SECONDS = 0.1


def flood(address: str, clients: int, over: Event, counts: Queue[tuple[int, int]]) -> None:
    """Have one user call without pause, from many connections; tell how many were answered and refused."""
    answers: list[int] = []

    def work() -> None:
        client = Client(address, user="flood")
        while not over.is_set():
            status, _ = client.attempt(*PANDAS)
            answers.append(status)
            if status == 429:
                over.wait(0.05)
        client.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.put((answers.count(200), answers.count(429)))


def beside_flood(daemon: Daemon, clients: int, measure: Callable[[], list[float]]) -> tuple[list[float], int, int]:
    """Measure while a flood comes from a process of its own; also give its answers and refusals."""
    context = multiprocessing.get_context("spawn")
    over, counts = context.Event(), context.Queue()
    process = context.Process(target=flood, args=(daemon.address, clients, over, counts))
    process.start()
    try:
        durations = measure()
    finally:
        over.set()
    answered, refused = counts.get()
    process.join()
    return durations, answered, refused


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=100, help="Measured runs of the quiet caller.")
@click.option("--clients", default=32, help="Connections of the flood.")
def main(image_dir: Path, runs: int, clients: int) -> None:
    """Start a daemon, measure, stop it."""
    with measured_daemon(image_dir) as daemon:
        print(f"A user who calls every {GAP_SECONDS * 1000:.0f} ms, beside one who floods from {clients} connections:")
        quiet = Client(daemon.address, user="quiet")
        for name, program in (("print(1)", PRINT), ("pandas", PANDAS)):

            def measure(program: tuple[str, str] = program) -> list[float]:
                return timed(lambda: quiet.execute(*program), runs, GAP_SECONDS)

            alone = measure()
            row(f"{name}: alone", alone)
            beside, answered, refused = beside_flood(daemon, clients, measure)
            row(f"{name}: beside the flood", beside)
            ratio = statistics.median(beside) / statistics.median(alone)
            print(
                f"    the median moved by a factor of {ratio:.2f} (asked: <= 2);"
                f" the flood got {answered} answers, {refused} refusals"
            )
        quiet.close()


if __name__ == "__main__":
    main()
