"""What a host lacks for virtual machines, and how to get it, as far as can be told by looking.

Looking (:func:`look`) and judging are apart: the judgements are pure, over what was seen. None of them is a proof: KVM
of the driver ``kvm_pvm`` opens, answers with the right version, and cannot run a stock kernel. Only a machine that has
booted is one.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.microvm.krun import NEEDED, Libraries, MachineFault, find_libraries

BUILD: Final = "gaoler image build --microvm"
MACHINE: Final = "x86_64"
"""What our libraries and system-call profiles are for."""
_GROUP: Final = stat.S_IRGRP | stat.S_IWGRP
_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH
_UDEV: Final = 'KERNEL=="kvm", GROUP="kvm", MODE="0660"'
_PACKAGES: Final = {
    "fedora": "dnf install libkrun libkrunfw",
    "arch": "pacman -S libkrun libkrunfw",
    "suse": "zypper install libkrun libkrunfw",
    "nixos": "libkrun and libkrunfw in environment.systemPackages",
}
"""By an ID of os-release(5); Debian and what comes of it has no package."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a virtual machine needs. ``fix`` is for the operator."""

    name: str
    found: str
    fix: str


@dataclass(frozen=True, slots=True)
class Node:
    """``/dev/kvm``: ``mode`` with its type, and whose group it is."""

    mode: int
    group: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was seen. ``modules``: those of KVM; built-in ones with parameters are there too."""

    machine: str
    cpuinfo: str
    modules: frozenset[str]
    kvm: Node | None
    os_release: str


def look(root: Path = Path("/"), machine: str | None = None) -> HostFacts:
    """Look at this host, or at one below ``root``. What cannot be read is taken for empty."""
    return HostFacts(
        machine=machine or os.uname().machine,
        cpuinfo=_text(root / "proc/cpuinfo"),
        modules=frozenset(path.name for path in (root / "sys/module").glob("kvm*")),
        kvm=_node(root / "dev/kvm"),
        os_release=_text(root / "etc/os-release") or _text(root / "usr/lib/os-release"),
    )


def missing_on_host(facts: HostFacts) -> Iterator[Missing]:
    """Say what of processor, kernel and device is missing; nothing: only a boot can tell more."""
    if facts.machine != MACHINE:
        yield Missing("processor", f"this is {facts.machine}; virtual machines are for {MACHINE}", "use such a host")
        return
    if "kvm_pvm" in facts.modules:
        yield Missing(
            "kvm",
            "kvm_pvm is loaded: this host is a virtual machine itself, and its KVM cannot run a stock kernel",
            "use a host of bare metal, or one whose provider gives it nested virtualisation (vmx or svm)",
        )
        return
    extension = next((name for name in ("vmx", "svm") if name in _flags(facts.cpuinfo)), None)
    if extension is None:
        yield _no_extension(facts.cpuinfo)
    elif not facts.modules & {"kvm_intel", "kvm_amd"} and facts.kvm is None:
        module = "kvm_intel" if extension == "vmx" else "kvm_amd"
        yield Missing("kvm", f"the processor has {extension}, and {module} is not loaded", f"modprobe {module}")
    yield from _device(facts)


def missing_libraries(facts: HostFacts, find: Callable[[], Libraries] = find_libraries) -> Iterator[Missing]:
    """Say what of libkrun and libkrunfw is missing where ``find`` looks, or too old; nothing is loaded for it."""
    try:
        libraries = find()
    except MachineFault as fault:
        name = "kernel" if fault.kind == "kernel-missing" else "library"
        yield Missing(name, fault.reason, how_to_get(facts.os_release))
        return
    lacking = missing_functions(libraries.hypervisor.read_bytes())
    if lacking:
        found = f"{libraries.hypervisor} is older than 1.17: it has no {lacking[0]}"
        yield Missing("library", found, how_to_get(facts.os_release))


def missing_functions(library: bytes) -> list[str]:
    """Name the functions that a library lacks: its table of names has each between two zeros."""
    return [name for name in NEEDED if b"\0" + name.encode() + b"\0" not in library]


def how_to_get(os_release: str) -> str:
    """Say how the libraries are had: with our image everywhere, as packages where there are some."""
    ids = _ids(os_release)
    packages = next((_PACKAGES[each] for each in ids if each in _PACKAGES), None)
    if packages is None:
        return f"{BUILD} brings it; {_name(os_release)} has no package of it that is known to us"
    return f"{BUILD} brings it; or: {packages}, 1.17 or later, and microvm.library and microvm.kernel in the settings"


def _no_extension(cpuinfo: str) -> Missing:
    if "hypervisor" in _flags(cpuinfo):
        return Missing(
            "processor",
            "neither vmx nor svm is among the processor's flags: this host is a virtual machine itself",
            "have its provider switch on nested virtualisation, or use a host of bare metal",
        )
    return Missing(
        "processor",
        "neither vmx nor svm is among the processor's flags",
        "switch virtualisation on in the firmware (VT-x, AMD-V or SVM)",
    )


def _device(facts: HostFacts) -> Iterator[Missing]:
    node = facts.kvm
    if node is None:
        yield Missing("kvm device", "there is no /dev/kvm", "load the module; in a container, pass the device into it")
    elif not stat.S_ISCHR(node.mode):
        yield Missing("kvm device", "/dev/kvm is no device", "remove it, and load the module again")
    elif node.mode & _OTHERS != _OTHERS and (node.mode & _GROUP != _GROUP or node.group == 0):
        yield Missing(
            "kvm device",
            f"/dev/kvm has mode {stat.S_IMODE(node.mode):04o} and group {node.group}: only root may use it",
            f"give it a group of its own: {_UDEV} in /etc/udev/rules.d, then udevadm trigger /dev/kvm",
        )


def _flags(cpuinfo: str) -> set[str]:
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return set(found[1].split()) if found else set()


def _ids(os_release: str) -> list[str]:
    """Give ID and then ID_LIKE, closest first; openSUSE's own are told by their beginning."""
    fields = dict(re.findall(r'^(ID|ID_LIKE)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    words = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".split()
    return ["suse" if word.startswith("opensuse") else word for word in words]


def _name(os_release: str) -> str:
    found = re.search(r'^NAME="?([^"\n]*)"?$', os_release, re.MULTILINE)
    return found[1] if found else "this system"


def _node(path: Path) -> Node | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return Node(seen.st_mode, seen.st_gid)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
