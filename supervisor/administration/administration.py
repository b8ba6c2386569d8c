"""Everything that the admin API asks, put together for one process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from supervisor.activity.activity import Activity
from supervisor.activity.records import ExecutionRecord
from supervisor.administration.findings import Check, summary
from supervisor.administration.followers import Followers
from supervisor.administration.minutes import Minutes
from supervisor.administration.overview import About, Load, Pool, overview


class Process(Protocol):
    """A daemon with sandboxes, or a gateway."""

    @property
    def about(self) -> About:
        """Say what it is."""

    def load(self) -> Load:
        """Say how much it has to do."""

    def pools(self) -> Sequence[Pool]:
        """Say which cells wait."""

    async def checks(self) -> Sequence[Check]:
        """Look at everything that could be wrong."""


@dataclass(frozen=True, slots=True)
class Administration:
    """A :class:`http_api.services.Administration`. ``stopping`` is set when the process stops."""

    activity: Activity
    process: Process
    followers: Followers
    stopping: trio.Event = field(default_factory=trio.Event)
    minutes: Minutes = field(default_factory=Minutes)

    def __post_init__(self) -> None:
        self.activity.on_ended.append(self._note)

    def _note(self, _record: ExecutionRecord) -> None:
        self.minutes.note()

    def overview(self) -> dict[str, Any]:
        """Say what this process is, and how much it has to do."""
        process = self.process
        found = overview(process.about, process.load(), process.pools(), self.activity.totals, time.time())
        return {**found, "per_minute": self.minutes.counts()}

    async def health(self) -> dict[str, Any]:
        """Say what is wrong with it, and what to do about that."""
        return summary(await self.process.checks())
