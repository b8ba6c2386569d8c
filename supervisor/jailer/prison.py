"""Mount trees that ``setup`` builds as host root: the jailer's whole world, and the daemon's view of the host.

The jailer's root is a read-only tmpfs with the host's ``/usr``, our code, the runtime image with its own ``/usr`` if it
has one, a made-up ``/etc`` and ``/dev``, and the cgroup subtree. Once the user namespace is entered these mounts are
locked together: the jailer can neither undo nor loosen them.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from supervisor.errors import ConfigurationError
from supervisor.jailer import kernel
from supervisor.microvm import places

if TYPE_CHECKING:
    from supervisor.jailer.cgroup import Layout
    from supervisor.jailer.setup import MicrovmPlan, SetupPlan

HOST_USR: Final = Path("/usr")
HOST_ETC: Final = Path("/etc")
USR: Final = "/sandbox/usr"
IMAGE: Final = "/sandbox/image"
ETC: Final = "/sandbox/etc"
DEV: Final = "/sandbox/dev"
EMPTY: Final = "/sandbox/empty"
SHARED: Final = "/sandbox/packages"
GUEST: Final = "/sandbox/guest"
"""The root of a virtual machine."""
MACHINE: Final = "/sandbox/machine"
MACHINE_DEV: Final = "/sandbox/machine-dev"
WORK: Final = "/sandbox/workspaces"
"""Mount points of the workspaces."""
CGROUP: Final = "/sandbox/cgroup"
AUTHORITIES: Final = "ca-certificates.crt"
RUN: Final = "/run"
"""nsjail puts the roots of its jails below /run/user."""

_READ_ONLY: Final = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
_USR_LINKS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_GUEST_DIRECTORIES: Final = ("dev", "proc", "sys", "run", "tmp", "mnt", "guest", "machine", places.PACKAGES.lstrip("/"))
_MACHINE_DEVICES: Final = ("null", "zero", "urandom")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_DEVICE_LINKS: Final = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_MAX_COPY_BYTES: Final = 16 << 20
_PUBLIC_ETC: Final = (
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/openssl.cnf",
)
"""What libraries of the daemon's look up: names, the time zone, types of files."""


@contextmanager
def passable() -> Iterator[None]:
    """Have files and directories made as they are asked for: under UMask=0077 nobody could pass those of a view."""
    previous = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(previous)


def place_of_usr(usr: Path) -> str:
    """Say where the jailer sees what sandboxes get as their ``/usr``."""
    return str(HOST_USR) if usr == HOST_USR else USR


def build(plan: SetupPlan, layout: Layout) -> None:
    """Build the jailer's root in the calling process's own mount namespace and pivot into it.

    Raises:
        OSError: a mount was refused.
        ConfigurationError: a path that is needed does not exist.
    """
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    root = plan.state_directory.resolve() / "root"
    root.mkdir(mode=0o755, exist_ok=True)
    kernel.mount("gaoler", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"size={2 * _MAX_COPY_BYTES},mode=755")
    _bind_read_only(Path("/usr"), root)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        _same_as_host(Path("/") / name, root)
    for directory in _outermost(plan.code):
        _bind_read_only(directory, root)
    if plan.usr != HOST_USR:
        _bind_at(plan.usr, root / USR.lstrip("/"), _READ_ONLY)
    _bind_at(plan.image, root / IMAGE.lstrip("/"), _READ_ONLY)
    if plan.shared_packages is not None:
        _bind_at(plan.shared_packages, root / SHARED.lstrip("/"), _READ_ONLY)
    _make_etc(plan, root / ETC.lstrip("/"), plan.etc)
    _make_dev(root / DEV.lstrip("/"))
    if plan.microvm is not None:
        _make_guest(plan, plan.microvm, root)
        _make_machine_dev(root / MACHINE_DEV.lstrip("/"), plan.first_subordinate_uid + plan.microvm.machines.group)
    if plan.etc == HOST_ETC:
        (root / "etc").symlink_to(ETC)
    else:
        # The jailer's own programs are the host's: another system's linker cache and settings are not for them.
        _make_etc(plan, root / "etc", HOST_ETC)
    (root / "dev").symlink_to(DEV)
    for name, group in layout.directories.items():
        _bind_at(Path(group), root / CGROUP.lstrip("/") / name, kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    for name in ("proc", RUN, WORK, EMPTY, SHARED, "host", "tmp"):
        # The code may lie anywhere, also under a directory that we need ourselves.
        (root / name.lstrip("/")).mkdir(mode=0o755, exist_ok=True)
    # A fresh /proc may be mounted in a user namespace only where a whole one is visible already.
    kernel.bind("/proc", root / "proc")
    os.chdir(root)
    kernel.pivot_root(".", "host")
    os.chdir("/")
    kernel.unmount("/host")
    kernel.mount(None, "/", None, kernel.MS_BIND | kernel.MS_REMOUNT | _READ_ONLY)


@passable()
def enter_view(
    place: Path,
    readable: Sequence[Path],
    writable: Sequence[Path],
    hosts: Sequence[Path] = (),
    *,
    network: bool = False,
) -> None:
    """Make the calling process's world: ``/usr``, these directories, and nothing else of the host.

    All of it is read-only but ``writable`` and a small ``/tmp``. Whatever the modes of their parents are, the paths
    stay where they were. ``place`` is an empty directory to build it in. ``hosts`` are readable directories of the
    host's own, in which sockets and pipes, ways to its services, are covered. Of the host's ``/etc`` only what
    libraries look up is there; there are no homes and no logs. The network is an empty one, in which no abstract socket
    of the host can be reached either: who serves brings along what it listens on. With ``network`` it stays the host's.
    For one thread; needs host root.

    Raises:
        OSError: a mount was refused.
        ConfigurationError: a path is no directory.
    """
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | (0 if network else kernel.CLONE_NEWNET))
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("gaoler", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"size={_MAX_COPY_BYTES},mode=755")
    closed = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    for name in ("tmp", "host"):
        (place / name).mkdir(mode=0o755)
    # Before all others: they may lie below it.
    kernel.mount("gaoler", place / "tmp", "tmpfs", closed, "size=64m,mode=1777")
    _bind_read_only(Path("/usr"), place)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        _same_as_host(Path("/") / name, place)
    for directory in _outermost([*readable, *hosts]):
        _bind_read_only(directory, place)
    for directory in hosts:
        _cover_ways_out(place / directory.relative_to("/"))
    for name in _PUBLIC_ETC:
        target = place / name.lstrip("/")
        if Path(name).exists() and not target.exists():
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            shutil.copyfile(name, target)
    _make_dev(place / "dev")
    _bind_at(Path("/sys/fs/cgroup"), place / "sys/fs/cgroup", closed | kernel.MS_RDONLY)
    _mount_own_proc(place / "proc", closed | kernel.MS_RDONLY)
    for directory in _outermost(writable):
        _bind_at(directory, place / directory.relative_to("/"), closed)
    os.chdir(place)
    kernel.pivot_root(".", "host")
    os.chdir("/")
    kernel.unmount("/host")
    kernel.mount(None, "/", None, kernel.MS_BIND | kernel.MS_REMOUNT | _READ_ONLY)


def _cover_ways_out(directory: Path) -> None:
    for found, _, names in os.walk(directory):
        for name in names:
            path = Path(found, name)
            mode = path.lstat().st_mode
            if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
                kernel.bind("/dev/null", path, flags=_READ_ONLY, recursive=False)


def _mount_own_proc(target: Path, flags: int) -> None:
    """Mount a /proc in which other users' processes, and what their command lines tell, are not seen."""
    target.mkdir(mode=0o555)
    try:
        kernel.mount("proc", target, "proc", flags, "hidepid=2")
    except PermissionError:
        # In a container whose /proc is covered in part the kernel gives no whole one: then that very one it is.
        kernel.bind("/proc", target, flags=flags)


def _outermost(paths: Sequence[Path]) -> list[Path]:
    """Give the resolved paths without those that lie inside another one or under /usr."""
    resolved = sorted({path.resolve() for path in paths})
    kept: list[Path] = []
    for path in resolved:
        if not path.is_relative_to("/usr") and not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _bind_read_only(directory: Path, root: Path) -> None:
    _bind_at(directory, root / directory.relative_to("/"), _READ_ONLY)


def _bind_at(source: Path, target: Path, flags: int) -> None:
    if not source.is_dir():
        raise ConfigurationError(f"{source} is no directory, but the jailer needs it")
    target.mkdir(mode=0o755, parents=True, exist_ok=True)
    kernel.bind(source, target, flags=flags)


def _same_as_host(path: Path, root: Path) -> None:
    target = root / path.relative_to("/")
    if path.is_symlink():
        target.symlink_to(path.readlink())
    elif path.is_dir():
        _bind_read_only(path, root)


def _make_dev(directory: Path) -> None:
    directory.mkdir(mode=0o755, parents=True)
    for name in _DEVICES:
        node = directory / name
        node.touch(mode=0o600)
        kernel.bind(f"/dev/{name}", node, flags=kernel.MS_NOSUID | kernel.MS_NOEXEC, recursive=False)
    for name, target in _DEVICE_LINKS.items():
        (directory / name).symlink_to(target)
    (directory / "shm").mkdir(mode=0o755)


def _make_guest(plan: SetupPlan, microvm: MicrovmPlan, root: Path) -> None:
    """Put the root of a virtual machine together: what sandboxes see, and the jailer that makes them there."""
    guest = root / GUEST.lstrip("/")
    guest.mkdir(mode=0o755)
    for name in _GUEST_DIRECTORIES:
        (guest / name).mkdir(mode=0o755)
    _bind_at(plan.usr, guest / "usr", _READ_ONLY)
    for name in _USR_LINKS:
        if (plan.usr / name).is_dir():
            (guest / name).symlink_to(f"usr/{name}")
    _bind_at(root / ETC.lstrip("/"), guest / "etc", _READ_ONLY)
    _bind_at(plan.image, guest / places.IMAGE.lstrip("/"), _READ_ONLY)
    _bind_at(microvm.guest, guest / places.GAOLER.lstrip("/"), _READ_ONLY)
    if plan.shared_packages is not None:
        _bind_at(plan.shared_packages, guest / places.PACKAGES.lstrip("/"), _READ_ONLY)
    libraries = root / MACHINE.lstrip("/")
    libraries.mkdir(mode=0o755)
    for name, path in microvm.libraries.items():
        (libraries / name).touch(mode=0o600)
        kernel.bind(path.resolve(), libraries / name, flags=_READ_ONLY, recursive=False)


def _make_machine_dev(directory: Path, group: int) -> None:
    """Make the devices of a virtual machine's helper, KVM's of its own: for ``group``, and seen by nobody else."""
    directory.mkdir(mode=0o755)
    kernel.mount("gaoler", directory, "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "size=64k,mode=755")
    for name in _MACHINE_DEVICES:
        (directory / name).touch(mode=0o600)
        kernel.bind(f"/dev/{name}", directory / name, flags=kernel.MS_NOSUID | kernel.MS_NOEXEC, recursive=False)
    host, own = Path("/dev/kvm"), directory / "kvm"
    if host.exists():
        os.mknod(own, stat.S_IFCHR | 0o660, host.stat().st_rdev)
        own.chmod(0o660)
        os.chown(own, 0, group)
    kernel.mount(None, directory, None, kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID)


def _make_etc(plan: SetupPlan, directory: Path, base: Path) -> None:
    directory.mkdir(mode=0o755, parents=True)
    for path in sorted((plan.policy_directory / "etc").iterdir()):
        _copy(path, directory / path.name)
    for entry in {each.source: each for policy in plan.policies.values() for each in policy.mounts.copy}.values():
        name = Path(entry.source).relative_to("/etc")
        source, target = (HOST_ETC if entry.host else base) / name, directory / name
        # A link counts where it leads in a sandbox: here it may well lead nowhere.
        if source.is_symlink() or source.exists():
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(directory.resolve()):
                raise ConfigurationError(f"{entry.source} cannot be copied: {target.parent} leads elsewhere")
            _copy(source, target)
    if plan.trusted_authority:
        _trust(directory / "ssl" / "certs", plan.trusted_authority)


def _trust(directory: Path, certificate: str) -> None:
    """Let programs in sandboxes trust one more authority: in the file that libraries read, and by itself."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    bundle = directory / AUTHORITIES
    known = bundle.read_text(encoding="utf-8") if bundle.exists() else ""
    bundle.unlink(missing_ok=True)
    for path, text in ((bundle, f"{known.rstrip()}\n{certificate}"), (directory / "gaoler-egress.pem", certificate)):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)


def _copy(source: Path, target: Path) -> None:
    """Copy what the world may read: files, directories and links as they are; nothing else."""
    status = source.lstat()
    if target.is_symlink() or target.is_file():
        target.unlink()
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IXOTH:
        target.mkdir(mode=0o755, exist_ok=True)
        for child in source.iterdir():
            _copy(child, target / child.name)
    elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_size <= _MAX_COPY_BYTES:
        shutil.copyfile(source, target)
        target.chmod(0o644)
