"""For tests only: ``gaoler`` whose virtual machines are :mod:`tests.microvm.hostile_guest`, as if broken out of.

``python -m tests.microvm.hostile serve`` is ``gaoler serve``. The jail of a machine is the product's own, with its
policy and its seccomp filter; what is in it has no guest around it any more. Shorter times, less memory and fewer
places, so that their ends are reached soon. ``HOSTILE_DIRECTORY`` holds the program and is shown to it.
"""

from __future__ import annotations

import os
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
from supervisor.policy import MountEntry, Policy
from supervisor.preparation import prepare, tiers_in_force
from supervisor.settings.sandboxes import MicrovmSettings

PLACE: Final = "/mnt"
BOOT_SECONDS: Final = 5.0
BUILD_SECONDS: Final = 1.0
PATIENCE: Final = Patience(answer_seconds=8.0, grace_seconds=1.0, clock_seconds=4.0)
MEMORY_BYTES: Final = 256 << 20
LOG_BYTES: Final = 8 << 20


def hostile(machines: MachinePlan) -> MachinePlan:
    """Give the plan with the hostile program."""
    own = machines.policy
    here = MountEntry(
        target=PLACE, kind="bind", source=os.environ["HOSTILE_DIRECTORY"], reason="the hostile program", claim="FS-ROOT"
    )
    limits = msgspec.structs.replace(own.limits, memory_bytes=MEMORY_BYTES, output_kill_bytes=LOG_BYTES)
    return msgspec.structs.replace(
        machines,
        program=[places.PYTHON, "-I", f"{PLACE}/hostile_guest.py"],
        policy=msgspec.structs.replace(
            own, limits=limits, mounts=msgspec.structs.replace(own.mounts, mount=[*own.mounts.mount, here])
        ),
        guest=msgspec.structs.replace(machines.guest, build_seconds=BUILD_SECONDS),
        boot_seconds=BOOT_SECONDS,
        patience=PATIENCE,
    )


def hostile_plan(
    plan: SetupPlan, wish: MachineWish, policy: Policy, machine_policies: Mapping[str, Policy], parts: MicrovmParts
) -> MicrovmPlan:
    """As :func:`supervisor.microvm.preparation.microvm_plan`."""
    made = microvm_plan(plan, wish, policy, machine_policies, parts)
    return replace(made, machines=hostile(made.machines))


def nothing(settings: MicrovmSettings, image: Path) -> str:
    """Say what this host lacks: there is no machine at all."""
    return "" if settings.enabled else f"microvm.enabled is off, {image}"


def directories() -> list[Path]:
    """Let the jailer see the hostile program, to show it to machines."""
    return [*code_directories(), Path(os.environ["HOSTILE_DIRECTORY"])]


code_directories = prepare.code_directories

if __name__ == "__main__":
    setattr(prepare, "microvm_plan", hostile_plan)  # noqa: B010 - not a name that prepare gives out
    setattr(tiers_in_force, "why_not", nothing)  # noqa: B010 - as above
    prepare.code_directories = directories
    main()
