"""What a jailer is told at its start, and what it finds out about it before it serves."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from supervisor.jailer.cells import PoolPlan
from supervisor.jailer.cgroup import Layout
from supervisor.jailer.interpreters import RuntimeProfile
from supervisor.jailer.nsjail_config import Mask, Places
from supervisor.jailer.seccomp import Compiled, SeccompError, compile_profiles
from supervisor.microvm.machine_plan import MachinePlan
from supervisor.policy import Policy

FIRST_OUTSIDE_ID: Final = 1000
"""Ids of the jailer's user namespace below this one are never a sandbox's."""

_USR: Final = "/usr/"


class JailerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What ``setup`` tells a jailer, by descriptor. Paths are those of the jailer's mount namespace."""

    nsjail: str
    init: str
    python: list[str]
    usr: str
    image: str
    etc: str
    dev: str
    empty: str
    shared: str
    work: str
    layout: Layout
    policies: dict[str, Policy]
    seccomp_profiles: dict[str, str]
    """Of languages: kafel source by name."""
    compiled: Compiled | None
    """What policies and languages name, if that was compiled elsewhere: in a guest it is the host's jailer that did."""
    profiles: list[RuntimeProfile]
    pools: list[PoolPlan]
    ids: Annotated[int, Meta(ge=1, le=64_000)]
    builders: Annotated[int, Meta(ge=1, le=64)]
    max_jails: Annotated[int, Meta(ge=1, le=4096)]
    own_filter: bytes
    """The seccomp program (BPF) that the jailer puts on itself, and on all that it starts."""
    build_seconds: Annotated[float, Meta(gt=0, le=600)]
    """How long building a jail may take."""
    guest: str = ""
    machine: str = ""
    machine_dev: str = ""
    machines: MachinePlan | None = None
    """How virtual machines are made, if this host can: the tier ``microvm``."""
    log_level: str = "INFO"


def places(config: JailerConfig) -> Places:
    """Say where what sandboxes share lies."""
    return Places(
        usr=config.usr,
        image=config.image,
        etc=config.etc,
        dev=config.dev,
        empty=config.empty,
        shared=config.shared,
        init=config.init,
        guest=config.guest,
        machine=config.machine,
        machine_dev=config.machine_dev,
    )


def existing_masks(policy: Policy, usr: str, image: str) -> tuple[Mask, ...]:
    """Find out which masks are needed: what a sandbox could not open anyway nsjail cannot cover either.

    ``usr`` and ``image`` are where the ``/usr`` and ``/usr/local`` of sandboxes lie.
    """
    found: list[Mask] = []
    for entry in policy.mounts.mask:
        path = entry.target
        for beginning, place in (("/usr/local/", image), (_USR, usr)):
            if path.startswith(beginning):
                path = f"{place}/{path.removeprefix(beginning)}"
                break
        try:
            mode = Path(path).stat().st_mode
        except FileNotFoundError:
            continue
        if mode & stat.S_IROTH:
            found.append(Mask(entry.target, stat.S_ISDIR(mode)))
    return tuple(found)


_ADDED: Final = ("bin", "lib/python3.*/added-packages")
"""Where the code of packages lies that an operator has added to the image, below ``/usr/local``."""


def zygote_files(config: JailerConfig) -> dict[str, object]:
    """Say what an interpreter's zygote sees: the files of a sandbox that belong to all sandboxes."""
    added = [path.relative_to(config.image) for pattern in _ADDED for path in Path(config.image).glob(pattern)]
    masks = {mask for policy in config.policies.values() for mask in existing_masks(policy, config.usr, config.image)}
    return {
        "usr": config.usr,
        "image": config.image,
        "etc": config.etc,
        "dev": config.dev,
        # What covers a system's own Python modules in a sandbox covers them here too.
        "covers": {
            mask.path: config.empty if mask.is_directory else f"{config.dev}/null"
            for mask in sorted(masks, key=lambda mask: mask.path)
            if mask.path.startswith(_USR)
        }
        # A zygote has the jailer's rights: it runs only code that is pinned by a hash.
        | {f"{_USR}local/{path}": config.empty for path in added},
    }


def compiled_for(config: JailerConfig) -> Compiled:
    """Give the programs of policies and profiles, those of guests too, or compile them.

    Raises:
        SeccompError: one does not compile, or those that came are not for what there is.
    """
    policies = dict(config.policies)
    if config.machines is not None:
        policies |= config.machines.guest.policies
    if config.compiled is None:
        return Compiled(*compile_profiles(config.nsjail, policies, config.seccomp_profiles))
    if not config.compiled.fits(policies, config.seccomp_profiles):
        raise SeccompError("the programs that came are not those of the policies and profiles")
    return config.compiled


def with_compiled(config: JailerConfig, compiled: Compiled) -> JailerConfig:
    """Have guests told the programs of what there is in them."""
    if config.machines is None:
        return config
    guest = config.machines.guest
    theirs = Compiled(
        policies={name: compiled.policies[name] for name in guest.policies},
        languages={name: compiled.languages[name] for name in guest.seccomp_profiles},
    )
    machines = replace(config.machines, guest=replace(guest, compiled=theirs))
    return replace(config, machines=machines)
