"""Sessions and their files, as the doors and the executor use them: access rules, quotas, streams, expiry."""

from __future__ import annotations

import logging
import mimetypes
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.admission.pressure import Pressure
from supervisor.errors import ExecutionLost, GaolerError, NotFound, QuotaReached, TooLarge
from supervisor.execution.values import (
    FileId,
    FileReference,
    Owner,
    Principal,
    SessionId,
    SessionInfo,
    StoredFile,
    is_id,
    new_id,
)
from supervisor.identity.access import may_use, owner_of
from supervisor.identity.derived import DerivedIds
from supervisor.store import (
    NO_QUOTA,
    AccountFull,
    BlobStore,
    Fenced,
    FileChange,
    Quota,
    QuotaExceeded,
    SavedState,
    SessionContents,
    SessionRow,
    SessionStore,
    StoredPackages,
)
from supervisor.workspace.names import check_name
from supervisor.workspace.views import check_free

log: Final = logging.getLogger("gaoler.files")

GRACE_SECONDS: Final = 600.0
"""A blob this young may have metadata that is still on its way."""

_NO_SESSION: Final = "no such session"
_NO_FILE: Final = "no such file"


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Bounds of what is kept."""

    file_bytes: int
    files_per_session: int
    session_bytes: int
    retention_seconds: float
    quota: Quota = NO_QUOTA


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored bytes that have no name yet."""

    digest: str
    size_bytes: int


class FileService:
    """All work on kept files. Every method checks access; what is not the caller's is :class:`NotFound`."""

    def __init__(
        self,
        sessions: SessionStore,
        blobs: BlobStore,
        limits: FileLimits,
        ids: DerivedIds,
        *,
        pressure: Pressure,
        clock: Callable[[], float],
        states: BlobStore | None = None,
        remove_orphans: bool = True,
    ) -> None:
        """``states`` is where saved states are, if not with the files; ``remove_orphans``: see :meth:`sweep`."""
        self._pressure = pressure
        self._states = blobs if states is None else states
        self._remove_orphans = remove_orphans
        self._ids = ids
        self._sessions = sessions
        self._blobs = blobs
        self._limits = limits
        self._clock = clock
        self.on_deleted: Callable[[SessionId], None] = lambda _session_id: None
        """Called when a session is deleted by its owner."""
        self.on_changed: Callable[[SessionId], None] = lambda _session_id: None
        """Called when files of a session have changed here."""
        self.on_changed_elsewhere: Callable[[SessionId], None] = lambda _session_id: None
        """Called when another daemon at the same store says so."""
        self.expired_sessions = self.removed_blobs = 0
        """What sweeps have removed: sessions whose time was over, bytes that nothing named any more."""

    # -- sessions --

    async def create_session(
        self, owner: Owner, session_id: SessionId | None = None, *, language: str | None = None
    ) -> SessionId:
        """Make a session that lives for the retention time after its last new file.

        Raises:
            QuotaReached: its owner has as many as there may be.
        """
        row = self.new_session(owner, session_id, language=language)
        with _quotas_typed():
            await self._sessions.put_session(row, self._limits.quota)
        return row.id

    def new_session(
        self, owner: Owner, session_id: SessionId | None = None, *, language: str | None = None
    ) -> SessionRow:
        """Give the record of a session that :meth:`change` is to make together with what is put into it."""
        now = self._clock()
        expires_at = now + self._limits.retention_seconds
        return SessionRow(session_id or SessionId(new_id()), owner, now, expires_at, language)

    async def open_session(self, principal: Principal, session_id: SessionId) -> SessionRow:
        """Look a session up.

        Raises:
            NotFound: it is absent, expired or another's.
        """
        row = await self._sessions.session(session_id, self._clock()) if is_id(session_id) else None
        if row is None or not may_use(principal, row.owner):
            raise NotFound(_NO_SESSION, field="session_id")
        return row

    async def session(self, principal: Principal, session_id: SessionId) -> SessionInfo:
        """Describe a session.

        Raises:
            NotFound: as :meth:`open_session`.
        """
        row = await self.open_session(principal, session_id)
        return SessionInfo(row.id, row.language, row.created_at, row.expires_at)

    async def sessions(self, principal: Principal, limit: int) -> list[SessionInfo]:
        """List the caller's own sessions, the newest first; one who names no user has those that are nobody's."""
        found = await self._sessions.sessions_of(owner_of(principal), self._clock(), limit)
        return [
            SessionInfo(row.id, row.language, row.created_at, row.expires_at, usage.files, usage.size_bytes)
            for row, usage in found
        ]

    def shared_session(self, owner: Owner) -> SessionId:
        """Name the session of a user's lasting files, which are in all of its workspaces. Nobody can guess it."""
        return self._ids.derive("shared", owner.tenant, owner.kind, owner.id)

    async def shared_files(self, owner: Owner) -> list[StoredFile]:
        """List a user's lasting files."""
        row = await self._sessions.session(self.shared_session(owner), self._clock())
        return await self._sessions.files(row.id) if row is not None and row.owner == owner else []

    async def known_session(self, principal: Principal, session_id: SessionId) -> SessionRow | None:
        """Look a session up that the caller wants to go on in; an unknown one (never kept, or expired) is ``None``.

        Raises:
            NotFound: it is another's.
        """
        row = await self._sessions.session(session_id, self._clock())
        if row is not None and not may_use(principal, row.owner):
            raise NotFound(_NO_SESSION, field="session_id")
        return row

    async def delete_session(self, principal: Principal, session_id: SessionId) -> None:
        """Forget a session with its files.

        Raises:
            NotFound: as :meth:`open_session`.
        """
        row = await self.open_session(principal, session_id)
        await self._sessions.delete_session(row.id)
        self.on_deleted(row.id)

    async def remove_session(self, session_id: SessionId) -> None:
        """Forget a session with its files on an operator's behalf."""
        await self._sessions.delete_session(session_id)
        self.on_deleted(session_id)

    async def drop_session(self, session_id: SessionId) -> None:
        """Forget a session that the caller itself has just made."""
        await self._sessions.delete_session(session_id)

    # -- the state of interpreters --

    async def keep_state(
        self,
        session_id: SessionId,
        profile: str,
        blob: Blob,
        keep_seconds: float,
        untrusted_unsaved: Sequence[tuple[str, str]],
        *,
        fence: int | None = None,
    ) -> None:
        """Keep a saved namespace, whose bytes were stored; a session that was deleted meanwhile takes it along.

        Raises:
            QuotaReached: the owner would keep too much.
            ExecutionLost: another worker has the session now.
        """
        now = self._clock()
        unsaved = tuple(untrusted_unsaved)
        state = SavedState(session_id, profile, blob.digest, blob.size_bytes, now, now + keep_seconds, unsaved)
        try:
            with _quotas_typed():
                await self._sessions.put_state(state, self._limits.quota, fence)
        except KeyError:
            return

    async def saved_state(self, session_id: SessionId) -> SavedState | None:
        """Look up what is saved of a session that is the caller's."""
        return await self._sessions.state(session_id, self._clock())

    async def forget_state(self, principal: Principal, session_id: SessionId) -> None:
        """Forget what is saved of a session.

        Raises:
            NotFound: as :meth:`open_session`.
        """
        row = await self.open_session(principal, session_id)
        await self._sessions.delete_state(row.id)

    @asynccontextmanager
    async def state_content(self, state: SavedState) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the bytes of a saved state."""
        async with self._states.open(state.sha256) as chunks:
            yield chunks

    # -- packages --

    @asynccontextmanager
    async def packages_content(self, packages: StoredPackages) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the bytes of the archive."""
        async with self._blobs.open(packages.sha256) as chunks:
            yield chunks

    # -- files in --

    def check_host(self) -> None:
        """Refuse what comes from outside while the host is short of something. What executions leave is still stored.

        Raises:
            Overloaded: it is.
        """
        self._pressure.check()

    async def receive(
        self,
        session_id: SessionId,
        name: str,
        content_type: str | None,
        chunks: AsyncIterator[bytes],
        *,
        read_only: bool = False,
    ) -> StoredFile:
        """Store an upload in a session of the caller's, with flat memory; a file of that name is replaced.

        Raises:
            InvalidRequest: the name is not allowed.
            Conflict: a directory of the session has the name, or it lies below a file.
            TooLarge: the file or the session would be over a limit.
            StorageFull: no room on the disk.
            Overloaded: the host is short of something.
        """
        self.check_host()
        check_name(name)
        held = await self._sessions.contents(session_id)
        check_free(name, {file.name for file in held.files}, held.directories, field="file.filename")
        blob = await self.store(chunks)
        file = self.describe(session_id, name, blob, content_type=content_type, read_only=read_only)
        await self.keep([file])
        return file

    async def store(self, chunks: AsyncIterator[bytes], limit_bytes: int | None = None) -> Blob:
        """Store bytes without a name; what never gets one is swept later. The iterator is closed in any case.

        Raises:
            TooLarge: more than one file may have, or ``limit_bytes`` if that is given.
            StorageFull: no room on the disk.
        """
        return await _store(self._blobs, chunks, limit_bytes or self._limits.file_bytes)

    async def store_state(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> Blob:
        """Store the bytes of a state, as :meth:`store`."""
        return await _store(self._states, chunks, limit_bytes)

    def describe(
        self,
        session_id: SessionId,
        name: str,
        blob: Blob,
        *,
        content_type: str | None = None,
        read_only: bool = False,
        executable: bool = False,
    ) -> StoredFile:
        """Make the record of a new file."""
        now = self._clock()
        return StoredFile(
            id=FileId(new_id()),
            session_id=session_id,
            name=name,
            size_bytes=blob.size_bytes,
            sha256=blob.digest,
            content_type=content_type or mimetypes.guess_type(name, strict=False)[0] or "application/octet-stream",
            created_at=now,
            modified_at=now,
            read_only=read_only,
            executable=executable,
        )

    async def keep(self, files: Sequence[StoredFile]) -> None:
        """Put files into their (one) session, all or none.

        Raises:
            TooLarge: the session would be over a limit.
            NotFound: the session was deleted meanwhile.
        """
        await self.change(files[0].session_id, FileChange(put=files))

    async def change(self, session_id: SessionId, change: FileChange, *, fence: int | None = None) -> None:
        """Change the files of a session of the caller's, all or nothing. It then lives for the retention time again.

        Raises:
            TooLarge: the session would be over a limit.
            QuotaReached: the owner would keep too much.
            NotFound: the session was deleted meanwhile.
            ExecutionLost: another worker has the session, whose lease had the number ``fence``.
        """
        try:
            with _quotas_typed():
                await self._sessions.change_files(
                    session_id,
                    change,
                    expires_at=self._clock() + self._limits.retention_seconds,
                    max_files=self._limits.files_per_session,
                    max_bytes=self._limits.session_bytes,
                    quota=self._limits.quota,
                    fence=fence,
                )
        except QuotaExceeded as error:
            raise TooLarge(str(error), field="file") from None
        except KeyError:
            raise NotFound(_NO_SESSION, field="session_id") from None
        self.on_changed(session_id)

    # -- files out --

    async def listing(self, principal: Principal, session_id: SessionId) -> tuple[StoredFile, ...]:
        """List a session's files by name.

        Raises:
            NotFound: as :meth:`open_session`.
        """
        await self.open_session(principal, session_id)
        return tuple(await self._sessions.files(session_id))

    async def listing_or_none(self, principal: Principal, session_id: SessionId) -> tuple[StoredFile, ...]:
        """List a session's files; of one that is absent, expired or another's there are none."""
        try:
            return await self.listing(principal, session_id)
        except NotFound:
            return ()

    async def find_by_name(self, principal: Principal, session_id: SessionId, name: str) -> StoredFile:
        """Look a file of a session up by its name.

        Raises:
            NotFound: the session or the file is absent, expired or another's.
        """
        for file in await self.listing(principal, session_id):
            if file.name == name:
                return file
        raise NotFound(_NO_FILE, field="path")

    async def drop_files(self, files: Sequence[StoredFile]) -> None:
        """Forget files that the caller itself has just stored."""
        await self._delete(files)

    async def _delete(self, files: Sequence[StoredFile]) -> None:
        await self._sessions.delete_files([file.id for file in files])
        for session_id in {file.session_id for file in files}:
            self.on_changed(session_id)

    async def contents(self, row: SessionRow) -> SessionContents:
        """Give what a session holds that was looked up already."""
        return await self._sessions.contents(row.id)

    async def find(self, principal: Principal, session_id: SessionId, file_id: FileId) -> StoredFile:
        """Look a file up by its id, which is unique; the session named beside it need not be its own.

        Old LibreChat clients attach the id of an execution to files of other sessions.

        Raises:
            NotFound: it is absent, expired or another's, or an id is malformed.
        """
        found = await self._sessions.find([file_id], self._clock()) if is_id(file_id) and is_id(session_id) else {}
        if file_id not in found or not may_use(principal, found[file_id][1].owner):
            raise NotFound(_NO_FILE, field="file_id")
        return found[file_id][0]

    async def find_inputs(
        self, principal: Principal, references: Sequence[FileReference]
    ) -> tuple[list[StoredFile], list[Owner]]:
        """Look up the inputs of an execution, in one go; give the files and the owners of their sessions.

        Raises:
            NotFound: one of them is absent, expired or another's; ``field`` says which.
        """
        found = await self._sessions.find([reference.id for reference in references], self._clock())
        files: list[StoredFile] = []
        owners: list[Owner] = []
        for index, reference in enumerate(references):
            if reference.id not in found or not may_use(principal, found[reference.id][1].owner):
                raise NotFound(_NO_FILE, field=f"files[{index}].id")
            file, row = found[reference.id]
            files.append(file)
            owners.append(row.owner)
        return files, owners

    @asynccontextmanager
    async def open(
        self, principal: Principal, session_id: SessionId, file_id: FileId
    ) -> AsyncIterator[tuple[StoredFile, AsyncIterator[bytes]]]:
        """Give a file and its bytes for the block.

        Raises:
            NotFound: as :meth:`find`.
        """
        file = await self.find(principal, session_id, file_id)
        async with self._blobs.open(file.sha256) as chunks:
            yield file, chunks

    @asynccontextmanager
    async def content(self, file: StoredFile, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the bytes of a file that was looked up already, from byte ``start``."""
        async with self._blobs.open(file.sha256, start) as chunks:
            yield chunks

    async def delete_file(self, principal: Principal, session_id: SessionId, file_id: FileId) -> None:
        """Forget a file.

        Raises:
            NotFound: as :meth:`find`.
        """
        await self._delete([await self.find(principal, session_id, file_id)])

    # -- expiry --

    async def sweep(self) -> tuple[int, int]:
        """Remove what has expired and bytes that nothing names any more; return (sessions, blobs) removed.

        Without ``remove_orphans`` the bytes stay.
        """
        now = self._clock()
        sessions = await self._sessions.delete_expired(now)
        self.expired_sessions += sessions
        if not self._remove_orphans:
            return sessions, 0
        before, removed = now - GRACE_SECONDS, 0
        for blobs in [self._blobs] if self._states is self._blobs else [self._blobs, self._states]:
            orphans = await self._sessions.unreferenced(await blobs.old(before))
            for digest in orphans:
                await blobs.remove(digest, before)
            removed += len(orphans)
            self.removed_blobs += len(orphans)
        return sessions, removed


async def _store(blobs: BlobStore, chunks: AsyncIterator[bytes], limit_bytes: int) -> Blob:
    """Store bytes in a store; see :meth:`FileService.store`."""
    size = 0
    async with _closing(chunks), blobs.writer() as writer:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit_bytes:
                raise TooLarge(f"a file has at most {limit_bytes} bytes", field="file")
            await writer.write(chunk)
        digest, size = await writer.commit()
    return Blob(digest, size)


@contextmanager
def _quotas_typed() -> Iterator[None]:
    try:
        yield
    except Fenced:
        raise ExecutionLost("another worker has the session now: nothing of this was kept") from None
    except AccountFull as error:
        raise QuotaReached(f"{error}; delete some, or wait until they expire", field="file") from None


@asynccontextmanager
async def _closing(chunks: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Close a generator that is left in the middle, now and not when it is collected."""
    try:
        yield
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def run_sweeper(files: FileService, interval_seconds: float) -> None:
    """Sweep at once and then every ``interval_seconds`` until cancelled; a fault is logged and tried again later."""
    while True:
        try:
            sessions, blobs = await files.sweep()
            if sessions or blobs:
                log.info("swept sessions=%d blobs=%d", sessions, blobs)
        except (OSError, sqlite3.Error, GaolerError) as error:
            log.error("sweep failed: %s", error)
        await trio.sleep(interval_seconds)
