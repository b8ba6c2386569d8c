"""Run a command of a build in a world of its own: ``python -m supervisor.image.enclosed SPEC``.

It sees ``/usr`` and ``/etc`` as sandboxes will, read-only; ``/usr/local`` is what it may write, perhaps over layers
that are complete; ``/tmp`` is empty. There is no network, no other process, no capability and nothing else of the host.
It ends when this program ends, however that happens.

The command runs code of packages, and it is the host's root without capabilities, for the files that it makes are
root's. To that user ``/etc/shadow`` is readable and ``/proc/sys`` writable, ``kernel.core_pattern`` among it: so of
``/etc`` it gets a copy of what everybody may read, and all of ``/proc`` is read-only. Its system calls are those of
every sandbox: the filter is the one of ``seccomp/default.kafel``. So it gets no namespace in which it would have rights
again, and reaches no more of the kernel than what it makes will reach, when it is used.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.image.steps import Runner, ignore
from supervisor.jailer import kernel
from supervisor.jailer.seccomp import compile_policy
from supervisor.policy import PACKAGED_POLICIES
from supervisor.preparation.nsjail_program import nsjail_path
from supervisor.runtimes.catalogue import COMMON_ENVIRONMENT

VERSION: Final = 3
"""Changes when a command finds another world."""
FILTER: Final = PACKAGED_POLICIES / "seccomp" / "default.kafel"
"""That of Gaoler itself, whatever policies an operator has: these are for programs of callers."""
_HIDDEN: Final = ("keys", "key-users")
"""Of ``/proc``: what the host's root has in the kernel's keyrings, which no namespace divides."""
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_CLOSED: Final = kernel.MS_NOSUID | kernel.MS_NODEV


class Spec(Struct, frozen=True, forbid_unknown_fields=True):
    """What to run in what. Paths are the host's, but the command's."""

    usr: str
    etc: str
    local: str
    """What is to be written, seen as ``/usr/local``."""
    below: list[str]
    """Complete layers that are seen there too, under it."""
    command: list[str]
    environment: dict[str, str]


def run_enclosed(run: Runner, spec: Spec) -> None:
    """Run the command and wait for it.

    Raises:
        ImageError: it failed; with the end of its output.
    """
    try:
        run([sys.executable, "-I", "-m", "supervisor.image.enclosed", msgspec.json.encode(spec).decode()], ignore)
    finally:
        shutil.rmtree(_work_of(spec), ignore_errors=True)


def environment_with(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the environment of a command: a sandbox's, but that nothing is kept in a home."""
    return {**COMMON_ENVIRONMENT, **(more or {}), "HOME": "/tmp"}


def main(arguments: Sequence[str]) -> None:
    """Enter the world and run the command in a child: the first process of a new pid namespace."""
    spec = msgspec.json.decode(arguments[0], type=Spec)
    work = _work_of(spec)
    work.mkdir(exist_ok=True)
    wall = compile_policy(str(nsjail_path()), FILTER.read_text(encoding="utf-8"))
    kernel.unshare(
        kernel.CLONE_NEWNS
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
        | kernel.CLONE_NEWCGROUP
    )
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    pid = os.fork()
    if pid == 0:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        _build_world(spec, work)
        kernel.keep_capabilities(frozenset())
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        os.umask(0o022)
        kernel.install_seccomp(wall)
        os.execvpe(spec.command[0], spec.command, spec.environment)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.exit(code if code >= 0 else 128 - code)


def _work_of(spec: Spec) -> Path:
    """Give the directory for what the mounts need: beside the layer's tree, and removed with it."""
    return Path(f"{spec.local}.work")


def _build_world(spec: Spec, work: Path) -> None:
    """Make the mounts and move into them."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    root = work / "root"
    root.mkdir(exist_ok=True)
    kernel.mount("gaoler", root, "tmpfs", _CLOSED, "size=1m,mode=755")
    for name in ("usr", "etc", "tmp", "proc", "dev", "dev/shm", "host"):
        (root / name).mkdir(mode=0o755)
    kernel.bind(spec.usr, root / "usr", flags=kernel.MS_RDONLY | _CLOSED)
    _copy_public(Path(spec.etc), root / "etc")
    for name in _MERGED:
        if (root / "usr" / name).is_dir():
            (root / name).symlink_to(f"usr/{name}")
    _mount_local(spec, work, root / "usr" / "local")
    for name in _DEVICES:
        (root / "dev" / name).touch()
        kernel.bind(f"/dev/{name}", root / "dev" / name, flags=kernel.MS_NOSUID | kernel.MS_NOEXEC, recursive=False)
    kernel.mount("gaoler", root / "tmp", "tmpfs", _CLOSED, "mode=1777")
    kernel.mount("gaoler", root / "dev" / "shm", "tmpfs", _CLOSED, "mode=1777")
    kernel.mount("proc", root / "proc", "proc", _CLOSED | kernel.MS_NOEXEC | kernel.MS_RDONLY)
    for name in _HIDDEN:
        if (root / "proc" / name).exists():
            # As a device: without that the device of nothing could not be read.
            kernel.bind("/dev/null", root / "proc" / name, flags=kernel.MS_NOSUID | kernel.MS_NOEXEC, recursive=False)
    os.chdir(root)
    kernel.pivot_root(".", "host")
    os.chdir("/tmp")
    kernel.unmount("/host")
    kernel.mount(None, "/", None, kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | _CLOSED)


def _copy_public(source: Path, target: Path) -> None:
    """Copy what everybody may read, for good: a mask over a file of the host's goes when the file is replaced."""
    kernel.mount("gaoler", target, "tmpfs", _CLOSED, "size=64m,mode=755")

    def hidden(directory: str, names: list[str]) -> list[str]:
        return [name for name in names if not _is_public(Path(directory, name))]

    shutil.copytree(source, target, symlinks=True, ignore=hidden, dirs_exist_ok=True)
    kernel.mount(None, target, None, kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | _CLOSED)


def _is_public(path: Path) -> bool:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        return bool(mode & stat.S_IXOTH)
    return stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and bool(mode & stat.S_IROTH))


def _mount_local(spec: Spec, work: Path, target: Path) -> None:
    if not spec.below:
        kernel.bind(spec.local, target, flags=_CLOSED)
        return
    scratch = work / "overlay"
    scratch.mkdir(exist_ok=True)
    options = f"lowerdir={':'.join(spec.below)},upperdir={spec.local},workdir={scratch}"
    try:
        kernel.mount("overlay", target, "overlay", _CLOSED, options)
    except OSError as error:
        # As a container's own overlay: it cannot be the upper layer of another one.
        sys.exit(f"{spec.local} cannot be put over other layers ({error}): set image_dir to a disk's file system")


if __name__ == "__main__":
    main(sys.argv[1:])
