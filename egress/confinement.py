"""The proxy's own system calls: a filter that it puts on itself when all of its code is loaded."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

_PR_SET_SECCOMP: Final = 22  # <linux/prctl.h>
_SECCOMP_MODE_FILTER: Final = 2


def confine(program: bytes) -> None:
    """Install a classic-BPF filter (``struct sock_filter[]``) on the calling thread; needs no_new_privs.

    Call while the process has one thread: those that it makes later inherit it.

    Raises:
        OSError: the kernel refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filters, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the proxy's seccomp filter: {os.strerror(number)}")
