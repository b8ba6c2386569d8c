"""System calls that Python 3.11 does not wrap, by ctypes: thin, checked, without policy.

Numbers are x86-64's and, from 424 on, every architecture's (Linux `asm-generic/unistd.h`). Every function raises
``OSError`` with the call's name. Nothing here may run in a Trio worker thread if it changes the thread: Trio uses
such threads again and the change would stay.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)

_pylibc = ctypes.PyDLL(None, use_errno=True)
"""For what must not give the interpreter's lock away."""

# mount(2) flags, <linux/mount.h>
MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_NOSYMFOLLOW: Final = 256
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2

# clone/unshare/setns flags, <linux/sched.h>
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

# prctl(2), <linux/prctl.h>
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
_PR_SET_SPECULATION_CTRL: Final = 53
_PR_SPEC_STORE_BYPASS: Final = 0
_PR_SPEC_INDIRECT_BRANCH: Final = 1
_PR_SPEC_FORCE_DISABLE: Final = 8
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

# openat2(2), <linux/openat2.h>
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08

_SYS_OPENAT2: Final = 437
_SYS_CLOSE_RANGE: Final = 436
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_AT_RECURSIVE: Final = 0x8000
_CLOSE_RANGE_CLOEXEC: Final = 4
_LAST_CAPABILITY: Final = 63
"""PR_CAPBSET_DROP of a number past the kernel's last capability fails with EINVAL, which ends the loop."""

_SYS_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_SYS_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522


def fork() -> int:
    """Make a child of a process with one thread, without what Python does around that.

    ``os.fork`` takes the import lock, makes every lock anew and runs what modules have registered, in parent and child.
    With one thread there is no lock to be made anew, and each page that all this writes to is a page that the child
    has to copy: 250 of the 290 that a child of the warm zygote copies before it does anything.
    """
    pid: int = _pylibc.fork()
    if pid < 0:
        raise OSError(ctypes.get_errno(), "fork")
    return pid


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def _number(table: dict[str, int]) -> int:
    machine = os.uname().machine
    if machine not in table:
        raise OSError(f"no system call numbers for machine {machine!r}: Gaoler knows {', '.join(table)}")
    return table[machine]


def _path(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def mount(
    source: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
    fstype: str | None,
    flags: int,
    options: str | None = None,
) -> None:
    """Mount a file system, or change a mount."""
    data = None if options is None else options.encode()
    kind = None if fstype is None else fstype.encode()
    _check(_libc.mount(_path(source), _path(target), kind, ctypes.c_ulong(flags), data), f"mount {target}")


def bind(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, flags: int = 0, recursive: bool = True
) -> None:
    """Bind-mount ``source`` at ``target``.

    ``flags`` (MS_RDONLY, MS_NOSUID, ...) need a second call; with ``recursive`` they hold for the mounts below it too.
    """
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    if flags:
        mount(None, target, None, MS_BIND | MS_REMOUNT | flags)
    if flags and recursive:
        _set_below(target, flags)


def _set_below(target: str | os.PathLike[str], flags: int) -> None:
    """Set MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC for a mount and all below it (mount_setattr, Linux 5.12)."""
    # The numbers of these four are the same in both interfaces: <linux/mount.h>.
    attributes = struct.pack("=4Q", flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC), 0, 0, 0)
    size = ctypes.c_size_t(len(attributes))
    result = _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, _path(target), _AT_RECURSIVE, attributes, size)
    if result < 0 and ctypes.get_errno() != errno.ENOSYS:  # older kernels leave what is below as it is
        _check(result, f"mount_setattr {target}")


def unmount(target: str | os.PathLike[str]) -> None:
    """Detach the mount at ``target`` now; it is freed when its last user ends."""
    _check(_libc.umount2(_path(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root and put the old one at ``old``; both are relative to the working directory."""
    _check(_libc.syscall(_number(_SYS_PIVOT_ROOT), new.encode(), old.encode()), "pivot_root")


def exchange(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> None:
    """Let two paths change places; nobody sees a moment without either (renameat2, RENAME_EXCHANGE)."""
    result = _libc.renameat2(_AT_FDCWD, _path(one), _AT_FDCWD, _path(other), _RENAME_EXCHANGE)
    _check(result, f"renameat2 {other}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` for new ones (calling thread only)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Enter the namespaces ``flags`` of the process behind the pidfd ``fd``, or the one that ``fd`` is."""
    _check(_libc.setns(fd, flags), "setns")


def prctl(option: int, argument: int = 0) -> None:
    """Set an attribute of the calling thread; further arguments are zero."""
    _check(
        _libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)), "prctl"
    )


def drop_bounding_set() -> None:
    """Empty the capability bounding set of the calling thread; needs CAP_SETPCAP, so before the rest goes."""
    for capability in range(_LAST_CAPABILITY + 1):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break


def drop_capabilities() -> None:
    """Empty the bounding, ambient, effective, permitted and inheritable sets of the calling thread.

    In a user namespace that maps only the sandbox's uid ``setresuid`` leaves them full, so this is explicit.
    """
    drop_bounding_set()
    _check(_libc.prctl(PR_CAP_AMBIENT, ctypes.c_ulong(PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0), "prctl PR_CAP_AMBIENT")
    header = ctypes.create_string_buffer(struct.pack("=II", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(bytes(24))
    _check(_libc.capset(header, data), "capset")


def keep_capabilities(kept: frozenset[int]) -> None:
    """Give up all capabilities of the calling thread but ``kept``, for itself and for whatever it starts."""
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in kept and _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break
    mask = sum(1 << capability for capability in kept)
    halves = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("=II", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(struct.pack("=6I", halves[0], halves[0], 0, halves[1], halves[1], 0))
    _check(_libc.capset(header, data), "capset")


def install_seccomp(program: bytes, flags: int = 0, *, all_threads: bool = False) -> int:
    """Install a classic-BPF filter (``struct sock_filter[]``, 8 bytes each). Needs no_new_privs.

    For the calling thread, or for ``all_threads`` of the process. Give what the kernel gives: 0, or a descriptor if
    the ``flags`` ask for one.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    flags |= _SECCOMP_FILTER_FLAG_TSYNC if all_threads else 0
    return _check(_libc.syscall(_number(_SYS_SECCOMP), SECCOMP_SET_MODE_FILTER, flags, fprog), "seccomp")


def openat2(directory_fd: int, path: bytes, flags: int, *, mode: int = 0, resolve: int) -> int:
    """Open ``path`` under ``directory_fd`` with the kernel's own resolution rules; return a close-on-exec fd."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return _check(_libc.syscall(_SYS_OPENAT2, directory_fd, path, how, len(how)), "openat2")


def close_on_exec_from(first: int) -> None:
    """Mark every fd >= ``first`` close-on-exec, known to us or not."""
    _check(_libc.syscall(_SYS_CLOSE_RANGE, first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC), "close_range")


def close_from(first: int) -> None:
    """Close every fd >= ``first``, known to us or not."""
    _check(_libc.syscall(_SYS_CLOSE_RANGE, first, 0xFFFFFFFF, 0), "close_range")


def limit_speculation() -> None:
    """Switch speculative store bypass and indirect branch speculation off, for good and for all children.

    A processor or kernel that cannot is left as it is: where the hardware is not affected there is nothing to switch.
    """
    for feature in (_PR_SPEC_STORE_BYPASS, _PR_SPEC_INDIRECT_BRANCH):
        _libc.prctl(_PR_SET_SPECULATION_CTRL, feature, _PR_SPEC_FORCE_DISABLE, 0, 0)


def set_process_name(name: str) -> None:
    """Name the calling thread for ps(1); the kernel keeps 15 bytes."""
    _check(_libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0), "prctl PR_SET_NAME")
