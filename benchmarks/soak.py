"""Two thousand executions in a row: what the daemon holds before and after."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.common import BASH, PANDAS, PRINT, Client, measured_daemon
from benchmarks.waiting import cells, name_of
from tests.daemon import Daemon

LASTING = ("gaoler-jailer", "gaoler-zygote")


def holdings(daemon: Daemon) -> dict[str, int]:
    """Count what could grow. Those who wait are not counted: their number follows demand."""
    in_cells = {pid for pids in cells(daemon).values() for pid in pids}
    lasting = [pid for pid in daemon.family() if pid not in in_cells]
    found = {"processes beside the cells": len(lasting), "cells": len(cells(daemon))}
    for pid in lasting:
        name = "daemon" if pid == daemon.process.pid else name_of(pid)
        if name in (*LASTING, "daemon"):
            found[f"{name}: descriptors"] = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            found[f"{name}: mounts"] = len(Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines())
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            found[f"{name}: anonymous memory, KiB"] = int(status.split("RssAnon:")[1].split()[0])
    found["cgroups"] = sum(1 for _ in Path("/sys/fs/cgroup").rglob("jail-*"))
    return found


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=2000, help="How many executions.")
def main(image_dir: Path, runs: int) -> None:
    """Start a daemon, run, compare, stop it."""
    with measured_daemon(image_dir) as daemon:
        client = Client(daemon.address)
        marks: list[tuple[int, dict[str, int]]] = []
        for number in range(runs + 1):
            if number in (runs // 10, runs // 2, runs):
                marks.append((number, holdings(daemon)))
            client.execute(*(PRINT, PANDAS, BASH)[number % 3])
        client.close()
        print(f"What the daemon holds during {runs} executions (print, pandas, bash in turn):")
        print(f"  {'after':<40}" + "".join(f"{number:>10}" for number, _ in marks))
        for name in marks[0][1]:
            print(f"  {name:<40}" + "".join(f"{held.get(name, 0):>10}" for _, held in marks))


if __name__ == "__main__":
    main()
