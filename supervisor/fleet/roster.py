"""What a gateway knows of the fleet: who is there, what they can do, what time it is. Looked at once each heartbeat."""

from __future__ import annotations

import logging
import math
from typing import Final

import trio

from supervisor.fleet.languages import FleetLanguages, decode_table, merged
from supervisor.fleet.outage import OUTAGE
from supervisor.fleet.registry import GatewayRecord, Registry, WorkerRecord
from supervisor.runtimes.language_view import LanguageTable

log: Final = logging.getLogger("gaoler.fleet")

SURPLUS: Final = 2
"""Executions that a gateway lets through, in multiples of its part of all places: workers should not have to wait for
the next one, and what waits in the gateway is in a fair order, what waits in Redis is not."""


class Roster:
    """Who is there. :meth:`watch` keeps it up to date; all others read."""

    def __init__(self, registry: Registry, own: LanguageTable) -> None:
        self._registry = registry
        self.languages = FleetLanguages(own)
        self.workers: tuple[WorkerRecord, ...] = ()
        self.gateways: tuple[GatewayRecord, ...] = ()
        self.reachable = False
        """Redis has answered at the last look."""

    @property
    def ready(self) -> tuple[WorkerRecord, ...]:
        """Workers that take new work."""
        return tuple(each for each in self.workers if each.state == "ready")

    @property
    def places(self) -> int:
        """How many executions this gateway may have under way."""
        all_places = sum(each.places for each in self.ready)
        return max(1, math.ceil(SURPLUS * all_places / max(1, len(self.gateways))))

    async def look(self) -> None:
        """Look once.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        self.workers = tuple(await self._registry.workers())
        self.gateways = tuple(await self._registry.gateways())
        tables = map(decode_table, dict.fromkeys(each.catalogue for each in self.ready))
        known = [each for each in tables if each is not None]
        # While none is seen (Redis was away, say), what they had is still the best answer to what there is.
        self.languages.current = merged(self.languages.current, known)

    async def watch(self, seconds: float) -> None:
        """Look every so many seconds until cancelled; what could not be looked at is told once."""
        while True:
            try:
                await self.look()
            except OUTAGE as error:
                if self.reachable:
                    log.error("the fleet cannot be seen: %s", error)
                self.reachable = False
            else:
                self.reachable = True
            await trio.sleep(seconds)
