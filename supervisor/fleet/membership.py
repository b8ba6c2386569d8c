"""A daemon with sandboxes as a member of a fleet: it says that it lives, holds its sessions, takes jobs, and leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from supervisor import __version__
from supervisor.activity.watched import WatchedExecutor, WatchedPrograms
from supervisor.callers import rate_rules
from supervisor.core import Core, Prepared
from supervisor.execution.assistants import Assistants
from supervisor.fleet.changes import Changes
from supervisor.fleet.delivery import open_deliveries
from supervisor.fleet.dispatch import Services
from supervisor.fleet.going_on import go_on
from supervisor.fleet.lanes import pool_lane, pool_of, worker_lane
from supervisor.fleet.languages import encode_table
from supervisor.fleet.ledger import run_reaper
from supervisor.fleet.manifest import Verifier
from supervisor.fleet.program_places import ProgramPlaces
from supervisor.fleet.rates import RedisRates
from supervisor.fleet.registry import WorkerRecord, open_announcer
from supervisor.fleet.shared_keys import SharedKeys
from supervisor.fleet.sharing import Sharing
from supervisor.fleet.worker import Post, Worker
from supervisor.live.background import Background
from supervisor.store.state_tiers import run_archiver

log: Final = logging.getLogger("gaoler.fleet")

LEAVE_SECONDS: Final = 20.0
"""For sessions to save themselves, when a member leaves."""


@dataclass(slots=True)
class Member:
    """This daemon in its fleet. ``worker``: ``None`` where it takes no jobs of gateways."""

    sharing: Sharing
    prepared: Prepared
    core: Core
    shared_keys: SharedKeys
    worker: Worker | None = None
    clock: Callable[[], float] = time.time
    """Redis' own."""
    started_at: float = field(default_factory=time.time)
    leaving: trio.Event = field(default_factory=trio.Event)
    """It was asked to leave: by :meth:`drain`, or by an operator through Redis."""

    def drain(self) -> None:
        """Have it finish what it does, give its sessions to others, and leave."""
        self.leaving.set()

    def rates(self) -> RedisRates:
        """Give what counts calls, with all others."""
        settings = self.prepared.settings
        return RedisRates(self.sharing.link, rate_rules(settings), settings.rates.shared_factor)

    def record(self) -> WorkerRecord:
        """Say what we are. Without keys to believe, we are nobody's worker: the policy that we name is none."""
        prepared, core = self.prepared, self.core
        catalogue = prepared.catalogue
        names = tuple(sorted(each.name for each in catalogue.languages if each.installed))
        tiers = tuple(each.name for each in catalogue.tiers if not each.reason)
        works = bool(prepared.trusted_keys)
        policy = prepared.policy.name if works else ""
        return WorkerRecord(
            name=self.sharing.name,
            pool=pool_of(names, tiers, policy=policy, version=__version__, image=prepared.image_name),
            places=self.places,
            running=core.admission.running if self.worker is None else max(core.admission.running, self.worker.running),
            live_sessions=core.live.count,
            languages=names,
            tiers=tiers,
            policy=policy,
            version=__version__,
            state="draining" if self.leaving.is_set() else "ready",
            started_at=self.started_at,
            catalogue=encode_table(catalogue),
        )

    @property
    def places(self) -> int:
        """How many executions it takes at once."""
        settings = self.prepared.settings
        return settings.fleet.places or settings.execution.concurrent

    async def leave(self, seconds: float) -> None:
        """Finish, within so many seconds, what is under way, then have all sessions saved for others to take.

        Whatever is not over by then is cancelled when its objects are closed, and told as lost.
        """
        self.leaving.set()
        with trio.move_on_after(seconds):
            if self.worker is not None:
                self.worker.drain()
                await self.worker.wait_idle()
        with trio.move_on_after(LEAVE_SECONDS):
            await self.core.live.leave()
        log.info("left the fleet: %d jobs under way, %d sessions", self.running, self.core.live.count)

    @property
    def running(self) -> int:
        """Jobs of gateways under way."""
        return 0 if self.worker is None else self.worker.running


@asynccontextmanager
async def open_member(prepared: Prepared, core: Core) -> AsyncIterator[Member]:
    """Be a member for the block. Where gateways' keys are known, jobs are taken when :func:`open_worker` is entered.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    sharing, settings = core.sharing, prepared.settings
    assert sharing is not None
    member = Member(sharing, prepared, core, SharedKeys(sharing.link))
    await member.shared_keys.look()
    changes = Changes(sharing.link, sharing.name)
    async with (
        open_announcer(sharing.link, settings.fleet, member.record) as announcer,
        trio.open_nursery() as nursery,
    ):
        member.clock = announcer.clock.now
        nursery.start_soon(go_on, sharing.holds.run)
        nursery.start_soon(go_on, changes.tell)
        nursery.start_soon(go_on, member.shared_keys.follow, settings.fleet.heartbeat_seconds)
        nursery.start_soon(go_on, changes.hear, core.files)
        nursery.start_soon(go_on, run_reaper, sharing.link, settings.fleet)
        nursery.start_soon(_pass_on, announcer.leave, member.leaving)
        if core.stores.states is not None:
            nursery.start_soon(go_on, run_archiver, core.stores.states)
        core.files.on_changed = changes.note
        try:
            yield member
        finally:
            # While others can still see that we live: what is saved after that may be another's already.
            with trio.CancelScope(shield=True):
                await member.leave(0.0)
            nursery.cancel_scope.cancel()


async def _pass_on(asked: trio.Event, leaving: trio.Event) -> None:
    await asked.wait()
    leaving.set()


@asynccontextmanager
async def open_worker(member: Member) -> AsyncIterator[None]:
    """Take jobs of gateways for the block, if there are keys by which to believe them.

    Raises:
        ConfigurationError: one of the keys is none.
        StoreUnavailable: Redis does not answer.
    """
    prepared, core, sharing = member.prepared, member.core, member.sharing
    if not prepared.trusted_keys:
        yield
        return
    settings, record = prepared.settings, member.record()
    services = Services(
        name=sharing.name,
        executor=WatchedExecutor(core.executor, core.activity, "worker"),
        programs=WatchedPrograms(core.programs, core.activity, "worker"),
        processes=Background(core.live, core.files, prepared.policy, prepared.languages, prepared.tiers),
        assistants=Assistants(core.executor, core.files, core.live),
        live=core.live,
        places=ProgramPlaces(sharing.link, settings.tools.token_seconds + settings.execution.queue_seconds),
        policy=prepared.policy,
        ids=core.ids,
    )
    async with AsyncExitStack() as stack:
        lanes = (worker_lane(record.name), pool_lane(record.pool))
        begun: dict[str, str] = {}
        own, pool = [
            await stack.enter_async_context(open_deliveries(sharing.link, settings.fleet, record.name, [lane], begun))
            for lane in lanes
        ]
        post = Post(record.name, record.pool, member.places, Verifier(prepared.trusted_keys), member.clock)
        worker = Worker(post, services, sharing.leases, own, pool)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(worker.run)
        member.worker = worker
        yield
        nursery.cancel_scope.cancel()
