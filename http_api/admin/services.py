"""What the admin API asks of the rest: protocols. Who asks has been checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import trio

from supervisor.activity.activity import Activity
from supervisor.execution.values import Tier
from supervisor.identity.keys import KeyRates

Which = Literal["all", "acts", "refused"]
"""Of the record: everything, what operators did, who was refused."""


class Followers(Protocol):
    """Counts who follows executions."""

    most: int

    @property
    def full(self) -> bool:
        """No more may."""

    def enter(self) -> bool:
        """Count one more; ``False``: no more may."""

    def leave(self) -> None:
        """One has gone."""


class Sessions(Protocol):
    """Sessions of all owners."""

    async def page(self, tenant: str | None, user: str | None, limit: int, after: str | None) -> dict[str, Any]:
        """List some, the newest first; ``next`` is where the next page begins."""

    async def one(self, session_id: str) -> dict[str, Any]:
        """Describe one, with its files."""

    async def delete(self, session_id: str) -> None:
        """Forget one with its files; what runs in it is killed."""


class Keys(Protocol):
    """API keys of callers."""

    def listing(self) -> list[dict[str, Any]]:
        """Give every key, without what it is."""

    async def make(
        self, name: str, tenant: str, *, admin: bool = False, tier: Tier = "nsjail", rates: KeyRates | None = None
    ) -> dict[str, Any]:
        """Make a key; its secret is in the answer and nowhere else."""

    async def revoke(self, name: str) -> None:
        """Forget a key."""


class Process(Protocol):
    """This process, or the fleet that it is in."""

    async def pools(self) -> Sequence[object]:
        """Say which cells wait."""

    async def workers(self) -> Sequence[dict[str, Any]]:
        """List the workers."""

    async def drain(self, name: str) -> None:
        """Have a worker finish what it does, and leave."""


class Egress(Protocol):
    """Decisions about the network."""

    async def log(self, verdict: str, limit: int) -> list[dict[str, Any]]:
        """Give the latest, the latest first."""

    async def allow(self, name: str, rule: Mapping[str, Any]) -> dict[str, Any]:
        """Take one more rule into a set."""

    async def remove(self, name: str, rule: Mapping[str, Any]) -> dict[str, Any]:
        """Take the rule that is written so out of a set."""


class Usage(Protocol):
    """What callers have used."""

    def today(self, back: int = 0) -> str:
        """Give the day, so many days ago, as ``YYYY-MM-DD``."""

    async def between(self, first: str, last: str, tenant: str | None, limit: int) -> Sequence[object]:
        """Give what was used on these days and between them, the latest day first."""


class Act(Protocol):
    """An operator's act, to be written down."""

    def begin(self, target: str) -> None:
        """Say what it is about, just before it is done."""

    def end(self, outcome: Literal["begun", "done", "refused", "failed"], detail: str = "") -> None:
        """Say how it ended."""


class Audit(Protocol):
    """The record of what operators do."""

    def open_act(self, who: str, tenant: str, address: str, act: str, *, gives: bool) -> Act:
        """Have an act by an operator; ``gives``: it gives rights."""

    def refuse(self, address: str, act: str, detail: str) -> None:
        """Note that somebody was refused who is no operator."""

    async def read(self, which: Which, limit: int) -> list[dict[str, Any]]:
        """Give the latest entries, the latest first."""


class Administration(Protocol):
    """All of it."""

    @property
    def activity(self) -> Activity:
        """Executions, as they run and have ended."""

    @property
    def followers(self) -> Followers:
        """Who is told of executions as they happen."""

    @property
    def stopping(self) -> trio.Event:
        """Set when the server stops: what would go on for ever ends then."""

    @property
    def sessions(self) -> Sessions:
        """Sessions of all owners."""

    @property
    def keys(self) -> Keys:
        """API keys of callers."""

    @property
    def process(self) -> Process:
        """This process."""

    @property
    def egress(self) -> Egress:
        """Decisions about the network."""

    @property
    def usage(self) -> Usage:
        """What callers have used."""

    @property
    def audit(self) -> Audit:
        """The record of what operators do."""

    async def overview(self) -> dict[str, Any]:
        """Say what this process is, and how much it has to do."""

    async def health(self) -> dict[str, Any]:
        """Say what is wrong with it, and what to do about that."""
