"""The routes for operators, and what holds for all of them."""

from __future__ import annotations

from typing import Any, Final

from quart import Response, g, request

from http_api import metrics
from http_api.admin import egress, events, executions, keys, records, sessions
from http_api.admin.acts import Handler, Kind, address, recorded
from http_api.services import Door
from supervisor.errors import Forbidden, Unauthenticated, Unsupported
from supervisor.serving.addresses import address_of

ADMIN_ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "/admin/overview", executions.overview),
    ("GET", "/admin/pools", executions.pools),
    ("GET", "/admin/health", executions.health),
    ("GET", "/admin/executions", executions.executions),
    ("GET", "/admin/executions/events", events.events),
    ("POST", "/admin/executions/<execution>/cancel", executions.cancel),
    ("GET", "/admin/sessions", sessions.listing),
    ("GET", "/admin/sessions/<session>", sessions.one),
    ("DELETE", "/admin/sessions/<session>", sessions.delete),
    ("GET", "/admin/keys", keys.listing),
    ("POST", "/admin/keys", keys.make),
    ("DELETE", "/admin/keys/<key>", keys.revoke),
    ("GET", "/admin/workers", sessions.workers),
    ("POST", "/admin/workers/<worker>/drain", sessions.drain),
    ("GET", "/admin/egress", egress.egress),
    ("PUT", "/admin/egress", egress.put_egress),
    ("DELETE", "/admin/egress/<name>", egress.drop_egress),
    ("GET", "/admin/egress/log", egress.log),
    ("POST", "/admin/egress/allow", egress.allow),
    ("POST", "/admin/egress/remove", egress.remove),
    ("GET", "/admin/audit", records.audit),
    ("GET", "/admin/usage", records.usage),
    ("GET", "/metrics", metrics.metrics),
)
ACTS: Final[dict[Handler, Kind]] = {
    executions.cancel: Kind("execution.cancel"),
    sessions.delete: Kind("session.delete"),
    keys.make: Kind("key.make", gives=True),
    keys.revoke: Kind("key.revoke"),
    sessions.drain: Kind("worker.drain"),
    egress.put_egress: Kind("egress.put", gives=True),
    egress.drop_egress: Kind("egress.drop", gives=True),
    egress.allow: Kind("egress.allow", gives=True),
    # It gives too: what came after the rule may allow more than it did.
    egress.remove: Kind("egress.remove", gives=True),
}
"""Everything that is no question."""


def operated(door: Door, handler: Handler) -> Handler:
    """Have a route ask for an operator, also where nobody else is asked for a credential."""
    kind = ACTS.get(handler)

    async def view(**values: Any) -> Response:
        try:
            caller = door.operators.authenticate(request.headers, address_of(request.scope))
        except (Unauthenticated, Forbidden, Unsupported) as error:
            what = kind.name if kind is not None else f"GET {request.url_rule.rule if request.url_rule else ''}"
            door.administration.audit.refuse(address(), what, type(error).__name__)
            raise
        g.credential = caller.credential
        if kind is None:
            return await handler(door, caller, **values)
        return await recorded(door, caller, kind, handler, values)

    return view
