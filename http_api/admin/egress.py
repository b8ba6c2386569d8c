"""The rules of the network that hold now, what was decided by them, and changing them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from quart import Response, request

from http_api import schemas
from http_api.admin.acts import current_act
from http_api.admin.asked import asked_limit, asked_word, json_answer
from http_api.body import read_capped
from http_api.services import Door
from supervisor.identity.credentials import Caller
from supervisor.network.rule_files import RuleEntry

MAX_RULES_BYTES = 1 << 20


class EgressBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``PUT /admin/egress``: rules as in a file of ``policies/egress``."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    rule: Annotated[list[dict[str, Any]], Meta(max_length=500)]


class RuleBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /admin/egress/allow`` and ``remove``: a rule more for a set, or the one that is written so."""

    set: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    rule: RuleEntry


async def egress(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/egress``."""
    return json_answer(door.operation.egress())


async def put_egress(door: Door, _caller: Caller) -> Response:
    """Answer ``PUT /admin/egress``: the rules hold, and what they no longer allow is cut, before this answers."""
    body = schemas.decode(await read_capped(request, MAX_RULES_BYTES), EgressBody)
    current_act().begin(f"{body.name} rules={len(body.rule)}")
    return json_answer(await door.operation.put_egress(body.name, msgspec.json.encode({"rule": body.rule})))


async def drop_egress(door: Door, _caller: Caller, name: str) -> Response:
    """Answer ``DELETE /admin/egress/{name}``: the rules of the file hold again."""
    return json_answer(await door.operation.drop_egress(name))


async def log(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/egress/log``: the latest first; with a rule that would allow what was refused, if one may."""
    verdict = asked_word("verdict", ("all", "allowed", "refused", "failed"), "all")
    return json_answer({"records": await door.administration.egress.log(verdict, asked_limit())})


async def allow(door: Door, _caller: Caller) -> Response:
    """Answer ``POST /admin/egress/allow``: the rule holds beside the others, before this answers."""
    name, rule = await _rule()
    return json_answer(await door.administration.egress.allow(name, rule))


async def remove(door: Door, _caller: Caller) -> Response:
    """Answer ``POST /admin/egress/remove``: what only this rule allowed is cut, before this answers."""
    name, rule = await _rule()
    return json_answer(await door.administration.egress.remove(name, rule))


async def _rule() -> tuple[str, dict[str, Any]]:
    """Read a set's name and a rule, and note them as what the act is about."""
    body = schemas.decode(await read_capped(request, MAX_RULES_BYTES), RuleBody)
    # As it was written: defaults that are not said say nothing.
    said = {name: value for name, value in msgspec.to_builtins(body.rule).items() if value}
    current_act().begin(f"{body.set} {msgspec.json.encode(said).decode()}")
    return body.set, said
