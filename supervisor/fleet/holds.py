"""Sessions held by leases: a :class:`supervisor.live.lease.Holds` where daemons share a store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from supervisor.errors import Busy
from supervisor.execution.values import SessionId
from supervisor.fleet.leases import Lease, Leases
from supervisor.fleet.outage import OUTAGE
from supervisor.live.lease import Hold

log: Final = logging.getLogger("gaoler.fleet")

GIVE_UP_SECONDS: Final = 3.0


class FleetHolds:
    """Takes leases and gives them up. What is lost to another is told to ``on_lost``, which is set later."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._held: dict[SessionId, Lease] = {}
        self.on_lost: Callable[[SessionId], None] = lambda _session: None

    async def take(self, session_id: SessionId) -> Hold:
        """See :class:`supervisor.live.lease.Holds`."""
        found = await self._leases.acquire(session_id)
        if isinstance(found, str):
            # Not where: callers do not learn how the fleet's members are called.
            raise Busy("this session lives on another worker just now", retry_after_seconds=2.0)
        self._held[session_id] = found
        return Hold(found.number, found.taken_from)

    async def give_up(self, session_id: SessionId) -> None:
        """See :class:`supervisor.live.lease.Holds`. Bounded."""
        lease = self._held.pop(session_id, None)
        if lease is None:
            return
        with trio.move_on_after(GIVE_UP_SECONDS):
            try:
                await self._leases.release(lease)
            except OUTAGE:
                log.warning("lease not given up, it ends by itself session=%s", session_id)

    async def run(self) -> None:
        """Renew what is held until cancelled."""
        await self._leases.run_renewals(self._lost)

    def _lost(self, session_id: SessionId) -> None:
        self._held.pop(session_id, None)
        self.on_lost(session_id)
