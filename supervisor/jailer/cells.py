"""Cells: jails that are ready and wait, each for one session, never given back.

There is a pool for each pair of policy and profile. A claim takes the oldest that waits, else one that is being built,
else it has one built. What was taken is replaced in the background, when nothing runs or too few are left. A cell that
dies while it waits is replaced too, with growing pauses if that goes on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Final

import trio
from msgspec import Meta, Struct

from supervisor.jailer.enclosure import JailError
from supervisor.jailer.jail import Jail, Yard, open_jail
from supervisor.jailer.nsjail_config import Mask
from supervisor.jailer.pool_size import CALM_SECONDS, PoolSize
from supervisor.jailer.protocol import MAX_POOLS, PoolFigures
from supervisor.policy import Policy

log: Final = logging.getLogger("gaoler.jailer.cells")

BACK_OFF_SECONDS: Final = (0.05, 0.2, 1.0, 5.0, 20.0)
RESERVE: Final = 4
"""So many of those that wait are not for a caller who has something running already."""

QUIET_SECONDS: Final = 0.025
"""A caller that makes one call after the other comes back sooner than this."""

MAX_AGE_SECONDS: Final = 3600.0
"""A cell that has waited so long is replaced: its zygote's layout is old by then."""


class PoolPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """How many cells of one kind wait: at least, and at most."""

    policy: str
    profile: str | None
    floor: Annotated[int, Meta(ge=0, le=4096)]
    ceiling: Annotated[int, Meta(ge=0, le=4096)]


def first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the first plain exception of a nested group."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


@dataclass(eq=False, slots=True)
class Cell:
    """A jail on its way from being built to being destroyed."""

    modest: bool = False
    urgent: bool = False
    """The next caller may need it: it is built with the weight of one who waits."""
    opened: trio.Event = field(default_factory=trio.Event)
    """There is a jail (still being built perhaps), or a failure."""
    ready: bool = False
    claimed: trio.Event = field(default_factory=trio.Event)
    released: trio.Event = field(default_factory=trio.Event)
    jail: Jail | None = None
    failure: str | None = None


@dataclass(slots=True)
class PoolCounters:
    """What has happened so far."""

    claims: int = 0
    misses: int = 0
    built: int = 0
    died_waiting: int = 0
    failed: int = 0


class Pool:
    """The cells of one policy and profile. Use :class:`Cells`."""

    def __init__(self, yard: Yard, policy: Policy, masks: tuple[Mask, ...], plan: PoolPlan, work: Workload) -> None:
        self._yard = yard
        self._policy = policy
        self._masks = masks
        self._profile = plan.profile
        self._work = work
        self._waiting: list[Cell] = []
        """Unclaimed, the oldest first; the ready ones before those that are being built."""
        self._failures = 0
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.size = PoolSize(plan.floor, plan.ceiling)
        self.counters = PoolCounters()

    @property
    def _target(self) -> int:
        """How many should wait; while memory is tight, none."""
        return 0 if self._work.spared else self.size.target

    def figures(self) -> PoolFigures:
        """Say how it stands."""
        size, counters = self.size, self.counters
        return PoolFigures(
            policy=self._policy.name,
            profile=self._profile,
            ready=sum(cell.ready for cell in self._waiting),
            floor=min(size.floor, size.ceiling),
            ceiling=size.ceiling,
            target=self._target,
            claims=counters.claims,
            misses=counters.misses,
            built=counters.built,
            lost=counters.failed,
        )

    def look_again(self) -> None:
        """Have what has changed for all pools looked at."""
        self._changed.set()

    @asynccontextmanager
    async def claim(self, *, modest: bool = False) -> AsyncIterator[Jail]:
        """Have a cell's jail for the block; it is destroyed when the block is left, which is not waited for.

        ``modest``: what is in the making and the last :data:`RESERVE` that wait are left to others; a new one is made
        instead, where the others' are not delayed.

        Raises:
            JailError: it could not be made.
        """
        cell = self._take(modest=modest)
        try:
            await cell.opened.wait()
            if cell.jail is None:
                raise JailError(cell.failure or "the jail could not be made")
            yield cell.jail
        finally:
            cell.released.set()

    def _take(self, *, modest: bool) -> Cell:
        now = trio.current_time()
        self.counters.claims += 1
        ready = sum(cell.ready for cell in self._waiting)
        reserve = self._reserve if modest else 0
        if ready > reserve:
            self.size.claimed(ready - 1, now)
        else:
            self.counters.misses += 1
            self.size.missed(now)
        if ready > reserve or (self._waiting and not modest):
            # The oldest ready one, or the one that has been in the making for longest.
            cell = min(self._waiting, key=lambda each: not each.ready)
            self._waiting.remove(cell)
        else:
            cell = self._begin(modest=modest)
        cell.claimed.set()
        self._changed.set()
        return cell

    def _begin(self, *, modest: bool = False, urgent: bool = False) -> Cell:
        assert self._nursery is not None
        cell = Cell(modest=modest, urgent=urgent)
        self._nursery.start_soon(self._live, cell)
        return cell

    async def _live(self, cell: Cell) -> None:
        """One cell's whole life. Named boundary: a cell that cannot be made is its claimant's failure, or counted."""
        try:
            async with open_jail(self._yard, self._policy, self._masks, self._profile, modest=cell.modest) as jail:
                cell.jail = jail
                if cell.urgent:
                    jail.weigh(1.0)
                cell.opened.set()
                try:
                    await jail.wait_built()
                    cell.ready = True
                    self.counters.built += 1
                    self._failures = 0
                    self._changed.set()
                    await self._wait_for_use(cell, jail)
                except JailError as error:
                    self._note_failure(cell, str(error))
                await self._until_released(cell)
        except* (OSError, JailError) as group:
            self._note_failure(cell, str(first(group)))
        finally:
            cell.opened.set()
            self._drop(cell)

    async def _wait_for_use(self, cell: Cell, jail: Jail) -> None:
        """Wait until somebody claims it; one that dies or grows old before is given up."""
        with trio.move_on_after(MAX_AGE_SECONDS):
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    await jail.wait_dead()
                    if not cell.claimed.is_set():
                        self.counters.died_waiting += 1
                        self._note_failure(cell, "it died while it waited")
                        nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await cell.claimed.wait()
                nursery.cancel_scope.cancel()

    async def _until_released(self, cell: Cell) -> None:
        self._drop(cell)
        if cell.claimed.is_set():
            await cell.released.wait()

    def _note_failure(self, cell: Cell, reason: str) -> None:
        cell.failure = reason
        self._failures += 1
        self.counters.failed += 1
        log.error("cell lost policy=%s profile=%s reason=%s", self._policy.name, self._profile, ascii(reason))

    def _drop(self, cell: Cell) -> None:
        if cell in self._waiting:
            self._waiting.remove(cell)
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Replace what is missing, for ever: one at a time while something runs and enough are left."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                self._changed = trio.Event()
                self.size.idle(trio.current_time())
                self._let_go()
                while self._should_build():
                    self._waiting.append(self._begin(urgent=self._short))
                if self._failures:
                    await trio.sleep(BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS)) - 1])
                # Once the machine has been quiet for a moment, the next look will build.
                waits_for_quiet = len(self._waiting) < self._target and not self._work.running
                with trio.move_on_after(QUIET_SECONDS if waits_for_quiet else CALM_SECONDS):
                    await self._work.wait_change(self._changed)

    def _should_build(self) -> bool:
        missing = self._target - len(self._waiting)
        building = sum(not cell.ready for cell in self._waiting)
        if missing <= 0 or building >= self._yard.building.total_tokens or (self._failures and building):
            return False
        # While something runs, or has just run, the machine is theirs, unless the next one would find too little.
        return self._work.quiet or self._short or (not building and len(self._waiting) < max(1, self._target // 2))

    @property
    def _short(self) -> bool:
        """Even those that are there for a caller who has nothing running are missing."""
        return len(self._waiting) < self._reserve

    @property
    def _reserve(self) -> int:
        return min(RESERVE, self._target // 2)

    def _let_go(self) -> None:
        """Give back what is more than the target."""
        ready = [cell for cell in self._waiting if cell.ready]
        for cell in ready[: max(0, len(self._waiting) - self._target)]:
            self._waiting.remove(cell)
            cell.claimed.set()
            cell.released.set()


class Workload:
    """How many claimed cells are at work: the background keeps out of their way."""

    def __init__(self) -> None:
        self.running = 0
        self.spared = 0
        """So many clients say that memory is tight."""
        self._idle = trio.Event()
        self._idle_since = -math.inf

    @property
    def quiet(self) -> bool:
        """Nothing runs, and nothing has for a moment."""
        return not self.running and trio.current_time() - self._idle_since >= QUIET_SECONDS

    def __enter__(self) -> None:
        self.running += 1

    def __exit__(self, *_exception: object) -> None:
        self.running -= 1
        if not self.running:
            self._idle_since = trio.current_time()
            self._idle.set()
            self._idle = trio.Event()

    @contextmanager
    def absent(self) -> Iterator[None]:
        """Do not count one of them for the block."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    async def wait_change(self, other: trio.Event) -> None:
        """Wait for ``other``, or until nothing runs any more."""
        async with trio.open_nursery() as nursery:

            async def watch(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch, other)
            nursery.start_soon(watch, self._idle)


class Cells:
    """All pools of a jailer. Use :func:`open_cells`."""

    def __init__(
        self, yard: Yard, policies: Mapping[str, Policy], masks: Mapping[str, tuple[Mask, ...]], max_jails: int
    ) -> None:
        self._yard = yard
        self._policies = policies
        self._masks = masks
        self._max_jails = max_jails
        self._pools: dict[tuple[str, str | None], Pool] = {}
        self._claimed = 0
        self.work = Workload()
        self.on_spare: Callable[[], None] | None = None
        """Called when memory has become tight, or is no more."""

    def add_pool(self, plan: PoolPlan) -> Pool:
        """Make a pool that somebody runs."""
        pool = Pool(self._yard, self._policies[plan.policy], self._masks[plan.policy], plan, self.work)
        self._pools[plan.policy, plan.profile] = pool
        return pool

    @property
    def claimed(self) -> int:
        """Jails that are in use."""
        return self._claimed

    def figures(self) -> list[PoolFigures]:
        """Say how the pools stand in which anything waits, or has been asked for."""
        found = [pool.figures() for pool in self._pools.values()]
        return [each for each in found if each.ceiling or each.claims][:MAX_POOLS]

    @property
    def full(self) -> bool:
        """No more jails may be claimed."""
        return self._claimed >= self._max_jails

    @contextmanager
    def spare(self) -> Iterator[None]:
        """Keep no cell waiting for the block; those that wait are given back."""
        self.work.spared += 1
        self._look_again()
        try:
            yield
        finally:
            self.work.spared -= 1
            self._look_again()

    def _look_again(self) -> None:
        for pool in self._pools.values():
            pool.look_again()
        if self.on_spare is not None:
            self.on_spare()

    def policy(self, name: str) -> Policy:
        """Give a policy that is known."""
        return self._policies[name]

    def knows(self, policy: str, profile: str | None) -> bool:
        """There is such a pool."""
        return (policy, profile) in self._pools

    @asynccontextmanager
    async def claim(self, policy: str, profile: str | None, *, modest: bool = False) -> AsyncIterator[Jail]:
        """As :meth:`Pool.claim`."""
        self._claimed += 1
        try:
            with self.work:
                async with self._pools[policy, profile].claim(modest=modest) as jail:
                    yield jail
        finally:
            self._claimed -= 1


@asynccontextmanager
async def open_cells(
    yard: Yard,
    policies: Mapping[str, Policy],
    masks: Mapping[str, tuple[Mask, ...]],
    plans: list[PoolPlan],
    *,
    max_jails: int,
) -> AsyncIterator[Cells]:
    """Keep pools for the block; at its end every jail is destroyed. Kinds without a plan keep nothing waiting."""
    cells = Cells(yard, policies, masks, max_jails)
    named = {(plan.policy, plan.profile): plan for plan in plans}
    async with trio.open_nursery() as nursery:
        for policy in policies:
            for profile in (None, *yard.sources):
                plan = named.get((policy, profile)) or PoolPlan(policy=policy, profile=profile, floor=0, ceiling=0)
                await nursery.start(cells.add_pool(plan).run)
        yield cells
        nursery.cancel_scope.cancel()
