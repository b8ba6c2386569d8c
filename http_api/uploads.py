"""``POST /upload`` and ``/upload/batch``: files in, streamed. One is all or nothing, the other keeps what it can."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import msgspec
import trio
from quart import Response, request

from http_api import answers
from http_api.multipart import FieldPart, FilePart, MultipartReader
from http_api.services import Door
from supervisor.errors import GaolerError, InvalidRequest, Overloaded
from supervisor.execution.values import Owner, Principal, SessionId, StoredFile
from supervisor.identity.access import owner_of
from supervisor.identity.credentials import Caller, principal_of
from supervisor.workspace.names import check_name

CLEANUP_SECONDS: Final = 10
MAX_BATCH_FILES: Final = 200
"""LibreChat's official limit."""


@dataclass(slots=True)
class Receiver:
    """One upload: what has been read so far. Leaving the block with an exception forgets all that it has stored.

    ``into``: a session that is there already; otherwise one is made with the first file, when all fields are known.
    """

    door: Door
    caller: Caller
    into: SessionId | None = None
    fields: dict[str, str] = field(default_factory=dict)
    files: list[StoredFile] = field(default_factory=list)
    session_id: SessionId | None = None
    _is_new: bool = False
    _counted: bool = False

    async def __aenter__(self) -> Receiver:
        self.session_id = self.into
        self._counted = self.into is not None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            await self.forget()

    async def forget(self) -> None:
        """Forget everything of it. Shielded and bounded."""
        with trio.CancelScope(shield=True), trio.move_on_after(CLEANUP_SECONDS):
            if self._is_new and self.session_id is not None:
                await self.door.files.drop_session(self.session_id)
            elif self.files:
                await self.door.files.drop_files(self.files)

    async def read_all(self) -> None:
        """Take every part of the request.

        Raises:
            GaolerError: a part is refused.
        """
        async for part in self.parts():
            await self.receive(part)
        if not self.files:
            raise InvalidRequest("there is no part named 'file'", field="file")

    async def parts(self) -> AsyncIterator[FilePart]:
        """Give the files; fields are kept."""
        async for part in MultipartReader(request).parts():
            if isinstance(part, FieldPart):
                self.fields[part.name] = part.value
            else:
                yield part

    async def receive(self, part: FilePart) -> StoredFile:
        """Store one file.

        Raises:
            GaolerError: it is refused; nothing of it is kept.
        """
        if part.name not in ("file", "files"):
            raise InvalidRequest(f"a file comes in a part named 'file', not {part.name[:64]!r}", field="file")
        name = check_name(part.filename, field="file.filename")
        if any(file.name == name for file in self.files):
            # The later one would silently replace the earlier one.
            raise InvalidRequest("two files of one upload have the same name", field="file.filename")
        session = await self.begin()
        read_only = self.fields.get("read_only", "").lower() == "true"
        content_type = _content_type(part.content_type)
        file = await self.door.files.receive(session, name, content_type, part.chunks, read_only=read_only)
        self.files.append(file)
        return file

    async def begin(self) -> SessionId:
        """Decide whose it is and give its session, at the first call.

        Raises:
            GaolerError: the fields are wrong, or the caller uploads too often.
        """
        if not self._counted:
            principal, owner, shared = _owner(self.caller, self.fields)
            await self.door.admit(principal, "upload")
            self._counted = True
            if shared:
                self.session_id = await self.door.files.create_session(owner, self.door.files.shared_session(owner))
            else:
                self.session_id = await self.door.files.create_session(owner)
                self._is_new = True
        assert self.session_id is not None
        return self.session_id


async def upload(door: Door, caller: Caller) -> Response:
    """Answer ``POST /upload``. If anything fails or the client goes away, nothing of it is left."""
    async with Receiver(door, caller) as receiver:
        await receiver.read_all()
    assert receiver.session_id is not None
    body = answers.upload(receiver.session_id, receiver.files)
    return Response(msgspec.json.encode(body), content_type="application/json")


async def batch(door: Door, caller: Caller) -> Response:
    """Answer ``POST /upload/batch``: each file has its own status, in the order in which they came."""
    rows: list[dict[str, Any]] = []
    limit_reached = False
    async with Receiver(door, caller) as receiver:
        async for part in receiver.parts():
            if len(rows) >= MAX_BATCH_FILES:
                limit_reached = True
                await _skip(part)
                continue
            rows.append(await _receive_one(receiver, part))
        if not rows:
            raise InvalidRequest("there is no part named 'file'", field="file")
        succeeded = sum(row["status"] == "success" for row in rows)
        if not succeeded:
            await receiver.forget()
    body: dict[str, Any] = {
        "message": "success" if succeeded == len(rows) else "partial_success" if succeeded else "error",
        "storage_session_id": receiver.session_id,
        "session_id": receiver.session_id,
        "files": rows,
        "succeeded": succeeded,
        "failed": len(rows) - succeeded,
    }
    if limit_reached:
        body |= {"filesLimitReached": True, "maxFiles": MAX_BATCH_FILES}
    return Response(msgspec.json.encode(body), status=200 if succeeded else 400, content_type="application/json")


async def _receive_one(receiver: Receiver, part: FilePart) -> dict[str, Any]:
    try:
        # Whose it is, and whether he may upload now, concerns the whole batch.
        await receiver.begin()
        file = await receiver.receive(part)
    except GaolerError as error:
        if not receiver.session_id or (isinstance(error, Overloaded) and not receiver.files):
            raise
        await _skip(part)
        return {"status": "error", "filename": part.filename[:1024], "error": error.message}
    return {"status": "success", "fileId": file.id, "filename": part.filename}


async def _skip(part: FilePart) -> None:
    async for _ in part.chunks:
        pass


def _content_type(text: str | None) -> str | None:
    """It goes back out as a header, so only what is plainly a media type is kept."""
    if text is None or len(text) > 128 or not text.isascii() or not text.isprintable() or "/" not in text:
        return None
    return text


def _owner(caller: Caller, fields: dict[str, str]) -> tuple[Principal, Owner, bool]:
    """Decide whose the upload is: today's fields are ``kind`` and ``id``, the old one is ``entity_id``.

    The third value: it goes to the user's lasting files (the base64 dialect, which names a user as ``entity_id``).
    """
    kind, resource_id = fields.get("kind") or None, fields.get("id") or None
    if kind not in (None, "user", "agent", "skill"):
        raise InvalidRequest("kind must be one of: skill, agent, user", field="kind")
    entity = fields.get("entity_id") or None
    fallbacks: tuple[tuple[str, str | None], ...] = ()
    shared = False
    if entity is not None and kind is None:
        if entity.startswith("agent_"):
            kind, resource_id = "agent", entity
        else:
            fallbacks, shared = (("entity_id", entity),), True
    if kind == "user":
        fallbacks = (*fallbacks, ("id", resource_id))
    principal = principal_of(caller, request.headers, fallbacks)
    owner = owner_of(principal, kind=kind, resource_id=resource_id, version=_version(fields))
    return principal, owner, shared and owner.kind == "user"


def _version(fields: dict[str, str]) -> int | None:
    text = fields.get("version")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise InvalidRequest("a version is a whole number", field="version")
    return int(text)
