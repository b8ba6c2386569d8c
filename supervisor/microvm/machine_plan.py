"""How virtual machines are made, as the jailer is told at its start."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from supervisor.microvm import protocol
from supervisor.microvm.guard import Patience
from supervisor.policy import Policy


class MachinePlan(Struct, frozen=True, forbid_unknown_fields=True):
    """How virtual machines are made. Paths are those of the machine's own jail."""

    program: Annotated[list[str], Meta(min_length=1)]
    """The helper; it gets the numbers of its descriptors: configuration, port, console."""
    config: bytes
    """For the helper."""
    policy: Policy
    """Of the machine's own jail."""
    group: int
    """That may use the host's KVM, an id of the jailer's user namespace."""
    guest: protocol.GuestPlan
    boot_seconds: Annotated[float, Meta(gt=0, le=600)]
    waiting: Annotated[int, Meta(ge=0, le=1024)]
    """So many booted ones wait."""
    most: Annotated[int, Meta(ge=1, le=4096)]
    """At a time, those that wait too."""
    patience: Patience = Patience()


def machine_program(policy: str) -> str:
    """Give the name under which the bare zygote knows the seccomp program of a machine; no sandbox's is named so."""
    return f"machine/{policy}"
