"""What is kept, behind two small protocols: sessions with their files' metadata, and the files' bytes.

Embedded: SQLite and a content-addressed directory. One contract suite (``tests/contracts``) holds for every pair.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from supervisor.execution.values import FileId, Owner, SessionId, StoredFile


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session. Times are seconds since the epoch; it is gone for everyone from ``expires_at`` on."""

    id: SessionId
    owner: Owner
    created_at: float
    expires_at: float
    language: str | None = None
    """What code in it is written in, if its maker said so."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """The namespace of a session's interpreter, written down; the bytes are a blob. Never read outside a sandbox."""

    session_id: SessionId
    profile: str
    sha256: str
    size_bytes: int
    saved_at: float
    expires_at: float
    untrusted_unsaved: tuple[tuple[str, str], ...] = ()
    """What could not be saved: names and reasons, as the sandbox gave them."""


@dataclass(frozen=True, slots=True)
class StoredPackages:
    """What a session has installed, as one archive; the bytes are a blob. Never read outside of the jailer."""

    session_id: SessionId
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SessionContents:
    """What a session holds: its files, its directories without a file in them, what it has installed."""

    files: list[StoredFile]
    directories: frozenset[str]
    packages: StoredPackages | None = None


@dataclass(frozen=True, slots=True)
class FileChange:
    """What becomes of what a session holds, all of it or nothing. A file of the same name is replaced.

    Directories are kept for those without a file in them, which would vanish otherwise.
    """

    put: Sequence[StoredFile] = ()
    drop: Sequence[FileId] = ()
    add_directories: frozenset[str] = frozenset()
    drop_directories: frozenset[str] = frozenset()
    packages: StoredPackages | None = None
    """Kept instead of older ones."""
    drop_packages: bool = False
    make: SessionRow | None = None
    """The session, if it is to be made with what is put into it; as :meth:`SessionStore.put_session`."""

    @property
    def empty(self) -> bool:
        """Nothing changes."""
        files = self.put or self.drop or self.add_directories or self.drop_directories
        return not (files or self.packages or self.drop_packages)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a session holds."""

    files: int
    size_bytes: int


class QuotaExceeded(Exception):
    """The files would pass a limit of their session; nothing was stored. The message names the limit."""


class Fenced(Exception):
    """The session's lease has gone to another worker meanwhile; nothing was stored."""


class AccountFull(QuotaExceeded):
    """The same for what an account holds in all its sessions."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What may be held in all; files, saved states and packages count.

    A user's sessions are one account; what belongs to no user of a tenant is another one, which may hold
    ``shared_factor`` times as much.
    """

    user_bytes: int
    user_sessions: int
    tenant_bytes: int
    shared_factor: int = 1


NO_QUOTA = Quota(1 << 62, 1 << 62, 1 << 62)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions a listing is of. ``None``: whoever's."""

    tenant: str | None = None
    user: str | None = None


Place = tuple[float, SessionId]
"""Where a listing stands: when its last session was made, and which one that was."""


class SessionStore(Protocol):
    """Sessions and file metadata. Every call is one transaction; a cancelled one happened whole or not at all."""

    async def put_session(self, row: SessionRow, quota: Quota = NO_QUOTA) -> None:
        """Make the session; one of this id that is there already stays as it is, but lives at least as long.

        Raises:
            AccountFull: it would be one too many.
        """

    async def session(self, session_id: SessionId, now: float) -> SessionRow | None:
        """Look a living session up."""

    async def sessions_of(self, owner: Owner, now: float, limit: int) -> list[tuple[SessionRow, Usage]]:
        """List the living sessions of exactly this owner, the newest first."""

    async def all_sessions(
        self, wanted: Wanted, now: float, limit: int, after: Place | None = None
    ) -> list[tuple[SessionRow, Usage]]:
        """List living sessions of all owners, the newest first; of one moment, by id. ``after``: go on from there."""

    async def change_files(
        self,
        session_id: SessionId,
        change: FileChange,
        *,
        expires_at: float,
        max_files: int,
        max_bytes: int,
        quota: Quota = NO_QUOTA,
        fence: int | None = None,
    ) -> None:
        """Change what a session holds that exists, or is made with it. Directories count as files.

        ``fence``: the number of the lease under which this was worked out, see :mod:`supervisor.fleet.leases`; a store
        of one daemon's own has no leases and does not look at it.

        Raises:
            Fenced: another worker has the session now.
            QuotaExceeded: the session would pass ``max_files`` or ``max_bytes``.
            AccountFull: it grows, and its account would pass ``quota``.
            KeyError: the session is gone.
        """

    async def files(self, session_id: SessionId) -> list[StoredFile]:
        """List the files of a session by name."""

    async def contents(self, session_id: SessionId) -> SessionContents:
        """List the files of a session by name, and its directories that have none."""

    async def find(self, file_ids: Sequence[FileId], now: float) -> dict[FileId, tuple[StoredFile, SessionRow]]:
        """Look living files up by id, with their sessions; unknown ones are left out."""

    async def delete_files(self, file_ids: Sequence[FileId]) -> None:
        """Forget files; unknown ids are no error."""

    async def put_state(self, state: SavedState, quota: Quota = NO_QUOTA, fence: int | None = None) -> None:
        """Keep the state of an existing session, instead of an older one. ``fence`` as :meth:`change_files`.

        Raises:
            Fenced: another worker has the session now.
            KeyError: the session is gone.
            AccountFull: as :meth:`change_files`.
        """

    async def state(self, session_id: SessionId, now: float) -> SavedState | None:
        """Look a living state up."""

    async def delete_state(self, session_id: SessionId) -> None:
        """Forget a session's state, if it has one."""

    async def delete_session(self, session_id: SessionId) -> None:
        """Forget a session, its files and its state."""

    async def delete_expired(self, now: float) -> int:
        """Forget every session, and every state, that has expired; return how many sessions."""

    async def unreferenced(self, digests: Sequence[str]) -> list[str]:
        """Give those of ``digests`` that no file and no state has."""


class BlobWriter(Protocol):
    """A blob being written."""

    async def write(self, data: bytes) -> None:
        """Append.

        Raises:
            StorageFull: no room.
        """

    async def commit(self) -> tuple[str, int]:
        """Make it permanent, all at once; return SHA-256 in hex and size in bytes."""


class BlobStore(Protocol):
    """Bytes by their SHA-256."""

    def writer(self) -> AbstractAsyncContextManager[BlobWriter]:
        """Write a blob in the block; one that is not committed leaves nothing."""

    def open(self, digest: str, start: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read a blob in chunks, from byte ``start``.

        Raises:
            NotFound: there is no such blob.
        """

    async def old(self, before: float) -> list[str]:
        """Give the blobs not written or used again since ``before``."""

    async def remove(self, digest: str, before: float) -> None:
        """Remove a blob, unless it was used again since ``before``."""


class BlobMarks(Protocol):
    """Keeps those who use a blob again and those who remove it apart, where many do both (S3, several daemons).

    A blob that is marked as used is not removed for :data:`supervisor.files.service.GRACE_SECONDS`; one whose removal
    has begun is not used until that has ended.
    """

    async def use(self, digest: str) -> None:
        """Mark it as used, before it is looked for or written; waits for a removal that has begun."""

    async def begin_removal(self, digest: str) -> bool:
        """Say whether it may be removed now: nobody has marked it of late, and nothing names it."""

    async def end_removal(self, digest: str) -> None:
        """It is gone."""
