"""Big blocks that are freed are the kernel's again, whatever small ones lie between them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_big_blocks_go_back_to_the_kernel() -> None:
    assert left_over(asked=True) < 6
    assert left_over(asked=False) > 12, "glibc has got better: nothing has to be said to it any more"
