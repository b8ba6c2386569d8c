"""What a cell costs while it waits: the memory of all its processes, a hundred of them at once."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path

import click

from benchmarks.common import Client, measured_daemon
from tests.daemon import Daemon, eventually


def proportional_bytes(pid: int) -> int:
    """Read a process's proportional set size."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"the kernel shows no Pss of process {pid}")


def cells(daemon: Daemon) -> dict[str, list[int]]:
    """The processes of each jail, by the name of its cgroup."""
    found: dict[str, list[int]] = defaultdict(list)
    for pid in daemon.family():
        try:
            for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines():
                name = line.rpartition("/")[2]
                if name.startswith("jail-"):
                    found[name].append(pid)
                    break
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def name_of(pid: int) -> str:
    """Read a process's name."""
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--cells", "wanted", default=100, help="How many cells wait.")
def main(image_dir: Path, wanted: int) -> None:
    """Start a daemon with so many waiting cells, look at them, stop it."""
    settings = {"GAOLER_CELLS_FLOOR": str(wanted), "GAOLER_CELLS_MEMORY_BYTES": str(4 << 30)}
    with measured_daemon(image_dir, **settings) as daemon:
        eventually(lambda: daemon.names().count("python3") >= wanted)
        sizes: list[int] = []
        parts: dict[str, list[int]] = defaultdict(list)
        for pids in cells(daemon).values():
            by_name = {name_of(pid): proportional_bytes(pid) for pid in pids}
            if "python3" not in by_name:
                continue
            sizes.append(sum(by_name.values()))
            for name, size in by_name.items():
                parts[name].append(size)
        print(f"{len(sizes)} interpreters with the scientific stack wait in cells of their own:")
        print(
            f"  PSS of a cell, all its processes: median {statistics.median(sizes) / 1e6:.2f} MB,"
            f" largest {max(sizes) / 1e6:.2f} MB   asked: <= 6"
        )
        for name, values in parts.items():
            print(f"    of it {name:<14} median {statistics.median(values) / 1e6:.2f} MB")
        client = Client(daemon.address)
        for _ in range(wanted):
            client.execute("py", "import pandas")
        print(f"  then {wanted} calls were answered by them, one after the other")
        client.close()


if __name__ == "__main__":
    main()
