"""API keys of callers: which there are, making and revoking them."""

from __future__ import annotations

from msgspec import Struct
from quart import Response, request

from http_api import schemas
from http_api.admin.acts import current_act
from http_api.admin.asked import json_answer
from http_api.body import read_capped
from http_api.services import Door
from supervisor.execution.values import Tier
from supervisor.identity.credentials import Caller
from supervisor.identity.keys import KeyName, KeyRates, TenantName

MAX_KEY_BYTES = 4096


class KeyBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /admin/keys``."""

    name: KeyName
    tenant: TenantName = "default"
    admin: bool = False
    tier: Tier = "nsjail"
    rates: KeyRates | None = None


async def listing(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/keys``."""
    return json_answer({"keys": door.administration.keys.listing()})


async def make(door: Door, _caller: Caller) -> Response:
    """Answer ``POST /admin/keys``: the key is in this answer and nowhere else."""
    body = schemas.decode(await read_capped(request, MAX_KEY_BYTES), KeyBody)
    current_act().begin(f"{body.name} tenant={body.tenant}{' admin' if body.admin else ''}")
    keys = door.administration.keys
    return json_answer(await keys.make(body.name, body.tenant, admin=body.admin, tier=body.tier, rates=body.rates), 201)


async def revoke(door: Door, _caller: Caller, key: str) -> Response:
    """Answer ``DELETE /admin/keys/{name}``: the next request with it is refused."""
    await door.administration.keys.revoke(key)
    return json_answer({"revoked": True})
