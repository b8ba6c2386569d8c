"""``POST /upload``: files in, streamed; all of a request or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio
from quart import Response, request

from http_api import answers, authentication
from http_api.multipart import FieldPart, FilePart, MultipartReader
from http_api.services import ApiKey, Door
from supervisor.access import owner_of
from supervisor.errors import InvalidRequest
from supervisor.execution import Owner, SessionId, StoredFile
from supervisor.names import check_name

NO_HEADERS: Final[dict[str, str]] = {}


@dataclass(slots=True)
class _Upload:
    """What has been read so far. ``session_id`` is made with the first file, when all fields are known."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[StoredFile] = field(default_factory=list)
    session_id: SessionId | None = None


async def upload(door: Door, key: ApiKey) -> Response:
    """Answer ``POST /upload``. The session is new; if anything fails or the client goes away, nothing of it is left."""
    reader = MultipartReader(request)
    done = _Upload()
    try:
        async for part in reader.parts():
            if isinstance(part, FieldPart):
                done.fields[part.name] = part.value
            else:
                await _receive(door, key, part, done)
        if done.session_id is None:
            raise InvalidRequest("there is no part named 'file'", field="file")
    except BaseException:
        if done.session_id is not None:
            with trio.CancelScope(shield=True), trio.move_on_after(10):
                await door.files.drop_session(done.session_id)
        raise
    return Response(msgspec.json.encode(answers.upload(done.session_id, done.files)), content_type="application/json")


async def _receive(door: Door, key: ApiKey, part: FilePart, done: _Upload) -> None:
    if part.name not in ("file", "files"):
        raise InvalidRequest(f"a file comes in a part named 'file', not {part.name!r}", field="file")
    name = check_name(part.filename, field="file.filename")
    if any(file.name == name for file in done.files):
        # The later one would silently replace the earlier one.
        raise InvalidRequest("two files of one upload have the same name", field="file.filename")
    if done.session_id is None:
        done.session_id = await door.files.create_session(_owner(key, done.fields))
    read_only = done.fields.get("read_only", "").lower() == "true"
    content_type = _content_type(part.content_type)
    done.files.append(await door.files.receive(done.session_id, name, content_type, part.chunks, read_only=read_only))


def _content_type(text: str | None) -> str | None:
    """It goes back out as a header, so only what is plainly a media type is kept."""
    if text is None or len(text) > 128 or not text.isascii() or not text.isprintable() or "/" not in text:
        return None
    return text


def _owner(key: ApiKey, fields: dict[str, str]) -> Owner:
    """Decide whose the upload is: today's fields are ``kind`` and ``id``, the old one is ``entity_id``."""
    kind, resource_id = fields.get("kind") or None, fields.get("id") or None
    if kind not in (None, "user", "agent", "skill"):
        raise InvalidRequest("kind must be one of: skill, agent, user", field="kind")
    entity = fields.get("entity_id") or None
    fallback: tuple[tuple[str, str | None], ...] = ()
    if entity is not None and kind is None:
        if entity.startswith("agent_"):
            kind, resource_id = "agent", entity
        else:
            fallback = (("entity_id", entity),)
    user = authentication.named_user(request.headers, fallback)
    if kind == "user" and user is None:
        user = authentication.named_user(NO_HEADERS, (("id", resource_id),))
    return owner_of(authentication.principal(key, user), kind=kind, resource_id=resource_id, version=_version(fields))


def _version(fields: dict[str, str]) -> int | None:
    text = fields.get("version")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise InvalidRequest("a version is a whole number", field="version")
    return int(text)
