"""On which worker a program waits for its caller's tools: in its token, and under the caller's name for it in Redis."""

from __future__ import annotations

import hashlib
from typing import Final

from supervisor.errors import InvalidRequest
from supervisor.execution.values import Principal
from supervisor.redis_link.link import RedisLink

_SEPARATOR: Final = "~"
"""In no worker's name."""


def token_with_place(worker: str, token: str) -> str:
    """Put a worker's name in front of its token. Only a hint: the worker's own signature is inside."""
    return f"{worker}{_SEPARATOR}{token}"


def place_in_token(token: str) -> str:
    """Give the worker that a token names.

    Raises:
        InvalidRequest: it names none.
    """
    worker, separator, _rest = token.partition(_SEPARATOR)
    if not separator or not worker or len(worker) > 64:
        raise InvalidRequest("it is not a token of this server", field="continuation_token")
    return worker


def token_without_place(token: str) -> str:
    """Give the worker's own token."""
    return token.partition(_SEPARATOR)[2]


class ProgramPlaces:
    """Remembers callers' names of programs, for who cancels by them through another gateway."""

    def __init__(self, link: RedisLink, seconds: float) -> None:
        self._link = link
        self._milliseconds = int(seconds * 1000)

    async def note(self, principal: Principal, request_id: str, worker: str) -> None:
        """Remember where a program is."""
        key = self._key(principal, request_id)
        await self._link.call(lambda client: client.set(key, worker, px=self._milliseconds))

    async def find(self, principal: Principal, request_id: str) -> str | None:
        """Give the worker, if it is known."""
        key = self._key(principal, request_id)
        found = await self._link.call(lambda client: client.get(key))
        return None if found is None else bytes(found).decode("ascii", "replace")  # type: ignore[arg-type]

    def _key(self, principal: Principal, request_id: str) -> str:
        parts = (principal.tenant, principal.credential, principal.user or "", request_id)
        name = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
        return self._link.key("program", name)
