#!/usr/bin/python3
"""For tests only: the first program of a guest that is somebody else's altogether, with the guest's kernel under it.

It tries, as root of that kernel, what would lead to the host or to another guest, says on the console what came of
each, and ends. With two processors it has the kernel panic instead. Of ours it imports nothing: whoever is here needs
nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
MS_REMOUNT = 32
RB_AUTOBOOT = 0x01234567
DISKS = (8, 253, 254, 259)
"""SCSI, device mapper, virtio, NVMe."""
VICTIM = "/usr/bin/true"
AGAIN = Path("/tmp/again")
EXPECTED = frozenset(
    [
        "bin",
        "dev",
        "etc",
        "guest",
        "image",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "machine",
        "mnt",
        "opt",
        "packages",
        "proc",
        "run",
        "sbin",
        "sys",
        "tmp",
        "usr",
    ]
)


def mount(source: str, place: str, kind: str, flags: int = 0) -> None:
    """Call mount(2)."""
    if _libc.mount(source.encode(), place.encode(), kind.encode(), flags, None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def refused(*attempts: Callable[[], object]) -> str:
    """Say which of these were not refused."""
    done: list[str] = []
    for number, attempt in enumerate(attempts):
        try:
            attempt()
        except OSError:
            continue
        done.append(str(number))
    return f"ESCAPED by {','.join(done)}" if done else f"contained, {len(attempts)} ways"


def writes(root: Path) -> Iterator[Callable[[], object]]:
    """Give ways to change something below ``root``."""
    victim = root / VICTIM.lstrip("/")
    yield lambda: os.open(victim, os.O_WRONLY)
    yield lambda: os.open(root / "usr/taken", os.O_CREAT | os.O_WRONLY)
    yield lambda: os.open(root / "opt/gaoler/taken", os.O_CREAT | os.O_WRONLY)
    yield lambda: victim.chmod(0o4777)
    yield lambda: os.chown(victim, 0, 0)
    yield victim.unlink
    yield lambda: victim.rename(root / "usr/bin/taken")
    yield (root / "usr/taken").mkdir
    yield lambda: (root / "usr/taken").symlink_to("/etc/shadow")
    yield lambda: os.link(victim, root / "usr/bin/taken")
    yield lambda: os.mknod(root / "usr/taken", stat.S_IFCHR | 0o666, os.makedev(10, 232))
    yield lambda: os.setxattr(victim, "security.capability", b"\x01\x00\x00\x02" + bytes(16))
    yield lambda: os.truncate(victim, 0)
    yield lambda: os.utime(victim, (0, 0))


def connect(family: int, address: tuple[object, ...]) -> None:
    """Connect a stream socket."""
    with socket.socket(family, socket.SOCK_STREAM) as trying:
        trying.settimeout(2)
        trying.connect(address)


def device(name: str, numbers: tuple[int, int]) -> None:
    """Open a block device of these numbers."""
    path = Path("/run", name)
    os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(*numbers))
    os.close(os.open(path, os.O_RDWR))


def attacks() -> Iterator[tuple[str, str]]:
    """Give the name of each attack and what came of it."""
    yield "V1 the share is made writable", refused(remount_and_write)
    yield "V1 the share is written to", refused(*writes(Path("/")))
    AGAIN.mkdir()
    mount("/dev/root", str(AGAIN), "virtiofs")
    yield "V1 the share, mounted again", refused(*writes(AGAIN))
    found = set(os.listdir(AGAIN))
    yield "V2 what the share shows", f"ESCAPED to {found - EXPECTED}" if found - EXPECTED else "contained"
    above = [AGAIN / up / "etc/shadow" for up in ("", "usr/../..", "proc/1/root")]
    yield "V2 above the share", refused(*(path.stat for path in above))
    vsock = [partial(connect, socket.AF_VSOCK, (cid, 22)) for cid in (0, 2, 3)]
    yield "V4 vsock", refused(*vsock)
    devices = set(os.listdir("/sys/class/net"))
    yield (
        "V5 network devices",
        "contained" if devices <= {"lo", "dummy0", "sit0", "ip6tnl0", "tunl0"} else f"ESCAPED: {devices}",
    )
    hosts = [partial(connect, socket.AF_INET, (to, 80)) for to in ("127.0.0.1", "169.254.169.254", "10.0.0.1")]
    yield "V5 addresses of the host", refused(*hosts)
    disks = [partial(device, f"disk{number}", (number, 0)) for number in DISKS]
    yield "V8 devices of the host", refused(*disks)


def remount_and_write() -> None:
    """Have the guest's kernel believe that its root is writable; what counts is a byte on the host."""
    mount("/dev/root", "/", "", MS_REMOUNT)
    os.close(os.open("/usr/taken", os.O_CREAT | os.O_WRONLY))


def main() -> None:
    """Attack and end, or panic: what a kernel does whose first program ends."""
    if (os.cpu_count() or 1) > 1:
        return
    mount("proc", "/proc", "proc")
    mount("sys", "/sys", "sysfs")
    for place in ("/tmp", "/run"):
        mount("tmpfs", place, "tmpfs")
    with Path("/dev/console").open("w", encoding="ascii") as console:
        for name, outcome in attacks():
            print(f"TAKEN {name}: {outcome}", file=console, flush=True)
    # The console is drained by somebody else.
    time.sleep(1)
    _libc.reboot(RB_AUTOBOOT)


if __name__ == "__main__":
    main()
