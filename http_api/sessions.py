"""The session dialect: a session is made first, code and files go into it by path."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from quart import Response, request

from http_api import answers, execute, schemas
from http_api.body import read_capped
from http_api.files import calling, deliver
from http_api.services import Door
from http_api.uploads import Receiver
from supervisor.execution.request_rules import check_arguments, check_environment, check_program, check_sources
from supervisor.execution.values import ExecutionRequest, Exited, SessionId, Tier
from supervisor.identity.access import owner_of
from supervisor.identity.credentials import Caller
from supervisor.workspace.names import check_name

DEFAULT_LANGUAGE = "python"


class CreateBody(Struct, frozen=True):
    """Body of ``POST /sessions``."""

    language: Annotated[str, Meta(min_length=1, max_length=64)] = DEFAULT_LANGUAGE


class ExecuteBody(Struct, frozen=True):
    """Body of ``POST /sessions/{session}/execute``."""

    code: str | None = None
    language: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    stdin: Annotated[str, Meta(max_length=65_536)] | None = None
    timeout: Annotated[float, Meta(ge=0.001, le=3600)] | None = None
    """Seconds."""
    args: list[str] | None = None
    stateful: bool | None = None
    egress: schemas.Egress | None = None
    env: schemas.Environment | None = None
    main: schemas.Path | None = None
    sources: Annotated[list[schemas.Path], Meta(max_length=50)] | None = None
    tier: Tier | None = None
    """These five as of ``POST /exec``."""


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status=status, content_type="application/json")


async def create(door: Door, caller: Caller) -> Response:
    """Answer ``POST /sessions``: a new session, empty."""
    body = schemas.decode(await read_capped(request, door.settings.body_bytes), CreateBody)
    language = door.languages.find(body.language)
    if language is None or not language.installed:
        refusal = door.languages.refusal(body.language)
        refusal.field = "language"
        raise refusal
    principal = calling(caller)
    await door.admit(principal, "listing")
    session = await door.files.create_session(owner_of(principal), language=body.language.lower())
    return _json({"session_id": session, "language": body.language.lower()}, 201)


async def describe(door: Door, caller: Caller, session: str) -> Response:
    """Answer ``GET /sessions/{session}``: what it is and which files it has."""
    principal = calling(caller)
    await door.admit(principal, "listing")
    found = await door.files.session(principal, SessionId(session))
    files = await door.files.listing(principal, found.id)
    body: dict[str, Any] = {
        "session_id": found.id,
        "language": found.language or DEFAULT_LANGUAGE,
        "created_at": answers.timestamp(found.created_at),
        "expires_at": answers.timestamp(found.expires_at),
        "files": [
            {
                "path": file.name,
                "id": file.id,
                "size": file.size_bytes,
                "content_type": file.content_type,
                "modified_at": answers.timestamp(file.modified_at),
            }
            for file in files
        ],
    }
    return _json(body)


async def run(door: Door, caller: Caller, session: str) -> Response:
    """Answer ``POST /sessions/{session}/execute``: 200 for whatever the program does."""
    body = schemas.decode(await read_capped(request, door.settings.body_bytes), ExecuteBody)
    code, main = check_program(body.code, body.main, body.sources)
    execute.check_code(code, door)
    arguments = check_arguments(body.args or [])
    principal = calling(caller)
    await door.admit(principal, "exec")
    found = await door.files.session(principal, SessionId(session))
    execution = ExecutionRequest(
        principal=principal,
        language=body.language or ("" if main else found.language or DEFAULT_LANGUAGE),
        code=code,
        arguments=arguments,
        session_id=found.id,
        wall_seconds=body.timeout,
        stdin=(body.stdin or "").encode("utf-8", "replace"),
        stateful=body.stateful,
        egress=None if body.egress is None else tuple(body.egress),
        environment=check_environment(body.env),
        main=main,
        sources=check_sources(body.sources),
        tier=body.tier,
    )
    result = await door.executor.execute(execution, None, execute.holding(request))
    flat = answers.execution(result)
    outcome = result.outcome
    return _json(
        {
            "session_id": result.session_id,
            "stdout": flat["stdout"],
            "stderr": flat["stderr"],
            # A program that was killed has no exit code; the shell's habit for a kill is what such clients know.
            "exit_code": outcome.code if isinstance(outcome, Exited) else 137,
            "signal": flat["signal"],
            "timed_out": flat["status"] == "TO",
            "message": flat["message"],
            "tier": flat["tier"],
            "duration": round(result.usage.wall_seconds, 6),
            "files": [file.name for file in await door.files.listing_or_none(principal, result.session_id)],
            "deleted_files": flat["deleted_files"],
            "skipped": flat["skipped"],
        }
    )


async def upload(door: Door, caller: Caller, session: str) -> Response:
    """Answer ``POST /sessions/{session}/files``: files into the session, all of them or none."""
    principal = calling(caller)
    await door.admit(principal, "upload")
    found = await door.files.session(principal, SessionId(session))
    async with Receiver(door, caller, into=found.id) as receiver:
        await receiver.read_all()
    return _json({"session_id": found.id, "files": [file.name for file in receiver.files]}, 201)


async def download(door: Door, caller: Caller, session: str, path: str) -> Response:
    """Answer ``GET /sessions/{session}/files/{path}`` with the bytes."""
    principal = calling(caller)
    await door.admit(principal, "download")
    file = await door.files.find_by_name(principal, SessionId(session), check_name(path, field="path"))
    return await deliver(door, principal, file.session_id, file.id)
