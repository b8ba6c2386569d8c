"""Make the cgroup subtree that is given to the jailer. Runs as host root, from ``setup`` only."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from supervisor.errors import ConfigurationError
from supervisor.jailer import kernel
from supervisor.jailer.cgroup import V1_CONTROLLERS, V2_CONTROLLERS, Layout

ROOT: Final = Path("/sys/fs/cgroup")
EMPTY_SECONDS: Final = 5
JAILER_LEAF: Final = "jailer"
_DELEGATED: Final = ("trusted.delegate", "user.delegate")


def subtree_name(state_directory: Path) -> str:
    """Name the subtree after the state directory: two daemons on one host never share one."""
    return f"gaoler-{hashlib.sha256(os.fsencode(state_directory.resolve())).hexdigest()[:8]}"


def mount_points() -> dict[str, Path]:
    """Give the mount point of each v1 controller, and of cgroup v2 as ``unified``, from ``/proc/self/mountinfo``."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fstype, _source, options = right.split(" ", 2)
        place = Path(left.split()[4])
        if fstype == "cgroup2":
            found.setdefault("unified", place)
        elif fstype == "cgroup":
            for option in options.split(","):
                if option in V1_CONTROLLERS:
                    found.setdefault(option, place)
    return found


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What an earlier daemon had left in its subtree: jails' cgroups by name, and processes."""

    cgroups: set[str] = field(default_factory=set)
    processes: set[str] = field(default_factory=set)


def make_subtree(state_directory: Path, owner: int, left: Leftovers | None = None) -> Layout:
    """Make (or take over) our subtree, give it to uid ``owner``, and remove what an earlier run left in it.

    ``left``: where that is noted.

    Raises:
        ConfigurationError: the host has no usable controllers; says which are missing and how to get them.
    """
    name = subtree_name(state_directory)
    mounts = mount_points()
    if _has_v1(mounts):
        directories = {controller: mounts[controller] / name for controller in V1_CONTROLLERS}
        layout = Layout(version=1, directories={key: str(path) for key, path in directories.items()})
    elif "unified" in mounts:
        parent = _v2_parent(mounts["unified"])
        _enable(parent)
        layout = Layout(version=2, directories={"unified": str(parent / name)})
    else:
        raise ConfigurationError(
            "no cgroups: neither cgroup v2 nor the v1 controllers memory, pids, cpu and cpuacct are mounted "
            "(boot with systemd, or mount -t cgroup2 none /sys/fs/cgroup)"
        )
    for path in _jailers_first({Path(each) for each in layout.directories.values()}):
        remove_leaves(path, left)
        path.mkdir(mode=0o755, exist_ok=True)
        _give_away(path, owner)
    return layout


def leave_group_of_unit() -> None:
    """Go from the group of a unit that systemd delegated to us into one below it, where it is so on cgroup v2.

    :func:`make_subtree` does so too, but whoever was started before stays behind, and a group with processes of its own
    cannot hand controllers on.
    """
    mounts = mount_points()
    if "unified" in mounts and not _has_v1(mounts):
        _v2_parent(mounts["unified"])


def enter_subtree(layout: Layout, owner: int) -> None:
    """Move the calling process, the keeper to be, into a cgroup namespace of the subtree, and a leaf of its own there.

    The namespace's root has to be above all leaves: where cgroup v2 is mounted with ``nsdelegate``, as systemd does,
    the kernel refuses every move beyond it. So it is taken before the leaf, and while the subtree hands no controllers
    on: a v2 group that does can hold no process itself.

    The next start finds the keeper in its leaf, and all that it started, should it still be dying. On v2 it is needed
    anyway: a process may move another one only between groups below one that it may write to, so whoever fills the
    leaves has to live beside them. On v1 one hierarchy is enough, the one that sets no limit by itself.
    """
    subtree = Path(layout.directories["unified" if layout.version == 2 else "pids"])
    if layout.version == 2:
        _disable(subtree)
    (subtree / "cgroup.procs").write_text("0")
    kernel.unshare(kernel.CLONE_NEWCGROUP)
    leaf = subtree / JAILER_LEAF
    leaf.mkdir(mode=0o755)
    if layout.version == 2:
        _give_away(leaf, owner)
    (leaf / "cgroup.procs").write_text("0")
    if layout.version == 2:
        _enable(subtree)


def remove_subtree(state_directory: Path) -> None:
    """Kill and remove whatever is in our subtree, and the subtree itself. For uninstalling and for tests."""
    remove_subtree_named(subtree_name(state_directory))


def remove_subtree_named(name: str) -> None:
    """Kill and remove whatever is in that subtree, and the subtree itself."""
    mounts = mount_points()
    parents = {mounts[key] for key in mounts}
    if "unified" in mounts:
        parents.add(_v2_parent(mounts["unified"]))
    for path in _jailers_first({parent / name for parent in parents}):
        if path.is_dir():
            remove_leaves(path)
            path.rmdir()


def _jailers_first(hierarchies: Iterable[Path]) -> list[Path]:
    """Begin where the jailer lives: while it does it fills the others, behind whoever has just emptied them."""
    return sorted(hierarchies, key=lambda each: (not (each / JAILER_LEAF).is_dir(), each))


def remove_leaves(directory: Path, left: Leftovers | None = None) -> None:
    """Kill what runs in the leaves below ``directory`` and remove them. The jailer's own first: it fills the others.

    ``left``: where that is noted. The jailer's own group is always there.
    """
    left = Leftovers() if left is None else left
    if not directory.is_dir():
        return
    _remove_one(directory / JAILER_LEAF, left)
    # What there is besides is known only now that nobody makes more.
    for leaf in directory.iterdir():
        if leaf.is_dir():
            _remove_one(leaf, left)
            left.cgroups.add(leaf.name)


def _remove_one(leaf: Path, left: Leftovers) -> None:
    try:
        left.processes.update(_remove(leaf))
    except OSError as error:
        # There is none, or a jailer that is just ending has removed it itself.
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def _remove(leaf: Path) -> set[str]:
    """Kill and remove; what has died may be counted for another moment. Give the pids that were there."""
    deadline, killed = time.monotonic() + EMPTY_SECONDS, set[str]()
    while True:
        pids = (leaf / "cgroup.procs").read_text().split()
        killed.update(pids)
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            leaf.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        else:
            return killed
        if time.monotonic() > deadline:
            raise ConfigurationError(f"processes {', '.join(pids)} in {leaf} do not die; a reboot may be needed")
        time.sleep(0.002)


def _give_away(path: Path, owner: int) -> None:
    os.chown(path, owner, owner)
    for name in ("cgroup.procs", "tasks", "cgroup.threads", "cgroup.subtree_control"):
        if (path / name).exists():
            os.chown(path / name, owner, owner)


def _has_v1(mounts: dict[str, Path]) -> bool:
    return all(controller in mounts for controller in V1_CONTROLLERS)


def _v2_parent(mount: Path) -> Path:
    """Choose where the subtree goes: into the unit that systemd delegated to us, or to the root of the hierarchy."""
    own = Path("/proc/self/cgroup").read_text().splitlines()
    path = next((line.partition("::")[2] for line in own if line.startswith("0::")), "/")
    unit = mount / path.lstrip("/")
    for attribute in _DELEGATED:
        try:
            if os.getxattr(unit, attribute) == b"1":
                _move_self(unit / "supervisor")
                return unit
        except OSError:
            continue
    if unit.name == "supervisor" and unit.parent != mount:
        return unit.parent  # moved there before, by an earlier start in the same unit
    return mount


def _move_self(directory: Path) -> None:
    """Leave the unit's own group: a v2 group with processes of its own cannot hand controllers on."""
    directory.mkdir(exist_ok=True)
    (directory / "cgroup.procs").write_text("0")


def _disable(path: Path) -> None:
    """Hand no controllers on, as an earlier run may have left it; there are no groups below it."""
    for controller in (path / "cgroup.subtree_control").read_text().split():
        (path / "cgroup.subtree_control").write_text(f"-{controller}")


def _enable(path: Path) -> None:
    wanted = " ".join(f"+{controller}" for controller in V2_CONTROLLERS)
    try:
        (path / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        available = (path / "cgroup.controllers").read_text().split()
        missing = [controller for controller in V2_CONTROLLERS if controller not in available]
        raise ConfigurationError(
            f"cgroup v2 at {path} cannot hand on {', '.join(missing or V2_CONTROLLERS)} ({error.strerror}): "
            "in a systemd unit set Delegate=cpu memory pids"
        ) from None
