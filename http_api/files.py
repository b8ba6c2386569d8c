"""Listing, freshness, download and deletion of kept files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import quote

import msgspec
from quart import Response, request

from http_api import answers
from http_api.services import Door
from supervisor.errors import InvalidRequest
from supervisor.execution.values import FileId, Principal, SessionId, StoredFile
from supervisor.identity.credentials import Caller, principal_of

_DETAILS = ("simple", "summary", "full", "normalized")


def calling(caller: Caller) -> Principal:
    """Take the user from a header, else from ``kind=user&id=…``, which today's clients send."""
    user_id = request.args.get("id") if request.args.get("kind") == "user" else None
    return principal_of(caller, request.headers, (("id", user_id),))


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type="application/json")


async def listing(door: Door, caller: Caller, session: str) -> Response:
    """Answer ``GET /files/{session}``; of an unknown session there are no files."""
    detail = request.args.get("detail", "simple")
    if detail not in _DETAILS:
        raise InvalidRequest(f"one of {', '.join(_DETAILS)}", field="detail")
    principal = calling(caller)
    await door.admit(principal, "listing")
    # A session without files has no record, so it cannot be told from one that never was; nor from another's.
    files = await door.files.listing_or_none(principal, SessionId(session))
    return _json(answers.listing(files, detail))


async def freshness(door: Door, caller: Caller, session: str, file: str) -> Response:
    """Answer ``GET /sessions/{session}/objects/{file}``."""
    principal = calling(caller)
    await door.admit(principal, "listing")
    return _json(answers.freshness(await door.files.find(principal, SessionId(session), FileId(file))))


async def download(door: Door, caller: Caller, session: str, file: str) -> Response:
    """Answer ``GET /download/{session}/{file}`` with the bytes; a browser may save them and nothing else."""
    principal = calling(caller)
    await door.admit(principal, "download")
    return await deliver(door, principal, SessionId(session), FileId(file))


async def deliver(door: Door, principal: Principal, session: SessionId, file: FileId) -> Response:
    """Give a file's bytes as an answer."""
    if request.method == "HEAD":
        response = Response(b"")
        response.headers.update(_download_headers(await door.files.find(principal, session, file)))
        return response
    stack = AsyncExitStack()
    stored, chunks = await stack.enter_async_context(door.files.open(principal, session, file))

    async def stream() -> AsyncIterator[bytes]:
        async with stack:
            async for chunk in chunks:
                yield chunk

    response = Response(stream(), headers=_download_headers(stored))
    response.timeout = None  # a slow reader of a big file is no fault
    return response


def _download_headers(file: StoredFile) -> dict[str, str]:
    name = quote(file.name.rpartition("/")[2], safe="")
    return {
        "Content-Type": file.content_type,
        "Content-Length": str(file.size_bytes),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        # What code in a sandbox made is never a page of ours.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


async def shared(door: Door, token: str, name: str) -> Response:  # noqa: ARG001 - it is a part of the URL
    """Answer ``GET /shared/{token}/{name}``: a file by a signed link, for a person's browser; nobody is asked.

    The name is for the person only; what the link leads to is in the token.
    """
    principal, session, file = door.links.read(token)
    response = await deliver(door, principal, session, file)
    response.headers["Cache-Control"] = "private, no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


async def delete_file(door: Door, caller: Caller, session: str, file: str) -> Response:
    """Answer ``DELETE`` of one file, in both forms."""
    await door.files.delete_file(calling(caller), SessionId(session), FileId(file))
    return _json({"message": "File deleted successfully", "session_id": session, "fileId": file})


async def delete_session(door: Door, caller: Caller, session: str) -> Response:
    """Answer ``DELETE /sessions/{session}``."""
    await door.files.delete_session(calling(caller), SessionId(session))
    return _json({"message": "Session deleted successfully", "session_id": session})
