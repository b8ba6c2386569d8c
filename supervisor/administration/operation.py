"""What an operator asks of a running daemon: its rules of the network, and figures. Values for the doors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from supervisor.core import Core, Prepared
from supervisor.jailer.protocol import Pools
from supervisor.metrics.sources import (
    of_build,
    of_counts,
    of_live,
    of_network,
    of_pools,
    of_pressure,
    of_process,
    of_reconciliation,
    of_stores,
    of_totals,
    of_tracer,
)
from supervisor.metrics.text import Point, as_text
from supervisor.network.rule_files import RuleSet


@dataclass(frozen=True, slots=True)
class Operation:
    """Looks at the objects of the core; changes the rules."""

    prepared: Prepared
    core: Core

    def egress(self) -> dict[str, Any]:
        """Give the rules that hold now."""
        return rules_that_hold(self.core)

    async def put_egress(self, name: str, payload: bytes) -> dict[str, Any]:
        """Replace the rules of a name; they hold when this returns, unless ``applied`` says that no proxy answered.

        Raises:
            NotFound, InvalidRequest: as :meth:`supervisor.network.rules_in_force.RulesInForce.put`.
        """
        made = self.core.rules.put(name, payload)
        return {**_described(made), "applied": await self._apply()}

    async def drop_egress(self, name: str) -> dict[str, Any]:
        """Go back to the file's rules.

        Raises:
            NotFound, InvalidRequest: as :meth:`supervisor.network.rules_in_force.RulesInForce.drop`.
        """
        made = self.core.rules.drop(name)
        return {**_described(made), "applied": await self._apply()}

    async def _apply(self) -> bool:
        """Say whether the proxy does what was changed; one that is gone is told when it comes."""
        await self.core.network.reconfigure()
        return await self.core.network.settle()

    async def metrics(self) -> str:
        """Give all figures in the text format of Prometheus."""
        pools = await self.core.jailer.pools()
        return as_text(self._points(pools))

    def _points(self, pools: Pools | None) -> Iterator[Point]:
        prepared, core = self.prepared, self.core
        yield from of_build(prepared.settings.fleet.role, prepared.image_name)
        yield from of_totals(core.activity.totals)
        yield Point("gaoler_running", core.admission.running)
        yield Point("gaoler_waiting", core.admission.waiting)
        yield Point("gaoler_places", core.admission.places)
        yield Point("gaoler_jailer_connected", core.jailer.connected)
        yield from of_pools(pools)
        yield from of_live(core.live)
        left = prepared.jailer.left
        found = {
            "cgroup": len(left.cgroups) + (0 if pools is None else pools.removed_cgroups),
            "process": len(left.processes),
            "upload": core.stores.removed_uploads,
        }
        yield from of_reconciliation(core.files, found)
        yield from of_pressure(core.pressure)
        yield from of_counts(core.counts)
        yield from of_network(core.network, core.rules.faults)
        yield from of_stores(core.stores)
        yield from of_tracer(core.tracer)
        yield from of_process()


def rules_that_hold(core: Core) -> dict[str, Any]:
    """Give the rules of the network, set by set, and whether there is a proxy that holds them."""
    return {
        "enabled": core.network.enabled,
        "connected": core.network.connected,
        "sets": [_described(each) for each in core.rules.sets.values()],
    }


def _described(each: RuleSet) -> dict[str, Any]:
    rules = [
        {key: value for key, value in msgspec.to_builtins(rule).items() if value not in (None, (), [], False)}
        for rule in each.rules
    ]
    written = msgspec.to_builtins(each.written.rule)
    return {"name": each.name, "origin": each.origin, "rules": rules, "written": written}
