"""A gateway, as operators see it. What its workers do is in their own figures, and in the list of workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from supervisor import __version__
from supervisor.administration.findings import Check, all_well
from supervisor.administration.overview import About, Load, Pool
from supervisor.administration.processors import Processors
from supervisor.fleet.registry import Registry, described, drain_worker
from supervisor.fleet.remote import Fleet
from supervisor.policy import Policy
from supervisor.redis_link.link import RedisLink
from supervisor.settings.fleet import FleetSettings


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """A :class:`supervisor.administration.administration.Process`. ``name``: of the gateway."""

    name: str
    policy: Policy
    fleet: Fleet
    link: RedisLink
    settings: FleetSettings
    started_at: float = field(default_factory=time.time)
    processors: Processors = field(default_factory=Processors)

    @property
    def about(self) -> About:
        """Say what it is."""
        return About(
            role="gateway",
            name=self.name,
            version=__version__,
            started_at=self.started_at,
            policy=self.policy.name,
            image="",
        )

    def load(self) -> Load:
        """Say how much it has to do."""
        fleet = self.fleet
        return Load(
            running=fleet.admission.running,
            waiting=fleet.admission.waiting,
            places=fleet.admission.places,
            live_sessions=sum(each.live_sessions for each in fleet.roster.workers),
            cpu_percent=self.processors.percent(),
        )

    async def pools(self) -> Sequence[Pool]:
        """Say that it has no cells."""
        return ()

    async def workers(self) -> Sequence[dict[str, Any]]:
        """List the workers of the fleet, as of the last look."""
        return [described(each) for each in self.fleet.roster.workers]

    async def drain(self, name: str) -> None:
        """Have a worker finish what it does, and leave; it sees this in a heartbeat.

        Raises:
            NotFound: there is none of this name.
        """
        await drain_worker(Registry(self.link, self.settings), name)

    async def checks(self) -> Sequence[Check]:
        """Look at everything that could be wrong."""
        roster = self.fleet.roster
        if not roster.reachable:
            fix = "see that Redis runs and that this host reaches it; docs/operating.md"
            return [Check("store", False, "Redis does not answer", fix, vital=True)]
        ready, count = len(roster.ready), len(roster.workers)
        fix = "" if ready else "start a worker of the same policy and version; 'gaoler workers' lists those that live"
        return [
            all_well("store", "Redis answers"),
            Check("workers", bool(ready), f"{ready} of {count} take work", fix, vital=True),
        ]
