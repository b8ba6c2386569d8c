"""What a daemon with sandboxes shares with others by one Redis: who has which session, whose turn it is, how often."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.fleet.holds import FleetHolds
from supervisor.fleet.leases import Leases
from supervisor.fleet.turns import FleetTurns
from supervisor.redis_link.link import RedisLink
from supervisor.settings.fleet import FleetSettings


@dataclass(frozen=True, slots=True)
class Sharing:
    """The objects of one daemon, whose name in the fleet is ``name``."""

    name: str
    link: RedisLink
    leases: Leases
    holds: FleetHolds
    turns: FleetTurns


def share(link: RedisLink, settings: FleetSettings, name: str) -> Sharing:
    """Put them together; nothing is asked of Redis yet."""
    leases = Leases(link, settings, name)
    return Sharing(name, link, leases, FleetHolds(leases), FleetTurns(link))
