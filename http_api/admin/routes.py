"""The routes for operators, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from quart import Response, g, request

from http_api import metrics
from http_api.admin import egress, events, executions
from http_api.services import Door
from supervisor.addresses import address_of

Handler = Callable[..., Awaitable[Response]]

ADMIN_ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "/admin/overview", executions.overview),
    ("GET", "/admin/health", executions.health),
    ("GET", "/admin/executions", executions.executions),
    ("GET", "/admin/executions/events", events.events),
    ("POST", "/admin/executions/<execution>/cancel", executions.cancel),
    ("GET", "/admin/egress", egress.egress),
    ("PUT", "/admin/egress", egress.put_egress),
    ("DELETE", "/admin/egress/<name>", egress.drop_egress),
    ("GET", "/metrics", metrics.metrics),
)


def operated(door: Door, handler: Handler) -> Handler:
    """Have a route ask for an operator, also where nobody else is asked for a credential."""

    async def view(**values: Any) -> Response:
        caller = door.operators.authenticate(request.headers, address_of(request.scope))
        g.credential = caller.credential
        return await handler(door, caller, **values)

    return view
