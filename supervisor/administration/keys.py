"""API keys, as operators of a running server list, make and revoke them. What is made is shown once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import trio

from supervisor.errors import Conflict, InvalidRequest, NotFound
from supervisor.execution.values import Tier
from supervisor.identity.keys import (
    MAX_KEYS,
    RESERVED,
    ApiKey,
    KeyRates,
    KeyRing,
    change_key_file,
    with_new_key,
    without_key,
)

Work = Callable[[Sequence[ApiKey]], tuple[list[ApiKey], str]]
Change = Callable[[Work], Awaitable[str]]
"""Replaces all keys by what the work makes of them, and gives its other result."""


def in_file(path: Path, owner: int) -> Change:
    """Change keys in the file of this daemon, of uid ``owner``; commands of the host's operator may do so too."""

    async def change(work: Work) -> str:
        return await trio.to_thread.run_sync(change_key_file, path, owner, work)

    return change


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys of a server. ``strong``: it has virtual machines."""

    ring: KeyRing
    change: Change
    strong: bool

    def listing(self) -> list[dict[str, Any]]:
        """Give every key, without what it is.

        Raises:
            ConfigurationError: the file of keys is broken.
        """
        return [_described(key, origin) for origin, key in self.ring.all()]

    async def make(
        self, name: str, tenant: str, *, admin: bool = False, tier: Tier = "nsjail", rates: KeyRates | None = None
    ) -> dict[str, Any]:
        """Make a key; its secret is in the answer and nowhere else.

        Raises:
            Conflict: there is a key of that name, or there are too many.
            InvalidRequest: the name is another credential's; the tier is not to be had here.
        """
        if name in RESERVED:
            raise InvalidRequest("another credential has this name", field="name")
        if tier == "microvm" and not self.strong:
            raise InvalidRequest("not switched on: microvm.enabled", field="tier")

        def work(keys: Sequence[ApiKey]) -> tuple[list[ApiKey], str]:
            if any(each.name == name for each in keys):
                raise Conflict("there is a key of this name", field="name")
            if len(keys) >= MAX_KEYS:
                raise Conflict(f"there are {MAX_KEYS} keys: revoke one first", field="name")
            return with_new_key(keys, name, tenant, admin=admin, tier=tier, rates=rates)

        if any(key.name == name for _, key in self.ring.all()):
            raise Conflict("there is a key of this name", field="name")
        secret = await self.change(work)
        made = next((each for each in self.listing() if each["name"] == name), {"name": name, "tenant": tenant})
        return {"key": secret, **made}

    async def revoke(self, name: str) -> None:
        """Forget a key: the next request with it is refused.

        Raises:
            NotFound: there is none.
            Conflict: it is set where the server is configured.
        """

        def work(keys: Sequence[ApiKey]) -> tuple[list[ApiKey], str]:
            if all(each.name != name for each in keys):
                raise NotFound("no such key", field="name")
            return without_key(keys, name), ""

        if any(origin == "settings" and key.name == name for origin, key in self.ring.all()):
            raise Conflict("it is set in the settings: change it there, and restart", field="name")
        await self.change(work)


def _described(key: ApiKey, origin: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": key.name,
        "tenant": key.tenant,
        "admin": key.admin,
        "tier": key.tier,
        "created_at": key.created_at,
        "origin": origin,
    }
    return row if key.rates is None else {**row, "rates": msgspec.to_builtins(key.rates)}
