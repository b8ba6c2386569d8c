"""Sessions and file metadata in SQLite (WAL): the embedded default.

One connection, one thread at a time. ``synchronous=NORMAL`` loses at most the last transactions when the power fails,
and none when the daemon is killed (https://sqlite.org/wal.html#performance_considerations); a transaction is
never half there.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from supervisor.errors import ConfigurationError, StorageFull
from supervisor.execution.values import FileId, Owner, SessionId, StoredFile
from supervisor.store import (
    NO_QUOTA,
    FileChange,
    Place,
    Quota,
    QuotaExceeded,
    SavedState,
    SessionContents,
    SessionRow,
    StoredPackages,
    Usage,
    Wanted,
    accounts,
    sqlite_usage,
)
from supervisor.store.sqlite_usage import SqliteUsage

log: Final = logging.getLogger("gaoler.store")
_T = TypeVar("_T")

SCHEMA_VERSION: Final = 7
_SCHEMA: Final = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, owner_kind TEXT NOT NULL, owner_id TEXT NOT NULL, owner_version INTEGER,
    created_at REAL NOT NULL, expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE TABLE files (
    id TEXT PRIMARY KEY, session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE, name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, content_type TEXT NOT NULL,
    created_at REAL NOT NULL, modified_at REAL NOT NULL, read_only INTEGER NOT NULL, UNIQUE (session_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_digest ON files (sha256);
"""
_SINCE_2: Final = """
CREATE TABLE states (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE, profile TEXT NOT NULL, sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, saved_at REAL NOT NULL, expires_at REAL NOT NULL, unsaved TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX states_by_digest ON states (sha256);
"""
_SINCE_3: Final = "ALTER TABLE sessions ADD COLUMN language TEXT;"
_SINCE_4: Final = """
ALTER TABLE files ADD COLUMN executable INTEGER NOT NULL DEFAULT 0;
CREATE TABLE directories (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE, name TEXT NOT NULL,
    PRIMARY KEY (session_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_owner ON sessions (tenant, owner_kind, owner_id, created_at);
"""
_SINCE_5: Final = """
CREATE TABLE packages (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE, sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX packages_by_digest ON packages (sha256);
"""
_SINCE_7: Final = f"""
CREATE INDEX sessions_by_creation ON sessions (created_at, id);
CREATE INDEX sessions_by_tenant ON sessions (tenant, created_at, id);
CREATE INDEX sessions_by_user ON sessions (owner_id, created_at, id) WHERE owner_kind = 'user';
{sqlite_usage.TABLE}
"""
_STEPS: Final = (_SCHEMA, _SINCE_2, _SINCE_3, _SINCE_4, _SINCE_5, accounts.SINCE_6, _SINCE_7)
"""What brings a database from each version to the next."""
_FILE_COLUMNS: Final = (
    "f.id, f.session_id, f.name, f.size_bytes, f.sha256, f.content_type, f.created_at, f.modified_at, f.read_only, "
    "f.executable"
)
_SESSION_COLUMNS: Final = (
    "s.id, s.tenant, s.owner_kind, s.owner_id, s.owner_version, s.created_at, s.expires_at, s.language"
)
_SESSION_NAMES: Final = _SESSION_COLUMNS.replace("s.", "")
_FULL: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
    }
)
_MANY: Final = 500
"""Variables in one statement, well under SQLite's limit."""


class SqliteSessions:
    """A :class:`supervisor.store.SessionStore`. Use :func:`open_sqlite`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._turn = trio.CapacityLimiter(1)

    @property
    def usage(self) -> SqliteUsage:
        """What callers have used, in the same database."""
        return SqliteUsage(self._transaction)

    async def _transaction(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` in a thread, in one transaction. Not abandoned when cancelled: it is whole or not at all."""

        def run() -> _T:
            try:
                with self._database:
                    self._database.execute("BEGIN IMMEDIATE")
                    return work(self._database)
            except sqlite3.OperationalError as error:
                fault = _storage_fault(error)
                if fault is None:
                    raise
                log.error("the database cannot be used: %s (%s)", error, error.sqlite_errorname)
                raise fault from None

        return await trio.to_thread.run_sync(run, limiter=self._turn)

    async def put_session(self, row: SessionRow, quota: Quota = NO_QUOTA) -> None:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> None:
            with accounts.watched(database, row.id, quota):
                _put_session(database, row)

        await self._transaction(work)

    async def session(self, session_id: SessionId, now: float) -> SessionRow | None:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> SessionRow | None:
            row = database.execute(
                f"SELECT {_SESSION_COLUMNS} FROM sessions s WHERE id = ? AND expires_at > ?", (session_id, now)
            ).fetchone()
            return None if row is None else _session(row)

        return await self._transaction(work)

    async def sessions_of(self, owner: Owner, now: float, limit: int) -> list[tuple[SessionRow, Usage]]:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> list[tuple[SessionRow, Usage]]:
            rows = database.execute(
                f"SELECT {_SESSION_COLUMNS}, count(f.id), total(f.size_bytes) FROM sessions s "
                "LEFT JOIN files f ON f.session_id = s.id "
                "WHERE s.tenant = ? AND s.owner_kind = ? AND s.owner_id = ? AND s.owner_version IS ? "
                "AND s.expires_at > ? GROUP BY s.id ORDER BY s.created_at DESC, s.id LIMIT ?",
                (owner.tenant, owner.kind, owner.id, owner.version, now, limit),
            )
            return [(_session(row[:8]), Usage(row[8], int(row[9]))) for row in rows]

        return await self._transaction(work)

    async def all_sessions(
        self, wanted: Wanted, now: float, limit: int, after: Place | None = None
    ) -> list[tuple[SessionRow, Usage]]:
        """See :class:`supervisor.store.SessionStore`."""
        conditions: list[str] = ["s.expires_at > ?"]
        values: list[str | float] = [now]
        if wanted.tenant is not None:
            conditions.append("s.tenant = ?")
            values.append(wanted.tenant)
        if wanted.user is not None:
            conditions.append("s.owner_kind = 'user' AND s.owner_id = ?")
            values.append(wanted.user)
        if after is not None:
            conditions.append("(s.created_at < ? OR (s.created_at = ? AND s.id > ?))")
            values += [after[0], *after]
        query = (
            f"SELECT {_SESSION_COLUMNS}, (SELECT count(*) FROM files f WHERE f.session_id = s.id), "
            "(SELECT total(f.size_bytes) FROM files f WHERE f.session_id = s.id) FROM sessions s "
            f"WHERE {' AND '.join(conditions)} ORDER BY s.created_at DESC, s.id LIMIT ?"
        )

        def work(database: sqlite3.Connection) -> list[tuple[SessionRow, Usage]]:
            rows = database.execute(query, (*values, limit))
            return [(_session(row[:8]), Usage(row[8], int(row[9]))) for row in rows]

        return await self._transaction(work)

    async def change_files(
        self,
        session_id: SessionId,
        change: FileChange,
        *,
        expires_at: float,
        max_files: int,
        max_bytes: int,
        quota: Quota = NO_QUOTA,
        fence: int | None = None,  # noqa: ARG002 - the directory is one daemon's
    ) -> None:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> None:
            there = database.execute("SELECT 1 FROM sessions WHERE id = ?", (session_id,)).fetchone()
            if change.make is None and not there:
                raise KeyError(session_id)
            with accounts.watched(database, session_id, quota):
                if change.make is not None:
                    _put_session(database, change.make)
                _apply(database, session_id, change)
            count, size = database.execute(
                "SELECT count(*) + (SELECT count(*) FROM directories WHERE session_id = ?1), total(size_bytes) "
                "FROM files WHERE session_id = ?1",
                (session_id,),
            ).fetchone()
            if count > max_files:
                raise QuotaExceeded(f"a session holds at most {max_files} files")
            if size > max_bytes:
                raise QuotaExceeded(f"the files of a session have at most {max_bytes} bytes together")
            database.execute(
                "UPDATE sessions SET expires_at = max(expires_at, ?) WHERE id = ?", (expires_at, session_id)
            )

        await self._transaction(work)

    async def files(self, session_id: SessionId) -> list[StoredFile]:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> list[StoredFile]:
            rows = database.execute(
                f"SELECT {_FILE_COLUMNS} FROM files f WHERE session_id = ? ORDER BY name", (session_id,)
            )
            return [_file(row) for row in rows]

        return await self._transaction(work)

    async def contents(self, session_id: SessionId) -> SessionContents:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> SessionContents:
            rows = database.execute(
                f"SELECT {_FILE_COLUMNS} FROM files f WHERE session_id = ? ORDER BY name", (session_id,)
            )
            files = [_file(row) for row in rows]
            names = database.execute("SELECT name FROM directories WHERE session_id = ?", (session_id,))
            directories = frozenset(name for (name,) in names)
            query = "SELECT session_id, sha256, size_bytes FROM packages WHERE session_id = ?"
            row = database.execute(query, (session_id,)).fetchone()
            return SessionContents(files, directories, None if row is None else StoredPackages(*row))

        return await self._transaction(work)

    async def find(self, file_ids: Sequence[FileId], now: float) -> dict[FileId, tuple[StoredFile, SessionRow]]:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> dict[FileId, tuple[StoredFile, SessionRow]]:
            found: dict[FileId, tuple[StoredFile, SessionRow]] = {}
            for start in range(0, len(file_ids), _MANY):
                part = file_ids[start : start + _MANY]
                marks = ", ".join("?" * len(part))
                rows = database.execute(
                    f"SELECT {_FILE_COLUMNS}, {_SESSION_COLUMNS} FROM files f JOIN sessions s ON s.id = f.session_id "
                    f"WHERE f.id IN ({marks}) AND s.expires_at > ?",
                    (*part, now),
                )
                for row in rows:
                    file = _file(row[:10])
                    found[file.id] = (file, _session(row[10:]))
            return found

        return await self._transaction(work) if file_ids else {}

    async def delete_files(self, file_ids: Sequence[FileId]) -> None:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> None:
            database.executemany("DELETE FROM files WHERE id = ?", [(each,) for each in file_ids])

        await self._transaction(work)

    async def put_state(
        self,
        state: SavedState,
        quota: Quota = NO_QUOTA,
        fence: int | None = None,  # noqa: ARG002 - as above
    ) -> None:
        """See :class:`supervisor.store.SessionStore`."""
        values = (
            state.session_id,
            state.profile,
            state.sha256,
            state.size_bytes,
            state.saved_at,
            state.expires_at,
            msgspec.json.encode(state.untrusted_unsaved).decode(),
        )

        def work(database: sqlite3.Connection) -> None:
            if not database.execute("SELECT 1 FROM sessions WHERE id = ?", (state.session_id,)).fetchone():
                raise KeyError(state.session_id)
            with accounts.watched(database, state.session_id, quota):
                # Not REPLACE: its deletions fire no triggers.
                database.execute("DELETE FROM states WHERE session_id = ?", (state.session_id,))
                database.execute("INSERT INTO states VALUES (?, ?, ?, ?, ?, ?, ?)", values)

        await self._transaction(work)

    async def state(self, session_id: SessionId, now: float) -> SavedState | None:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> SavedState | None:
            columns = "session_id, profile, sha256, size_bytes, saved_at, expires_at, unsaved"
            query = f"SELECT {columns} FROM states WHERE session_id = ? AND expires_at > ?"
            row = database.execute(query, (session_id, now)).fetchone()
            if row is None:
                return None
            found, profile, sha256, size_bytes, saved_at, expires_at, unsaved = row
            names = msgspec.json.decode(unsaved, type=tuple[tuple[str, str], ...])
            return SavedState(found, profile, sha256, size_bytes, saved_at, expires_at, names)

        return await self._transaction(work)

    async def delete_state(self, session_id: SessionId) -> None:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM states WHERE session_id = ?", (session_id,))

        await self._transaction(work)

    async def delete_session(self, session_id: SessionId) -> None:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM sessions WHERE id = ?", (session_id,))

        await self._transaction(work)

    async def delete_expired(self, now: float) -> int:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> int:
            database.execute("DELETE FROM states WHERE expires_at <= ?", (now,))
            return database.execute("DELETE FROM sessions WHERE expires_at <= ?", (now,)).rowcount

        return await self._transaction(work)

    async def unreferenced(self, digests: Sequence[str]) -> list[str]:
        """See :class:`supervisor.store.SessionStore`."""

        def work(database: sqlite3.Connection) -> list[str]:
            tables = ("files", "states", "packages")
            query = " UNION ALL ".join(f"SELECT 1 FROM {each} WHERE sha256 = ?1" for each in tables) + " LIMIT 1"
            return [digest for digest in digests if database.execute(query, (digest,)).fetchone() is None]

        return await self._transaction(work)


def _storage_fault(error: sqlite3.OperationalError) -> StorageFull | None:
    """Say what is wrong with the disk, if that is what the error is about. The transaction has been rolled back.

    A full disk has many codes: besides the plain one those of the log's index, which is grown by itself, and of
    flushing (https://sqlite.org/rescode.html).
    """
    if error.sqlite_errorcode == sqlite3.SQLITE_FULL or error.sqlite_errorcode in _FULL:
        return StorageFull("the server's disk is full")
    if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return StorageFull("the server's storage cannot be written to")
    return None


def _put_session(database: sqlite3.Connection, row: SessionRow) -> None:
    owner = row.owner
    values = (row.id, owner.tenant, owner.kind, owner.id, owner.version, row.created_at, row.expires_at, row.language)
    database.execute(
        f"INSERT INTO sessions ({_SESSION_NAMES}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)",
        values,
    )


def _apply(database: sqlite3.Connection, session_id: SessionId, change: FileChange) -> None:
    database.executemany(
        "DELETE FROM files WHERE session_id = ? AND id = ?", [(session_id, each) for each in change.drop]
    )
    for file in change.put:
        database.execute("DELETE FROM files WHERE session_id = ? AND name = ?", (session_id, file.name))
        database.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _file_values(file))
    dropped = [(session_id, name) for name in change.drop_directories]
    database.executemany("DELETE FROM directories WHERE session_id = ? AND name = ?", dropped)
    added = [(session_id, name) for name in change.add_directories]
    database.executemany("INSERT OR IGNORE INTO directories VALUES (?, ?)", added)
    if change.packages is not None:
        _put_packages(database, change.packages)
    elif change.drop_packages:
        database.execute("DELETE FROM packages WHERE session_id = ?", (session_id,))


def _put_packages(database: sqlite3.Connection, packages: StoredPackages) -> None:
    # Not replaced in one statement: the triggers that count would not be told of what goes.
    database.execute("DELETE FROM packages WHERE session_id = ?", (packages.session_id,))
    values = (packages.session_id, packages.sha256, packages.size_bytes)
    database.execute("INSERT INTO packages VALUES (?, ?, ?)", values)


def _file_values(file: StoredFile) -> tuple[str | int | float, ...]:
    return (
        file.id,
        file.session_id,
        file.name,
        file.size_bytes,
        file.sha256,
        file.content_type,
        file.created_at,
        file.modified_at,
        int(file.read_only),
        int(file.executable),
    )


def _file(row: Sequence[object]) -> StoredFile:
    *values, read_only, executable = row
    return StoredFile(*values, bool(read_only), bool(executable))  # type: ignore[arg-type, call-arg]  # the STRICT tables hold the types


def _session(row: Sequence[object]) -> SessionRow:
    session_id, tenant, kind, owner_id, version, created_at, expires_at, language = row
    owner = Owner(tenant, kind, owner_id, version)  # type: ignore[arg-type]  # as above
    return SessionRow(session_id, owner, created_at, expires_at, language)  # type: ignore[arg-type]  # as above


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA busy_timeout = 5000")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        database.close()
        raise ConfigurationError(
            f"the database is of a newer Gaoler (schema {version}, this one knows {SCHEMA_VERSION}): "
            "upgrade, or use another state_dir",
            field="state_dir",
        )
    if version < SCHEMA_VERSION:
        steps = " ".join(_STEPS[version:])
        database.executescript(f"BEGIN; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    return database


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        fault = _storage_fault(error) if isinstance(error, sqlite3.OperationalError) else None
        if fault is not None:
            raise fault from None
        raise ConfigurationError(f"{path} cannot be opened: {error}", field="state_dir") from None


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[SqliteSessions]:
    """Open (or make) the database for the block.

    Raises:
        ConfigurationError: it was made by a newer version, or is no database.
        StorageFull: the disk is full, or cannot be written to.
    """
    database = await trio.to_thread.run_sync(_open, path)
    try:
        yield SqliteSessions(database)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(database.close)
