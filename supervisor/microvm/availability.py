"""Whether this host gives virtual machines, as far as can be told without booting one: what is missing, and what to do.

Nothing found here is no proof: ``gaoler doctor --microvm`` boots one (:mod:`supervisor.microvm.probe`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.settings import MicrovmSettings

BUILD: Final = "gaoler image build --microvm"
GUEST: Final = "guest"
MACHINE: Final = "machine"
"""Directories of a runtime image: what the guest's jailer needs, and the hypervisor's libraries."""
_SWITCHED_OFF: Final = "this server's settings do not switch it on (microvm.enabled)"


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a virtual machine needs. ``fix`` is for the operator."""

    name: str
    found: str
    fix: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was looked at."""

    machine: str
    """As ``uname -m``."""
    cpuinfo: str
    modules: frozenset[str]
    """Of the kernel, those that are there."""
    kvm_node: bool


def look() -> HostFacts:
    """Look at this host."""
    modules = Path("/sys/module")
    return HostFacts(
        machine=os.uname().machine,
        cpuinfo=_text(Path("/proc/cpuinfo")),
        modules=frozenset(path.name for path in modules.glob("kvm*")),
        kvm_node=Path("/dev/kvm").is_char_device(),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def missing_on_host(facts: HostFacts) -> Iterator[Missing]:
    """Say what of KVM is missing. Pure."""
    if "kvm_pvm" in facts.modules:
        yield Missing(
            "kvm",
            "kvm_pvm is loaded: this host is a virtual machine itself, and its KVM cannot run a stock kernel",
            "use a host of bare metal, or one whose provider gives it nested virtualisation (vmx or svm)",
        )
    elif facts.machine == "x86_64" and not re.search(r"^flags\s*:.*\b(vmx|svm)\b", facts.cpuinfo, re.MULTILINE):
        yield Missing(
            "processor",
            "neither vmx nor svm is among the processor's flags",
            "switch virtualisation on in the firmware; of a virtual machine, have its provider switch on nested "
            "virtualisation",
        )
    if not facts.kvm_node:
        yield Missing("kvm device", "there is no /dev/kvm", "modprobe kvm_intel, or kvm_amd")


def missing_in_image(settings: MicrovmSettings, image: Path) -> Iterator[Missing]:
    """Say what of the files is missing; ``image`` is the directory of one runtime image."""
    if not (image / GUEST).is_dir():
        yield Missing("guest", "the runtime image has no guest", BUILD)
    for key, name, path in (
        ("library", "libkrun", settings.library),
        ("kernel", "kernel for guests (libkrunfw)", settings.kernel),
    ):
        if path and not Path(path).is_file():
            yield Missing(
                key, f"microvm.{key} = {path}: there is no such file", f"mend it, or leave it empty and {BUILD}"
            )
        elif not path and not (image / MACHINE).is_dir():
            yield Missing(key, f"the runtime image has no {name}", BUILD)


def why_not(settings: MicrovmSettings, image: Path) -> str:
    """Say why there are no virtual machines, in a clause; empty: nothing speaks against them."""
    if not settings.enabled:
        return _SWITCHED_OFF
    found = [*missing_on_host(look()), *missing_in_image(settings, image)]
    return "; ".join(each.found for each in found)
