"""For the operator: the rules of the network that hold now, and figures for a monitoring system."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from quart import Response, request

from http_api import schemas
from http_api.body import read_capped
from http_api.services import Door
from supervisor.errors import Forbidden
from supervisor.identity.credentials import Caller

MAX_RULES_BYTES = 1 << 20


class EgressBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``PUT /admin/egress``: rules as in a file of ``policies/egress``."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    rule: Annotated[list[dict[str, Any]], Meta(max_length=500)]


def _require_admin(caller: Caller) -> None:
    if not caller.admin:
        raise Forbidden("this needs a key of an operator: gaoler keys add NAME --admin", field="X-API-Key")


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type="application/json")


async def egress(door: Door, caller: Caller) -> Response:
    """Answer ``GET /admin/egress``."""
    _require_admin(caller)
    return _json(door.operation.egress())


async def put_egress(door: Door, caller: Caller) -> Response:
    """Answer ``PUT /admin/egress``: the rules hold, and what they no longer allow is cut, before this answers."""
    _require_admin(caller)
    body = schemas.decode(await read_capped(request, MAX_RULES_BYTES), EgressBody)
    return _json(await door.operation.put_egress(body.name, msgspec.json.encode({"rule": body.rule})))


async def drop_egress(door: Door, caller: Caller, name: str) -> Response:
    """Answer ``DELETE /admin/egress/{name}``: the rules of the file hold again."""
    _require_admin(caller)
    return _json(await door.operation.drop_egress(name))


async def metrics(door: Door, caller: Caller) -> Response:
    """Answer ``GET /metrics``, in the text format of Prometheus."""
    _require_admin(caller)
    return Response(door.operation.metrics(), content_type="text/plain; version=0.0.4; charset=utf-8")
