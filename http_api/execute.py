"""``POST /exec``: run code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from quart import Request, Response, request

from http_api import answers, profiles, schemas
from http_api.body import read_capped
from http_api.services import Door
from http_api.streaming import EventStream
from supervisor.errors import InvalidRequest, Unsupported
from supervisor.execution.request_rules import (
    check_arguments,
    check_environment,
    check_program,
    check_sources,
    refuse_unencodable,
)
from supervisor.execution.values import (
    CapturedOutput,
    ExecutionRequest,
    ExecutionResult,
    Exited,
    FileId,
    FileReference,
    Listener,
    OutputPiece,
    SessionId,
    Usage,
    is_id,
    new_id,
)
from supervisor.identity.credentials import Caller, principal_of
from supervisor.runtimes.language_view import NOT_INSTALLED
from supervisor.workspace.names import check_name

COMMAND_NOT_FOUND: Final = 127


async def execute(door: Door, caller: Caller) -> Response:
    """Answer ``POST /exec``: 200 for whatever the program does; with ``?stream=1`` as it does it."""
    body = schemas.decode(await read_capped(request, door.settings.body_bytes), schemas.ExecBody)
    execution = to_request(body, door, caller)
    profiles.check(door)
    await door.admit(execution.principal, "exec")
    if request.args.get("stream", "0") not in ("", "0", "false"):
        stream = EventStream(lambda listener: _run(door, execution, listener, None))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Response(stream, content_type="text/event-stream; charset=utf-8", headers=headers)
    result = await _run(door, execution, None, holding(request))
    return Response(msgspec.json.encode(answers.execution(result)), content_type="application/json")


async def _run(
    door: Door, execution: ExecutionRequest, listener: Listener | None, on_admitted: Callable[[], None] | None
) -> ExecutionResult:
    """Run it. That its language is not installed is an answer as a shell gives it for a command that is not there.

    LibreChat's client shows the model nothing of an error's body, and the model is who can choose another language.
    """
    try:
        return await door.executor.execute(execution, listener, on_admitted)
    except Unsupported as error:
        if error.code != NOT_INSTALLED:
            raise
        said = f"[gaoler] {error.message}\n".encode()
        if listener is not None:
            await listener(OutputPiece("stderr", said))
        return ExecutionResult(
            execution.session_id or SessionId(new_id()),
            Exited(COMMAND_NOT_FOUND),
            CapturedOutput(),
            CapturedOutput(said),
            Usage(),
        )


def holding(current: Request) -> Callable[[], None] | None:
    """Give what tells the connection that its answer may take long; when the request is over it does nothing."""
    return getattr(current, "hold_connection", None)


def to_request(body: schemas.ExecBody, door: Door, caller: Caller) -> ExecutionRequest:
    """Check what the types alone do not and convert.

    Raises:
        InvalidRequest, TooLarge: with the field.
    """
    if body.code is None and body.main is None:
        raise InvalidRequest("Object missing required field `code`", field="code")
    if not body.lang and body.main is None:
        raise InvalidRequest("Object missing required field `lang`", field="lang")
    code, main = check_program(body.code, body.main, body.sources)
    check_code(code, door)
    entity = body.entity_id if body.entity_id and not body.entity_id.startswith("agent_") else None
    principal = principal_of(caller, request.headers, (("user_id", body.user_id), ("entity_id", entity)))
    arguments = check_arguments(_arguments(body))
    return ExecutionRequest(
        principal=principal,
        language=body.lang or "",
        code=code,
        arguments=arguments,
        files=tuple(_reference(file, index) for index, file in enumerate(body.files or ())),
        session_id=_session(body.session_id),
        wall_seconds=None if body.timeout is None else body.timeout / 1000,
        stdin=(body.stdin or "").encode("utf-8", "replace"),
        stateful=body.stateful,
        shared_files=entity is not None,
        runtime_hint=body.runtime_session_hint or None,
        egress=None if body.egress is None else tuple(body.egress),
        environment=check_environment(body.env),
        main=main,
        sources=check_sources(body.sources),
        tier=body.tier,
    )


def check_code(code: str, door: Door) -> None:
    """Refuse what cannot be a program.

    Raises:
        InvalidRequest: with the field.
    """
    if len(code) > door.settings.code_characters:
        # 400, not 413: LibreChat's client tells the model to mend its input at 400, and to try again at anything else.
        raise InvalidRequest(f"a program has at most {door.settings.code_characters} characters", field="code")
    refuse_unencodable(code, "code")


def _arguments(body: schemas.ExecBody) -> list[str | int | float | bool]:
    """Models send a plain string now and then."""
    return [body.args] if isinstance(body.args, str) else body.args or []


def _session(text: str | None) -> SessionId | None:
    if not text:
        return None
    if not is_id(text):
        raise InvalidRequest("an id has 21 characters of A-Z, a-z, 0-9, '_' and '-'", field="session_id")
    return SessionId(text)


def _reference(file: schemas.FileBody, index: int) -> FileReference:
    session = file.storage_session_id or file.session_id or ""
    for name, value in (("id", file.id), ("storage_session_id", session)):
        if not is_id(value):
            raise InvalidRequest(
                "an id has 21 characters of A-Z, a-z, 0-9, '_' and '-'", field=f"files[{index}].{name}"
            )
    return FileReference(
        id=FileId(file.id),
        session_id=SessionId(session),
        name=check_name(file.name, field=f"files[{index}].name"),
        kind=file.kind or "user",
        resource_id=file.resource_id,
        version=file.version,
        old_form=file.storage_session_id is None,
    )
