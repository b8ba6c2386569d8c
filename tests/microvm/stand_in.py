"""For tests only: ``gaoler`` whose virtual machines are emulated by QEMU, for hosts that cannot make real ones.

``python -m tests.microvm.stand_in serve`` is ``gaoler serve``; nothing of the product knows of this. Guest, kernel,
port, protocol, jailer and doors are the product's; what is replaced is the program in a machine's jail, and that jail's
policy: an emulator needs more memory and more of the host's kernel than libkrun does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from supervisor.cli import main
from supervisor.image.boot_check import MicrovmParts
from supervisor.jailer.setup import MicrovmPlan, SetupPlan
from supervisor.microvm import places
from supervisor.microvm.guard import Patience
from supervisor.microvm.machine_plan import MachinePlan
from supervisor.microvm.preparation import MachineWish, microvm_plan
from supervisor.policy import PACKAGED_POLICIES, MountEntry, Policy
from supervisor.preparation import prepare, tiers_in_force
from supervisor.settings.sandboxes import MicrovmSettings

HERE: Final = Path(__file__).resolve().parent
PLACE: Final = "/mnt"
"""Where the machine's jail sees this directory: it is there in a guest's root, and empty."""
EMULATOR_BYTES: Final = 768 << 20
PATIENCE_SECONDS: Final = 300.0
"""An emulated processor is some twenty times slower, and two cores have other work."""
PATIENCE: Final = Patience(answer_seconds=180.0, grace_seconds=60.0, clock_seconds=90.0)
"""Three times the usual, for the same reason."""
FILE_BYTES: Final = 8 << 30
"""A guest's memory is a file in memory there, which virtiofsd maps too."""


def emulated(machines: MachinePlan) -> MachinePlan:
    """Give the plan with QEMU in the place of libkrun."""
    own = machines.policy
    limits = msgspec.structs.replace(
        own.limits,
        memory_bytes=own.limits.memory_bytes + EMULATOR_BYTES,
        processes=256,
        file_bytes=FILE_BYTES,
        cpu_cores=16.0,
    )
    here = MountEntry(
        target=PLACE, kind="bind", source=str(HERE), reason="the emulator's launcher, of the tests", claim="FS-ROOT"
    )
    policy = msgspec.structs.replace(
        own,
        limits=limits,
        # What lies under every filter anyway: QEMU wants much.
        seccomp_source=(PACKAGED_POLICIES / "processes" / "jailer.kafel").read_text(encoding="utf-8"),
        mounts=msgspec.structs.replace(own.mounts, mount=[*map(_writable_proc, own.mounts.mount), here]),
    )
    return msgspec.structs.replace(
        machines,
        program=[places.PYTHON, "-I", f"{PLACE}/qemu.py"],
        policy=policy,
        guest=msgspec.structs.replace(machines.guest, build_seconds=PATIENCE_SECONDS),
        boot_seconds=PATIENCE_SECONDS,
        patience=PATIENCE,
    )


def _writable_proc(entry: MountEntry) -> MountEntry:
    """Let virtiofsd have a user namespace, by the maps that it writes there."""
    return msgspec.structs.replace(entry, writable=True) if entry.kind == "proc" else entry


def emulated_plan(
    plan: SetupPlan, wish: MachineWish, policy: Policy, machine_policies: Mapping[str, Policy], parts: MicrovmParts
) -> MicrovmPlan:
    """As :func:`supervisor.microvm.preparation.microvm_plan`."""
    made = microvm_plan(plan, wish, policy, machine_policies, parts)
    return replace(made, machines=emulated(made.machines))


def nothing(settings: MicrovmSettings, image: Path) -> str:
    """Say what this host lacks: an emulator needs no processor's help."""
    return "" if settings.enabled else f"microvm.enabled is off, {image}"


def directories() -> list[Path]:
    """Let the jailer see this directory, to show it to machines."""
    return [*code_directories(), HERE]


code_directories = prepare.code_directories


def replace_and_serve() -> None:
    """Be ``gaoler``."""
    setattr(prepare, "microvm_plan", emulated_plan)  # noqa: B010 - not a name that prepare gives out
    setattr(tiers_in_force, "why_not", nothing)  # noqa: B010 - as above
    prepare.code_directories = directories
    main()


if __name__ == "__main__":
    replace_and_serve()
