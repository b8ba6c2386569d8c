"""How long one caller waits for ``POST /exec``, beside the floor: ``nsjail /usr/bin/true``.

A caller who pauses between calls finds waiting cells; one who does not competes with the making of the next ones.
Machines are noisy: compare rows of one run, not runs.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import click

from benchmarks.common import BASH, PANDAS, PRINT, Client, floor_run, measured_daemon, row, timed

GAP_SECONDS = 0.05


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=100, help="Measured runs of each program.")
def main(image_dir: Path, runs: int) -> None:
    """Start a daemon, measure, stop it."""
    with measured_daemon(image_dir) as daemon:
        floor_times = timed(floor_run, runs)
        floor = statistics.median(floor_times)
        client = Client(daemon.address)
        programs = {
            "python: print(1)": (PRINT, "p50 <= 8, p95 <= 25"),
            "python: numpy, pandas, pyplot, a frame": (PANDAS, "p50 <= 12"),
            "bash: echo": (BASH, "p50 <= 15"),
        }
        for title, gap in ((f"a call every {GAP_SECONDS * 1000:.0f} ms", GAP_SECONDS), ("back to back", 0.0)):
            print(f"Latency of POST /exec, one client, {title}, {runs} runs each; every call is a new session:")
            row("floor: nsjail /usr/bin/true", floor_times)
            for name, (program, asked) in programs.items():
                row(name, timed(lambda program=program: client.execute(*program), runs, gap), floor, asked)  # type: ignore[misc]
            live = client.execute("py", "import pandas; n = 0", stateful=True)["session_id"]

            def again(session: str = live) -> None:
                client.execute("py", "n += 1; n", stateful=True, session_id=session)

            row("live session: a further cell", timed(again, runs, gap), floor, "p50 <= 6")
        client.close()


if __name__ == "__main__":
    main()
