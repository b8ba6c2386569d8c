"""What callers have used, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from supervisor.store.usage import COUNTS, Used

_T = TypeVar("_T")

TABLE: Final = """
CREATE TABLE usage (
    day TEXT NOT NULL, tenant TEXT NOT NULL, credential TEXT NOT NULL, user TEXT NOT NULL,
    executions INTEGER NOT NULL, failed INTEGER NOT NULL, wall_seconds REAL NOT NULL, cpu_seconds REAL NOT NULL,
    output_bytes INTEGER NOT NULL, files INTEGER NOT NULL, PRIMARY KEY (day, tenant, credential, user)
) STRICT, WITHOUT ROWID;
"""
_COLUMNS: Final = ("day", "tenant", "credential", "user", *COUNTS)
_ADD: Final = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, tenant, credential, user) DO UPDATE SET
    executions = executions + excluded.executions, failed = failed + excluded.failed,
    wall_seconds = wall_seconds + excluded.wall_seconds, cpu_seconds = cpu_seconds + excluded.cpu_seconds,
    output_bytes = output_bytes + excluded.output_bytes, files = files + excluded.files
"""
_BETWEEN: Final = """
SELECT * FROM usage WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR tenant = ?3)
ORDER BY day DESC, tenant, credential, user LIMIT ?4
"""


class Transaction(Protocol):
    """Runs work in one transaction."""

    async def __call__(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run it, in a thread."""


class SqliteUsage:
    """A :class:`supervisor.store.usage.UsageStore`, in the database of the sessions."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(self, used: Sequence[Used]) -> None:
        """See :class:`supervisor.store.usage.UsageStore`."""
        values = [tuple(getattr(each, name) for name in _COLUMNS) for each in used]

        def work(database: sqlite3.Connection) -> None:
            database.executemany(_ADD, values)

        if values:
            await self._transaction(work)

    async def between(self, first: str, last: str, tenant: str | None, limit: int) -> list[Used]:
        """See :class:`supervisor.store.usage.UsageStore`."""

        def work(database: sqlite3.Connection) -> list[Used]:
            rows = database.execute(_BETWEEN, (first, last, tenant, limit))
            return [Used(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

        return await self._transaction(work)

    async def forget(self, before: str) -> None:
        """See :class:`supervisor.store.usage.UsageStore`."""

        def work(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM usage WHERE day < ?", (before,))

        await self._transaction(work)
