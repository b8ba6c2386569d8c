"""The one table from our errors to HTTP answers. Nothing else builds an error body."""

from __future__ import annotations

import logging
import math
from typing import Any, Final

import msgspec
from quart import Response
from werkzeug.exceptions import HTTPException

from supervisor import errors
from supervisor.execution.request_context import current_request

log: Final = logging.getLogger("gaoler.http")

_TABLE: Final[dict[type[errors.GaolerError], tuple[int, str]]] = {
    errors.InvalidRequest: (400, "invalid_request"),
    errors.Unauthenticated: (401, "unauthenticated"),
    errors.Forbidden: (403, "forbidden"),
    errors.NotFound: (404, "not_found"),
    errors.TooLarge: (413, "too_large"),
    errors.Busy: (429, "rate_limited"),
    errors.Overloaded: (503, "overloaded"),
    errors.Conflict: (409, "conflict"),
    errors.Unsupported: (409, "unsupported"),
    errors.SandboxFailed: (503, "sandbox_failed"),
    errors.ExecutionLost: (503, "execution_lost"),
    errors.StoreUnavailable: (503, "store_unavailable"),
    errors.StoreSpoilt: (503, "store_unavailable"),
    errors.StorageFull: (507, "storage_full"),
    errors.QuotaReached: (507, "quota_reached"),
    errors.ConfigurationError: (500, "internal_error"),
}


class _Body(msgspec.Struct, omit_defaults=True):
    error: str
    message: str
    field: str | None = None
    hint: str | None = None
    retry_after_seconds: int | None = None
    request_id: str | None = None


def answer(
    status: int,
    error: str,
    message: str,
    *,
    field: str | None = None,
    hint: str | None = None,
    retry_after_seconds: int | None = None,
) -> Response:
    """Build an error answer."""
    body = msgspec.json.encode(_Body(error, message, field, hint, retry_after_seconds))
    response = Response(body, status=status, content_type="application/json")
    if retry_after_seconds is not None:
        response.headers["Retry-After"] = str(retry_after_seconds)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="gaoler", Basic realm="gaoler"'
    return response


def from_error(error: errors.GaolerError) -> Response:
    """Answer for one of our errors."""
    status, code, retry = _describe(error)
    response = answer(status, code, error.message, field=error.field, hint=_hint(error), retry_after_seconds=retry)
    if isinstance(error, errors.Unsupported) and error.details:
        body = {"error": code, "message": error.message, "field": error.field, **error.details}
        response.set_data(msgspec.json.encode(body))
    return response


def event(error: errors.GaolerError) -> dict[str, Any]:
    """Say the same in an event of a stream whose answer has begun already."""
    status, code, retry = _describe(error)
    body: dict[str, Any] = msgspec.to_builtins(_Body(code, error.message, error.field, _hint(error), retry))
    return {"status": status, **body}


def _describe(error: errors.GaolerError) -> tuple[int, str, int | None]:
    status, code = _TABLE[type(error)]
    retry = None
    if isinstance(error, errors.Busy | errors.Overloaded | errors.StoreUnavailable):
        retry = math.ceil(error.retry_after_seconds)
    if isinstance(error, errors.Unsupported):
        code = error.code
    if error.field == "lang" and isinstance(error, errors.InvalidRequest) and error.message.startswith("Unsupported"):
        code = error.message  # LibreChat's contract: {"error": "Unsupported language: X"}
    return status, code, retry


def _hint(error: errors.GaolerError) -> str | None:
    return (error.hint or None) if isinstance(error, errors.InvalidRequest) else None


def from_http(error: HTTPException) -> Response:
    """Answer for what the framework refuses: no such route, wrong method, a body over its limit."""
    status = error.code or 500
    code = (error.name or "error").lower().replace(" ", "_")
    response = answer(status, code, error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


def from_fault(error: BaseException) -> Response:
    """Answer for a fault of ours: the traceback goes to the log, nothing of it to the caller."""
    log.error("unexpected fault", exc_info=error)
    request, message = current_request(), "the server failed; the operator finds the reason in its log"
    response = answer(500, "internal_error", message)
    if request is not None:
        # Every answer has it in a header; here it is what the operator has to be told.
        body = _Body("internal_error", message, request_id=request.request_id)
        response.set_data(msgspec.json.encode(body))
    return response
