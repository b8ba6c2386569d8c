"""The files of one jail: a tmpfs of its own with byte and inode limits, touched only fd-relative.

``data`` in it becomes ``/mnt/data``, ``code`` becomes ``/code``. The jailer writes and reads while nothing in the jail
runs (it is dead, or stopped), and resolves every name with ``openat2`` beneath the root without following any link, so
a name chosen by the sandbox leads nowhere else; ``nosymfollow`` on the mount says the same again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.jailer import kernel, packages
from supervisor.jailer.protocol import MAX_MANIFEST_ENTRIES, Entry, Manifest, PackageScan, Skip
from supervisor.policy import LimitTable

MAX_DEPTH: Final = 10
MAX_MANIFEST_BYTES: Final = 192 * 1024
_RESOLVE: Final = (
    kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_XDEV
)
_ROOM_FOR_CODE_INODES: Final = 8
_SMALL_INODES: Final = 256


class WorkspaceFull(Exception):
    """No bytes or no inodes are left."""


class BadName(Exception):
    """The name cannot be used inside a workspace; the message names the rule."""


@dataclass(frozen=True, slots=True)
class _Baseline:
    """What an input looked like when the jailer had written it. Nobody inside can set a ctime."""

    inode: int
    size: int
    ctime_ns: int


class Workspace:
    """Use :func:`open_workspace`."""

    def __init__(self, directory: Path, outside_id: int) -> None:
        self.data = directory / "data"
        self.code = directory / "code"
        self._outside_id = outside_id
        self._baseline: dict[bytes, _Baseline] = {}
        self._read_only: set[bytes] = set()
        self.packages: packages.Listing | None = None
        """As they were last seen."""

    @contextmanager
    def writing(self, area: str, name: bytes, *, read_only: bool, executable: bool = False) -> Iterator[int]:
        """Make the file ``name`` and give a descriptor to write it; at the end it gets its owner and mode.

        A file that has the name is replaced, not written to: whoever holds it open keeps the old one.

        Raises:
            BadName: it is no plain relative name, or a directory has it.
            WorkspaceFull: no room.
        """
        root = os.open(self.data if area == "workspace" else self.code, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # The code and read-only inputs belong to the jailer's root: nobody inside can change their mode.
        owner = self._outside_id if area == "workspace" and not read_only else 0
        try:
            with _full_is_typed():
                self._make_parents(root, name)
                self._remove_old(root, name)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                fd = kernel.openat2(root, name, flags, mode=0o600, resolve=_RESOLVE)
                try:
                    try:
                        yield fd
                    except OSError:
                        # Half a file would pass for a result.
                        if area == "workspace":
                            self.remove(name)
                        raise
                    os.fchown(fd, owner, owner)
                    os.fchmod(fd, (0o444 if read_only else 0o644) | (0o111 if executable else 0))
                    if area == "workspace":
                        self._remember(name, os.fstat(fd), read_only=read_only)
                finally:
                    os.close(fd)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise BadName("there is a file or directory of this name already") from None
        finally:
            os.close(root)

    def _remove_old(self, root: int, name: bytes) -> None:
        parent, _, last = name.rpartition(b"/")
        at = kernel.openat2(root, parent or b".", os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
        try:
            os.unlink(last, dir_fd=at)
        except FileNotFoundError:
            pass  # as it mostly is
        finally:
            os.close(at)

    def remove(self, name: bytes) -> None:
        """Remove a file, or an empty directory; what is not there, or is a directory in use, stays as it is.

        Raises:
            BadName: it is no plain relative name.
        """
        _check_parts(name)
        parent, _, last = name.rpartition(b"/")
        root = os.open(self.data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            at = kernel.openat2(root, parent or b".", os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
            try:
                try:
                    os.unlink(last, dir_fd=at)
                except IsADirectoryError:
                    os.rmdir(last, dir_fd=at)
            finally:
                os.close(at)
        except OSError:
            pass  # not there, not empty, or the sandbox has put something else into its way
        finally:
            os.close(root)
        self._baseline.pop(name, None)
        self._read_only.discard(name)

    def make_directory(self, name: bytes) -> None:
        """Make a directory with its parents, unless it is there.

        Raises:
            BadName: it is no plain relative name, or a file is in its way.
            WorkspaceFull: no room.
        """
        root = os.open(self.data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _full_is_typed():
                self._make_parents(root, name + b"/.keep")
        except (FileExistsError, NotADirectoryError):
            raise BadName("there is a file of this name already") from None
        finally:
            os.close(root)

    def _remember(self, name: bytes, status: os.stat_result, *, read_only: bool) -> None:
        self._baseline[name] = _Baseline(status.st_ino, status.st_size, status.st_ctime_ns)
        if read_only:
            self._read_only.add(name)

    def _make_parents(self, root: int, name: bytes) -> None:
        parts = _check_parts(name)
        for depth in range(1, len(parts)):
            parent = b"/".join(parts[:depth])
            try:
                fd = kernel.openat2(root, parent, os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
            except FileNotFoundError:
                holder = b"/".join(parts[: depth - 1])
                at = kernel.openat2(root, holder or b".", os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
                try:
                    os.mkdir(parts[depth - 1], 0o755, dir_fd=at)
                    os.chown(parts[depth - 1], self._outside_id, self._outside_id, dir_fd=at, follow_symlinks=False)
                finally:
                    os.close(at)
            else:
                os.close(fd)

    def scan(self) -> Manifest:
        """List the regular files. Call only when nothing runs in the jail; may block for some milliseconds.

        What is listed now counts as unchanged the next time, until somebody writes to it.
        """
        walk = _Walk(self._baseline, self._read_only)
        manifest = walk.run(self.data, self._scan_packages())
        if not manifest.truncated:
            self._baseline = walk.seen
        return manifest

    def _scan_packages(self) -> PackageScan:
        with self.root() as root:
            before, self.packages = self.packages, packages.find(root)
        found = self.packages
        changed = before.stamp != found.stamp if before is not None else bool(found.files)
        return PackageScan(size=found.size, changed=changed, truncated=found.truncated)

    @contextmanager
    def root(self) -> Iterator[int]:
        """Give a descriptor of ``/mnt/data`` for the block."""
        fd = os.open(self.data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def unpacker(self, root: int) -> packages.Unpacker:
        """Give what puts packages back, below a descriptor of :meth:`root`."""
        return packages.Unpacker(root, self._outside_id)

    def remember_packages(self) -> None:
        """What is there now counts as unchanged."""
        with self.root() as root:
            self.packages = packages.find(root)

    @property
    def small(self) -> bool:
        """Listing it takes no time worth a thread."""
        status = os.statvfs(self.data)
        return status.f_files - status.f_ffree < _SMALL_INODES

    def open_file(self, untrusted_name: bytes) -> tuple[int, int]:
        """Open a regular file for reading; return descriptor (caller closes) and size in bytes.

        Raises:
            BadName: there is no such regular file.
        """
        root = os.open(self.data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
            fd = kernel.openat2(root, untrusted_name, flags, resolve=_RESOLVE)
        except (OSError, ValueError) as error:
            raise BadName(f"no such file: {error}") from None
        finally:
            os.close(root)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise BadName("not a regular file")
        return fd, status.st_size


def _check_parts(name: bytes) -> list[bytes]:
    parts = name.split(b"/")
    if any(part in (b"", b".", b"..") or len(part) > 255 or b"\0" in part for part in parts):
        raise BadName("a name is relative, without empty, '.' and '..' parts, each at most 255 bytes")
    if len(parts) > MAX_DEPTH:
        raise BadName(f"a name has at most {MAX_DEPTH} parts")
    return parts


class _Walk:
    """One pass over a workspace: iterative, fd-relative, bounded in entries, bytes and depth."""

    def __init__(self, baseline: dict[bytes, _Baseline], read_only: set[bytes]) -> None:
        self._baseline = baseline
        self._read_only = read_only
        self._entries: list[Entry] = []
        self._skipped: list[Skip] = []
        self._directories: list[bytes] = []
        self.seen: dict[bytes, _Baseline] = {}
        self._bytes = 0
        self._truncated = False

    def run(self, root: Path, found: PackageScan) -> Manifest:
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            pending = [b""]
            while pending and not self._truncated:
                pending.extend(self._directory(root_fd, pending.pop()))
        finally:
            os.close(root_fd)
        return Manifest(
            entries=self._entries,
            skipped=self._skipped,
            directories=self._directories,
            truncated=self._truncated,
            packages=found,
        )

    def _directory(self, root_fd: int, path: bytes) -> list[bytes]:
        try:
            fd = kernel.openat2(root_fd, path or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=_RESOLVE)
        except OSError as error:
            # Gone, or replaced by a link, since its parent was read: something was not stopped in time.
            self._skip(path, os.strerror(error.errno or 0))
            return []
        below: list[bytes] = []
        try:
            with os.scandir(fd) as listing:
                for item in sorted(listing, key=lambda each: each.name):
                    name = os.fsencode(item.name)
                    full = path + b"/" + name if path else name
                    status = item.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        if self._enters(full, name):
                            below.append(full)
                    else:
                        self._leaf(full, status)
                    if self._truncated:
                        break
        finally:
            os.close(fd)
        return below[::-1]

    def _enters(self, full: bytes, name: bytes) -> bool:
        if full in packages.PACKAGE_DIRECTORIES:
            return False
        if name.startswith(b"."):
            self._skip(full, "hidden directory")
        elif full.count(b"/") + 1 >= MAX_DEPTH:
            self._skip(full, f"deeper than {MAX_DEPTH} levels")
        elif self._room(full):
            self._directories.append(full)
            return True
        return False

    def _leaf(self, full: bytes, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self._skip(full, "symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file")
            return
        before = self._baseline.get(full)
        now = _Baseline(status.st_ino, status.st_size, status.st_ctime_ns)
        self.seen[full] = now
        if full not in self._read_only and self._room(full):
            executable = bool(status.st_mode & stat.S_IXUSR)
            self._entries.append(
                Entry(untrusted_name=full, size=status.st_size, unchanged=before == now, executable=executable)
            )

    def _skip(self, full: bytes, reason: str) -> None:
        if self._room(full):
            self._skipped.append(Skip(untrusted_name=full[:4096], reason=reason))

    def _room(self, name: bytes) -> bool:
        self._bytes += len(name) + 32
        listed = len(self._entries) + len(self._skipped) + len(self._directories)
        if self._bytes > MAX_MANIFEST_BYTES or listed >= MAX_MANIFEST_ENTRIES:
            self._truncated = True
        return not self._truncated


@contextmanager
def _full_is_typed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WorkspaceFull(str(error)) from None
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV, errno.EINVAL):
            raise BadName(os.strerror(error.errno)) from None
        raise


@contextmanager
def open_workspace(directory: Path, limits: LimitTable, outside_id: int) -> Iterator[Workspace]:
    """Mount a workspace at ``directory`` for the block. At its end it is detached; the kernel frees it.

    Raises:
        OSError: the mount failed.
    """
    directory.mkdir(mode=0o755)
    try:
        options = f"size={limits.workspace_bytes},nr_inodes={limits.workspace_inodes + _ROOM_FOR_CODE_INODES},mode=755"
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOSYMFOLLOW
        kernel.mount("workspace", directory, "tmpfs", flags, options)
        try:
            workspace = Workspace(directory, outside_id)
            workspace.code.mkdir(mode=0o755)
            workspace.data.mkdir(mode=0o755)
            os.chown(workspace.data, outside_id, outside_id)
            yield workspace
        finally:
            kernel.unmount(directory)
    finally:
        directory.rmdir()
