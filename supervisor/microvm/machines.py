"""Virtual machines that have booted and wait, each for one session, thrown away afterwards."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from supervisor.jailer.cells import BACK_OFF_SECONDS, Workload
from supervisor.jailer.enclosure import JailError
from supervisor.jailer.jail import Yard
from supervisor.jailer.nsjail_config import Mask
from supervisor.microvm.machine import Machine
from supervisor.microvm.machine_plan import MachinePlan

SHARE_OF_OTHERS: Final = 4
"""One place in so many is not for callers who have much running already."""


class Machines:
    """Those that wait and those in use. Use :func:`open_machines`."""

    def __init__(self, yard: Yard, plan: MachinePlan, masks: tuple[Mask, ...], work: Workload) -> None:
        self._yard = yard
        self._plan = plan
        self._masks = masks
        self._work = work
        self._waiting: list[Machine] = []
        """Unclaimed, the oldest first."""
        self._places = trio.CapacityLimiter(plan.most)
        """Each machine has one while it lives; who wants one more waits in turn."""
        self._modest = trio.CapacityLimiter(plan.most - plan.most // SHARE_OF_OTHERS)
        self._failures = 0
        """One after the other."""
        self._not_before = -math.inf
        """When the next one that is to wait may be begun."""
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def claim(self, *, modest: bool = False) -> AsyncIterator[Machine]:
        """Have a virtual machine for the block; it is ended when the block is left, which is not waited for.

        If all are in use, wait for as long as one may take to boot. ``modest``: whoever asks has much running already
        and leaves the last places to others.

        Raises:
            JailError: none became free, or it did not boot; the log has the reason, which may tell of the host.
        """
        async with self._one_of_many(modest=modest):
            machine = await self._take()
            try:
                await machine.settled.wait()
                if machine.failure is not None:
                    raise JailError("no virtual machine: it did not boot, and the log says why")
                self._note_success()
                yield machine
            finally:
                machine.released.set()

    @asynccontextmanager
    async def _one_of_many(self, *, modest: bool) -> AsyncIterator[None]:
        if not modest:
            yield
            return
        who = object()
        await self._acquire(self._modest, who)
        try:
            yield
        finally:
            self._modest.release_on_behalf_of(who)

    async def _acquire(self, places: trio.CapacityLimiter, who: object) -> None:
        with trio.move_on_after(self._plan.boot_seconds) as patience:
            await places.acquire_on_behalf_of(who)
        if patience.cancelled_caught:
            raise JailError(f"all {places.total_tokens:g} virtual machines that may be are in use")

    async def _take(self) -> Machine:
        """Take one that waits, else one that boots, else have one made; none that is about to end."""
        usable = (each for each in self._waiting if each.usable)
        booting = (each for each in self._waiting if not each.settled.is_set())
        waiting = next(usable, None) or next(booting, None)
        if waiting is not None:
            self._waiting.remove(waiting)
            self._changed.set()
            return waiting
        machine = Machine(self._yard, self._plan, self._masks)
        await self._acquire(self._places, machine)
        self._begin(machine)
        return machine

    def _begin(self, machine: Machine) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._live, machine)

    async def _live(self, machine: Machine) -> None:
        try:
            await machine.live()
        finally:
            self._places.release_on_behalf_of(machine)
            if machine.failure is not None and (machine in self._waiting or not machine.booted):
                self._failures += 1
                pause = BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS)) - 1]
                self._not_before = trio.current_time() + pause
            if machine in self._waiting:
                self._waiting.remove(machine)
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Replace what is missing, one at a time, for ever; while memory is tight, none waits."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                self._changed = trio.Event()
                with trio.move_on_at(self._replace()):
                    await self._changed.wait()

    def _replace(self) -> float:
        """Give back what is too much, begin one that is missing; say when to look again, whatever happens."""
        wanted = 0 if self._work.spared else self._plan.waiting
        for extra in self._waiting[wanted:]:
            self._waiting.remove(extra)
            extra.released.set()
        booting = any(not each.settled.is_set() for each in self._waiting)
        if len(self._waiting) >= wanted or booting:
            return math.inf
        if trio.current_time() < self._not_before:
            return self._not_before
        self._prepare_one()
        return math.inf

    def _prepare_one(self) -> None:
        """Have one more boot, to wait, if there is a place and nobody waits for it."""
        assert self._nursery is not None
        machine = Machine(self._yard, self._plan, self._masks)
        try:
            self._places.acquire_on_behalf_of_nowait(machine)
        except trio.WouldBlock:
            return
        self._begin(machine)
        self._waiting.append(machine)
        self._nursery.start_soon(self._note_settled, machine)

    async def _note_settled(self, machine: Machine) -> None:
        await machine.settled.wait()
        if machine.usable:
            self._note_success()
        self._changed.set()

    def _note_success(self) -> None:
        if self._failures:
            self._failures, self._not_before = 0, -math.inf
            self._changed.set()

    def look_again(self) -> None:
        """Have what has changed for all looked at."""
        self._changed.set()


@asynccontextmanager
async def open_machines(
    yard: Yard, plan: MachinePlan, masks: tuple[Mask, ...], work: Workload
) -> AsyncIterator[Machines]:
    """Keep virtual machines for the block; at its end all are ended. ``masks``: in the jails around them."""
    machines = Machines(yard, plan, masks, work)
    async with trio.open_nursery() as nursery:
        await nursery.start(machines.run)
        yield machines
        nursery.cancel_scope.cancel()
