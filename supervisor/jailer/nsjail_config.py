"""From a sandbox's specification to nsjail's configuration: a pure function, golden-tested.

A reviewer sees in the diff of a golden file exactly what changed in the containment. The format is nsjail's config
message (``config.proto`` of nsjail 3.6) as ProtoJSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from supervisor.microvm.places import GAOLER
from supervisor.policy import MountEntry, Policy

INSIDE_ID: Final = 1000
"""uid and gid of the code inside; the workspace belongs to it."""

HOSTNAME: Final = "sandbox"
WORKSPACE: Final = "/mnt/data"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the jailer keeps what every sandbox shares, as paths in the jailer's own mount namespace."""

    usr: str
    """The image's own ``/usr``, or the host's."""
    image: str
    etc: str
    dev: str
    empty: str
    shared: str
    """Packages that every sandbox finds; an empty directory if there are none."""
    init: str
    """The reaping init: a static ``catatonit`` from Debian."""
    guest: str = ""
    """The root of a virtual machine."""
    machine: str = ""
    """The libraries that make one."""
    machine_dev: str = ""
    """The devices that they need."""


@dataclass(frozen=True, slots=True)
class Mask:
    """Something to be covered: a file by the null device, a directory by an empty one."""

    path: str
    is_directory: bool


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """All that one jail is made of. ``outside_id`` is its own uid and gid in the jailer's user namespace."""

    policy: Policy
    places: Places
    outside_id: int
    workspace: str
    code: str
    masks: tuple[Mask, ...]
    """Those of the policy's masks that exist on this host and kernel."""
    outside_group: int | None = None
    """A gid that it shares with others, instead of its own."""


def rlimits(policy: Policy) -> dict[str, tuple[int, int] | None]:
    """Give the rlimits of every process in the jail, (soft, hard) by name; ``None``: as high as the host allows.

    What a cgroup limits better is left open here: a limit on address space breaks numpy and every JIT.
    """
    limits = policy.limits
    return {
        "AS": None,
        "CORE": (0, 0),
        "CPU": None,
        "FSIZE": (limits.file_bytes, limits.file_bytes),
        "NOFILE": (limits.open_files, limits.open_files),
        # The cgroup limits it too, but only after the kernel has copied the whole address space: the forks that a bomb
        # tries in vain would hold locks of files that every sandbox has mapped. One less, for nsjail is in there too.
        "NPROC": (limits.processes - 1, limits.processes - 1),
        "STACK": (8 << 20, 8 << 20),
        "MEMLOCK": (64 << 10, 64 << 10),
        "RTPRIO": (0, 0),
        "MSGQUEUE": (800 << 10, 800 << 10),
    }


def jail_config(spec: SandboxSpec) -> dict[str, object]:
    """Give the configuration of the jail around its init, as a JSON-ready mapping."""
    group = spec.outside_id if spec.outside_group is None else spec.outside_group
    config: dict[str, object] = {
        "name": "gaoler",
        "mode": "ONCE",
        "hostname": HOSTNAME,
        "cwd": "/",
        # Seconds; behind the jailer's own clock, which is exact and kills first.
        "timeLimit": round(spec.policy.limits.lifetime_seconds),
        "keepEnv": False,
        "keepCaps": False,
        "disableNoNewPrivs": False,
        # nsjail's default of 19 would starve the sandbox beside any other load.
        "niceLevel": 0,
        "cloneNewnet": True,
        "cloneNewuser": True,
        "cloneNewns": True,
        "cloneNewpid": True,
        "cloneNewipc": True,
        "cloneNewuts": True,
        "cloneNewcgroup": True,
        "ifaceNoLo": False,
        "uidmap": [{"insideId": str(INSIDE_ID), "outsideId": str(spec.outside_id), "count": 1}],
        "gidmap": [{"insideId": str(INSIDE_ID), "outsideId": str(group), "count": 1}],
        "mountProc": False,
        "mount": [_mount(entry, spec) for entry in spec.policy.mounts.mount]
        + [_mask(mask, spec) for mask in spec.masks],
        "seccompString": [spec.policy.seccomp_source],
        "execBin": {"path": spec.places.init, "arg": ["-P"]},
    }
    config.update(_rlimit_fields(spec.policy))
    return config


def _rlimit_fields(policy: Policy) -> dict[str, object]:
    fields: dict[str, object] = {}
    units = {"AS": 1 << 20, "CORE": 1 << 20, "FSIZE": 1 << 20, "STACK": 1 << 20, "MEMLOCK": 1 << 10, "MSGQUEUE": 1}
    for name, value in rlimits(policy).items():
        key = f"rlimit{name.capitalize()}"
        if value is None:
            fields[f"{key}Type"] = "HARD"
        else:
            fields[key] = str(value[0] // units.get(name, 1))
            fields[f"{key}Type"] = "VALUE"
    return fields


def _mount(entry: MountEntry, spec: SandboxSpec) -> dict[str, object]:
    limits = spec.policy.limits
    if entry.kind == "symlink":
        return {"src": entry.source, "dst": entry.target, "isSymlink": True}
    mount: dict[str, object] = {"dst": entry.target, "rw": entry.writable, "nosuid": True, "nodev": True}
    if entry.kind == "proc":
        return mount | {"fstype": "proc", "noexec": True}
    if entry.kind == "tmpfs":
        size, inodes, mode = entry.size_bytes, 64, "755"
        if entry.temporary:
            size, inodes, mode = limits.temporary_bytes, limits.temporary_inodes, "1777"
        return mount | {"fstype": "tmpfs", "options": f"size={size},nr_inodes={inodes},mode={mode}"}
    places = {
        "@usr": spec.places.usr,
        "@image": spec.places.image,
        "@etc": spec.places.etc,
        "@dev": spec.places.dev,
        "@shared": spec.places.shared,
        "@workspace": spec.workspace,
        "@code": spec.code,
        "@guest": spec.places.guest,
        "@gaoler": f"{spec.places.guest}{GAOLER}",
        "@machine": spec.places.machine,
        "@machine-dev": spec.places.machine_dev,
    }
    source = entry.source or ""
    if entry.source in ("@dev", "@machine-dev"):
        mount["nodev"] = False
    return mount | {"src": places.get(source, source), "isBind": True}


def _mask(mask: Mask, spec: SandboxSpec) -> dict[str, object]:
    source = spec.places.empty if mask.is_directory else f"{spec.places.dev}/null"
    return {"src": source, "dst": mask.path, "isBind": True, "rw": False, "nosuid": True, "noexec": True}
