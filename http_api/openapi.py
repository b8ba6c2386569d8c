"""The OpenAPI document of this door, made of the same types that decode the bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from http_api import admin, programmatic, schemas, sessions

_REF: Final = "#/components/schemas/{name}"
_ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-]{21}$"}
_DETAILS: Final = ["simple", "summary", "full", "normalized"]

LIBRECHAT: Final = "LibreChat's Code Interpreter"
SESSIONS: Final = "Sessions by name"
BASE64: Final = "Files as base64"
OPERATOR: Final = "For operators"
SERVER: Final = "The server"

REFUSALS: Final[Mapping[int, str]] = {
    400: "something in the request breaks a rule; `field` names it",
    401: "no credential, or one that does not hold",
    403: "the credential holds, but not for this",
    404: "not there, expired, or another's",
    409: "it has been done already, or is not to be had here",
    413: "larger than the limit that is named",
    429: "too often, or no place; `Retry-After` says when to come again",
    503: "no sandbox could be had, or the host is short of memory or disk; nothing was kept",
    507: "the server's disk is full, or the caller keeps as much as it may",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """A route as it is described. ``body``: a type, ``multipart``, or none; ``answers``: schemas by status."""

    tag: str
    summary: str
    answers: Mapping[int, Any]
    body: Any = None
    refusals: tuple[int, ...] = (400, 401, 403, 429)
    query: tuple[str, ...] = ()
    open: bool = False


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_SKIPPED: Final = {"type": "array", "items": _object(["name", "reason"], name=_TEXT, reason=_TEXT)}
_NAMES: Final = {"type": "array", "items": _TEXT}
_RESULT_FILE: Final = _object(
    ["id", "name", "storage_session_id", "size"],
    id=_TEXT,
    name=_TEXT,
    storage_session_id=_TEXT,
    size=_NUMBER,
    inherited={"type": "boolean"},
    modified_from=_object(["id", "storage_session_id"], id=_TEXT, storage_session_id=_TEXT),
)
COMPONENTS: Final[dict[str, Any]] = {
    "Refusal": _object(
        ["error", "message"], error=_TEXT, message=_TEXT, field=_TEXT, retry_after_seconds={"type": "integer"}
    ),
    "Execution": _object(
        ["session_id", "stdout", "stderr", "files"],
        session_id=_TEXT,
        stdout=_TEXT,
        stderr=_TEXT,
        files={"type": "array", "items": _RESULT_FILE},
        deleted_files=_NAMES,
        skipped=_SKIPPED,
        code={"type": ["integer", "null"]},
        signal=_MAYBE_TEXT,
        status={"type": ["string", "null"], "description": "null, TO (time), OL or EL (output), SG (signal)"},
        message=_MAYBE_TEXT,
        wall_time={**_NUMBER, "description": "milliseconds"},
        cpu_time={**_NUMBER, "description": "milliseconds"},
        memory={**_NUMBER, "description": "peak, bytes"},
        runtime_session_id=_TEXT,
        runtime_status={"type": "string", "enum": ["new", "reused"]},
        runtime_restored={"type": "boolean"},
        runtime_state_lives={"type": "boolean"},
    ),
    "Program": _object(
        ["status", "session_id"],
        status={"type": "string", "enum": ["tool_call_required", "completed", "error"]},
        session_id=_TEXT,
        continuation_token=_TEXT,
        tool_calls={
            "type": "array",
            "items": _object(["id", "name", "input"], id=_TEXT, name=_TEXT, input={"type": "object"}),
        },
        error=_TEXT,
        stdout=_TEXT,
        stderr=_TEXT,
    ),
    "Uploaded": _object(
        ["message", "session_id", "storage_session_id", "files"],
        message=_TEXT,
        session_id=_TEXT,
        storage_session_id=_TEXT,
        files={"type": "array", "items": _object(["fileId", "filename"], fileId=_TEXT, filename=_TEXT)},
    ),
    "Batch": _object(
        ["message", "files", "succeeded", "failed"],
        message={"type": "string", "enum": ["success", "partial_success", "error"]},
        session_id=_MAYBE_TEXT,
        storage_session_id=_MAYBE_TEXT,
        files={"type": "array", "items": _object(["status", "filename"], status=_TEXT, filename=_TEXT)},
        succeeded=_NUMBER,
        failed=_NUMBER,
    ),
    "Object": _object(
        ["lastModified", "name", "size"],
        lastModified={"type": "string", "format": "date-time"},
        name=_TEXT,
        originalFilename=_TEXT,
        size=_NUMBER,
        etag=_TEXT,
        contentType=_TEXT,
        readOnly={"type": "boolean"},
    ),
    "Deleted": _object(["message"], message=_TEXT, session_id=_TEXT, fileId=_TEXT),
    "Content": _object(
        ["filename", "size", "encoding", "content"],
        session_id=_TEXT,
        file_id=_TEXT,
        filename=_TEXT,
        mime_type=_TEXT,
        size=_NUMBER,
        encoding={"const": "base64"},
        content={"type": "string", "contentEncoding": "base64"},
    ),
    "Session": _object(
        ["session_id", "language"],
        session_id=_TEXT,
        language=_TEXT,
        created_at={"type": "string", "format": "date-time"},
        expires_at={"type": "string", "format": "date-time"},
        files={"type": "array", "items": {"type": "object"}},
    ),
    "SessionRun": _object(
        ["session_id", "stdout", "stderr", "exit_code", "duration", "files"],
        session_id=_TEXT,
        stdout=_TEXT,
        stderr=_TEXT,
        exit_code=_NUMBER,
        signal=_MAYBE_TEXT,
        timed_out={"type": "boolean"},
        message=_MAYBE_TEXT,
        duration={"type": "number", "description": "seconds"},
        files=_NAMES,
        deleted_files=_NAMES,
        skipped=_SKIPPED,
    ),
    "EgressRuleSet": _object(
        ["name", "origin", "rules"],
        name=_TEXT,
        origin=_TEXT,
        rules={"type": "array", "items": {"type": "object"}},
        applied={"type": "boolean"},
    ),
    "EgressRules": _object(
        ["enabled", "connected", "sets"],
        enabled={"type": "boolean"},
        connected={"type": "boolean"},
        sets={"type": "array", "items": {"$ref": _REF.format(name="EgressRuleSet")}},
    ),
    "Health": _object(["status", "version", "languages"], status=_TEXT, version=_TEXT, languages=_NAMES),
}
_USES_A_SANDBOX: Final = (400, 401, 403, 404, 409, 413, 429, 503, 507)
_STORES: Final = (400, 401, 403, 413, 429, 503, 507)
_LOOKS_UP: Final = (400, 401, 403, 404, 429)
_SCOPE: Final = ("kind", "id", "version")

OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("POST", "/exec"): Operation(
        LIBRECHAT, "Run code", {200: "Execution"}, schemas.ExecBody, _USES_A_SANDBOX, ("stream",)
    ),
    ("POST", "/exec/programmatic"): Operation(
        LIBRECHAT,
        "Run a program that calls the caller's tools, or go on with one",
        {200: "Program"},
        programmatic.Body,
        _USES_A_SANDBOX,
    ),
    ("POST", "/exec/programmatic/cancel"): Operation(
        LIBRECHAT,
        "End a program",
        {200: _object(["request_id", "cancelled"], request_id=_TEXT, cancelled={"type": "boolean"})},
        programmatic.CancelBody,
        (400, 401, 403, 413),
    ),
    ("POST", "/upload"): Operation(
        LIBRECHAT, "Upload files; all of them or none", {200: "Uploaded"}, "multipart", _STORES
    ),
    ("POST", "/upload/batch"): Operation(
        LIBRECHAT, "Upload files; each has its own status", {200: "Batch"}, "multipart", _STORES
    ),
    ("GET", "/files/{session}"): Operation(
        LIBRECHAT, "List a session's files", {200: {"type": "array"}}, None, (400, 401, 403, 429), ("detail", *_SCOPE)
    ),
    ("GET", "/download/{session}/{file}"): Operation(
        LIBRECHAT, "Download a file", {200: "binary"}, None, _LOOKS_UP, _SCOPE
    ),
    ("GET", "/sessions/{session}/objects/{file}"): Operation(
        LIBRECHAT, "Ask how fresh a file is", {200: "Object"}, None, _LOOKS_UP, _SCOPE
    ),
    ("DELETE", "/sessions/{session}/objects/{file}"): Operation(
        LIBRECHAT, "Delete a file", {200: "Deleted"}, None, _LOOKS_UP, _SCOPE
    ),
    ("DELETE", "/files/{session}/{file}"): Operation(
        LIBRECHAT, "Delete a file (older form)", {200: "Deleted"}, None, _LOOKS_UP, _SCOPE
    ),
    ("DELETE", "/sessions/{session}"): Operation(
        SESSIONS, "Delete a session and its files", {200: "Deleted"}, None, _LOOKS_UP
    ),
    ("POST", "/sessions"): Operation(
        SESSIONS, "Make a session", {201: "Session"}, sessions.CreateBody, (400, 401, 403, 413, 429)
    ),
    ("GET", "/sessions/{session}"): Operation(SESSIONS, "Describe a session", {200: "Session"}, None, _LOOKS_UP),
    ("POST", "/sessions/{session}/execute"): Operation(
        SESSIONS, "Run code in a session", {200: "SessionRun"}, sessions.ExecuteBody, _USES_A_SANDBOX
    ),
    ("POST", "/sessions/{session}/files"): Operation(
        SESSIONS,
        "Upload files into a session",
        {201: _object(["session_id", "files"], session_id=_TEXT, files=_NAMES)},
        "multipart",
        (*_STORES, 404),
    ),
    ("GET", "/sessions/{session}/files/{path}"): Operation(
        SESSIONS, "Download a file by its path", {200: "binary"}, None, _LOOKS_UP
    ),
    ("GET", "/file/{session}/{file}/content"): Operation(
        BASE64, "A file's content inside JSON", {200: "Content"}, None, (*_LOOKS_UP, 413), _SCOPE
    ),
    ("GET", "/admin/egress"): Operation(
        OPERATOR, "The rules of the network that hold now", {200: "EgressRules"}, None, (401, 403)
    ),
    ("PUT", "/admin/egress"): Operation(
        OPERATOR,
        "Replace the rules of a name; what they no longer allow is cut",
        {200: "EgressRuleSet"},
        admin.EgressBody,
        (400, 401, 403, 404, 413),
    ),
    ("DELETE", "/admin/egress/{name}"): Operation(
        OPERATOR, "Go back to the rules of the file", {200: "EgressRuleSet"}, None, (400, 401, 403, 404)
    ),
    ("GET", "/metrics"): Operation(OPERATOR, "Figures, as Prometheus reads them", {200: "text"}, None, (401, 403)),
    ("GET", "/health"): Operation(
        SERVER, "Whether code can be run", {200: "Health", 503: "Health"}, None, (), (), open=True
    ),
}
_QUERY: Final[dict[str, dict[str, Any]]] = {
    "detail": {"schema": {"type": "string", "enum": _DETAILS}},
    "kind": {"schema": {"type": "string", "enum": ["user", "agent", "skill"]}},
    "id": {"schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:@+-]{1,128}$"}},
    "version": {"schema": {"type": "integer", "minimum": 0}},
    "stream": {"schema": {"type": "string", "enum": ["0", "1"]}, "description": "1: output as server-sent events"},
}
_PATH: Final = {"path": _TEXT, "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}}
_MULTIPART: Final = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "kind": {"type": "string", "enum": ["user", "agent", "skill"]},
        "id": _TEXT,
        "version": {"type": "string"},
        "read_only": {"type": "string", "enum": ["true", "false"]},
        "entity_id": _TEXT,
        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
    },
}


def document(version: str) -> dict[str, Any]:
    """Build the document, for the routes as they are below ``/v1``."""
    types = [op.body for op in OPERATIONS.values() if isinstance(op.body, type)]
    bodies, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(types, bodies, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation, schema_of)
    schemes = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer", "description": "LibreChat's JWT, or the key"},
        "basic": {"type": "http", "scheme": "basic", "description": "the key as password, or as user"},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gaoler",
            "version": version,
            "summary": "Runs code nobody trusts: LibreChat's Code Interpreter and two other dialects of one door.",
        },
        "servers": [{"url": "/v1"}, {"url": "/", "description": "every route is here too"}],
        "security": [{name: []} for name in schemes],
        "paths": paths,
        "components": {"schemas": {**components, **COMPONENTS}, "securitySchemes": schemes},
    }


def _operation(path: str, operation: Operation, schema_of: Mapping[type, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH.get(name, _ID)}
        for name in ("session", "file", "path", "name")
        if f"{{{name}}}" in path
    ]
    parameters += [{"name": name, "in": "query", **_QUERY[name]} for name in operation.query]
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            **{str(status): _answer(schema) for status, schema in operation.answers.items()},
            **{str(status): _refusal(status) for status in operation.refusals},
        },
    }
    if operation.body == "multipart":
        described["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _MULTIPART}}}
    elif operation.body is not None:
        content = {"application/json": {"schema": schema_of[operation.body]}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.open:
        described["security"] = []
    return described


def _answer(schema: Any) -> dict[str, Any]:
    if schema == "binary":
        return {"description": "the bytes", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
    if schema == "text":
        return {"description": "the figures", "content": {"text/plain": {"schema": _TEXT}}}
    found = {"$ref": _REF.format(name=schema)} if isinstance(schema, str) else schema
    content: dict[str, Any] = {"application/json": {"schema": found}}
    if schema == "Execution":
        content["text/event-stream"] = {"schema": _object(["event", "data"], event=_TEXT, data=_TEXT)}
    return {"description": "done", "content": content}


def _refusal(status: int) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name="Refusal")}
    return {"description": REFUSALS[status], "content": {"application/json": {"schema": schema}}}
