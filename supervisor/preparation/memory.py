"""What a process that serves for months tells the C library's allocator."""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""Names of glibc's mallopt(3), which no header gives to Python."""
BIG_BYTES: Final = 1 << 20
KEPT_BYTES: Final = 4 << 20


def give_big_blocks_back() -> bool:
    """Have every block of a MiB and more go back to the kernel when it is freed; say whether this allocator can.

    By itself glibc learns from each big block that is freed to take the next of its size from a heap, of which each
    thread has its own, and where a small block behind it holds the room of all before: a gateway of which four callers
    read results of 4 MB slowly grew by up to 43 MiB, of which 20 were in use (tests/fleet/test_slow_reader.py). Threads
    share one heap, as they share the interpreter's lock. Up to ``KEPT_BYTES`` that are free at its end are kept, so
    that short requests cost no system calls.

    To be called before there are threads. Nothing is changed where there is another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {_MMAP_THRESHOLD: BIG_BYTES, _TRIM_THRESHOLD: KEPT_BYTES, _ARENA_MAX: 1}
    taken = [mallopt(name, value) for name, value in wanted.items()]
    return all(taken)
