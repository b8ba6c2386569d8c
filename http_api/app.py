"""The application: one table of routes, each with and without ``/v1``, and what holds for every answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from http_api import (
    content,
    cors,
    dashboard,
    docs_page,
    execute,
    files,
    health,
    languages,
    openapi,
    problems,
    profiles,
    programmatic,
    sessions,
    uploads,
)
from http_api.admin.routes import ADMIN_ROUTES, operated
from http_api.body import BoundedBody, BoundedConnection, BoundedRequest
from http_api.services import Door
from supervisor.errors import GaolerError
from supervisor.execution.request_context import begin_request, trace_headers
from supervisor.serving.addresses import address_of

access: Final = logging.getLogger("gaoler.access")

Handler = Callable[..., Awaitable[Response]]

ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("POST", "/exec", execute.execute),
    ("POST", "/exec/programmatic", programmatic.run),
    ("POST", "/exec/programmatic/cancel", programmatic.cancel),
    ("POST", "/upload", uploads.upload),
    ("POST", "/upload/batch", uploads.batch),
    ("GET", "/files/<session>", files.listing),
    ("DELETE", "/files/<session>/<file>", files.delete_file),
    ("GET", "/download/<session>/<file>", files.download),
    ("GET", "/sessions/<session>/objects/<file>", files.freshness),
    ("DELETE", "/sessions/<session>/objects/<file>", files.delete_file),
    ("DELETE", "/sessions/<session>", files.delete_session),
    ("GET", "/file/<session>/<file>/content", content.content),
    ("POST", "/sessions", sessions.create),
    ("GET", "/sessions/<session>", sessions.describe),
    ("POST", "/sessions/<session>/execute", sessions.run),
    ("POST", "/sessions/<session>/files", sessions.upload),
    ("GET", "/sessions/<session>/files/<path:path>", sessions.download),
    ("GET", "/languages", languages.listing),
    ("GET", "/languages/<language>", languages.one),
)
_KEEPS_CONNECTION: Final = frozenset({execute.execute, programmatic.run, sessions.run})


class _App(QuartTrio):
    asgi_http_class = BoundedConnection
    request_class = BoundedRequest


def create_app(door: Door) -> QuartTrio:
    """Build the application around what it works with."""
    app = _App("gaoler", static_folder=None)
    # Bodies are capped where they are read, with an answer that names the limit.
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None, PROPAGATE_EXCEPTIONS=False)
    # Two slashes are not one: werkzeug would answer with a redirection, before anybody has been asked who he is.
    app.url_map.merge_slashes = False
    for prefix in ("", "/v1"):
        for method, path, handler in ROUTES:
            endpoint = f"{prefix}{method} {path}".replace(".", "_")
            app.add_url_rule(prefix + path, endpoint, _authenticated(door, handler), methods=[method])
        for method, path, handler in ADMIN_ROUTES:
            endpoint = f"{prefix}{method} {path}".replace(".", "_")
            app.add_url_rule(prefix + path, endpoint, operated(door, handler), methods=[method])
        shared = f"{prefix}/shared/<token>/<name>"
        app.add_url_rule(shared, f"{prefix}shared", _open(door, files.shared), methods=["GET"])
    health.add_routes(app, door.health)
    if door.settings.documentation:
        _add_documentation(app, door)
    if door.settings.dashboard:
        dashboard.add_dashboard(app)
    app.before_request(_begin)

    async def finish(response: Response) -> Response:
        profiles.mark(response)
        cors.mark(response, door.settings.cors_origins)
        return await _finish(response)

    app.after_request(finish)
    app.register_error_handler(GaolerError, _refused)
    app.register_error_handler(HTTPException, _http_refused)
    app.register_error_handler(Exception, _failed)
    return app


def _add_documentation(app: QuartTrio, door: Door) -> None:
    """Serve the document and the page, made once, to anybody."""
    described = openapi.document(door.health.version)
    document, page = msgspec.json.encode(described), docs_page.page(described).encode()

    async def serve_document() -> Response:
        return Response(document, content_type="application/json")

    async def serve_page() -> Response:
        headers = {"Content-Security-Policy": docs_page.PAGE_POLICY}
        return Response(page, content_type="text/html; charset=utf-8", headers=headers)

    for prefix in ("", "/v1"):
        app.add_url_rule(f"{prefix}/openapi.json", f"{prefix}openapi", serve_document, methods=["GET"])
        app.add_url_rule(f"{prefix}/docs", f"{prefix}docs", serve_page, methods=["GET"])


def _authenticated(door: Door, handler: Handler) -> Handler:
    async def view(**values: Any) -> Response:
        caller = door.credentials.authenticate(request.headers, address_of(request.scope))
        g.credential = caller.credential
        g.keeps_connection = handler in _KEEPS_CONNECTION
        return await handler(door, caller, **values)

    return view


def _open(door: Door, handler: Handler) -> Handler:
    async def view(**values: Any) -> Response:
        return await handler(door, **values)

    return view


async def _begin() -> None:
    headers = request.headers
    g.request_id = begin_request(headers.get("X-Request-Id"), *trace_headers(headers.getlist)).request_id
    g.started = time.monotonic()
    g.credential = "-"
    g.keeps_connection = False


async def _finish(response: Response) -> Response:
    body = request.body
    if isinstance(body, BoundedBody):
        await body.discard()
    if not g.get("keeps_connection", False):
        # LibreChat <= v0.8.3 uses a kept connection again for /exec with a 5 s socket timeout on it.
        response.headers["Connection"] = "close"
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers["X-Request-Id"] = g.get("request_id", "-")
    route = request.url_rule.rule if request.url_rule else "-"
    milliseconds = (time.monotonic() - g.get("started", time.monotonic())) * 1000
    access.info(
        "request method=%s route=%s status=%d ms=%.1f credential=%s",
        request.method,
        route,
        response.status_code,
        milliseconds,
        g.get("credential", "-"),
    )
    return response


async def _refused(error: GaolerError) -> Response:
    return problems.from_error(error)


async def _http_refused(error: HTTPException) -> Response:
    return problems.from_http(error)


async def _failed(error: Exception) -> Response:
    return problems.from_fault(error)
