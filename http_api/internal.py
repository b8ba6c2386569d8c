"""``/internal/v1``: what a fleet and its operators ask a process, in every role. They show the service token.

Without ``fleet.service_token`` nobody is let in; a caller's API key is none, an administrator's neither.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from http_api import problems
from http_api.body import BoundedConnection, BoundedRequest
from http_api.health import add_routes
from http_api.services import Health
from supervisor.errors import GaolerError, Unauthenticated, Unsupported
from supervisor.identity.attempts import Attempts
from supervisor.serving.addresses import address_of

access: Final = logging.getLogger("gaoler.access")

PREFIX: Final = "/internal/"
_BEARER: Final = "Bearer "
_WANTED: Final = "this needs the fleet's service token: Authorization: Bearer ..."


class Process(Protocol):
    """What a process says of itself, and can be told."""

    @property
    def ready(self) -> bool:
        """It takes work."""

    def status(self) -> dict[str, Any]:
        """Say its role, its name, what it does."""

    async def workers(self) -> Sequence[dict[str, Any]]:
        """List the workers of the fleet."""

    async def backlog(self) -> dict[str, Any]:
        """Say what waits, lane by lane."""

    def drain(self) -> bool:
        """Have it finish what it does, give its sessions to others, and leave; ``False``: it is none that can."""

    async def metrics(self) -> str:
        """Give all figures as text."""


@dataclass(frozen=True, slots=True)
class _Door:
    token: str
    process: Process
    attempts: Attempts

    def admit(self) -> None:
        """Let in who shows the token.

        Raises:
            Unauthenticated: anybody else; everybody, if there is no token.
            Busy: too many from there have shown something else.
        """
        shown = request.headers.get("Authorization", "")
        given = shown.removeprefix(_BEARER).encode("utf-8", "replace") if shown.startswith(_BEARER) else b""
        if not shown or not self.token:
            raise Unauthenticated(_WANTED)
        with self.attempts.attempt(address_of(request.scope), f"internal\n{shown}"):
            if not hmac.compare_digest(given, self.token.encode()):
                raise Unauthenticated(_WANTED)

    async def status(self) -> Response:
        """Answer ``GET /internal/v1/status``."""
        return _json(self.process.status())

    async def workers(self) -> Response:
        """Answer ``GET /internal/v1/workers``."""
        return _json({"workers": list(await self.process.workers())})

    async def backlog(self) -> Response:
        """Answer ``GET /internal/v1/queue``."""
        return _json(await self.process.backlog())

    async def drain(self) -> Response:
        """Answer ``POST /internal/v1/drain``: at once, what it does goes on until it is done."""
        if not self.process.drain():
            raise Unsupported("only a worker can be drained", code="not_a_worker")
        return _json({"draining": True}, 202)

    async def metrics(self) -> Response:
        """Answer ``GET /internal/v1/metrics``."""
        return Response(await self.process.metrics(), content_type="text/plain; version=0.0.4; charset=utf-8")


class _App(QuartTrio):
    asgi_http_class = BoundedConnection
    request_class = BoundedRequest


def create_internal_app(token: str, process: Process, attempts: Attempts, health: Health | None = None) -> QuartTrio:
    """Build the application. ``attempts``: of both doors. ``health``: serve that where there is no other door."""
    app = _App("gaoler-internal", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None, PROPAGATE_EXCEPTIONS=False)
    app.url_map.merge_slashes = False
    door = _Door(token, process, attempts)
    for method, path, handler in (
        ("GET", "status", door.status),
        ("GET", "workers", door.workers),
        ("GET", "queue", door.backlog),
        ("POST", "drain", door.drain),
        ("GET", "metrics", door.metrics),
    ):
        app.add_url_rule(f"{PREFIX}v1/{path}", path, _logged(handler), methods=[method])
    if health is not None:
        add_routes(app, health)
    app.register_error_handler(GaolerError, _refused)
    app.register_error_handler(HTTPException, _http_refused)
    app.register_error_handler(Exception, _failed)

    async def refuse_strangers() -> None:
        # Who has no token does not learn which paths there are.
        if request.path.startswith(PREFIX):
            door.admit()

    app.before_request(refuse_strangers)
    return app


def _logged(handler: Callable[[], Awaitable[Response]]) -> Callable[[], Awaitable[Response]]:
    async def view() -> Response:
        response = await handler()
        access.info("internal method=%s path=%s status=%d", request.method, request.path, response.status_code)
        return response

    return view


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status=status, content_type="application/json")


async def _refused(error: GaolerError) -> Response:
    return problems.from_error(error)


async def _http_refused(error: HTTPException) -> Response:
    return problems.from_http(error)


async def _failed(error: Exception) -> Response:
    return problems.from_fault(error)
