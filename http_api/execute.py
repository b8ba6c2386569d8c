"""``POST /exec``: run code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from quart import Request, Response, request

from http_api import answers, profiles, schemas
from http_api.body import read_capped
from http_api.services import Door
from http_api.streaming import EventStream
from supervisor.errors import InvalidRequest
from supervisor.execution import ExecutionRequest, FileId, FileReference, SessionId, is_id
from supervisor.identity.credentials import Caller, principal_of
from supervisor.names import check_name


async def execute(door: Door, caller: Caller) -> Response:
    """Answer ``POST /exec``: 200 for whatever the program does; with ``?stream=1`` as it does it."""
    body = schemas.decode(await read_capped(request, door.settings.body_bytes), schemas.ExecBody)
    execution = to_request(body, door, caller)
    profiles.check(door)
    door.admit(execution.principal, "exec")
    if request.args.get("stream", "0") not in ("", "0", "false"):
        stream = EventStream(lambda listener: door.executor.execute(execution, listener))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Response(stream, content_type="text/event-stream; charset=utf-8", headers=headers)
    result = await door.executor.execute(execution, None, holding(request))
    return Response(msgspec.json.encode(answers.execution(result)), content_type="application/json")


def holding(current: Request) -> Callable[[], None] | None:
    """Give what tells the connection that its answer may take long; when the request is over it does nothing."""
    return getattr(current, "hold_connection", None)


def to_request(body: schemas.ExecBody, door: Door, caller: Caller) -> ExecutionRequest:
    """Check what the types alone do not and convert.

    Raises:
        InvalidRequest, TooLarge: with the field.
    """
    check_code(body.code, door)
    entity = body.entity_id if body.entity_id and not body.entity_id.startswith("agent_") else None
    principal = principal_of(caller, request.headers, (("user_id", body.user_id), ("entity_id", entity)))
    arguments = check_arguments(_arguments(body))
    return ExecutionRequest(
        principal=principal,
        language=body.lang,
        code=body.code,
        arguments=arguments,
        files=tuple(_reference(file, index) for index, file in enumerate(body.files or ())),
        session_id=_session(body.session_id),
        wall_seconds=None if body.timeout is None else body.timeout / 1000,
        stdin=(body.stdin or "").encode("utf-8", "replace"),
        stateful=body.stateful,
        shared_files=entity is not None,
        runtime_hint=body.runtime_session_hint or None,
        egress=None if body.egress is None else tuple(body.egress),
    )


def check_code(code: str, door: Door) -> None:
    """Refuse what cannot be a program.

    Raises:
        InvalidRequest: with the field.
    """
    if len(code) > door.settings.code_characters:
        # 400, not 413: LibreChat's client tells the model to mend its input at 400, and to try again at anything else.
        raise InvalidRequest(f"a program has at most {door.settings.code_characters} characters", field="code")
    _refuse_unencodable(code, "code")


def check_arguments(given: Sequence[str | int | float | bool]) -> tuple[str, ...]:
    """Turn arguments into text.

    Raises:
        InvalidRequest: one cannot be an argument, or there are too many.
    """
    arguments = tuple(str(argument) for argument in given)
    for index, argument in enumerate(arguments):
        _refuse_unencodable(argument, f"args[{index}]")
    if len(arguments) > 200 or sum(map(len, arguments)) > 65_536:
        raise InvalidRequest("at most 200 arguments of 65536 characters together", field="args")
    return arguments


def _arguments(body: schemas.ExecBody) -> list[str | int | float | bool]:
    """Models send a plain string now and then."""
    return [body.args] if isinstance(body.args, str) else body.args or []


def _session(text: str | None) -> SessionId | None:
    if not text:
        return None
    if not is_id(text):
        raise InvalidRequest("an id has 21 characters of A-Z, a-z, 0-9, '_' and '-'", field="session_id")
    return SessionId(text)


def _refuse_unencodable(text: str, field: str) -> None:
    if "\0" in text:
        raise InvalidRequest("it has a NUL character", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("it is not valid Unicode", field=field) from None


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
