"""A gateway: what it is made of, and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import msgspec

from supervisor import __version__
from supervisor.activity.activity import Activity
from supervisor.administration.readiness import Check, Health, store_probes
from supervisor.core import GatewayPrepared
from supervisor.fleet.gauges import of_fleet
from supervisor.fleet.languages import FleetLanguages
from supervisor.fleet.queue import Backlog, JobQueue
from supervisor.fleet.registry import described
from supervisor.fleet.remote import Fleet
from supervisor.fleet.roster import Roster
from supervisor.fleet.shared_keys import SharedKeys
from supervisor.front import Front
from supervisor.metrics.counts import Counts
from supervisor.metrics.sources import of_build, of_counts, of_process, of_stores, of_totals, of_tracer
from supervisor.metrics.text import as_text
from supervisor.network.rules_in_force import RulesInForce
from supervisor.stores_in_use import Stores
from supervisor.tracing.tracer import Tracer


@dataclass(slots=True)
class Gateway:
    """What a gateway says of itself at ``/internal`` and at ``/health``."""

    prepared: GatewayPrepared
    fleet: Fleet
    stores: Stores
    queue: JobQueue
    rules: RulesInForce
    seen: Backlog
    """What waited at the last look."""
    shared_keys: SharedKeys
    activity: Activity
    tracer: Tracer | None
    counts: Counts = field(default_factory=Counts)
    made_front: Front | None = None

    @property
    def front(self) -> Front:
        """What the doors work with."""
        assert self.made_front is not None
        return self.made_front

    @property
    def ready(self) -> bool:
        """There is a worker that takes work."""
        return self.fleet.roster.reachable and bool(self.fleet.roster.ready)

    @property
    def status_text(self) -> str:
        """Say ``ok``, or what is missing."""
        if not self.fleet.roster.reachable:
            return "unavailable: no Redis"
        return "ok" if self.fleet.roster.ready else "unavailable: no worker"

    def status(self) -> dict[str, Any]:
        """Say what it is and does."""
        return {
            "role": "gateway",
            "name": self.prepared.name,
            "version": __version__,
            "ready": self.ready,
            "running": self.fleet.admission.running,
            "waiting": self.fleet.admission.waiting,
            "workers": len(self.fleet.roster.workers),
            "gateways": len(self.fleet.roster.gateways),
        }

    async def workers(self) -> Sequence[dict[str, Any]]:
        """List the workers."""
        return [described(each) for each in self.fleet.roster.workers]

    async def backlog(self) -> dict[str, Any]:
        """Say what waits, lane by lane, and here."""
        lanes = (await self.queue.backlog()).lanes
        return {"lanes": msgspec.to_builtins(lanes), "waiting_here": self.fleet.admission.waiting}

    def drain(self) -> bool:
        """Say that it cannot be: it is stopped, and clients come through another one."""
        return False

    async def metrics(self) -> str:
        """Give all figures as text."""
        return as_text(
            chain(
                of_build("gateway"),
                of_fleet(self.fleet, self.seen),
                of_totals(self.activity.totals),
                of_counts(self.counts),
                of_stores(self.stores),
                of_tracer(self.tracer),
                of_process(),
            )
        )


def gateway_health(gateway: Gateway, catalogue: FleetLanguages, stores: Stores) -> Health:
    """Give the health of a process without sandboxes: whether there are workers, and its stores answer."""
    return Health(
        role="gateway",
        say=lambda: gateway.status_text,
        names=lambda: [each.name for each in catalogue.languages if each.installed],
        known=partial(_checks, gateway.fleet.roster),
        probes=store_probes(gateway.prepared.settings, stores),
    )


def _checks(roster: Roster) -> Iterator[Check]:
    seen, workers = roster.reachable, len(roster.ready)
    yield Check("fleet", seen, "" if seen else "Redis did not answer when it was looked at")
    yield Check("workers", bool(workers), f"{workers} take work" if workers else "none takes work")
