"""Everything that the admin API asks, put together for one process."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import trio

from supervisor.activity.activity import Activity
from supervisor.activity.records import ExecutionRecord
from supervisor.administration.audit import AdminAudit, open_admin_audit
from supervisor.administration.findings import Check, all_well, summary
from supervisor.administration.followers import Followers
from supervisor.administration.keys import Change, Keys, in_file
from supervisor.administration.minutes import Minutes
from supervisor.administration.overview import About, Load, Pool, overview
from supervisor.administration.sessions import Sessions
from supervisor.administration.usage import UsageBook
from supervisor.errors import ConfigurationError
from supervisor.identity.keys import KEY_FILE, KeyRing
from supervisor.settings.tree import Settings
from supervisor.store.usage import UsageStore

log: Final = logging.getLogger("gaoler.admin")


class Process(Protocol):
    """A daemon with sandboxes, or a gateway."""

    @property
    def about(self) -> About:
        """Say what it is."""

    def load(self) -> Load:
        """Say how much it has to do."""

    async def pools(self) -> Sequence[Pool]:
        """Say which cells wait."""

    async def checks(self) -> Sequence[Check]:
        """Look at everything that could be wrong."""

    async def workers(self) -> Sequence[dict[str, Any]]:
        """List the workers of the fleet; a daemon alone is its own."""

    async def drain(self, name: str) -> None:
        """Have a worker finish what it does, and leave.

        Raises:
            NotFound: there is none of this name.
            Unsupported: this daemon is alone.
        """


class Egress(Protocol):
    """Decisions about the network."""

    async def log(self, verdict: str, limit: int) -> list[dict[str, Any]]:
        """Give the latest, the latest first."""

    async def allow(self, name: str, rule: Mapping[str, Any]) -> dict[str, Any]:
        """Take one more rule into a set."""

    async def remove(self, name: str, rule: Mapping[str, Any]) -> dict[str, Any]:
        """Take the rule that is written so out of a set."""


@dataclass(frozen=True, slots=True)
class Means:
    """What there is to be administered. ``change_keys``: ``None`` where keys are in this daemon's file."""

    settings: Settings
    activity: Activity
    process: Process
    sessions: Sessions
    usage: UsageStore
    egress: Egress
    change_keys: Change | None = None
    stopping: trio.Event = field(default_factory=trio.Event)
    """Set when the process stops."""


@dataclass(frozen=True, slots=True)
class Administration:
    """A :class:`http_api.services.Administration`. Use :func:`open_administration`."""

    means: Means
    keys: Keys
    usage: UsageBook
    audit: AdminAudit
    followers: Followers
    minutes: Minutes

    @property
    def activity(self) -> Activity:
        """Executions, as they run and have ended."""
        return self.means.activity

    @property
    def stopping(self) -> trio.Event:
        """Set when the process stops."""
        return self.means.stopping

    @property
    def sessions(self) -> Sessions:
        """Sessions of all owners."""
        return self.means.sessions

    @property
    def egress(self) -> Egress:
        """Decisions about the network."""
        return self.means.egress

    @property
    def process(self) -> Process:
        """This process."""
        return self.means.process

    async def overview(self) -> dict[str, Any]:
        """Say what this process is, and how much it has to do."""
        process = self.process
        found = overview(process.about, process.load(), await process.pools(), self.activity.totals, time.time())
        return {**found, "per_minute": self.minutes.counts()}

    async def health(self) -> dict[str, Any]:
        """Say what is wrong with it, and what to do about that."""
        return summary([*await self.process.checks(), self._keys_check(), self._audit_check()])

    def _keys_check(self) -> Check:
        try:
            return all_well("keys", f"{len(self.keys.listing())} hold")
        except ConfigurationError as error:
            fix = "move the file away and make the keys anew; no key of it holds meanwhile"
            return Check("keys", False, error.message, fix)

    def _audit_check(self) -> Check:
        lost = len(self.audit.unwritten)
        if not lost:
            return all_well("admin audit", "every act was written down")
        return Check(
            "admin audit", False, f"{lost} acts are not written down yet", "make room on the disk of state_dir"
        )


@asynccontextmanager
async def open_administration(means: Means, ring: KeyRing) -> AsyncIterator[Administration]:
    """Have it for the block; what callers have used is kept at its end.

    Raises:
        OSError: what operators do cannot be written down.
    """
    settings, data = means.settings, means.settings.state_path / "data"
    usage, minutes = UsageBook(means.usage, days=settings.usage.days), Minutes()

    def note(record: ExecutionRecord) -> None:
        usage.note(record)
        minutes.note()

    change = means.change_keys or in_file(data / KEY_FILE, settings.jailer.daemon_uid)
    keys = Keys(ring, change, settings.microvm.enabled)
    admin = settings.admin
    with open_admin_audit(data, file_bytes=admin.audit_bytes, files=admin.audit_files) as audit:
        means.activity.on_ended.append(note)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(usage.run)
                yield Administration(means, keys, usage, audit, Followers(admin.followers), minutes)
                nursery.cancel_scope.cancel()
        finally:
            means.activity.on_ended.remove(note)
