"""For tests only: QEMU, emulating a processor, in the place of ``supervisor.microvm.vmm``. No product code uses it.

For hosts without a processor's help for virtual machines, as the project's CI. The contract is that of the program which it
replaces: ``qemu.py CONFIGURATION PORT LOG`` with descriptors. The guest is the same too: libkrunfw's kernel, the
root directory by virtiofs under libkrun's own tag, the port by its name. What differs is the hypervisor, and that the
guest's program is PID 1 there, not the child of libkrun's init.

One file that needs nothing else of ours, so that it can be shown to a jail by itself: ``python3 -I qemu.py``.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import signal
import socket
import struct
from pathlib import Path
from typing import Final

import msgspec

VIRTIOFSD: Final = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
"""Of qemu-system-common (Debian 12, in C), and of virtiofsd (Debian 13, in Rust)."""
PROGRAM: Final = "/opt/gaoler/bin/gaoler-guest"
PORT: Final = "agent"
CLONE_NEWUSER: Final = 0x10000000
PR_SET_PDEATHSIG: Final = 1
EMULATION: Final = "tcg,thread=single"
"""One thread emulates all processors: with more the kernel now and then stumbles over its own patches (an oops by int3)."""
PHYS32_ENTRY: Final = 18
"""XEN_ELFNOTE_PHYS32_ENTRY: where a kernel is entered by QEMU, in 32-bit mode."""
_PT_LOAD, _PT_NOTE, _EXECUTABLE, _X86_64 = 1, 4, 2, 62


class Size(msgspec.Struct):
    """What counts here of ``supervisor.microvm.vmm.MachineConfig``."""

    memory_mib: int
    vcpus: int


def kernel_of(library: Path) -> tuple[bytes, int]:
    """Give the raw kernel that libkrunfw holds and the physical address at which it has to lie."""
    functions = ctypes.CDLL(str(library))
    address, entry, size = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_size_t()
    functions.krunfw_get_kernel.restype = ctypes.c_void_p
    start = functions.krunfw_get_kernel(ctypes.byref(address), ctypes.byref(entry), ctypes.byref(size))
    return ctypes.string_at(start, size.value), address.value


def as_elf(kernel: bytes, address: int) -> bytes:
    """Wrap a raw kernel in the headers by which QEMU finds its entry.

    Raises:
        ValueError: the kernel has no such entry.
    """
    found = re.search(struct.pack("<III", 4, 8, PHYS32_ENTRY) + b"Xen\0", kernel)
    if found is None:
        raise ValueError("the kernel has no PVH entry")
    note = kernel[found.start() : found.end() + 8]
    entry = struct.unpack("<Q", note[-8:])[0]
    headers, page = 64 + 2 * 56, 4096
    elf = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, _EXECUTABLE, _X86_64, 1, entry, 64, 0, 0, 64, 56,
                      2, 0, 0, 0)  # fmt: skip
    load = struct.pack("<IIQQQQQQ", _PT_LOAD, 7, page, address, address, len(kernel), len(kernel), page)
    notes = struct.pack("<IIQQQQQQ", _PT_NOTE, 4, headers, 0, 0, len(note), len(note), 4)
    return (elf + load + notes + note).ljust(page, b"\0") + kernel


def in_memory(name: str, content: bytes) -> int:
    """Give an inheritable descriptor of a file in memory."""
    fd = os.memfd_create(name, 0)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
    return fd


def die_with_parent() -> None:
    """Have this process killed when its parent ends; it survives execve."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def become_root_of_nothing() -> None:
    """Enter a user namespace in which this very user is root: virtiofsd wants to change its root directory."""
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")


def start_virtiofsd(root: Path) -> int:
    """Serve ``root`` from a child that ends with us; give the descriptor by which QEMU speaks to it."""
    program = next(path for path in VIRTIOFSD if os.access(path, os.X_OK))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")  # a name of the kernel's, in the network namespace
    listener.listen(1)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    if os.fork() == 0:
        try:
            die_with_parent()
            client.close()
            listener.set_inheritable(True)
            told = [program, f"--fd={listener.fileno()}"]
            if program == VIRTIOFSD[0]:
                told += ["-f", "-o", f"source={root}", "-o", "cache=always", "-o", "sandbox=chroot",
                         "-o", "log_level=err", "--rlimit-nofile=0"]  # fmt: skip
            else:
                told += [f"--shared-dir={root}", "--cache=always", "--sandbox=none", "--log-level=error"]
            os.execv(program, told)
        finally:
            os._exit(127)
    listener.close()
    return client.detach()


def command(memory_mib: int, vcpus: int, fds: dict[str, int], program: str, accelerator: str = EMULATION) -> list[str]:
    """Give QEMU's command line.

    A kernel without ACPI finds its devices there; the clock is told to it, and that it can trust it.
    """
    size = f"{memory_mib}M"
    parameters = [
        "reboot=t", "panic=-1", "console=hvc0", "quiet", "rootfstype=virtiofs", "root=/dev/root", "ro", "nomodule",
        f"init={program}", "mitigations=off", "tsc_early_khz=2600000", "tsc=reliable",
    ]  # fmt: skip
    return [
        "qemu-system-x86_64",
        "-M", "microvm,acpi=off,rtc=on,pit=on,pic=on,auto-kernel-cmdline=on,memory-backend=mem",
        "-accel", accelerator, "-cpu", "max", "-m", size, "-smp", str(vcpus),
        "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
        "-global", "virtio-mmio.force-legacy=false",
        "-object", f"memory-backend-memfd,id=mem,size={size},share=on",
        "-kernel", f"/proc/self/fd/{fds['kernel']}", "-append", " ".join(parameters),
        "-device", "virtio-serial-device",
        "-add-fd", f"fd={fds['log']},set=1", "-chardev", "file,id=log,path=/dev/fdset/1,append=on",
        "-device", "virtconsole,chardev=log",
        "-chardev", f"socket,id=agent,fd={fds['port']}", "-device", f"virtserialport,chardev=agent,name={PORT}",
        "-chardev", f"socket,id=root,fd={fds['root']}",
        "-device", "vhost-user-fs-device,chardev=root,tag=/dev/root,queue-size=256",
        "-device", "virtio-rng-device",
    ]  # fmt: skip


def main() -> None:
    """Become the virtual machine."""
    reader = argparse.ArgumentParser()
    reader.add_argument("configuration", type=int, help="descriptor")
    reader.add_argument("port", type=int)
    reader.add_argument("log", type=int)
    reader.add_argument("--root", type=Path, default=Path("/guest"))
    reader.add_argument("--krunfw", type=Path, default=Path("/machine/libkrunfw.so.5"))
    reader.add_argument("--program", default=PROGRAM)
    reader.add_argument("--accelerator", default=EMULATION)
    told = reader.parse_args()
    die_with_parent()
    memory_mib, vcpus = read_configuration(told.configuration)
    if os.geteuid() != 0:
        become_root_of_nothing()
    fds = {
        "kernel": in_memory("kernel", as_elf(*kernel_of(told.krunfw))),
        "root": start_virtiofsd(told.root),
        "port": told.port,
        "log": told.log,
    }
    for fd in fds.values():
        os.set_inheritable(fd, True)
    machine = command(memory_mib, vcpus, fds, told.program, told.accelerator)
    os.execvpe(machine[0], machine, {"PATH": "/usr/bin"})


def read_configuration(fd: int) -> tuple[int, int]:
    """Give memory in MiB and the number of processors, of what the product tells its own program."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        told = msgspec.msgpack.decode(file.read(), type=Size)
    return told.memory_mib, told.vcpus


if __name__ == "__main__":
    main()
