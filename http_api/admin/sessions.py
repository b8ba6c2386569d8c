"""Sessions of all owners, and the workers that have them."""

from __future__ import annotations

from quart import Response

from http_api.admin.asked import asked_limit, asked_text, json_answer
from http_api.services import Door
from supervisor.identity.credentials import Caller


async def listing(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/sessions``: a page, the newest first."""
    tenant, user, after = asked_text("tenant"), asked_text("user"), asked_text("after")
    return json_answer(await door.administration.sessions.page(tenant, user, asked_limit(), after))


async def one(door: Door, _caller: Caller, session: str) -> Response:
    """Answer ``GET /admin/sessions/{id}``."""
    return json_answer(await door.administration.sessions.one(session))


async def delete(door: Door, _caller: Caller, session: str) -> Response:
    """Answer ``DELETE /admin/sessions/{id}``: its files are forgotten, what runs in it is killed."""
    await door.administration.sessions.delete(session)
    return json_answer({"deleted": True})


async def workers(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/workers``."""
    return json_answer({"workers": await door.administration.process.workers()})


async def drain(door: Door, _caller: Caller, worker: str) -> Response:
    """Answer ``POST /admin/workers/{name}/drain``: it finishes what it does, gives its sessions to others, leaves."""
    await door.administration.process.drain(worker)
    return json_answer({"draining": True}, 202)
