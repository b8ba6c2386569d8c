"""The rules of a daemon's network, as operators look at refusals and allow something."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.administration.egress_log import egress_log
from supervisor.administration.operation import rules_that_hold
from supervisor.core import Core
from supervisor.errors import InvalidRequest, NotFound


@dataclass(frozen=True, slots=True)
class OwnEgress:
    """Of a daemon with sandboxes of its own. ``path``: the record of its proxy's decisions."""

    core: Core
    path: Path

    async def log(self, verdict: str, limit: int) -> list[dict[str, Any]]:
        """Give the latest decisions, the latest first; with a rule that would allow what was refused."""
        return await egress_log(self.path, verdict, limit, tuple(self.core.rules.sets))

    async def remove(self, name: str, rule: Mapping[str, Any]) -> dict[str, Any]:
        """Take a rule out of a set; what it allowed is cut when this returns, as with :meth:`allow`.

        Raises:
            NotFound: the policy does not name such a set, or the set has no such rule.
        """
        try:
            self.core.rules.remove(name, rule)
        except NotFound as error:
            raise NotFound(error.message, field="set" if error.field == "name" else error.field) from None
        return await self._applied(name)

    async def allow(self, name: str, rule: Mapping[str, Any]) -> dict[str, Any]:
        """Take one more rule into a set; it holds when this returns, as with the operation ``put_egress``.

        Raises:
            NotFound: the policy does not name such a set.
            InvalidRequest: the rule is wrong.
        """
        try:
            self.core.rules.add(name, rule)
        except NotFound as error:
            raise NotFound(error.message, field="set") from None
        except InvalidRequest as error:
            raise InvalidRequest(error.message, field=_field(error)) from None
        return await self._applied(name)

    async def _applied(self, name: str) -> dict[str, Any]:
        """Have the proxy do what was changed; describe the set."""
        await self.core.network.reconfigure()
        applied = await self.core.network.settle()
        sets = rules_that_hold(self.core)["sets"]
        return {**next(each for each in sets if each["name"] == name), "applied": applied}


def _field(error: InvalidRequest) -> str:
    """Name the part of the rule that is wrong. The rules before it held already: it is this one."""
    named = re.search(r": rule [^:]*: ([a-z]+): ", error.message)
    if named is not None:
        return f"rule.{named[1]}"
    return "rule" if error.field is None or error.field.startswith("rule") else f"rule.{error.field}"
