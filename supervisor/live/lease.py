"""Whose a lasting session is, where several daemons share one store: a lease with a number that only rises.

A daemon alone has no need of it; with Redis it is :class:`supervisor.fleet.holds.FleetHolds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from supervisor.execution.values import SessionId


@dataclass(frozen=True, slots=True)
class Hold:
    """The session is ours. ``fence``: the number under which what it leaves is stored; ``None``: nobody asks for it."""

    fence: int | None = None
    taken_from: str | None = None
    """Who had it and did not give it up: a daemon that is gone."""


class Holds(Protocol):
    """Takes sessions and gives them up."""

    async def take(self, session_id: SessionId) -> Hold:
        """Have the session from now on, until it is given up.

        Raises:
            Busy: another daemon has it.
            StoreUnavailable: nobody can say.
        """

    async def give_up(self, session_id: SessionId) -> None:
        """Let others have it. What cannot be told now ends with the lease's time."""


class Alone:
    """The :class:`Holds` of a daemon that shares its store with nobody."""

    async def take(self, _session_id: SessionId) -> Hold:
        """Say yes."""
        return Hold()

    async def give_up(self, _session_id: SessionId) -> None:
        """Do nothing."""
