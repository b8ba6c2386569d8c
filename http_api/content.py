"""The base64 dialect: a file's content inside JSON, for agents that pass it on to another tool."""

from __future__ import annotations

import base64

import msgspec
from quart import Response

from http_api.files import calling
from http_api.services import Door
from supervisor.errors import TooLarge
from supervisor.execution.values import FileId, SessionId
from supervisor.identity.credentials import Caller


async def content(door: Door, caller: Caller, session: str, file: str) -> Response:
    """Answer ``GET /file/{session}/{file}/content``: base64 of the whole file, up to a size.

    Raises:
        TooLarge: the file is larger than ``http.base64_bytes``; nothing of it was read.
    """
    principal = calling(caller)
    await door.admit(principal, "download")
    stored = await door.files.find(principal, SessionId(session), FileId(file))
    limit = door.settings.base64_bytes
    if stored.size_bytes > limit:
        raise TooLarge(
            f"the file has {stored.size_bytes} bytes; as base64 at most {limit} are given, so download it",
            field="file_id",
        )
    async with door.files.open(principal, stored.session_id, stored.id) as (_, chunks):
        data = b"".join([chunk async for chunk in chunks])
    body = {
        "session_id": stored.session_id,
        "file_id": stored.id,
        "filename": stored.name,
        "mime_type": stored.content_type,
        "size": len(data),
        "encoding": "base64",
        "content": base64.b64encode(data).decode("ascii"),
    }
    return Response(msgspec.json.encode(body), content_type="application/json")
