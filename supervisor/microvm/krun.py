"""libkrun by ctypes: found, checked, and told what one machine is made of.

The library checks little of what it is given, panics at some of it, and ends the process when the guest ends (seen with
1.17.4). So whoever calls this validates first, does it in a process of its own, and believes no exit status. Version
1.17 is needed: before it nothing could switch off that the guest's sockets are opened by us, on the host's network. It
is recognised by its functions, for the library tells no version.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from supervisor.microvm.places import LIBRARIES

FaultKind = Literal[
    "library-missing",
    "library-too-old",
    "kernel-missing",
    "configuration",
    "memory",
    "root-missing",
    "kvm-missing",
    "kvm-permission",
    "kvm-unusable",
    "parent-gone",
    "groups",
    "refused",
    "killed",
    "ended",
]
"""Why there is no machine, for programs. The last two are what a parent sees of one that ran."""
FAULT_KINDS: Final[tuple[str, ...]] = get_args(FaultKind)

USUAL_PLACES: Final = (
    LIBRARIES,
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/run/current-system/sw/lib",
)
"""Where to look, the first that has it counts: our image's, then those of distributions and of Nix."""
LIBRARY: Final = "libkrun.so.1"
KERNEL: Final = "libkrunfw.so.5"
"""What libkrun 1.17 asks the dynamic linker for, by this name and no path."""

NEEDED: Final = (
    "krun_create_ctx",
    "krun_init_log",
    "krun_set_vm_config",
    "krun_set_root",
    "krun_set_exec",
    "krun_start_enter",
    "krun_disable_implicit_vsock",
    "krun_disable_implicit_console",
    "krun_add_vsock",
    "krun_add_virtio_console_default",
    "krun_add_virtio_console_multiport",
    "krun_add_console_port_inout",
)
"""``krun_add_vsock`` is never called: it came with 1.17, as the switch for the implicit one did."""
_LOG_LEVELS: Final = {"error": 1, "warn": 2, "info": 3, "debug": 4}
_LOG_PLAIN: Final = 2
_LOG_IGNORE_ENVIRONMENT: Final = 1
_NONE: Final = -1
LogLevel = Literal["error", "warn", "info", "debug"]


class MachineFault(Exception):
    """There is no machine, or none any more. ``reason`` is for the operator and may name paths."""

    def __init__(self, kind: FaultKind, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind: FaultKind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Libraries:
    """Two files: the hypervisor, and the guest's kernel as a library."""

    hypervisor: Path
    kernel: Path


def find_libraries(places: Iterable[str | os.PathLike[str]] = USUAL_PLACES) -> Libraries:
    """Look in ``places`` for both, each in the first place that has it.

    Raises:
        MachineFault: ``library-missing`` or ``kernel-missing``, with the places.
    """
    directories = [Path(place) for place in places]
    where = ", ".join(map(str, directories)) or "no place"
    hypervisor = _find(LIBRARY, directories)
    if hypervisor is None:
        raise MachineFault("library-missing", f"no {LIBRARY} in {where}")
    kernel = _find(KERNEL, directories)
    if kernel is None:
        raise MachineFault("kernel-missing", f"no {KERNEL}, the guest's kernel, in {where}")
    return Libraries(hypervisor, kernel)


def _find(name: str, directories: Sequence[Path]) -> Path | None:
    """Find ``name``, or else the highest version of it: packages bring links, bundles only the file itself."""
    for directory in directories:
        if (directory / name).is_file():
            return directory / name
        versions = [path for path in directory.glob(f"{name}.*") if path.is_file() and _version(path, name)]
        if versions:
            return max(versions, key=lambda path: _version(path, name))
    return None


def _version(path: Path, name: str) -> tuple[int, ...]:
    """Give the numbers behind ``name``; none if something else follows."""
    rest = path.name.removeprefix(f"{name}.")
    return tuple(int(number) for number in rest.split(".")) if re.fullmatch(r"\d{1,9}(\.\d{1,9}){0,3}", rest) else ()


def load(libraries: Libraries) -> Krun:
    """Load both into this process, for good.

    Raises:
        MachineFault: one cannot be loaded, or the hypervisor is older than 1.17; names file and symbol.
    """
    try:
        # libkrun opens it by its name alone. The linker then finds the one that is here already, and looks nowhere.
        kernel = ctypes.CDLL(str(libraries.kernel), mode=os.RTLD_NOW | ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise MachineFault("kernel-missing", f"cannot be loaded: {error}") from None
    if not hasattr(kernel, "krunfw_get_kernel"):
        raise MachineFault("kernel-missing", f"{libraries.kernel} has no function krunfw_get_kernel: not libkrunfw")
    try:
        hypervisor = ctypes.CDLL(str(libraries.hypervisor), mode=os.RTLD_NOW)
    except OSError as error:
        raise MachineFault("library-missing", f"cannot be loaded: {error}") from None
    for symbol in NEEDED:
        if not hasattr(hypervisor, symbol):
            raise MachineFault(
                "library-too-old", f"{libraries.hypervisor} has no function {symbol}: libkrun 1.17 or later is needed"
            )
    return Krun(hypervisor)


class Krun:
    """The library, with one machine being described to it. Every call is checked.

    Raises:
        MachineFault: ``refused``, by each method; names the call.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._context = 0

    def log_to(self, fd: int, level: LogLevel) -> None:
        """Send its own messages, and what the guest's kernel prints, to ``fd``; once for the process."""
        numbers = (ctypes.c_uint32(_LOG_LEVELS[level]), ctypes.c_uint32(_LOG_PLAIN))
        flags = ctypes.c_uint32(_LOG_IGNORE_ENVIRONMENT)
        _check("krun_init_log", self._library.krun_init_log(ctypes.c_int(fd), *numbers, flags))

    def begin(self, vcpus: int, memory_mib: int) -> None:
        """Begin a machine that has no network, no vsock and no console of the library's own choice."""
        self._context = _check("krun_create_ctx", self._library.krun_create_ctx())
        self._call("krun_set_vm_config", ctypes.c_uint8(vcpus), ctypes.c_uint32(memory_mib))
        # With the implicit one the guest's internet sockets would be opened here, by us (TSI).
        self._call("krun_disable_implicit_vsock")
        self._call("krun_disable_implicit_console")

    def set_root(self, path: str) -> None:
        """Give the directory that is the guest's root. Read-only it is only if it is so for us too."""
        self._call("krun_set_root", os.fsencode(path))

    def add_console(self, fd: int) -> None:
        """Add the kernel's console, which nobody can type into: it goes to the log, its init's output to ``fd``."""
        self._call("krun_add_virtio_console_default", *map(ctypes.c_int, (_NONE, fd, fd)))

    def add_port(self, name: str, fd: int) -> None:
        """Add a console device with one port of this name, which is ``fd`` both ways."""
        device = ctypes.c_uint32(self._call("krun_add_virtio_console_multiport"))
        self._call("krun_add_console_port_inout", device, name.encode(), ctypes.c_int(fd), ctypes.c_int(fd))

    def set_program(self, path: str, environment: Sequence[str]) -> None:
        """Say what the guest executes, without arguments.

        Both travel on the kernel's command line, so they are constants of ours. Without an environment the guest would
        get this process's.
        """
        words = (ctypes.c_char_p * (len(environment) + 1))(*(word.encode() for word in environment), None)
        self._call("krun_set_exec", path.encode(), (ctypes.c_char_p * 1)(None), words)

    def run(self) -> MachineFault:
        """Run the machine. Does not return when it has begun: the library ends the process when the guest ends."""
        code = self._library.krun_start_enter(ctypes.c_uint32(self._context))
        return MachineFault("refused", f"krun_start_enter: {_words(code)}; the log of the machine says more")

    def _call(self, name: str, *arguments: object) -> int:
        return _check(name, self._library[name](ctypes.c_uint32(self._context), *arguments))


def _check(name: str, code: int) -> int:
    if code < 0:
        raise MachineFault("refused", f"{name}: {_words(code)}")
    return code


def _words(code: int) -> str:
    return f"{os.strerror(-code)} ({code})"
