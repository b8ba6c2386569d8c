"""The program that becomes a virtual machine: ``python3 -I -m supervisor.microvm.vmm CONFIG PORT LOG``.

The three are descriptors: a file with a :class:`MachineConfig`, a socket that becomes the port on which the guest
speaks, and a pipe for the logs of guest and library. One process is one machine. It runs in a jail of its own, checks
all that the library would take unseen, and dies with whoever started it. What it cannot do it says in one line on
stderr, see :func:`read_fault`, and ends with :data:`FAULT_STATUS`.

Any other exit status means nothing: a guest chooses it, and a kernel that panics is a 0. Success is what the guest says
on its port.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec
from msgspec import Meta, Struct

from supervisor.jailer import kernel
from supervisor.microvm import krun
from supervisor.microvm.krun import FAULT_KINDS, FaultKind, LogLevel, MachineFault
from supervisor.microvm.places import KVM, LIBRARIES, PORT, PROGRAM, ROOT

FAULT_STATUS: Final = 78
"""EX_CONFIG of <sysexits.h>."""
MAX_VCPUS: Final = 32
MIN_MEMORY_MIB: Final = 128
MAX_MEMORY_MIB: Final = 256 * 1024
MAX_CONFIG_BYTES: Final = 16_384
MAX_REASON_CHARACTERS: Final = 2048
ENVIRONMENT: Final = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")
"""What the guest's first program gets."""
_KVM_GET_API_VERSION: Final = 0xAE00
_KVM_API_VERSION: Final = 12
_MAX_FAULT_BYTES: Final = 16_384
_ARGUMENTS: Final = 4

PlainPath = Annotated[str, Meta(pattern=r"^/[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*\Z", max_length=1024)]
"""The root's goes onto no command line of a kernel, but a path that needs more than this is a mistake."""


class MachineConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine. Bounds are the library's own or narrower; the paths are those of the jail."""

    vcpus: Annotated[int, Meta(ge=1, le=MAX_VCPUS)]
    memory_mib: Annotated[int, Meta(ge=MIN_MEMORY_MIB, le=MAX_MEMORY_MIB)]
    root: PlainPath = ROOT
    libraries: Annotated[tuple[PlainPath, ...], Meta(min_length=1, max_length=16)] = (LIBRARIES,)
    """Directories in which the library and the kernel are looked for, in this order."""
    log_level: LogLevel = "warn"


class _Fault(Struct, frozen=True, forbid_unknown_fields=True):
    fault: str
    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARACTERS)]


def encode_config(config: MachineConfig) -> bytes:
    """Encode what the program reads."""
    return msgspec.msgpack.encode(config)


def decode_config(data: bytes) -> MachineConfig:
    """Decode it, strictly.

    Raises:
        MachineFault: ``configuration``, with what is wrong.
    """
    if len(data) > MAX_CONFIG_BYTES:
        raise MachineFault("configuration", f"it is over {MAX_CONFIG_BYTES} bytes")
    try:
        return msgspec.msgpack.decode(data, type=MachineConfig)
    except msgspec.DecodeError as error:
        raise MachineFault("configuration", str(error)) from None


def describe_end(status: int, untrusted_stderr: bytes) -> MachineFault:
    """Say why a machine is gone, from its wait status and what it left on stderr. It never was a success."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        # A panic of the library aborts, after some words of its own.
        return MachineFault("killed", f"the virtual machine was ended by {name}{_last_words(untrusted_stderr)}")
    code = os.waitstatus_to_exitcode(status)
    said = read_fault(untrusted_stderr) if code == FAULT_STATUS else None
    if said is not None:
        return said
    return MachineFault(
        "ended", f"the virtual machine ended with status {code}, which proves nothing{_last_words(untrusted_stderr)}"
    )


def read_fault(untrusted_stderr: bytes) -> MachineFault | None:
    """Give what the program said in its last line; ``None``: that is no fault. The words may be a hostile guest's."""
    lines = untrusted_stderr[-_MAX_FAULT_BYTES:].splitlines()
    try:
        said = msgspec.json.decode(lines[-1] if lines else b"", type=_Fault)
    except msgspec.DecodeError:
        return None
    kind = next((kind for kind in _KINDS if kind == said.fault), None)
    return MachineFault(kind, _printable(said.reason)) if kind is not None else None


_KINDS: Final[tuple[FaultKind, ...]] = FAULT_KINDS  # type: ignore[assignment]


def _last_words(untrusted: bytes) -> str:
    words = _printable(untrusted[-400:].decode("utf-8", "replace")).strip()
    return f": {words}" if words else ""


def _printable(text: str) -> str:
    return re.sub(r"\s+", " ", "".join(each if each.isprintable() else " " for each in text))


# -- in the program --


def check_memory(memory_mib: int, meminfo: str) -> None:
    """Compare with what the host has in all: the library maps more without a word, and the guest dies of it later.

    Raises:
        MachineFault: ``memory``.
    """
    found = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo, re.MULTILINE)
    total_mib = int(found[1]) // 1024 if found else 0
    if memory_mib > total_mib:
        raise MachineFault("memory", f"the machine is to have {memory_mib} MiB, and this host has {total_mib} MiB")


def check_root(root: Path) -> None:
    """The library would start without a root, and the guest panic.

    Raises:
        MachineFault: ``root-missing``.
    """
    program = root / PROGRAM.lstrip("/")
    try:
        if not stat.S_ISREG(program.stat().st_mode) or not os.access(program, os.X_OK):
            raise MachineFault("root-missing", f"{program} is no program: {root} is no root of a guest")
    except OSError as error:
        raise MachineFault("root-missing", f"{program}: {error.strerror}: {root} is no root of a guest") from None


def check_kvm(path: str = KVM) -> None:
    """Open the device as the library does, which panics if it cannot.

    Raises:
        MachineFault: ``kvm-missing``, ``kvm-permission`` or ``kvm-unusable``.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        reason = f"{path}: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM):
            who = f"uid {os.geteuid()}, gid {os.getegid()}"
            raise MachineFault("kvm-permission", f"{reason}, for {who}: its group has to be the device's") from None
        missing = error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOTDIR)
        raise MachineFault("kvm-missing" if missing else "kvm-unusable", reason) from None
    try:
        version = fcntl.ioctl(fd, _KVM_GET_API_VERSION)
    except OSError as error:
        raise MachineFault("kvm-unusable", f"{path} does not answer as KVM does: {error.strerror}") from None
    finally:
        os.close(fd)
    if version != _KVM_API_VERSION:
        raise MachineFault("kvm-unusable", f"{path} has version {version} of the interface, not {_KVM_API_VERSION}")


def die_with_parent(port: int) -> None:
    """Be killed when the thread that started us ends; if it has ended already, nobody holds the port's other end.

    Its pid tells nothing: from inside a pid namespace a parent outside is always 0.

    Raises:
        MachineFault: ``parent-gone``.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(port, 0)  # POLLHUP is told always
    if any(events & select.POLLHUP for _fd, events in poll.poll(0)):
        raise MachineFault("parent-gone", "nobody holds the other end of the port")


def drop_groups() -> None:
    """Give up every group but the first, which is the device's: the library leaves them.

    Raises:
        MachineFault: ``groups``: there are others, and they cannot be given up.
    """
    if set(os.getgroups()) <= {os.getegid()}:
        return
    try:
        os.setgroups([])
    except OSError as error:
        raise MachineFault("groups", f"supplementary groups {os.getgroups()}: {error.strerror}") from None


def _descriptors(arguments: list[str]) -> tuple[int, int, int]:
    """Take the three from the command line, and see what they are.

    Raises:
        MachineFault: ``configuration``.
    """
    if len(arguments) != _ARGUMENTS or not all(re.fullmatch(r"[0-9]{1,4}", each) for each in arguments[1:]):
        raise MachineFault("configuration", "three descriptors are needed: configuration, port, log")
    config, port, log = (int(each) for each in arguments[1:])
    kinds: tuple[tuple[int, str, Callable[[int], bool]], ...] = (
        (config, "the configuration is no file", stat.S_ISREG),
        (port, "the port is no socket", stat.S_ISSOCK),
        (log, "the log is no pipe", stat.S_ISFIFO),
    )
    for fd, complaint, is_right in kinds:
        try:
            right = is_right(os.fstat(fd).st_mode)
        except OSError as error:
            raise MachineFault("configuration", f"descriptor {fd}: {error.strerror}") from None
        if not right:
            raise MachineFault("configuration", complaint)
    return config, port, log


def become_machine(arguments: list[str]) -> NoReturn:
    """Do all of it.

    Raises:
        MachineFault: always, if at all it comes back.
    """
    config_fd, port, log = _descriptors(arguments)
    die_with_parent(port)
    drop_groups()
    config = decode_config(os.pread(config_fd, MAX_CONFIG_BYTES + 1, 0))
    os.close(config_fd)
    check_memory(config.memory_mib, Path("/proc/meminfo").read_text(encoding="ascii"))
    check_root(Path(config.root))
    libraries = krun.find_libraries(config.libraries)
    check_kvm()
    machine = krun.load(libraries)
    machine.log_to(log, config.log_level)
    machine.begin(config.vcpus, config.memory_mib)
    machine.set_root(config.root)
    machine.add_console(log)
    machine.add_port(PORT, port)
    machine.set_program(PROGRAM, ENVIRONMENT)
    raise machine.run()


def main() -> NoReturn:
    """Become a machine, or say why not."""
    try:
        become_machine(sys.argv)
    except MachineFault as fault:
        kind, reason = fault.kind, fault.reason
    except OSError as error:
        kind, reason = "refused", str(error)
    said = _Fault(fault=kind, reason=_printable(reason)[:MAX_REASON_CHARACTERS])
    os.write(2, msgspec.json.encode(said) + b"\n")
    sys.exit(FAULT_STATUS)


if __name__ == "__main__":
    main()
