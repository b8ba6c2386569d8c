"""For tests only: ``gaoler`` whose emulated machines boot :mod:`tests.microvm.taken_guest` in the place of our program."""

from __future__ import annotations

from typing import Final

import msgspec

from supervisor.microvm import places
from supervisor.microvm.guard import USUAL
from supervisor.microvm.machine_plan import MachinePlan
from supervisor.policy import MountEntry
from tests.microvm import stand_in

SHOWN: Final = "/mnt"
"""Where the guest sees the tests' directory, on its read-only share."""


def taken(machines: MachinePlan) -> MachinePlan:
    """Give the plan with the other first program."""
    made = emulated(machines)
    share = MountEntry(
        target=f"{places.ROOT}{SHOWN}",
        kind="bind",
        source=str(stand_in.HERE),
        reason="the first program of a guest that was taken over, of the tests",
        claim="FS-ROOT",
    )
    mounts = msgspec.structs.replace(made.policy.mounts, mount=[*made.policy.mounts.mount, share])
    return msgspec.structs.replace(
        made,
        program=[*made.program, "--program", f"{SHOWN}/taken_guest.py"],
        patience=USUAL,
        policy=msgspec.structs.replace(made.policy, mounts=mounts),
    )


emulated = stand_in.emulated

if __name__ == "__main__":
    stand_in.emulated = taken
    stand_in.replace_and_serve()
