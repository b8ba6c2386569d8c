"""The whole suite, folder by folder, on as many processors as there are: ``python -m tests.gate``.

Most tests wait for processes of their own, so one pytest leaves half of a machine idle. Each folder is one pytest, whose
output is shown when it ends; what looks at the whole host comes last, alone. Arguments are passed on to each. Reports and
pictures are left in ``build/artefacts`` (:mod:`tests.artefacts`). A few tests may be tried again (:mod:`tests.second_try`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import artefacts, second_try

TESTS: Final = Path(__file__).parent
CACHES: Final = TESTS.parent / ".cache" / "pytest"
ALONE: Final = "whole_host"
"""The marker of tests beside which nothing else may run."""
LONGEST_FIRST: Final = (
    "systemd",
    "fleet",
    "containment",
    "supervisor",
    "languages",
    "http_api",
    "mcp_server",
    "microvm",
    "clients",
)
"""What begins late and lasts long would leave the other processors idle at the end."""
NOTHING_COLLECTED: Final = 5
_NAMED: Final = re.compile(r"(FAILED|ERROR) \S+\.py\b")
WIDEST: Final = 400
MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Run:
    """One pytest that has ended."""

    name: str
    code: int
    seconds: float
    said: str

    @property
    def failed(self) -> bool:
        """Something in it did not hold."""
        return self.code not in (0, NOTHING_COLLECTED)


def parts() -> list[str]:
    """Name the folders and single files that hold tests, those that take long first."""
    found = sorted(path.name for path in TESTS.iterdir() if path.is_dir() and any(path.rglob("test_*.py")))
    first = [name for name in LONGEST_FIRST if name in found]
    return [
        *first,
        *(name for name in found if name not in first),
        *sorted(path.name for path in TESTS.glob("test_*.py")),
    ]


def run(name: str, targets: list[str], marker: str, report: Path, more: list[str]) -> Run:
    """Run one pytest to its end; what it found is in ``report``, too."""
    began = time.monotonic()
    second_try.forget(CACHES / name)
    options = ["-m", marker, "-o", f"cache_dir={CACHES / name}", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", *options, *more, *targets]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    return Run(name, done.returncode, time.monotonic() - began, done.stdout)


def show(ended: Run, lock: threading.Lock) -> None:
    """Print what it said: all of it if something failed, else how it ended."""
    with lock:
        print(f"\n=== tests/{ended.name}: {ended.seconds:.0f} s, status {ended.code}", flush=True)
        lines = ended.said.rstrip().splitlines()
        print(
            "\n".join(lines if ended.failed else [line for line in lines if line.startswith("SKIPPED")] + lines[-1:]),
            flush=True,
        )


def in_short(said: str) -> list[str]:
    """Give the lines that name what failed; if it broke off before it named that, where.

    For who sees the end of the gate only: what was printed when the part ended may be far above.
    """
    lines = said.rstrip().splitlines()
    named = [line for line in lines if _NAMED.match(line)]
    if named:
        return [line[:WIDEST] for line in named[:MOST_NAMED]]
    ours = [line[:WIDEST] for line in lines if f"{TESTS}{os.sep}" in line]
    return [*ours[:MOST_NAMED], *(line[:WIDEST] for line in lines[-5:])]


def main(more: list[str]) -> int:
    """Run everything; give the status for the shell."""
    began, lock, ended = time.monotonic(), threading.Lock(), []
    reports = artefacts.begin()
    workers = max(2, min(8, len(os.sched_getaffinity(0))))

    def one(name: str) -> None:
        done = run(name, [str(TESTS / name)], f"not {ALONE}", reports / f"{name}.xml", more)
        show(done, lock)
        ended.append(done)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, parts()))
    alone = run("alone", [str(TESTS)], ALONE, reports / "alone.xml", more)
    show(alone, lock)
    ended.append(alone)
    failed = {each.name: each.code for each in ended if each.failed}
    again = second_try.may_try_again(failed, {name: second_try.failed_tests(CACHES / name) for name in failed})
    if again:
        second = run("again", again, f"not {ALONE}", reports / "again.xml", more)
        show(second, lock)
        failed = {"again": second.code} if second.code else {}
        ended.append(second)
    for each in ended:
        if each.name in failed:
            print(f"\n=== what failed in tests/{each.name}", *in_short(each.said), sep="\n")
    print(f"\n{len(ended)} parts on {workers} processors in {time.monotonic() - began:.0f} s")
    print(f"reports and pictures: {artefacts.write_index()}")
    for test in again:
        print(f"UNSTABLE: {test}: it failed beside all others, see above, and was tried once more alone")
    print(f"FAILED: {', '.join(sorted(failed))}" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
