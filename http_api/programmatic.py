"""``POST /exec/programmatic``: programs that call the client's tools, a batch of calls a round trip."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from quart import Response, request

from http_api import answers, execute, profiles, schemas
from http_api.body import read_capped
from http_api.files import calling
from http_api.services import Door
from supervisor.errors import InvalidRequest, Unsupported
from supervisor.execution.values import Exited, Outcome, OutOfMemory, OutputLimit, Signalled, Tier, TimedOut
from supervisor.identity.credentials import Caller
from supervisor.programmatic.tool_calls import Broken, CallsWanted, Leg, ProgramRequest, Tool, ToolName, ToolResult

REQUEST_ID: Final = "X-LibreChat-Code-Request-ID"
WORKSPACE_ID: Final = "X-LibreChat-Code-Workspace-ID"
MAX_REQUEST_ID: Final = 128
_DIALECTS: Final = {None: "python", "": "python", "py": "python", "python": "python", "bash": "bash", "sh": "bash"}


class _ToolBody(Struct, frozen=True):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _ResultBody(Struct, frozen=True):
    call_id: Annotated[str, Meta(max_length=64)]
    result: Any = None
    is_error: bool = False
    error_message: Annotated[str, Meta(max_length=65_536)] | None = None


class Body(Struct, frozen=True):
    """Of both kinds of request; unknown fields are ignored."""

    continuation_token: Annotated[str, Meta(max_length=4096)] | None = None
    tool_results: Annotated[list[_ResultBody], Meta(max_length=200)] | None = None
    code: str | None = None
    lang: Annotated[str, Meta(max_length=64)] | None = None
    language: Annotated[str, Meta(max_length=64)] | None = None
    tools: list[_ToolBody] | None = None
    args: list[str] | None = None
    session_id: str | None = None
    user_id: str | None = None
    entity_id: str | None = None
    files: Annotated[list[schemas.FileBody], Meta(max_length=256)] | None = None
    timeout: Annotated[float, Meta(ge=1, le=3_600_000)] | None = None
    """Milliseconds."""
    egress: schemas.Egress | None = None
    env: schemas.Environment | None = None
    tier: Tier | None = None
    """These three as of ``POST /exec``."""


class CancelBody(Struct, frozen=True):
    """Body of a cancellation."""

    request_id: Annotated[str, Meta(min_length=1, max_length=MAX_REQUEST_ID)]


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type="application/json")


async def run(door: Door, caller: Caller) -> Response:
    """Answer the start of a program, and each continuation of one."""
    body = schemas.decode(await read_capped(request, door.settings.body_bytes), Body)
    profiles.check(door)
    if body.continuation_token is not None:
        results = [_result(each) for each in body.tool_results or ()]
        leg = await door.programs.resume(calling(caller), body.continuation_token, results, execute.holding(request))
    else:
        if request.headers.get(WORKSPACE_ID):
            raise Unsupported("attached workspaces are not to be had here", code="unsupported_capability")
        program = _program(body, door, caller)
        await door.admit(program.execution.principal, "exec")
        leg = await door.programs.start(program, execute.holding(request))
    return _json(_answer(leg))


async def cancel(door: Door, caller: Caller) -> Response:
    """Answer ``POST /exec/programmatic/cancel``: end what was started under that request id."""
    body = schemas.decode(await read_capped(request, door.settings.body_bytes), CancelBody)
    found = await door.programs.cancel(calling(caller), body.request_id)
    return _json({"request_id": body.request_id, "cancelled": found})


def _program(body: Body, door: Door, caller: Caller) -> ProgramRequest:
    if body.code is None:
        raise InvalidRequest("Object missing required field `code`", field="code")
    name = body.lang or body.language
    dialect = _DIALECTS.get(name.lower() if name else None)
    if dialect is None:
        raise InvalidRequest(f"Unsupported language: {name}", field="lang")
    execution = execute.to_request(
        schemas.ExecBody(
            lang=dialect,
            code=body.code,
            args=list(body.args or ()),
            user_id=body.user_id,
            entity_id=body.entity_id,
            session_id=body.session_id,
            files=body.files,
            timeout=body.timeout,
            egress=body.egress,
            env=body.env,
            tier=body.tier,
        ),
        door,
        caller,
    )
    tools = tuple(Tool(tool.name, tool.description or "", tool.parameters) for tool in body.tools or ())
    return ProgramRequest(
        execution=execution,
        caller=calling(caller),
        dialect="bash" if dialect == "bash" else "python",
        tools=tools,
        request_id=(request.headers.get(REQUEST_ID) or "")[:MAX_REQUEST_ID] or None,
    )


def _result(body: _ResultBody) -> ToolResult:
    if not body.is_error:
        return ToolResult(body.call_id, body.result)
    said = body.error_message or (body.result if isinstance(body.result, str) else "") or "the tool failed"
    return ToolResult(body.call_id, error=said)


def _answer(leg: Leg) -> dict[str, Any]:
    if isinstance(leg, CallsWanted):
        return {
            "status": "tool_call_required",
            "continuation_token": leg.token,
            "session_id": leg.session_id,
            "tool_calls": [
                {"id": call.id, "name": call.name, "input": msgspec.Raw(call.untrusted_input)} for call in leg.calls
            ],
            "partial_stdout": leg.untrusted_stdout,
            "partial_stderr": leg.untrusted_stderr,
        }
    if isinstance(leg, Broken):
        return {"status": "error", "error": leg.message, "stdout": "", "stderr": "", "session_id": "", "files": []}
    flat = answers.execution(leg)
    error = _error(leg.outcome)
    return {**flat, "status": "completed"} if error is None else {**flat, "status": "error", "error": error}


def _error(outcome: Outcome) -> str | None:
    """Say it in the words that LibreChat's client passes on; a program that ends by itself has completed."""
    match outcome:
        case Exited():
            return None
        case TimedOut():
            return "Time limit exceeded"
        case OutOfMemory():
            return "Out of memory"
        case OutputLimit(stream):
            return f"{stream} length exceeded"
        case Signalled(number):
            return f"Sandbox exited with code {128 + number}"
        case _:
            return "Execution failed or timed out"
