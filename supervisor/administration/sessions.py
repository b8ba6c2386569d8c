"""Sessions of all owners, for operators: which there are, what files they have, and how one is ended."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from supervisor.errors import InvalidRequest, NotFound
from supervisor.execution.values import SessionId, is_id
from supervisor.files.service import FileService
from supervisor.store import Place, SessionRow, SessionStore, Usage, Wanted


class Sandboxes(Protocol):
    """Knows which sessions have an interpreter here."""

    def state(self, session_id: SessionId) -> str:
        """``live`` or ``resting``."""

    def running_processes(self, session_id: SessionId) -> int:
        """Count the programs that run in the background of a session."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """All sessions that have files. ``sandboxes``: ``None`` where these are elsewhere; ``clock``: as the store's."""

    store: SessionStore
    files: FileService
    sandboxes: Sandboxes | None
    clock: Callable[[], float] = time.time

    async def page(self, tenant: str | None, user: str | None, limit: int, after: str | None) -> dict[str, Any]:
        """List some, the newest first; ``next`` is where the next page begins, if there is one.

        Raises:
            InvalidRequest: ``after`` is nothing that was given as ``next``.
        """
        place = None if after is None else _place(after)
        found = await self.store.all_sessions(Wanted(tenant, user), self.clock(), limit + 1, place)
        rows = [self._row(row, usage) for row, usage in found[:limit]]
        return {"sessions": rows, "next": _cursor(found[limit - 1][0]) if len(found) > limit else None}

    async def one(self, session_id: str) -> dict[str, Any]:
        """Describe one, with its files.

        Raises:
            NotFound: there is none.
        """
        row = await self._find(session_id)
        files = await self.store.files(row.id)
        usage = Usage(len(files), sum(each.size_bytes for each in files))
        listed = [
            {"id": each.id, "name": each.name, "size_bytes": each.size_bytes, "created_at": each.created_at}
            for each in files
        ]
        return {**self._row(row, usage), "file_list": listed}

    async def delete(self, session_id: str) -> None:
        """Forget one with its files; what runs in it is killed.

        Raises:
            NotFound: there is none.
        """
        row = await self._find(session_id)
        await self.files.remove_session(row.id)

    async def _find(self, session_id: str) -> SessionRow:
        row = await self.store.session(SessionId(session_id), self.clock()) if is_id(session_id) else None
        if row is None:
            raise NotFound("no such session", field="session")
        return row

    def _row(self, row: SessionRow, usage: Usage) -> dict[str, Any]:
        sandboxes = self.sandboxes
        return {
            "id": row.id,
            "tenant": row.owner.tenant,
            "owner": {"kind": row.owner.kind, "id": row.owner.id},
            "language": row.language,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "files": usage.files,
            "size_bytes": usage.size_bytes,
            # A gateway does not know: its workers have the sandboxes.
            "live": None if sandboxes is None else sandboxes.state(row.id) == "live",
            "processes": None if sandboxes is None else sandboxes.running_processes(row.id),
        }


def _cursor(row: SessionRow) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((row.created_at, row.id))).decode().rstrip("=")


def _place(cursor: str) -> Place:
    try:
        written = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        made, session_id = msgspec.json.decode(written, type=tuple[float, str])
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError):
        made, session_id = 0.0, ""
    if not is_id(session_id):
        raise InvalidRequest("it is nothing that was given as next", field="after")
    return made, SessionId(session_id)
