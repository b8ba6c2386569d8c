"""Packages that every sandbox finds, read-only: installed by the operator, once, in a sandbox, through the allowlist.

Peers mount one writable directory into all sandboxes, so that one user's program decides what another's imports. Here
only ``gaoler packages`` changes the set: it installs the whole of it anew in a sandbox of its own, whose archive
becomes a directory with a name of its own; the link ``current`` is switched when that is complete. A running daemon
goes on with what it found at its start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from supervisor import oneshot
from supervisor.errors import ConfigurationError, GaolerError, InvalidRequest
from supervisor.packages.manifest import MANIFEST, Wanted, bare, read_manifest
from supervisor.preparation.prepare import SHARED_PACKAGES, read_policy, shared_packages
from supervisor.settings.tree import Settings

INSTALL_SECONDS: Final = 900.0


def read_wanted(settings: Settings) -> Wanted:
    """Give what is installed.

    Raises:
        ConfigurationError: the manifest is broken.
    """
    return read_manifest(shared_packages(settings))


def install(settings: Settings, wanted: Wanted) -> Path | None:
    """Have exactly these packages, and nothing if there are none; give their directory. Needs root.

    Raises:
        GaolerError: a name is none, the policy has no network, or the installation failed; what was there stays.
    """
    wanted.check()
    if os.geteuid() != 0:
        raise ConfigurationError("installing packages for all sandboxes needs root: run it with sudo")
    base = settings.state_path / SHARED_PACKAGES
    if not wanted.python and not wanted.node:
        (base / "current").unlink(missing_ok=True)
        _remove_others(base, None)
        return None
    _policies, policy = read_policy(settings)
    if policy.network != "egress":
        raise ConfigurationError(
            f'policy {policy.name} has no network: choose one that has, as execution.policy = "packages"',
            field="execution.policy",
        )
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    building = base / "building"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o755)
    try:
        _run(settings, wanted, building)
        return _publish(base, building, wanted)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _run(settings: Settings, wanted: Wanted, building: Path) -> None:
    # The unprivileged side of it writes here; what it has read from a sandbox is not unpacked as root.
    uid = settings.jailer.daemon_uid
    os.chown(building, uid, uid)
    work = oneshot.Work("bash", _script(wanted), (), (), INSTALL_SECONDS, unpack_to=building)
    report = oneshot.execute(settings, work, keep=False)
    if report.status != 0:
        tail = "\n    ".join((report.stdout + report.stderr).strip().splitlines()[-12:])
        raise GaolerError(f"the packages could not be installed:\n    {tail}")


def _script(wanted: Wanted) -> str:
    lines = ["set -e", "cd /mnt/data"]
    if wanted.python:
        lines.append(f"pip install --progress-bar off {shlex.join(wanted.python)} 2>&1")
    if wanted.node:
        lines.append(f"npm install --no-package-lock --no-save {shlex.join(wanted.node)} 2>&1")
    return "\n".join(lines) + "\n"


def _publish(base: Path, building: Path, wanted: Wanted) -> Path:
    manifest = msgspec.json.encode(wanted)
    # First it is root's again: then nobody can put something into the manifest's way.
    for path in [building, *building.rglob("*")]:
        os.chown(path, 0, 0, follow_symlinks=False)
    building.chmod(0o755)
    fd = os.open(building / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "wb") as file:
        file.write(manifest)
    final = base / hashlib.sha256(manifest + os.urandom(16)).hexdigest()[:16]
    building.rename(final)
    link = base / "current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(final.name)
    link.rename(base / "current")
    _remove_others(base, final)
    return final


def _remove_others(base: Path, kept: Path | None) -> None:
    """Remove older sets. A daemon that has one mounted keeps it: a mount holds what it shows."""
    if base.exists():
        for path in base.iterdir():
            if re.fullmatch(r"[0-9a-f]{16}", path.name) and path != kept and not _is_mounted(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_mounted(path: Path) -> bool:
    """Say whether a daemon still uses it: each holds the lock of the state directory while it runs."""
    lock = path.parent.parent / "lock"
    if not lock.exists():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def added(wanted: Wanted, python: Sequence[str], node: Sequence[str]) -> Wanted:
    """Add packages; another version of one that is there stands in for it."""
    return Wanted(_merged(wanted.python, python), _merged(wanted.node, node))


def without(wanted: Wanted, names: Sequence[str]) -> Wanted:
    """Take packages away.

    Raises:
        InvalidRequest: one is not there.
    """
    have = {bare(each) for each in (*wanted.python, *wanted.node)}
    for name in names:
        if bare(name) not in have:
            raise InvalidRequest(f"{name!r} is not installed", field="name")
    gone = {bare(name) for name in names}
    return Wanted(
        [each for each in wanted.python if bare(each) not in gone],
        [each for each in wanted.node if bare(each) not in gone],
    )


def _merged(there: Sequence[str], more: Sequence[str]) -> list[str]:
    return list({bare(each): each for each in (*there, *more)}.values())
