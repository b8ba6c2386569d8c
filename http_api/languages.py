"""Which languages can be run, with which packages, and what the operator runs to have the others."""

from __future__ import annotations

import msgspec
from quart import Response

from http_api.files import calling
from http_api.services import Door
from supervisor.errors import NotFound
from supervisor.identity.credentials import Caller
from supervisor.runtimes.language_view import described, described_language


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type="application/json")


async def listing(door: Door, caller: Caller) -> Response:
    """Answer ``GET /languages``."""
    await door.admit(calling(caller), "listing")
    return _json(described(door.languages))


async def one(door: Door, caller: Caller, language: str) -> Response:
    """Answer ``GET /languages/{language}``, which may be an alias."""
    await door.admit(calling(caller), "listing")
    found = door.languages.find(language)
    if found is None:
        raise NotFound("there is no such language", field="language")
    return _json(described_language(found))
