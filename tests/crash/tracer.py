"""Kill a process at its n-th system call that leaves a trace in the world: ``python -m tests.crash.tracer``.

A small ptrace tracer. strace can inject a SIGKILL too, but it counts for each thread and each call by itself, and
follows children; here one count runs over all threads of one process, in the order in which the kernel sees the calls,
so that "every step" is a plain range of numbers. The process is killed before the call is carried out. The product
knows nothing of it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Final, TextIO

import msgspec

_PTRACE_SYSCALL: Final = 24
_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_PTRACE_LISTEN: Final = 0x4208
_PTRACE_GET_SYSCALL_INFO: Final = 0x420E
_PTRACE_GETEVENTMSG: Final = 0x4201
_PTRACE_DETACH: Final = 17
_OPTIONS: Final = 0x1 | 0x8 | 0x10
"""TRACESYSGOOD, TRACECLONE (threads, not forks), TRACEEXEC."""
_FOLLOW_FORK: Final = 0x2
_EVENT_FORK: Final = 1
_EVENT_STOP: Final = 128
_ENTRY: Final = 1
_WALL: Final = 0x40000000
_PATH_BYTES: Final = 256

# x86-64. Value: which argument names what the call is about: p0 a path in argument 0, f0 a descriptor in it, or "".
STEPS: Final = {
    1: ("write", "f0"),
    18: ("pwrite64", "f0"),
    20: ("writev", "f0"),
    40: ("sendfile", "f0"),
    44: ("sendto", "f0"),
    46: ("sendmsg", "f0"),
    49: ("bind", "f0"),
    50: ("listen", "f0"),
    56: ("clone", ""),
    57: ("fork", ""),
    58: ("vfork", ""),
    59: ("execve", "p0"),
    62: ("kill", ""),
    74: ("fsync", "f0"),
    75: ("fdatasync", "f0"),
    76: ("truncate", "p0"),
    77: ("ftruncate", "f0"),
    82: ("rename", "p0"),
    83: ("mkdir", "p0"),
    84: ("rmdir", "p0"),
    86: ("link", "p0"),
    87: ("unlink", "p0"),
    88: ("symlink", "p1"),
    90: ("chmod", "p0"),
    91: ("fchmod", "f0"),
    92: ("chown", "p0"),
    93: ("fchown", "f0"),
    94: ("lchown", "p0"),
    117: ("setresuid", ""),
    119: ("setresgid", ""),
    126: ("capset", ""),
    155: ("pivot_root", "p0"),
    165: ("mount", "p1"),
    166: ("umount2", "p0"),
    257: ("openat", "p1"),
    258: ("mkdirat", "p1"),
    263: ("unlinkat", "p1"),
    264: ("renameat", "p1"),
    266: ("symlinkat", "p2"),
    272: ("unshare", ""),
    280: ("utimensat", "p1"),
    285: ("fallocate", "f0"),
    308: ("setns", "f0"),
    316: ("renameat2", "p1"),
    319: ("memfd_create", "p0"),
    424: ("pidfd_send_signal", ""),
    429: ("move_mount", "p1"),
    432: ("fsmount", ""),
    434: ("pidfd_open", ""),
    435: ("clone3", ""),
    437: ("openat2", "p1"),
}


class _SyscallInfo(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("padding", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
        ("rest", ctypes.c_uint64 * 4),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, tid: int, data: int = 0, address: int = 0) -> int:
    """Give the result, -1 if it cannot be done: the thread is dead or dying then, which the wait tells."""
    return int(_libc.ptrace(request, tid, address, data))


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do; in argv as JSON."""

    pid: int
    """The process to watch; with a ``depth`` its first child, that one's first child, and so on."""
    steps: str
    """File for what was seen: a line of JSON for each step."""
    kill_at: int = 0
    """0: only count."""
    victim: int = 0
    """Another process to kill, instead of the one that is watched."""
    depth: int = 0
    skip: int = 0
    """So many children of the first process are not the one: they compile filters."""
    go: str = ""
    """A fifo that the process waits at; it is opened when everything is watched."""


class Tracer:
    """Counts the steps of one process and kills it at one of them."""

    def __init__(self, plan: Plan, out: TextIO) -> None:
        self._plan = plan
        self._out = out
        self._options = _OPTIONS | (_FOLLOW_FORK if plan.depth else 0)
        self._line = [plan.pid]
        """The process, its child, and so on, as far as they are there."""
        self._skipped = 0
        self._held: set[int] = set()
        self._others: set[int] = set()
        self._count = 0
        self._new: set[int] = set()
        self._killed = False

    def run(self) -> None:
        """Trace until the process is gone. Once all of its threads are watched, say so."""
        plan = self._plan
        known: set[int] = set()
        while fresh := {int(each) for each in os.listdir(f"/proc/{plan.pid}/task")} - known:
            for tid in fresh:
                if _ptrace(_PTRACE_SEIZE, tid, self._options) == 0:
                    _ptrace(_PTRACE_INTERRUPT, tid)
                    self._new.add(tid)
                known.add(tid)
        if plan.go:
            # Held open for writing: its reader, the process to be, goes on as soon as it comes there.
            os.open(plan.go, os.O_RDWR)
        while True:
            try:
                tid, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                self._resume(tid, os.WSTOPSIG(status), status >> 16)
            if tid in self._new:
                self._new.discard(tid)
                if not self._new:
                    print("ready", flush=True)

    def _resume(self, tid: int, number: int, event: int) -> None:
        if event == _EVENT_FORK:
            self._told(tid)
        if event == _EVENT_STOP and _thread_group(tid) not in self._line:
            if tid in self._others:
                self._others.discard(tid)
                _ptrace(_PTRACE_DETACH, tid)
            else:
                self._held.add(tid)
            return
        if number == signal.SIGTRAP | 0x80:
            self._syscall(tid)
        elif event == _EVENT_STOP and number != signal.SIGTRAP:
            _ptrace(_PTRACE_LISTEN, tid)
            return
        # Also after the kill: others are watched on the way to the one that is counted, and have to go on.
        _ptrace(_PTRACE_SYSCALL, tid, 0 if event or number == signal.SIGTRAP | 0x80 else number)

    def _told(self, parent: int) -> None:
        """Hear of a child: it is the next in the line, or let go. It may have stopped already, and waits for this."""
        child = ctypes.c_ulong()
        _libc.ptrace(_PTRACE_GETEVENTMSG, parent, 0, ctypes.addressof(child))
        wanted = parent == self._line[-1] and len(self._line) <= self._plan.depth
        if wanted and len(self._line) == 1 and self._skipped < self._plan.skip:
            self._skipped += 1
            wanted = False
        if wanted:
            self._line.append(child.value)
        elif child.value not in self._held:
            self._others.add(child.value)
            return
        if child.value in self._held:
            self._held.discard(child.value)
            _ptrace(_PTRACE_SYSCALL if wanted else _PTRACE_DETACH, child.value)

    def _syscall(self, tid: int) -> None:
        info = _SyscallInfo()
        size = ctypes.sizeof(info)
        if _libc.ptrace(_PTRACE_GET_SYSCALL_INFO, tid, size, ctypes.addressof(info)) < 0 or info.op != _ENTRY:
            return
        name, about = STEPS.get(info.number, ("", ""))
        target = self._line[self._plan.depth] if len(self._line) > self._plan.depth else 0
        if not name or self._killed or not target or _thread_group(tid) != target:
            return
        if name == "openat" and not info.arguments[2] & os.O_CREAT:
            return
        what = _what(tid, about, info.arguments)
        if name in ("write", "writev") and what.startswith(("pipe:", "anon_inode:", "/dev/")):
            return
        self._count += 1
        kill = self._count == self._plan.kill_at
        self._out.write(json.dumps({"call": name, "what": what, "killed": kill}) + "\n")
        self._out.flush()
        if kill:
            self._killed = not self._plan.victim
            os.kill(self._plan.victim or target, signal.SIGKILL)


def _thread_group(tid: int) -> int:
    return _status(tid, "Tgid")


def _status(tid: int, name: str) -> int:
    try:
        with Path(f"/proc/{tid}/status").open(encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))
    except (OSError, StopIteration):
        return 0


def _what(tid: int, about: str, arguments: ctypes.Array[ctypes.c_uint64]) -> str:
    if not about:
        return ""
    value = arguments[int(about[1])]
    try:
        if about[0] == "f":
            return os.readlink(f"/proc/{tid}/fd/{ctypes.c_int(value).value}")
        with Path(f"/proc/{tid}/mem").open("rb", buffering=0) as memory:
            memory.seek(value)
            return memory.read(_PATH_BYTES).split(b"\0")[0].decode(errors="replace")
    except (OSError, OverflowError, ValueError):
        return "?"


def main() -> None:
    """Trace."""
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    with Path(plan.steps).open("w", encoding="utf-8") as out:
        Tracer(plan, out).run()


if __name__ == "__main__":
    main()
