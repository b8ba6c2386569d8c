"""From settings, policies and image to what ``setup`` needs for virtual machines: pure, but for files it is given."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from supervisor.errors import ConfigurationError
from supervisor.image.boot_check import MicrovmParts
from supervisor.jailer.cells import PoolPlan
from supervisor.jailer.interpreters import RuntimeProfile
from supervisor.jailer.keeper import PROXY_ID
from supervisor.jailer.setup import MicrovmPlan, SetupPlan
from supervisor.microvm import places
from supervisor.microvm.krun import KERNEL, LIBRARY
from supervisor.microvm.machine_plan import MachinePlan
from supervisor.microvm.protocol import GuestPlan
from supervisor.microvm.vmm import MachineConfig, encode_config
from supervisor.policy import Policy

KVM_GROUP: Final = PROXY_ID + 1
"""Of the jailer's user namespace: below the ids of sandboxes."""
POLICY: Final = "krun"
"""Of the jail of a virtual machine, ``policies/machines``."""
GUEST_RESERVE_MIB: Final = 384
"""What the guest's kernel, its jailer and an imported interpreter need beside a sandbox that uses all it may."""
HELPER_MIB: Final = 160
"""What the process of a virtual machine needs beside the guest's memory: 22 MiB of kernel, devices, page tables."""
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MachineWish:
    """What the operator wants of virtual machines."""

    vcpus: int
    memory_mib: int
    memory_budget_mib: int
    boot_seconds: float
    waiting: int
    most: int
    library: str = ""
    """Another file than the image's."""
    kernel: str = ""
    """As ``library``."""


def most_machines(memory_mib: int, memory_budget_mib: int, most: int) -> int:
    """Say how many virtual machines there may be at a time: at least one, and no more than the budget holds."""
    return max(1, min(most, memory_budget_mib // (memory_mib + HELPER_MIB)))


def check_memory(wish: MachineWish, policy: Policy) -> None:
    """Compare the memory of a virtual machine with what its sandbox may use.

    Raises:
        ConfigurationError: the sandbox's own limit could never be reached: its kernel would fail first.
    """
    needed = policy.limits.memory_bytes // _MIB + GUEST_RESERVE_MIB
    if wish.memory_mib < needed:
        raise ConfigurationError(
            f"microvm.memory_mib = {wish.memory_mib}: policy {policy.name} lets a sandbox have "
            f"{policy.limits.memory_bytes // _MIB} MiB, and its guest needs {GUEST_RESERVE_MIB} beside it: "
            f"at least {needed}",
            field="microvm.memory_mib",
        )


def microvm_plan(
    plan: SetupPlan, wish: MachineWish, policy: Policy, machine_policies: Mapping[str, Policy], parts: MicrovmParts
) -> MicrovmPlan:
    """Say how virtual machines are made for the sandboxes of ``policy``, of what the image brings.

    Raises:
        ConfigurationError: the memory does not fit, or there is no policy for the jail of a machine.
    """
    check_memory(wish, policy)
    if POLICY not in machine_policies:
        raise ConfigurationError(f"machines/{POLICY}.toml is missing: what the jail of a virtual machine may do")
    own = machine_policies[POLICY]
    each = wish.memory_mib + HELPER_MIB
    limits = msgspec.structs.replace(
        own.limits,
        memory_bytes=each * _MIB,
        cpu_cores=float(wish.vcpus),
        lifetime_seconds=policy.limits.lifetime_seconds,
        # In a container the host's own limit may be lower, and nobody may raise it.
        open_files=min(own.limits.open_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    )
    machines = MachinePlan(
        program=[places.PYTHON, "-I", "-m", "supervisor.microvm.vmm"],
        config=encode_config(MachineConfig(vcpus=wish.vcpus, memory_mib=wish.memory_mib)),
        policy=msgspec.structs.replace(own, limits=limits),
        group=KVM_GROUP,
        guest=_guest_plan(plan, policy, max(plan.build_seconds, wish.boot_seconds)),
        boot_seconds=wish.boot_seconds,
        waiting=wish.waiting,
        most=most_machines(wish.memory_mib, wish.memory_budget_mib, wish.most),
    )
    return MicrovmPlan(parts.guest, _libraries(wish, parts.machine), machines)


def _libraries(wish: MachineWish, directory: Path) -> Mapping[str, Path]:
    """Choose the helper's libraries: what the operator names, else the image's.

    Raises:
        ConfigurationError: a file that is named does not exist.
    """
    found: dict[str, Path] = {}
    for name, own, field in ((LIBRARY, wish.library, "library"), (KERNEL, wish.kernel, "kernel")):
        path = Path(own) if own else directory / name
        if not path.is_file():
            raise ConfigurationError(f"{path} is no file: there is no {name}", field=f"microvm.{field}")
        found[name] = path
    return found


def _guest_plan(plan: SetupPlan, policy: Policy, build_seconds: float) -> GuestPlan:
    return GuestPlan(
        # Inside, the tier is what jails there are; the machine is what the host has put around them.
        policies={policy.name: msgspec.structs.replace(policy, tier="nsjail")},
        seccomp_profiles=dict(plan.seccomp_profiles),
        compiled=None,
        profiles=list(plan.profiles),
        pools=_pools(policy, plan.profiles),
        filters={name: plan.filters[name] for name in ("jailer", "proxy")},
        init=str(_in_guest(plan.init, plan.usr)),
        egress=plan.egress,
        build_seconds=build_seconds,
        log_level=plan.log_level,
    )


def _pools(policy: Policy, profiles: Sequence[RuntimeProfile]) -> list[PoolPlan]:
    """One of each kind waits: a guest is one session's, and nobody knows yet which kind it will want."""
    names = [None, *(profile.name for profile in profiles)]
    return [PoolPlan(policy=policy.name, profile=name, floor=1, ceiling=1) for name in names]


def _in_guest(init: Path, usr: Path) -> Path:
    """Say where the guest sees the init of its jails: below what is its ``/usr``.

    Raises:
        ConfigurationError: it lies elsewhere.
    """
    resolved = init.resolve()
    if not resolved.is_relative_to(usr):
        raise ConfigurationError(f"{init} is not below {usr}, which is all that a guest sees", field="jailer.init")
    return Path("/usr") / resolved.relative_to(usr)
