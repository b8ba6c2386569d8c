"""Operators' acts: each is written down, who did it, from where, what, and how it ended; also when it was refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from quart import Response, g, request

from http_api.admin.services import Act
from http_api.services import Door
from supervisor.errors import GaolerError
from supervisor.identity.credentials import Caller

Handler = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Kind:
    """What an act is called in the record. ``gives``: it gives rights, so it is done only when it can be recorded."""

    name: str
    gives: bool = False


def current_act() -> Act:
    """Give the act that this request does."""
    return cast("Act", g.act)


def address() -> str:
    """Say where this request is from; empty: a unix socket."""
    return request.remote_addr or ""


async def recorded(door: Door, caller: Caller, kind: Kind, handler: Handler, values: dict[str, Any]) -> Response:
    """Have a handler do an act. What it is about is in the path, or told by the handler before it does it."""
    audit = door.administration.audit
    act = g.act = audit.open_act(caller.credential, caller.tenant, address(), kind.name, gives=kind.gives)
    try:
        if values:
            act.begin(" ".join(values.values()))
        response = await handler(door, caller, **values)
    except GaolerError as error:
        act.end("refused", f"{type(error).__name__}: {error.message}")
        raise
    except BaseException as error:
        act.end("failed", type(error).__name__)
        raise
    act.end("done")
    return response
