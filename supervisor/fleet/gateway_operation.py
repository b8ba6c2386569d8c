"""What an operator asks of a gateway: its figures; rules of the network are changed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from supervisor.errors import Unsupported
from supervisor.fleet.gateway import Gateway

_RULES: Final = (
    "the rules of a fleet's network are files, the same on every worker: change them there, and they hold at once"
)


@dataclass(frozen=True, slots=True)
class GatewayOperation:
    """A :class:`http_api.services.Operation` without rules to change: a fleet's are files, the same on all workers."""

    gateway: Gateway

    def egress(self) -> dict[str, Any]:
        """Give the rules that this gateway tells callers of. Those that hold are in the files of the workers."""
        return {"enabled": self.gateway.prepared.policy.network == "egress", "connected": False, "sets": []}

    async def put_egress(self, _name: str, _payload: bytes) -> dict[str, Any]:
        """Refuse: rules of a fleet are files, the same on all workers."""
        raise Unsupported(_RULES, code="rules_are_files")

    async def log(self, _verdict: str, _limit: int) -> list[dict[str, Any]]:
        """Refuse: what the proxies decide is written where they are."""
        raise Unsupported(_RULES, code="rules_are_files")

    async def allow(self, _name: str, _rule: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse, as :meth:`put_egress`."""
        raise Unsupported(_RULES, code="rules_are_files")

    async def remove(self, _name: str, _rule: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse, as :meth:`put_egress`."""
        raise Unsupported(_RULES, code="rules_are_files")

    async def drop_egress(self, _name: str) -> dict[str, Any]:
        """Refuse, as :meth:`put_egress`."""
        raise Unsupported(_RULES, code="rules_are_files")

    async def metrics(self) -> str:
        """Give all figures as text."""
        return await self.gateway.metrics()
