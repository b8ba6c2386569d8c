"""Big blocks that are freed are the kernel's again, whatever small ones lie between them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import Daemon

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
HEAP_BYTES = 64 << 20

PROGRAM = """
import threading
from pathlib import Path
from supervisor.preparation.memory import give_big_blocks_back

if {asked}:
    assert give_big_blocks_back()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def work():
    for _ in range(4):
        big = []
        for _ in range(8):
            big.append(bytearray(b"x") * (2 << 20))
            small.append(bytearray(4096))

small = []
before = resident()
work()
threads = [threading.Thread(target=work) for _ in range(4)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print((resident() - before) >> 20)
"""


def left_over(*, asked: bool) -> int:
    """Give the MiB that a process keeps of big blocks that it has freed."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(asked=asked)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(ran.stdout)


@glibc
def test_freed_big_blocks_go_back_to_the_kernel() -> None:
    assert left_over(asked=True) < 6
    assert left_over(asked=False) > 12, "glibc has got better: nothing has to be said to it any more"


@glibc
@pytest.mark.root
def test_a_daemons_threads_share_one_heap(daemon: Daemon) -> None:
    name, content = "big.bin", bytes(3 << 20)
    session = daemon.upload((name, content)).json["session_id"]  # work in threads
    assert daemon.request("DELETE", f"/v1/sessions/{session}").status == 200
    assert len(os.listdir(f"/proc/{daemon.process.pid}/task")) > 1
    assert heaps_of_threads(daemon.process.pid) == []


def heaps_of_threads(pid: int) -> list[str]:
    """Give the mappings that glibc's arenas reserve: 64 MiB each, from a multiple of that, of which the rest is unused."""
    found, used = [], 0
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        begin, end = (int(each, 16) for each in line.split()[0].split("-"))
        kind = line.split()[1]
        if kind == "rw-p" and begin % HEAP_BYTES == 0:
            used = begin
        elif kind == "---p" and used and end == used + HEAP_BYTES:
            found.append(line)
    return found
