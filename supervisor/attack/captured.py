"""What somebody could do who has captured one of our own processes: the very confinement, and hostile code inside.

A program of its own, run by ``gaoler attack`` as root: ``python -m supervisor.attack.captured ROLE`` reads the compiled
filter and the directories from standard input, becomes what the daemon, the jailer, the proxy or a virtual machine's
process is, tries what they never do, and says CONTAINED, or what it got.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.jailer import kernel
from supervisor.jailer.server import NEEDED_CAPABILITIES
from supervisor.jailer.setup import become_ordinary_user

# <asm/unistd_64.h>
CALLS: Final = {
    "ptrace": 101,
    "process_vm_readv": 310,
    "bpf": 321,
    "perf_event_open": 298,
    "io_uring_setup": 425,
    "userfaultfd": 323,
    "add_key": 248,
    "keyctl": 250,
    "kexec_load": 246,
    "init_module": 175,
    "finit_module": 313,
    "reboot": 169,
    "swapon": 167,
    "acct": 163,
    "settimeofday": 164,
    "clock_settime": 227,
    "open_by_handle_at": 304,
    "quotactl": 179,
    "syslog": 103,
    "iopl": 172,
    "fanotify_init": 300,
    "open_tree": 428,
    "fsopen": 430,
}
_TGKILL: Final = 234
MOUNTING: Final = {"mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308}
_CHANGING: Final = {
    "mkdirat": 258,
    "unlinkat": 263,
    "renameat2": 316,
    "symlinkat": 266,
    "linkat": 265,
    "mknodat": 259,
    "fchownat": 260,
    "fchmodat": 268,
    "setxattr": 188,
    "ftruncate": 77,
    "memfd_create": 319,
    "sendmsg": 46,
    "recvmsg": 47,
    "shmget": 29,
    "setresuid": 117,
    "capset": 126,
}
# <linux/kvm.h>, <asm-generic/ioctls.h>
_KVM_CREATE_DEVICE: Final = 0xC00CAEE0
_TIOCSTI: Final = 0x5412
_libc = ctypes.CDLL(None, use_errno=True)


class Order(Struct, frozen=True):
    """What the program reads from standard input."""

    program: bytes
    """The compiled filter."""
    uid: int
    place: str
    readable: list[str]
    writable: list[str]
    hosts: list[str]
    """Directories of the host's own, with a socket called ``service`` in each."""
    secrets: list[str]
    """Paths of the host that must not be readable."""


class Finds:
    """What was found: everything that should have been refused and was not."""

    def __init__(self) -> None:
        self.escapes: list[str] = []

    def refused(self, what: str, attack: Callable[[], object]) -> None:
        """The attack has to raise OSError."""
        try:
            got = attack()
        except OSError:
            return
        self.escapes.append(f"{what} gave {got!r:.100}")

    def call_refused(self, name: str, number: int) -> None:
        """The raw system call has to fail by the filter, which answers before anybody looks at arguments."""
        ctypes.set_errno(0)
        result = _libc.syscall(ctypes.c_long(number), *([ctypes.c_long(0)] * 6))
        got = ctypes.get_errno()
        if result >= 0 or got not in (errno.EPERM, errno.ENOSYS):
            self.escapes.append(f"{name}: {errno.errorcode.get(got, 'success')}")


def _connect(path: str) -> None:
    socket.socket(socket.AF_UNIX).connect(path)


def _as_daemon(order: Order, finds: Finds) -> None:
    service = f"\0gaoler-attack-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(service)
    listener.listen()
    namesake = somebody(order.uid)
    views = [[Path(path) for path in each] for each in (order.readable, order.writable, order.hosts)]
    become_ordinary_user(order.uid, Path(order.place), *views)
    kernel.install_seccomp(order.program, all_threads=True)
    for path in order.hosts:
        Path(path, "service").lstat()
        finds.refused("a socket of the host", lambda path=path: _connect(f"{path}/service"))  # type: ignore[misc]
    finds.refused("an abstract socket of the host", lambda: socket.socket(socket.AF_UNIX).connect(service))
    for name, number in {**CALLS, **MOUNTING}.items():
        finds.call_refused(name, number)
    starts_nothing(finds)
    ends_nobody(finds, namesake)
    no_code_of_its_own(finds)
    finds.call_refused("memfd_create", 319)
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_VSOCK):
        finds.refused(f"a socket of family {family}", lambda family=family: socket.socket(family))  # type: ignore[misc]
    finds.refused("execve", lambda: os.execve("/usr/bin/true", ["true"], {}))
    for path in order.secrets:
        finds.refused(f"reading {path}", lambda path=path: Path(path).read_bytes())  # type: ignore[misc]
    for path in ("/usr/x", "/etc/x", "/x", f"{order.readable[0]}/x", "/proc/sys/kernel/core_pattern"):
        finds.refused(f"writing {path}", lambda path=path: Path(path).write_text("x"))  # type: ignore[misc]
    seen = {path.name for path in Path("/").iterdir()} & {"home", "root", "var", "srv", "boot", "media", "opt", "run"}
    wanted = {Path(path).parts[1] for path in (*order.readable, *order.writable, *order.hosts)}
    if seen - wanted:
        finds.escapes.append(f"it sees /{' /'.join(sorted(seen - wanted))}")
    foreign = [each.name for each in Path("/proc").iterdir() if each.name.isdigit() and int(each.name) != os.getpid()]
    if foreign:
        finds.escapes.append(f"it sees the processes {' '.join(foreign[:5])} of others")
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point, options = line.split()[4:6]
        writable = [
            *order.writable,
            "/tmp",
            *(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")),
        ]
        if "rw" in options.split(",") and point not in writable:
            finds.escapes.append(f"{point} can be written")


def _as_proxy(order: Order, finds: Finds) -> None:
    namesake = somebody(order.uid)
    os.setgroups([])
    os.setresgid(order.uid, order.uid, order.uid)
    os.setresuid(order.uid, order.uid, order.uid)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.install_seccomp(order.program)
    for name, number in {**CALLS, **MOUNTING}.items():
        finds.call_refused(name, number)
    starts_nothing(finds)
    ends_nobody(finds, namesake)
    no_code_of_its_own(finds)
    for family, kind in (
        (socket.AF_NETLINK, socket.SOCK_RAW),
        (socket.AF_PACKET, socket.SOCK_RAW),
        (socket.AF_INET, socket.SOCK_RAW),
    ):
        finds.refused(f"a socket {family} {kind}", lambda family=family, kind=kind: socket.socket(family, kind))  # type: ignore[misc]
    for call in (lambda: Path("/tmp/gaoler-captured").mkdir(), lambda: Path("/etc/hosts").unlink()):
        finds.refused("changing files", call)


def _as_jailer(order: Order, finds: Finds) -> None:
    """Be root of a user namespace, as the jailer is, which maps only the ids that it is given."""
    ready, mapped = os.pipe(), os.pipe()
    above = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.read(ready[0], 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{above}/{name}").write_text(f"0 {order.uid} 65536")
        os.write(mapped[1], b"m")
        os._exit(0)
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    os.write(ready[1], b"r")
    os.read(mapped[0], 1)
    os.waitpid(helper, 0)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.keep_capabilities(NEEDED_CAPABILITIES)
    kernel.install_seccomp(order.program)
    for name, number in CALLS.items():
        if name != "ptrace":  # the sandbox's own policy kills for it
            finds.call_refused(name, number)
    for path in order.secrets:
        finds.refused(f"reading {path}", lambda path=path: Path(path).read_bytes())  # type: ignore[misc]
    finds.refused("killing a process of the host", lambda: os.kill(os.getppid(), signal.SIGKILL))
    for family, kind in (
        (socket.AF_PACKET, socket.SOCK_RAW),
        (socket.AF_VSOCK, socket.SOCK_STREAM),
        (38, socket.SOCK_SEQPACKET),
    ):
        finds.refused(f"a socket {family}", lambda family=family, kind=kind: socket.socket(family, kind))  # type: ignore[misc]


def _as_machine(order: Order, finds: Finds) -> None:
    """Be what is left of a virtual machine's own process to the guest that has taken it over."""
    os.setgroups([])
    os.setresgid(order.uid, order.uid, order.uid)
    os.setresuid(order.uid, order.uid, order.uid)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.install_seccomp(order.program)
    killed = ("ptrace", "process_vm_readv", "process_vm_writev")
    for name, number in {**CALLS, **MOUNTING, **_CHANGING}.items():
        if name not in killed:
            finds.call_refused(name, number)
    for family in (
        socket.AF_UNIX,
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_NETLINK,
        socket.AF_PACKET,
        socket.AF_VSOCK,
    ):
        finds.refused(f"a socket of family {family}", lambda family=family: socket.socket(family))  # type: ignore[misc]
    finds.refused("a pair of sockets", socket.socketpair)
    for path in order.secrets:
        finds.refused(f"reading {path}", lambda path=path: Path(path).read_bytes())  # type: ignore[misc]
    finds.refused("killing a process of the host", lambda: os.kill(1, signal.SIGKILL))
    for what, number in (("KVM_CREATE_DEVICE", _KVM_CREATE_DEVICE), ("TIOCSTI", _TIOCSTI)):
        try:
            fcntl.ioctl(0, number, bytes(16))
        except OSError as error:
            if error.errno == errno.EPERM:
                continue
        finds.escapes.append(f"ioctl {what} is passed on")


def no_code_of_its_own(finds: Finds) -> None:
    """Memory that was written is not executed, whichever call is asked."""
    private, execute = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_EXEC
    finds.refused("memory to be executed", lambda: mmap.mmap(-1, 4096, private, execute))
    finds.refused("memory for everything", lambda: mmap.mmap(-1, 4096, private, execute | mmap.PROT_WRITE))
    written = mmap.mmap(-1, 4096, private)
    address = ctypes.addressof(ctypes.c_char.from_buffer(written))

    def protect() -> None:
        if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), execute) < 0:
            raise OSError(ctypes.get_errno(), "mprotect")

    finds.refused("executing what was written", protect)
    finds.call_refused("pkey_mprotect", 329)


def somebody(uid: int) -> int:
    """Start a process of the same uid, as another Gaoler of this host is, that ends with us; give its pid."""
    above = os.pidfd_open(os.getpid())
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(uid, uid, uid)
        os.write(done, b"x")
        select.select([above], [], [])
        os._exit(0)
    os.read(ready, 1)
    for fd in (above, ready, done):
        os.close(fd)
    return pid


def ends_nobody(finds: Finds, namesake: int) -> None:
    """No process is signalled, not even one of the same uid."""
    finds.refused("killing a process of the same uid", lambda: os.kill(namesake, signal.SIGKILL))
    finds.call_refused("tgkill", _TGKILL)


def starts_nothing(finds: Finds) -> None:
    """No process is made, and none of the host's is ended."""

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)

    finds.refused("fork", fork)
    finds.refused("killing a process of the host", lambda: os.kill(1, signal.SIGKILL))


_ROLES: Final = {"daemon": _as_daemon, "jailer": _as_jailer, "proxy": _as_proxy, "machine": _as_machine}


def main() -> None:
    """Become the role of argv and attack."""
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Order)
    finds = Finds()
    _ROLES[sys.argv[1]](order, finds)
    sys.stdout.write("ESCAPED: " + "; ".join(finds.escapes) if finds.escapes else "CONTAINED")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
