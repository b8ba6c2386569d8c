"""How what the Redis store keeps is written: JSON of typed records, decoded strictly."""

from __future__ import annotations

import json
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from supervisor.execution.values import FileId, Owner, SessionId, StoredFile
from supervisor.redis_link.faults import reading
from supervisor.store import SavedState, SessionRow, StoredPackages

Argument = str | bytes | int | float


class _Row(Struct, frozen=True, forbid_unknown_fields=True):
    tenant: str
    kind: str
    owner: str
    version: int | None
    created_at: float
    language: str | None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    size: int
    sha256: str
    type: str
    created_at: float
    modified_at: float
    read_only: bool
    executable: bool


class _State(Struct, frozen=True, forbid_unknown_fields=True):
    profile: str
    sha256: str
    size: int
    saved_at: float
    expires_at: float
    unsaved: tuple[tuple[str, str], ...]


class _Packages(Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class AccountNames:
    """Under which names an owner's sessions are listed and counted; unambiguous, whatever the ids contain."""

    owner: str
    account: str
    tenant: str
    shared: bool


def account_of(owner: Owner) -> AccountNames:
    """Name the account. Agents, skills and what is nobody's share one: see :mod:`supervisor.store.accounts`."""
    shared = owner.kind != "user" or not owner.id
    return AccountNames(
        owner=_name(owner.tenant, owner.kind, owner.id, owner.version),
        account=_name(owner.tenant, "" if shared else owner.id),
        tenant=_name(owner.tenant),
        shared=shared,
    )


def _name(*parts: str | int | None) -> str:
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def row_arguments(row: SessionRow) -> tuple[Argument, ...]:
    """Write a session as the scripts take it."""
    owner, names = row.owner, account_of(row.owner)
    kept = _Row(owner.tenant, owner.kind, owner.id, owner.version, float(row.created_at), row.language)
    text = msgspec.json.encode(kept)
    expires, made = float(row.expires_at), float(row.created_at)
    return text, expires, names.owner, names.account, names.tenant, int(names.shared), -made


def row_of(session_id: SessionId, text: bytes, expires: bytes) -> SessionRow:
    """Read a session."""
    with reading():
        kept = msgspec.json.decode(text, type=_Row)
        owner = Owner(kept.tenant, kept.kind, kept.owner, kept.version)
        return SessionRow(session_id, owner, kept.created_at, float(expires), kept.language)


def file_record(file: StoredFile) -> bytes:
    """Write a file, without its id and its session's."""
    return msgspec.json.encode(
        _File(
            file.name,
            file.size_bytes,
            file.sha256,
            file.content_type,
            float(file.created_at),
            float(file.modified_at),
            file.read_only,
            file.executable,
        )
    )


def file_of(session_id: SessionId, file_id: FileId, text: bytes) -> StoredFile:
    """Read a file."""
    with reading():
        kept = msgspec.json.decode(text, type=_File)
    times = kept.created_at, kept.modified_at
    return StoredFile(
        file_id, session_id, kept.name, kept.size, kept.sha256, kept.type, *times, kept.read_only, kept.executable
    )


def state_record(state: SavedState) -> bytes:
    """Write a state, without its session."""
    times = float(state.saved_at), float(state.expires_at)
    return msgspec.json.encode(_State(state.profile, state.sha256, state.size_bytes, *times, state.untrusted_unsaved))


def state_of(session_id: SessionId, text: bytes) -> SavedState:
    """Read a state."""
    with reading():
        kept = msgspec.json.decode(text, type=_State)
    times = kept.saved_at, kept.expires_at
    return SavedState(session_id, kept.profile, kept.sha256, kept.size, *times, kept.unsaved)


def packages_record(packages: StoredPackages) -> bytes:
    """Write what is installed, without its session."""
    return msgspec.json.encode(_Packages(packages.sha256, packages.size_bytes))


def packages_of(session_id: SessionId, text: bytes) -> StoredPackages:
    """Read what is installed."""
    with reading():
        kept = msgspec.json.decode(text, type=_Packages)
    return StoredPackages(session_id, kept.sha256, kept.size)
