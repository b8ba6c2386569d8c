"""On what the tests of virtual machines run: real libkrun, or, where a host can make no such machine, QEMU's emulation.

``GAOLER_TEST_MICROVM`` says which: ``qemu``; ``libkrun``, as ``make test-microvm`` has it, which fails where the host
cannot; nothing, as in ``make test``: libkrun if a probe boots here, else QEMU. Guest, kernel, port and protocol are the
same in both.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from supervisor.doctor.microvm import Report
from supervisor.microvm.findings import look, missing_on_host
from tests.microvm.qemu import VIRTIOFSD

Hypervisor = Literal["libkrun", "qemu"]

VARIABLE: Final = "GAOLER_TEST_MICROVM"
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_PROGRAMS: Final[Mapping[Hypervisor, tuple[str, ...]]] = {
    "libkrun": (sys.executable, "-m", "supervisor"),
    "qemu": (sys.executable, "-m", "tests.microvm.stand_in"),
}
_PROBE_SECONDS: Final = 120


class NoMachines(Exception):
    """What was asked for cannot be had here; the message says why."""


def program(hypervisor: Hypervisor) -> tuple[str, ...]:
    """Give the command that is ``gaoler`` with such machines."""
    return _PROGRAMS[hypervisor]


@functools.cache
def chosen(image_dir: Path) -> Hypervisor:
    """Decide, once in a run of tests.

    Raises:
        NoMachines: libkrun was asked for, and no machine boots here; with the doctor's reasons.
        ValueError: the variable says something else.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", *_PROGRAMS):
        raise ValueError(f"{VARIABLE} = {asked!r}: libkrun, qemu, or nothing")
    if asked == "libkrun":
        report = examined(image_dir)
        if not report.usable:
            raise NoMachines(told(report))
        return "libkrun"
    if asked == "" and not list(missing_on_host(look())) and examined(image_dir).usable:
        return "libkrun"
    return "qemu"


def examined(image_dir: Path) -> Report:
    """Have ``gaoler doctor --microvm`` boot a probe.

    Raises:
        NoMachines: it did not come to a verdict.
    """
    doctor = [sys.executable, "-m", "supervisor", "doctor", "--microvm", "--json"]
    environment = {"PATH": os.environ["PATH"], "GAOLER_IMAGE_DIR": str(image_dir)}
    done = subprocess.run(doctor, env=environment, cwd=_ROOT, capture_output=True, check=False, timeout=_PROBE_SECONDS)
    try:
        return msgspec.json.decode(done.stdout, type=Report)
    except msgspec.DecodeError:
        raise NoMachines(f"the doctor ended with {done.returncode}: {done.stderr.decode(errors='replace')}") from None


def told(report: Report) -> str:
    """Lay out what is missing."""
    missing = [f"{each.name}: {each.found} -> {each.fix}" for each in report.findings if each.status == "fail"]
    return "\n".join(["this host boots no virtual machine of libkrun:", *missing])


def why_no_emulation() -> str:
    """Say what QEMU's emulation lacks here; empty: nothing."""
    if platform.machine() != "x86_64":
        return "the emulated guest is for x86-64"
    if shutil.which("qemu-system-x86_64") is None:
        return "there is no qemu-system-x86_64: 'make tools' installs it"
    if not any(os.access(path, os.X_OK) for path in VIRTIOFSD):
        return "there is no virtiofsd: 'make tools' installs it"
    return ""
