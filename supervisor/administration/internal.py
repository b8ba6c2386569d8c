"""What a daemon with sandboxes says of itself at ``/internal``: a :class:`http_api.internal.Process`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from supervisor import __version__
from supervisor.administration.operation import Operation
from supervisor.core import Core, Prepared


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """Of roles ``all`` and ``worker``. ``on_drain``: has it drained; ``None``: it cannot be."""

    prepared: Prepared
    core: Core
    on_drain: Callable[[], None] | None = None

    @property
    def ready(self) -> bool:
        """It takes work."""
        return self.core.jailer.connected and not self.core.pressure.shortages

    def status(self) -> dict[str, Any]:
        """Say what it is and does."""
        core = self.core
        return {
            "role": self.prepared.settings.fleet.role,
            "name": self.prepared.name,
            "version": __version__,
            "ready": self.ready,
            "running": core.admission.running,
            "waiting": core.admission.waiting,
            "live_sessions": core.live.count,
            "short_of": list(core.pressure.resources),
        }

    async def workers(self) -> Sequence[dict[str, Any]]:
        """List the workers of the fleet; a daemon alone has none."""
        link = self.core.stores.link
        if link is None:
            return []
        from supervisor.fleet.registry import Registry, described

        return [described(each) for each in await Registry(link, self.prepared.settings.fleet).workers()]

    async def backlog(self) -> dict[str, Any]:
        """Say what waits; in a daemon alone that is its own queue."""
        link = self.core.stores.link
        if link is None:
            return {"lanes": {}, "waiting_here": self.core.admission.waiting}
        from supervisor.fleet.queue import JobQueue

        lanes = (await JobQueue(link, self.prepared.settings.fleet, self.prepared.name).backlog()).lanes
        return {"lanes": msgspec.to_builtins(lanes), "waiting_here": self.core.admission.waiting}

    def drain(self) -> bool:
        """Have it drained."""
        if self.on_drain is None:
            return False
        self.on_drain()
        return True

    async def metrics(self) -> str:
        """Give all figures as text."""
        return await Operation(self.prepared, self.core).metrics()
