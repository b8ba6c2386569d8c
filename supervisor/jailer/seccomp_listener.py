"""Logging mode, the kernel's side: a filter that asks instead of deciding, and the questions (seccomp_unotify(2)).

The first half runs in a process that is about to become a program, so only the standard library is used here. The
listener must reach the jailer before the program begins, by a ``sendmsg`` that the filter may not allow: the one whose
message lies at an address that was fixed before is let through. After the ``execve`` that address means nothing.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from supervisor.jailer import kernel

_FILTER_FLAG_NEW_LISTENER: Final = 1 << 3
_FILTER_FLAG_WAIT_KILLABLE_RECV: Final = 1 << 5
_IOCTL_RECV: Final = 0xC0502100
_IOCTL_SEND: Final = 0xC0182101
_FLAG_CONTINUE: Final = 1
_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_RESPONSE: Final = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_SYS_SENDMSG: Final = 46
PASSING_INSTRUCTIONS: Final = 7
_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


def install(program: bytes, to: int) -> None:
    """Install a filter that asks, and send its listener over the unix socket ``to``. Needs no_new_privs.

    Raises:
        OSError: one of the two failed.
    """
    byte = ctypes.create_string_buffer(b"L", 1)
    vector = _Vector(ctypes.addressof(byte), 1)
    control = ctypes.create_string_buffer(
        struct.pack("=QiiiI", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, -1, 0), socket.CMSG_SPACE(4)
    )
    message = _Message(None, 0, ctypes.addressof(vector), 1, ctypes.addressof(control), len(control), 0)
    whole = _passing(ctypes.addressof(message)) + program
    flags = _FILTER_FLAG_NEW_LISTENER | _FILTER_FLAG_WAIT_KILLABLE_RECV
    try:
        listener = kernel.install_seccomp(whole, flags)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Before Linux 5.19 a signal interrupts a call that is being asked about; it is then asked about again.
        listener = kernel.install_seccomp(whole, _FILTER_FLAG_NEW_LISTENER)
    # From here on whatever this process asks of the kernel may wait until the listener is heard.
    struct.pack_into("=i", control, 16, listener)
    if _libc.sendmsg(to, ctypes.byref(message), 0) < 0:
        raise OSError(ctypes.get_errno(), "sendmsg of the listener")


def _passing(address: int) -> bytes:
    """Give the instructions that allow ``sendmsg`` with the message at ``address`` and go on for everything else."""
    instructions = (
        (0x20, 0, 0, 0),
        (0x15, 0, 5, _SYS_SENDMSG),
        (0x20, 0, 0, 24),
        (0x15, 0, 3, address & 0xFFFFFFFF),
        (0x20, 0, 0, 28),
        (0x15, 0, 1, address >> 32),
        (0x06, 0, 0, 0x7FFF0000),
    )
    assert len(instructions) == PASSING_INSTRUCTIONS
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


@dataclass(frozen=True, slots=True)
class Question:
    """A system call that waits for an answer. ``pid`` is that of the thread, in our own pid namespace."""

    id: int
    pid: int
    number: int
    arch: int
    instruction_pointer: int
    arguments: tuple[int, ...]


def receive(listener: int) -> Question | None:
    """Take a question; ``None``: who asked is gone. Call it only when the listener is readable: otherwise it blocks.

    Raises:
        OSError: the listener is none.
    """
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _IOCTL_RECV, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    number, pid, _flags, call, arch, pointer, *arguments = _NOTIFICATION.unpack(buffer)
    return Question(number, pid, call, arch, pointer, tuple(arguments))


def answer(listener: int, question: Question, refusal: int | None) -> None:
    """Let the call go on, or have it fail with an errno (0: have it succeed without doing anything).

    Whoever has gone meanwhile is no error.
    """
    if refusal is None:
        response = _RESPONSE.pack(question.id, 0, 0, _FLAG_CONTINUE)
    else:
        response = _RESPONSE.pack(question.id, 0, -refusal, 0)
    try:
        fcntl.ioctl(listener, _IOCTL_SEND, bytearray(response))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def take_listener(connection: socket.socket) -> int | None:
    """Receive what :func:`install` sends, without waiting; ``None``: the process ended before. The caller closes it."""
    payload, fds, _flags, _address = socket.recv_fds(connection, 1, 1, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
    if not payload or not fds:
        for fd in fds:
            os.close(fd)
        return None
    return fds[0]
