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
from supervisor.microvm.machine import Machine, MachinePlan

SHARE_OF_OTHERS: Final = 4
"""One place in so many is not for a caller who has much running already."""


class Machines:
    """Those that wait and those in use. Use :func:`open_machines`."""

    def __init__(self, yard: Yard, plan: MachinePlan, masks: tuple[Mask, ...], work: Workload) -> None:
        self._yard = yard
        self._plan = plan
        self._masks = masks
        self._work = work
        self._waiting: list[Machine] = []
        """Unclaimed, the oldest first."""
        self._all: list[Machine] = []
        """Those that wait, those in use, and those that are about to end."""
        self._failures = 0
        """One after the other."""
        self._not_before = -math.inf
        """When the next one that is to wait may be begun."""
        self._ended = trio.Event()
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def claim(self, *, modest: bool = False) -> AsyncIterator[Machine]:
        """Have a virtual machine for the block; it is ended when the block is left, which is not waited for.

        ``modest``: the last places, and the last ones that wait, are left to others.

        Raises:
            JailError: there is no room for one more, or it did not boot. Why it did not is in the log.
        """
        machine = await self._take(modest=modest)
        try:
            await machine.settled.wait()
            if machine.failure is not None:
                raise JailError("no virtual machine: it did not boot")
            yield machine
        finally:
            machine.released.set()

    async def _take(self, *, modest: bool) -> Machine:
        reserve = self._plan.most // SHARE_OF_OTHERS if modest else 0
        while (found := self._choose(modest=modest)) is None:
            if self._living < self._plan.most - reserve:
                found = self._begin()
                break
            if not any(each.ending for each in self._all):
                raise JailError(f"all {self._plan.most - reserve} virtual machines that may be are in use")
            await self._ended.wait()
        if found in self._waiting:
            self._waiting.remove(found)
        self._changed.set()
        return found

    def _choose(self, *, modest: bool) -> Machine | None:
        """Give the oldest that can be used, else one that boots; none that is about to end."""
        kept = self._plan.waiting // 2 if modest else 0
        usable = [each for each in self._waiting if each.usable]
        booting = [each for each in self._waiting if not each.settled.is_set()]
        return next(iter([*usable, *booting][: max(0, len(usable) + len(booting) - kept)]), None)

    @property
    def _living(self) -> int:
        return len(self._all)

    def _begin(self) -> Machine:
        assert self._nursery is not None
        machine = Machine(self._yard, self._plan, self._masks)
        self._all.append(machine)
        self._nursery.start_soon(self._live, machine)
        return machine

    async def _live(self, machine: Machine) -> None:
        try:
            await machine.live()
        finally:
            self._all.remove(machine)
            if machine.failure is not None and (machine in self._waiting or not machine.booted):
                self._failures += 1
                pause = BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS)) - 1]
                self._not_before = trio.current_time() + pause
            if machine in self._waiting:
                self._waiting.remove(machine)
            self._ended.set()
            self._ended = trio.Event()
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
        """Begin one that is missing, give back what is too much; say when to look again, whatever happens."""
        wanted = 0 if self._work.spared else self._plan.waiting
        for extra in self._waiting[wanted:]:
            self._waiting.remove(extra)
            extra.released.set()
        booting = any(not each.settled.is_set() for each in self._waiting)
        if len(self._waiting) >= wanted or booting or self._living >= self._plan.most:
            return math.inf
        if trio.current_time() < self._not_before:
            return self._not_before
        assert self._nursery is not None
        machine = self._begin()
        self._waiting.append(machine)
        self._nursery.start_soon(self._note_settled, machine)
        return math.inf

    async def _note_settled(self, machine: Machine) -> None:
        await machine.settled.wait()
        if machine.usable:
            self._failures = 0
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
