"""What every user and every tenant holds in all, counted by the database itself, and the quotas on it.

Triggers keep the counts, so that no way to a session's files can forget them, and a quota is looked at in the
transaction that would break it: callers who come at once cannot pass it together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from supervisor.execution.values import SessionId
from supervisor.store import AccountFull, Quota

_ACCOUNT: Final = "iif({row}.owner_kind = 'user', {row}.owner_id, '')"
"""Whose account it is: agents, skills and what is nobody's share one, or whoever names a new agent had a new quota."""
_OF_OLD, _OF_NEW, _OF_S = (_ACCOUNT.format(row=row) for row in ("OLD", "NEW", "s"))


def _counting(table: str) -> str:
    """Have a session know the bytes that it has in ``table``; its rows are made and dropped, never changed."""
    return f"""
CREATE TRIGGER {table}_come AFTER INSERT ON {table} BEGIN
    UPDATE sessions SET held_bytes = held_bytes + NEW.size_bytes WHERE id = NEW.session_id;
END;
CREATE TRIGGER {table}_go AFTER DELETE ON {table} BEGIN
    UPDATE sessions SET held_bytes = held_bytes - OLD.size_bytes WHERE id = OLD.session_id;
END;
"""


SINCE_6: Final = f"""
ALTER TABLE sessions ADD COLUMN held_bytes INTEGER NOT NULL DEFAULT 0;
CREATE TABLE accounts (
    tenant TEXT NOT NULL, user TEXT NOT NULL, bytes INTEGER NOT NULL DEFAULT 0, sessions INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, user)
) STRICT, WITHOUT ROWID;
CREATE TABLE tenants (tenant TEXT PRIMARY KEY, bytes INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
UPDATE sessions SET held_bytes =
    (SELECT coalesce(sum(size_bytes), 0) FROM files WHERE session_id = sessions.id)
    + (SELECT coalesce(sum(size_bytes), 0) FROM states WHERE session_id = sessions.id)
    + (SELECT coalesce(sum(size_bytes), 0) FROM packages WHERE session_id = sessions.id);
INSERT INTO accounts SELECT s.tenant, {_OF_S}, sum(s.held_bytes), count(*) FROM sessions s GROUP BY 1, 2;
INSERT INTO tenants SELECT tenant, sum(held_bytes) FROM sessions GROUP BY 1;
{_counting("files")}{_counting("states")}{_counting("packages")}
CREATE TRIGGER sessions_come AFTER INSERT ON sessions BEGIN
    INSERT OR IGNORE INTO accounts (tenant, user) VALUES (NEW.tenant, {_OF_NEW});
    INSERT OR IGNORE INTO tenants (tenant) VALUES (NEW.tenant);
    UPDATE accounts SET sessions = sessions + 1 WHERE tenant = NEW.tenant AND user = {_OF_NEW};
END;
CREATE TRIGGER sessions_grow AFTER UPDATE OF held_bytes ON sessions BEGIN
    UPDATE accounts SET bytes = bytes + NEW.held_bytes - OLD.held_bytes
        WHERE tenant = NEW.tenant AND user = {_OF_NEW};
    UPDATE tenants SET bytes = bytes + NEW.held_bytes - OLD.held_bytes WHERE tenant = NEW.tenant;
END;
CREATE TRIGGER sessions_go AFTER DELETE ON sessions BEGIN
    UPDATE accounts SET bytes = bytes - OLD.held_bytes, sessions = sessions - 1
        WHERE tenant = OLD.tenant AND user = {_OF_OLD};
    UPDATE tenants SET bytes = bytes - OLD.held_bytes WHERE tenant = OLD.tenant;
    DELETE FROM accounts WHERE tenant = OLD.tenant AND user = {_OF_OLD} AND sessions = 0;
END;
"""
"""What brings a database of schema 5 to 6."""


@dataclass(frozen=True, slots=True)
class _Held:
    shared: bool = True
    account_bytes: int = 0
    sessions: int = 0
    tenant_bytes: int = 0
    session_bytes: int = 0


@contextmanager
def watched(database: sqlite3.Connection, session_id: SessionId, quota: Quota) -> Iterator[None]:
    """Change, in the block and in one transaction, what the session holds. What was over before may still shrink.

    Raises:
        AccountFull: something has grown past the quota; the transaction has to be given up.
    """
    before = _held(database, session_id)
    yield
    after = _held(database, session_id)
    factor = quota.shared_factor if after.shared else 1
    # Of the session: one that comes with its files had no account before.
    grown = after.session_bytes > before.session_bytes
    if grown and after.account_bytes > quota.user_bytes * factor:
        raise AccountFull(f"all sessions together hold at most {quota.user_bytes * factor} bytes (files.user_bytes)")
    if grown and after.tenant_bytes > quota.tenant_bytes:
        raise AccountFull(f"a tenant holds at most {quota.tenant_bytes} bytes (files.tenant_bytes)")
    if not before.sessions and after.sessions > quota.user_sessions * factor:
        raise AccountFull(f"there are at most {quota.user_sessions * factor} sessions (files.user_sessions)")


def _held(database: sqlite3.Connection, session_id: SessionId) -> _Held:
    row = database.execute(
        "SELECT a.user = '', a.bytes, a.sessions, t.bytes, s.held_bytes FROM sessions s "
        "JOIN tenants t ON t.tenant = s.tenant "
        f"JOIN accounts a ON a.tenant = s.tenant AND a.user = {_OF_S} WHERE s.id = ?",
        (session_id,),
    ).fetchone()
    return _Held() if row is None else _Held(bool(row[0]), *row[1:])
