"""Executions: those that run, the latest that have ended; ending one; how the server is."""

from __future__ import annotations

from quart import Response

from http_api.admin.asked import asked_limit, asked_word, json_answer
from http_api.services import Door
from supervisor.errors import NotFound
from supervisor.identity.credentials import Caller


async def overview(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/overview``."""
    return json_answer(await door.administration.overview())


async def pools(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/pools``: the cells that wait, as in the overview."""
    return json_answer({"pools": await door.administration.process.pools()})


async def health(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/health``: what is wrong, and what to do about it."""
    return json_answer(await door.administration.health())


async def executions(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/executions``: what runs, the oldest first; what has ended, the latest first."""
    state, limit = asked_word("state", ("running", "recent", "all"), "all"), asked_limit()
    activity = door.administration.activity
    running = activity.running()[:limit] if state != "recent" else []
    recent = activity.recent(limit) if state != "running" else []
    return json_answer({"running": running, "recent": recent})


async def cancel(door: Door, caller: Caller, execution: str) -> Response:
    """Answer ``POST /admin/executions/{id}/cancel``: its processes are killed, its caller is told who has ended it."""
    if not door.administration.activity.stop(execution, caller.credential):
        raise NotFound("no such execution runs", field="execution")
    return json_answer({"cancelled": True}, 202)
