"""What was written down: what operators did, what callers have used."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

import msgspec
from quart import Response, request

from http_api.admin.asked import asked_limit, asked_text, asked_word, json_answer
from http_api.admin.services import Which
from http_api.services import Door
from supervisor.errors import InvalidRequest
from supervisor.identity.credentials import Caller

USUAL_DAYS: Final = 30
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


async def audit(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/audit``: acts, and strangers who were refused, the latest first."""
    kind = asked_word("kind", ("all", "acts", "refused"), "all")
    which = msgspec.convert(kind, Which)
    return json_answer({"entries": await door.administration.audit.read(which, asked_limit())})


async def usage(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /admin/usage``: what each caller has used, day by day (UTC), the latest day first."""
    book = door.administration.usage
    first, last = _day("from", book.today(USUAL_DAYS)), _day("to", book.today())
    if first > last:
        raise InvalidRequest("it is after to", field="from")
    return json_answer({"days": await book.between(first, last, asked_text("tenant"), asked_limit())})


def _day(name: str, usual: str) -> str:
    text = request.args.get(name, usual)
    try:
        if _DAY.fullmatch(text) is None:
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise InvalidRequest("a day as 2026-01-31", field=name) from None
