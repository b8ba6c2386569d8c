"""The OpenAPI document of this door, made of the same types that decode the bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from http_api import programmatic, schemas, sessions
from http_api.openapi_admin import ADMIN_COMPONENTS, ADMIN_OPERATIONS, ADMIN_PATH, ADMIN_QUERY
from http_api.openapi_schemas import COMPONENTS, NAMES, REF, TEXT, Operation, object_of

_ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-]{21}$"}
_DETAILS: Final = ["simple", "summary", "full", "normalized"]

LIBRECHAT: Final = "LibreChat's Code Interpreter"
SESSIONS: Final = "Sessions by name"
BASE64: Final = "Files as base64"
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
        {200: object_of(["request_id", "cancelled"], request_id=TEXT, cancelled={"type": "boolean"})},
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
        {201: object_of(["session_id", "files"], session_id=TEXT, files=NAMES)},
        "multipart",
        (*_STORES, 404),
    ),
    ("GET", "/sessions/{session}/files/{path}"): Operation(
        SESSIONS, "Download a file by its path", {200: "binary"}, None, _LOOKS_UP
    ),
    ("GET", "/file/{session}/{file}/content"): Operation(
        BASE64, "A file's content inside JSON", {200: "Content"}, None, (*_LOOKS_UP, 413), _SCOPE
    ),
    ("GET", "/languages"): Operation(
        SERVER, "Which languages can be run, with which packages", {200: "Languages"}, None, (401, 403, 429)
    ),
    ("GET", "/languages/{language}"): Operation(
        SERVER, "One of them, by its name or an alias", {200: "Language"}, None, (401, 403, 404, 429)
    ),
    **ADMIN_OPERATIONS,
    ("GET", "/health"): Operation(SERVER, "Whether it is alive", {200: "Health"}, None, (), (), open=True),
    ("GET", "/ready"): Operation(
        SERVER, "Whether code can be run", {200: "Readiness", 503: "Readiness"}, None, (), (), open=True
    ),
}
_QUERY: Final[dict[str, dict[str, Any]]] = {
    "detail": {"schema": {"type": "string", "enum": _DETAILS}},
    "kind": {"schema": {"type": "string", "enum": ["user", "agent", "skill"]}},
    "id": {"schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:@+-]{1,128}$"}},
    "version": {"schema": {"type": "integer", "minimum": 0}},
    "stream": {"schema": {"type": "string", "enum": ["0", "1"]}, "description": "1: output as server-sent events"},
    **ADMIN_QUERY,
}
_PATH: Final = {
    "path": TEXT,
    **ADMIN_PATH,
    "language": {"type": "string", "maxLength": 64},
}
_MULTIPART: Final = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "kind": {"type": "string", "enum": ["user", "agent", "skill"]},
        "id": TEXT,
        "version": {"type": "string"},
        "read_only": {"type": "string", "enum": ["true", "false"]},
        "entity_id": TEXT,
        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
    },
}


def document(version: str) -> dict[str, Any]:
    """Build the document, for the routes as they are below ``/v1``."""
    types = [op.body for op in OPERATIONS.values() if isinstance(op.body, type)]
    bodies, components = msgspec.json.schema_components(types, ref_template=REF)
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
        "components": {"schemas": {**components, **COMPONENTS, **ADMIN_COMPONENTS}, "securitySchemes": schemes},
    }


def _operation(path: str, operation: Operation, schema_of: Mapping[type, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH.get(name, _ID)}
        for name in ("session", "file", "path", "language", *ADMIN_PATH)
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
    if schema == "events":
        events = object_of(["event", "data"], event=TEXT, data=TEXT)
        return {"description": "until either side ends it", "content": {"text/event-stream": {"schema": events}}}
    if schema == "text":
        return {"description": "the figures", "content": {"text/plain": {"schema": TEXT}}}
    found = {"$ref": REF.format(name=schema)} if isinstance(schema, str) else schema
    content: dict[str, Any] = {"application/json": {"schema": found}}
    if schema == "Execution":
        content["text/event-stream"] = {"schema": object_of(["event", "data"], event=TEXT, data=TEXT)}
    return {"description": "done", "content": content}


def _refusal(status: int) -> dict[str, Any]:
    schema = {"$ref": REF.format(name="Refusal")}
    return {"description": REFUSALS[status], "content": {"application/json": {"schema": schema}}}
