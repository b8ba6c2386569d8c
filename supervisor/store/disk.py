"""File bytes in a directory, named by their SHA-256: the embedded default.

A blob is written under ``incoming/`` and renamed to its name when it is whole, so a crash leaves no half blob; what
lies in ``incoming/`` at start is removed. Data is flushed to the disk before the rename. The modification time says
when a blob was last written or asked for again by a writer: the sweeper leaves young ones alone, so that a blob whose
metadata is just being stored is safe.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import trio

from supervisor.errors import NotFound, StorageFull

log: Final = logging.getLogger("gaoler.store")
_T = TypeVar("_T")

CHUNK_BYTES: Final = 256 * 1024
MEMORY_BYTES: Final = 64 * 1024
"""A blob up to this size is held in memory and written in one go: one hop to a thread instead of four."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class DiskBlobWriter:
    """A :class:`supervisor.store.BlobWriter`. Made by :meth:`DiskBlobs.writer`."""

    def __init__(self, blobs: DiskBlobs) -> None:
        self._blobs = blobs
        self._hash = hashlib.sha256()
        self._size = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._fd = -1
        self._path: Path | None = None

    async def write(self, data: bytes) -> None:
        """See :class:`supervisor.store.BlobWriter`."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        self._size += len(data)
        if self._pending_bytes > MEMORY_BYTES:
            await self._blobs.in_thread(self._flush)

    async def commit(self) -> tuple[str, int]:
        """See :class:`supervisor.store.BlobWriter`."""
        return await self._blobs.in_thread(self._commit), self._size

    def _flush(self) -> None:
        if self._fd < 0:
            self._blobs.check_room()
            self._path = self._blobs.incoming / secrets.token_hex(16)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        for data in self._pending:
            self._hash.update(data)
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        self._pending, self._pending_bytes = [], 0

    def _commit(self) -> str:
        if self._fd < 0:
            digest = hashlib.sha256(b"".join(self._pending)).hexdigest()
            if self._blobs.refresh(digest):
                return digest
        self._flush()
        digest = self._hash.hexdigest()
        path = self._path
        assert path is not None
        if not self._blobs.refresh(digest):
            os.fdatasync(self._fd)
            target = self._blobs.path(digest)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            path.rename(target)
            self._path = None
        self._discard()
        return digest

    def _discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    async def aclose(self) -> None:
        """Leave nothing of an uncommitted blob. Shielded; idempotent."""
        if self._fd >= 0 or self._path is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._discard)


class DiskBlobs:
    """A :class:`supervisor.store.BlobStore`. Use :func:`open_blobs`."""

    def __init__(self, directory: Path, reserve_bytes: int) -> None:
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._young = threading.Lock()
        """Held while a blob is made young or judged old: between the two a removal would lose it."""
        self.incoming = directory / "incoming"
        self.removed_uploads = 0
        """That a crash had left half-written."""

    def prepare(self) -> None:
        """Make the directory and remove what a crash left."""
        self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self.incoming.iterdir():
            leftover.unlink()
            self.removed_uploads += 1

    def path(self, digest: str) -> Path:
        """Give the place of a blob; anything but a SHA-256 in hex is refused before it could become a path."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256 digest: {digest!a}")
        return self._directory / digest[:2] / digest[2:]

    def check_room(self) -> None:
        """Refuse to write when the disk is nearly full.

        Raises:
            StorageFull: less than the reserve is free.
        """
        status = os.statvfs(self._directory)
        if status.f_bavail * status.f_frsize < self._reserve_bytes:
            raise StorageFull("the server's disk is full")

    def refresh(self, digest: str) -> bool:
        """Say whether the blob is there, and make it young if so."""
        with self._young:
            try:
                os.utime(self.path(digest))
            except FileNotFoundError:
                return False
            return True

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Run blocking ``work`` in a thread; a disk that is full or cannot be written to is typed."""
        try:
            return await trio.to_thread.run_sync(work)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("the server's disk is full") from None
            if error.errno in (errno.EROFS, errno.EIO):
                log.error("a file cannot be stored: %s", error)
                raise StorageFull("the server's storage cannot be written to") from None
            raise

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[DiskBlobWriter]:
        """See :class:`supervisor.store.BlobStore`."""
        writer = DiskBlobWriter(self)
        try:
            yield writer
        finally:
            await writer.aclose()

    @asynccontextmanager
    async def open(self, digest: str, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """See :class:`supervisor.store.BlobStore`."""
        path = self.path(digest)

        def begin() -> tuple[int, bytes]:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            if start:
                os.lseek(fd, start, os.SEEK_SET)
            return fd, os.read(fd, CHUNK_BYTES)

        try:
            fd, first = await trio.to_thread.run_sync(begin)
        except FileNotFoundError:
            raise NotFound("no such file") from None
        try:
            async with aclosing(self._chunks(fd, first)) as chunks:
                yield chunks
        finally:
            os.close(fd)

    async def _chunks(self, fd: int, first: bytes) -> AsyncGenerator[bytes, None]:
        data = first
        while data:
            yield data
            # A short read of a regular file is its end.
            data = await trio.to_thread.run_sync(os.read, fd, CHUNK_BYTES) if len(data) == CHUNK_BYTES else b""

    async def old(self, before: float) -> list[str]:
        """See :class:`supervisor.store.BlobStore`."""

        def look() -> list[str]:
            found: list[str] = []
            for folder in self._directory.iterdir():
                if folder == self.incoming:
                    continue
                found += [folder.name + each.name for each in folder.iterdir() if each.stat().st_mtime < before]
            return found

        return await trio.to_thread.run_sync(look)

    async def remove(self, digest: str, before: float) -> None:
        """See :class:`supervisor.store.BlobStore`."""
        path = self.path(digest)

        def work() -> None:
            with self._young:
                try:
                    if path.stat().st_mtime < before:
                        path.unlink()
                except FileNotFoundError:
                    return

        await trio.to_thread.run_sync(work)


@asynccontextmanager
async def open_blobs(directory: Path, *, reserve_bytes: int) -> AsyncIterator[DiskBlobs]:
    """Open the store for the block."""
    blobs = DiskBlobs(directory, reserve_bytes)
    await trio.to_thread.run_sync(blobs.prepare)
    yield blobs
