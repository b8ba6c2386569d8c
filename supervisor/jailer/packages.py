"""Packages that a session has installed: whole directories of a workspace, moved as one archive of our own form.

pip and npm write thousands of files that nobody wants to see one by one. They go out as a stream of entries, each four
bytes of length, a MessagePack head (name, size, executable) and the content, and come back in a later sandbox of the
session. What is read was written by a sandbox: names are resolved beneath the root without following anything, and
every number is checked before it is used.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.jailer import kernel

PACKAGE_DIRECTORIES: Final = (b".packages", b"node_modules")
"""At the top of the workspace."""
MAX_FILES: Final = 60_000
MAX_DEPTH: Final = 32
MAX_HEAD: Final = 8192
CHUNK_BYTES: Final = 1 << 18
_LENGTH: Final = struct.Struct(">I")
RESOLVE: Final = (
    kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_XDEV
)


class BadArchive(Exception):
    """It is not what :func:`pack` writes."""


class _Head(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: Annotated[bytes, Meta(min_length=1, max_length=4096)]
    size: Annotated[int, Meta(ge=0, le=1 << 40)]
    executable: bool


_decoder: Final = msgspec.msgpack.Decoder(_Head)


class Found(Struct, frozen=True):
    """A file of a package directory."""

    name: bytes
    size: int
    executable: bool

    def head(self) -> bytes:
        """Give what stands before its content."""
        payload = msgspec.msgpack.encode(_Head(self.name, self.size, self.executable))
        return _LENGTH.pack(len(payload)) + payload


class Listing(Struct, frozen=True):
    """All of them. ``stamp`` changes when one of them does; ``size`` is that of the archive, in bytes."""

    files: list[Found]
    stamp: bytes
    size: int
    truncated: bool


def find(root: int) -> Listing:
    """List the files of the package directories below ``root``, a directory's descriptor; may take milliseconds."""
    files: list[Found] = []
    stamp = hashlib.sha256()
    truncated = False
    pending = list(PACKAGE_DIRECTORIES)
    while pending and not truncated:
        path = pending.pop()
        try:
            fd = kernel.openat2(root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=RESOLVE)
        except OSError:
            continue  # it is not there, or no directory
        try:
            with os.scandir(fd) as items:
                for item in sorted(items, key=lambda each: each.name):
                    name = path + b"/" + os.fsencode(item.name)
                    status = item.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        if name.count(b"/") < MAX_DEPTH:
                            pending.append(name)
                    elif stat.S_ISREG(status.st_mode) and len(name) <= 4096:
                        files.append(Found(name, status.st_size, bool(status.st_mode & stat.S_IXUSR)))
                        stamp.update(b"%s\0%d %d %d\0" % (name, status.st_size, status.st_ino, status.st_ctime_ns))
        finally:
            os.close(fd)
        truncated = len(files) > MAX_FILES
    size = sum(len(each.head()) + each.size for each in files)
    return Listing(files, stamp.digest(), size, truncated)


def pack(root: int, listing: Listing) -> Iterator[bytes]:
    """Write the archive in pieces of at most :data:`CHUNK_BYTES`. Nothing may run in the jail meanwhile.

    Raises:
        OSError: a file has changed since it was listed.
    """
    buffer = bytearray()
    for each in listing.files:
        buffer += each.head()
        left = each.size
        if left:
            fd = kernel.openat2(
                root, each.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, resolve=RESOLVE
            )
            try:
                while left:
                    data = os.read(fd, min(left, CHUNK_BYTES))
                    if not data:
                        raise OSError("a file shrank while nothing ran")
                    left -= len(data)
                    buffer += data
                    while len(buffer) >= CHUNK_BYTES:
                        yield bytes(buffer[:CHUNK_BYTES])
                        del buffer[:CHUNK_BYTES]
            finally:
                os.close(fd)
        elif len(buffer) >= CHUNK_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


class Unpacker:
    """Writes an archive into a workspace, piece by piece. Call :meth:`close` at its end, and however it ends."""

    def __init__(self, root: int, owner: int) -> None:
        self._root = root
        self._owner = owner
        self._buffer = bytearray()
        self._made: set[bytes] = {b""}
        self._file = -1
        self._left = 0
        self._files = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece. May block.

        Raises:
            BadArchive: it cannot be one.
            OSError: a file cannot be written; no room, perhaps.
        """
        self._buffer += data
        while True:
            if self._file >= 0:
                self._write()
                if self._left:
                    return
                self._end_file()
            elif not self._begin_file():
                return

    def close(self, *, complete: bool = False) -> None:
        """Close what is open.

        Raises:
            BadArchive: it should be complete, and ends in the middle.
        """
        cut = self._file >= 0 or bool(self._buffer)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if complete and cut:
            raise BadArchive("it ends in the middle")

    def _begin_file(self) -> bool:
        if len(self._buffer) < _LENGTH.size:
            return False
        (size,) = _LENGTH.unpack_from(self._buffer)
        if size > MAX_HEAD:
            raise BadArchive("a head is too large")
        end = _LENGTH.size + size
        if len(self._buffer) < end:
            return False
        try:
            head = _decoder.decode(bytes(self._buffer[_LENGTH.size : end]))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadArchive(f"a head is broken: {error}") from None
        del self._buffer[:end]
        self._files += 1
        parts = head.name.split(b"/")
        if (
            self._files > MAX_FILES + 1000
            or parts[0] not in PACKAGE_DIRECTORIES
            or not 2 <= len(parts) <= MAX_DEPTH + 2
        ):
            raise BadArchive("a file is where no package is")
        if any(part in (b"", b".", b"..") or b"\0" in part or len(part) > 255 for part in parts):
            raise BadArchive("a name is not a plain one")
        self._make_directory(b"/".join(parts[:-1]))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        self._file = kernel.openat2(self._root, head.name, flags, mode=0o600, resolve=RESOLVE)
        os.fchown(self._file, self._owner, self._owner)
        os.fchmod(self._file, 0o755 if head.executable else 0o644)
        self._left = head.size
        return True

    def _write(self) -> None:
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: len(piece)]
        view = memoryview(piece)
        while view:
            view = view[os.write(self._file, view) :]
        self._left -= len(piece)

    def _end_file(self) -> None:
        os.close(self._file)
        self._file = -1

    def _make_directory(self, path: bytes) -> None:
        if path in self._made:
            return
        parent, _, name = path.rpartition(b"/")
        self._make_directory(parent)
        at = kernel.openat2(self._root, parent or b".", os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE)
        try:
            os.mkdir(name, 0o755, dir_fd=at)
            os.chmod(name, 0o755, dir_fd=at)  # whatever the umask
            os.chown(name, self._owner, self._owner, dir_fd=at, follow_symlinks=False)
        except FileExistsError:
            pass
        finally:
            os.close(at)
        self._made.add(path)
