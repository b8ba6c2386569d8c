"""A daemon with sandboxes of its own, as operators see it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from supervisor import __version__
from supervisor.administration.findings import Check, all_well
from supervisor.administration.overview import About, Load, Pool, host_load
from supervisor.administration.pool_figures import PoolFigures
from supervisor.administration.processors import Processors
from supervisor.core import Core, Prepared
from supervisor.errors import GaolerError, Unsupported
from supervisor.execution.values import SessionId

_ANY_SESSION = SessionId("-" * 21)


@dataclass(slots=True)
class OwnProcess:
    """A :class:`supervisor.administration.administration.Process`."""

    prepared: Prepared
    core: Core
    started_at: float = field(default_factory=time.time)
    processors: Processors = field(default_factory=Processors)
    figures: PoolFigures = field(init=False)

    def __post_init__(self) -> None:
        self.figures = PoolFigures(self.core.jailer, self.prepared.pools)

    @property
    def about(self) -> About:
        """Say what it is."""
        return About(
            role=self.prepared.settings.fleet.role,
            name=self.prepared.name,
            version=__version__,
            started_at=self.started_at,
            policy=self.prepared.policy.name,
            image=self.prepared.image_name,
        )

    def load(self) -> Load:
        """Say how much it has to do."""
        core = self.core
        return Load(
            running=core.admission.running,
            waiting=core.admission.waiting,
            places=core.admission.places,
            live_sessions=core.live.count,
            programs_waiting=core.programs.count,
            cpu_percent=self.processors.percent(),
            **host_load(core.pressure),
        )

    async def pools(self) -> Sequence[Pool]:
        """Say which cells wait; who asks within the same moment is told the same."""
        return await self.figures.pools()

    async def workers(self) -> Sequence[dict[str, Any]]:
        """List the workers of the fleet; a daemon alone is its own."""
        link = self.core.stores.link
        if link is None:
            return [self._itself()]
        from supervisor.fleet.registry import Registry, described

        return [described(each) for each in await Registry(link, self.prepared.settings.fleet).workers()]

    def _itself(self) -> dict[str, Any]:
        core, catalogue = self.core, self.prepared.catalogue
        return {
            "name": self.prepared.name,
            "pool": "",
            "places": core.admission.places,
            "running": core.admission.running,
            "live_sessions": core.live.count,
            "languages": sorted(each.name for each in catalogue.languages if each.installed),
            "tiers": [each.name for each in catalogue.tiers if not each.reason],
            "policy": self.prepared.policy.name,
            "version": __version__,
            "state": "ready",
            "started_at": self.started_at,
        }

    async def drain(self, name: str) -> None:
        """Have a worker finish what it does, and leave.

        Raises:
            NotFound: there is none of this name.
            Unsupported: this daemon is alone.
        """
        link = self.core.stores.link
        if link is None:
            raise Unsupported("this daemon is alone: stop it, and it finishes what it does", code="not_a_worker")
        from supervisor.fleet.registry import Registry, drain_worker

        await drain_worker(Registry(link, self.prepared.settings.fleet), name)

    async def checks(self) -> Sequence[Check]:
        """Look at everything that could be wrong."""
        return [*self._sandboxes(), await self._store(), *self._host(), *self._network()]

    def _sandboxes(self) -> Iterator[Check]:
        connected = self.core.jailer.connected
        yield Check(
            "jailer",
            connected,
            "makes sandboxes" if connected else "it is not there; its keeper starts it again",
            "" if connected else "if it does not come back in a minute restart the daemon; its log says why it died",
            vital=True,
        )
        yield all_well("image", self.prepared.image_name)
        if self.prepared.settings.microvm.enabled:
            reason = self.prepared.tiers.unavailable
            fix = "run 'gaoler doctor' as root: it says what is missing" if reason else ""
            yield Check("microvm", not reason, reason or "virtual machines can be had", fix)

    async def _store(self) -> Check:
        where = "Redis" if self.core.stores.link is not None else "the database"
        try:
            await self.core.stores.sessions.session(_ANY_SESSION, time.time())
        except GaolerError as error:
            return Check("store", False, error.message, "see docs/operating.md; nothing is kept meanwhile", vital=True)
        return all_well("store", f"{where} answers")

    def _host(self) -> Iterator[Check]:
        short = {each.resource: each for each in self.core.pressure.shortages}
        for resource in ("memory", "disk"):
            shortage = short.get(resource)
            if shortage is None:
                yield all_well(resource, "enough")
            else:
                fix = f"free some, or lower {shortage.setting}; what runs goes on, new work is refused"
                yield Check(resource, False, shortage.message, fix, vital=True)

    def _network(self) -> Iterator[Check]:
        network = self.core.network
        if not network.enabled:
            return
        fix = "" if network.connected else "it is started again by itself; the log says why it died"
        words = "decides" if network.connected else "it is not there: sandboxes reach nothing"
        yield Check("egress proxy", network.connected, words, fix)
        faults = self.core.rules.faults
        detail = f"{faults} changes were wrong, the earlier rules hold" if faults else "the files are in force"
        yield Check("egress rules", not faults, detail, "correct the file that the log names" if faults else "")
        lost = network.audit.write_failures
        words = f"{lost} lines could not be written" if lost else "every decision was written"
        yield Check("egress log", not lost, words, "make room on the disk of state_dir" if lost else "")
