"""A daemon to measure, a client that measures, and rows of a table."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.preparation.nsjail_program import nsjail_path
from tests.daemon import KEY, Daemon, eventually, start_daemon

PRINT = ("py", "print(1)")
PANDAS = (
    "py",
    "import numpy, pandas, matplotlib.pyplot\nprint(pandas.DataFrame({'a': numpy.arange(3), 'b': [1, 2, 3]}).sum())",
)
BASH = ("bash", "echo hi")


@contextmanager
def measured_daemon(image_dir: Path, **settings: str) -> Iterator[Daemon]:
    """Start a daemon of its own, stop it afterwards and take away what it leaves."""
    state = Path(tempfile.mkdtemp(prefix="gb-"))
    state.chmod(0o755)
    daemon = start_daemon(state, image_dir, settings=settings)
    try:
        eventually(lambda: daemon.names().count("python3") >= 8)
        yield daemon
    finally:
        daemon.stop()
        remove_subtree(state)
        shutil.rmtree(state)


class Client:
    """One kept connection, as LibreChat's library keeps it."""

    def __init__(self, address: str, user: str | None = None) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=120)
        self._headers = {"X-API-Key": KEY, "Content-Type": "application/json"} | ({"X-User-Id": user} if user else {})

    def execute(self, lang: str, code: str, **fields: Any) -> Mapping[str, Any]:
        """Run a program and check that it ended well."""
        status, answer = self.attempt(lang, code, **fields)
        if status != 200 or answer["code"] != 0:
            raise SystemExit(f"unexpected answer: {status} {answer}")
        return answer

    def attempt(self, lang: str, code: str, **fields: Any) -> tuple[int, Mapping[str, Any]]:
        """Run a program; give the status and the answer."""
        self._connection.request("POST", "/v1/exec", json.dumps({"lang": lang, "code": code, **fields}), self._headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def timed(work: Callable[[], object], runs: int, gap_seconds: float = 0.0) -> list[float]:
    """Give the durations in milliseconds, sorted; the first tenth is warm-up and not counted."""
    durations: list[float] = []
    for number in range(runs + runs // 10):
        started = time.perf_counter()
        work()
        if number >= runs // 10:
            durations.append((time.perf_counter() - started) * 1000)
        time.sleep(gap_seconds)
    return sorted(durations)


def percentile(durations: list[float], share: float) -> float:
    """Give the smallest value that is not below ``share`` of all; ``durations`` is sorted."""
    return durations[max(0, min(len(durations) - 1, round(len(durations) * share) - 1))]


def row(name: str, durations: list[float], floor: float | None = None, asked: str = "") -> None:
    """Print one line of a table of latencies."""
    p50, p95 = statistics.median(durations), percentile(durations, 0.95)
    ratio = f"{p50 / floor:5.1f} x floor" if floor else " " * 13
    print(
        f"  {name:<44} p50 {p50:7.1f} ms  p95 {p95:7.1f} ms  {ratio}  {f'asked: {asked}' if asked else ''}", flush=True
    )


def floor_run() -> None:
    """Run the least that nsjail can do, without the daemon."""
    mounts = ["-R", "/usr", "-s", "usr/bin:/bin", "-s", "usr/lib:/lib", "-s", "usr/lib64:/lib64"]
    subprocess.run([str(nsjail_path()), "-Mo", "-Q", *mounts, "--", "/usr/bin/true"], check=True)


def busy_seconds() -> float:
    """Give the CPU seconds that the whole machine has spent, less those of this process."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    )
    own = os.times()
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - own.user - own.system
