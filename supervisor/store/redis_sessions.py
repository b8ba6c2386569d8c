"""Sessions and file metadata in Redis, shared by all daemons with the same ``redis.prefix``.

Each call is one script (:mod:`supervisor.store.redis_scripts`), so it is whole or not at all, like a transaction of the
embedded store. A call that writes has an id of its own: when its answer is lost and it is sent again, it is not done a
second time. What was acknowledged lasts as the server is configured (``appendfsync``) and as ``redis.replicas`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from supervisor.execution.values import FileId, Owner, SessionId, StoredFile, new_id
from supervisor.redis_link.link import RedisLink, Script
from supervisor.store import (
    NO_QUOTA,
    AccountFull,
    Fenced,
    FileChange,
    Place,
    Quota,
    QuotaExceeded,
    SavedState,
    SessionContents,
    SessionRow,
    Usage,
    Wanted,
    redis_scripts,
)
from supervisor.store.redis_change import CHANGE_FILES
from supervisor.store.redis_records import (
    Argument,
    account_of,
    file_of,
    file_record,
    packages_of,
    packages_record,
    row_arguments,
    row_of,
    state_of,
    state_record,
)

_T = TypeVar("_T")
_REMEMBERED_SECONDS: Final = 60
"""Beyond ``redis.retry_seconds``: a call's id is known for longer than the call may be sent again."""
_AT_ONCE: Final = 20
"""Expired sessions that are dropped in one script: nothing else is answered meanwhile."""
_LOOKED_AT: Final = 200
"""Sessions of all owners that are looked at in one script."""
_NO_ROW: Final[tuple[Argument, ...]] = ("",) * 7


class RedisSessions:
    """A :class:`supervisor.store.SessionStore`. ``retry_seconds``: of the link."""

    def __init__(self, link: RedisLink, retry_seconds: float) -> None:
        self._link = link
        self._base = link.key("")
        self._remembered_seconds = int(2 * retry_seconds) + _REMEMBERED_SECONDS

    async def put_session(self, row: SessionRow, quota: Quota = NO_QUOTA) -> None:
        """See :class:`supervisor.store.SessionStore`."""
        arguments = [row.id, *row_arguments(row), *_quota(quota)]
        _settle(await self._write(redis_scripts.PUT_SESSION, arguments), row.id, quota)

    async def session(self, session_id: SessionId, now: float) -> SessionRow | None:
        """See :class:`supervisor.store.SessionStore`."""
        key = self._link.key("session", session_id)
        row, expires = await self._link.call(lambda client: _list(client.hmget(key, ["row", "expires"])))
        if row is None or float(expires) <= now:
            return None
        return row_of(session_id, row, expires)

    async def sessions_of(self, owner: Owner, now: float, limit: int) -> list[tuple[SessionRow, Usage]]:
        """See :class:`supervisor.store.SessionStore`."""
        found = await self._run(redis_scripts.SESSIONS_OF, [account_of(owner).owner, now, limit])
        return [
            (row_of(SessionId(session_id.decode()), row, expires), Usage(int(files), int(size)))
            for session_id, row, expires, files, size in found
        ]

    async def all_sessions(
        self, wanted: Wanted, now: float, limit: int, after: Place | None = None
    ) -> list[tuple[SessionRow, Usage]]:
        """See :class:`supervisor.store.SessionStore`. Whose they are is looked at here, some hundred at a time."""
        found: list[tuple[SessionRow, Usage]] = []
        made, last = ("", "") if after is None else (repr(-after[0]), after[1])
        while len(found) < limit:
            part = await self._run(redis_scripts.ALL_SESSIONS, [now, _LOOKED_AT, made, last])
            for session_id, _, row, expires, files, size in part:
                if row and len(found) < limit:
                    each = row_of(SessionId(session_id.decode()), row, expires)
                    if _is_wanted(each.owner, wanted):
                        found.append((each, Usage(int(files), int(size))))
            if len(part) < _LOOKED_AT:
                break
            made, last = part[-1][1].decode(), part[-1][0].decode()
        return found

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
        """See :class:`supervisor.store.SessionStore`."""
        packages: Argument = "none" if change.drop_packages else ""
        if change.packages is not None:
            packages = packages_record(change.packages)
        arguments: list[Argument] = [
            *(session_id, "" if fence is None else fence, expires_at, max_files, max_bytes),
            *_quota(quota),
            *(_NO_ROW if change.make is None else row_arguments(change.make)),
            *_counted(change.drop),
            *_counted(sorted(change.drop_directories)),
            *_counted(sorted(change.add_directories)),
            packages,
            *_counted([each.id.encode() + b" " + file_record(each) for each in change.put]),
        ]
        match await self._write(CHANGE_FILES, arguments):
            case "files":
                raise QuotaExceeded(f"a session holds at most {max_files} files")
            case "bytes":
                raise QuotaExceeded(f"the files of a session have at most {max_bytes} bytes together")
            case answer:
                _settle(answer, session_id, quota)

    async def files(self, session_id: SessionId) -> list[StoredFile]:
        """See :class:`supervisor.store.SessionStore`."""
        key = self._link.key("files", session_id)
        return _files(session_id, await self._link.call(lambda client: dict(_map(client.hgetall(key)))))

    async def contents(self, session_id: SessionId) -> SessionContents:
        """See :class:`supervisor.store.SessionStore`."""
        flat, names, packages = await self._run(redis_scripts.CONTENTS, [session_id])
        files = _files(session_id, dict(zip(flat[::2], flat[1::2], strict=True)))
        directories = frozenset(each.decode() for each in names)
        return SessionContents(files, directories, None if packages is None else packages_of(session_id, packages))

    async def find(self, file_ids: Sequence[FileId], now: float) -> dict[FileId, tuple[StoredFile, SessionRow]]:
        """See :class:`supervisor.store.SessionStore`."""
        if not file_ids:
            return {}
        found: dict[FileId, tuple[StoredFile, SessionRow]] = {}
        for file_id, file, session_id, row, expires in await self._run(
            redis_scripts.FIND, [now, *_counted(list(dict.fromkeys(file_ids)))]
        ):
            of = SessionId(session_id.decode())
            kept = file_of(of, FileId(file_id.decode()), file)
            found[kept.id] = (kept, row_of(of, row, expires))
        return found

    async def delete_files(self, file_ids: Sequence[FileId]) -> None:
        """See :class:`supervisor.store.SessionStore`."""
        await self._write(redis_scripts.DELETE_FILES, _counted(file_ids))

    async def put_state(self, state: SavedState, quota: Quota = NO_QUOTA, fence: int | None = None) -> None:
        """See :class:`supervisor.store.SessionStore`."""
        arguments: list[Argument] = [
            *(state.session_id, "" if fence is None else fence, state_record(state), state.expires_at),
            *_quota(quota),
        ]
        _settle(await self._write(redis_scripts.PUT_STATE, arguments), state.session_id, quota)

    async def state(self, session_id: SessionId, now: float) -> SavedState | None:
        """See :class:`supervisor.store.SessionStore`."""
        key = self._link.key("session", session_id)
        record = await self._link.call(lambda client: _bytes(client.hget(key, "state")))
        found = None if record is None else state_of(session_id, record)
        return found if found is not None and found.expires_at > now else None

    async def delete_state(self, session_id: SessionId) -> None:
        """See :class:`supervisor.store.SessionStore`."""
        await self._write(redis_scripts.DELETE_STATE, [session_id])

    async def delete_session(self, session_id: SessionId) -> None:
        """See :class:`supervisor.store.SessionStore`."""
        await self._write(redis_scripts.DELETE_SESSION, [session_id])

    async def delete_expired(self, now: float) -> int:
        """See :class:`supervisor.store.SessionStore`; here not one transaction, but one for every few sessions."""
        dropped, more = 0, True
        while more:
            count, again = (await self._write(redis_scripts.DELETE_EXPIRED, [now, _AT_ONCE])).split()
            dropped, more = dropped + int(count), again == "1"
        return dropped

    async def unreferenced(self, digests: Sequence[str]) -> list[str]:
        """See :class:`supervisor.store.SessionStore`."""
        if not digests:
            return []
        return [each.decode() for each in await self._run(redis_scripts.UNREFERENCED, _counted(digests))]

    async def _run(self, script: Script, arguments: Sequence[Argument]) -> Any:
        return await self._link.run(script, [self._base], [_sent(each) for each in arguments])

    async def _write(self, script: Script, arguments: Sequence[Argument]) -> str:
        """Run a script that does what it does once, and give its answer."""
        sent = [new_id(), self._remembered_seconds, *(_sent(each) for each in arguments)]
        answer: bytes = await self._link.run(script, [self._base], sent, lasting=True)
        return answer.decode()


def _settle(answer: str, session_id: SessionId, quota: Quota) -> None:
    """Raise what the answer of a script stands for."""
    what, _, shared = answer.partition(" ")
    factor = quota.shared_factor if shared == "1" else 1
    match what:
        case "ok":
            return
        case "gone":
            raise KeyError(session_id)
        case "fenced":
            raise Fenced("another worker has the session")
        case "account_bytes":
            held = quota.user_bytes * factor
            raise AccountFull(f"all sessions together hold at most {held} bytes (files.user_bytes)")
        case "tenant_bytes":
            raise AccountFull(f"a tenant holds at most {quota.tenant_bytes} bytes (files.tenant_bytes)")
        case "account_sessions":
            count = quota.user_sessions * factor
            raise AccountFull(f"there are at most {count} sessions (files.user_sessions)")
        case _:
            raise ValueError(f"a file's id is another's: {answer}")


def _is_wanted(owner: Owner, wanted: Wanted) -> bool:
    """Say whether a listing is of this owner's sessions, too."""
    if wanted.tenant is not None and owner.tenant != wanted.tenant:
        return False
    return wanted.user is None or (owner.kind == "user" and owner.id == wanted.user)


def _quota(quota: Quota) -> tuple[Argument, ...]:
    return quota.user_bytes, quota.user_sessions, quota.tenant_bytes, quota.shared_factor


def _counted(values: Sequence[str] | Sequence[bytes]) -> list[Argument]:
    return [len(values), *values]


def _sent(value: Argument) -> str | bytes | int:
    """Write a number so that it is read as the same one; ``repr`` of a float is."""
    return repr(value) if isinstance(value, float) else value


def _files(session_id: SessionId, records: dict[bytes, bytes]) -> list[StoredFile]:
    files = [file_of(session_id, FileId(file_id.decode()), record) for file_id, record in records.items()]
    return sorted(files, key=lambda each: each.name)


def _list(answer: object) -> list[Any]:
    """Check what redis-py's types leave open: it may be awaitable there."""
    return msgspec.convert(answer, list[Any])


def _map(answer: object) -> dict[bytes, bytes]:
    return msgspec.convert(answer, dict[bytes, bytes])


def _bytes(answer: object) -> bytes | None:
    return msgspec.convert(answer, bytes | None)
