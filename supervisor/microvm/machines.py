"""Virtual machines that have booted and wait, each for one session, thrown away afterwards."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from supervisor.jailer.cells import BACK_OFF_SECONDS, Workload
from supervisor.jailer.enclosure import JailError
from supervisor.jailer.jail import Yard
from supervisor.jailer.nsjail_config import Mask
from supervisor.microvm.machine import Machine, MachinePlan

log: Final = logging.getLogger("gaoler.microvm.machines")


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
        self._failures = 0
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[Machine]:
        """Have a virtual machine for the block; it is ended when the block is left, which is not waited for.

        If all are in use, wait for as long as one may take to boot.

        Raises:
            JailError: none became free, or it did not boot.
        """
        machine = await self._take()
        try:
            await machine.settled.wait()
            if machine.failure is not None:
                raise JailError(f"no virtual machine: {machine.failure}")
            yield machine
        finally:
            machine.released.set()

    async def _take(self) -> Machine:
        waiting = next((each for each in self._waiting if each.usable), None)
        waiting = waiting or next(iter(self._waiting), None)
        if waiting is not None:
            self._waiting.remove(waiting)
            self._changed.set()
            return waiting
        machine = Machine(self._yard, self._plan, self._masks)
        with trio.move_on_after(self._plan.boot_seconds) as patience:
            await self._places.acquire_on_behalf_of(machine)
        if patience.cancelled_caught:
            raise JailError(f"all {self._plan.most} virtual machines of this host are in use")
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
            if machine in self._waiting:
                self._waiting.remove(machine)
                self._failures += 1
            elif machine.failure is None:
                self._failures = 0
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Replace what is missing, one at a time, for ever; while memory is tight, none waits."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                self._changed = trio.Event()
                wanted = 0 if self._work.spared else self._plan.waiting
                for extra in self._waiting[wanted:]:
                    self._waiting.remove(extra)
                    extra.released.set()
                if self._failures:
                    await trio.sleep(BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS)) - 1])
                booting = any(not each.settled.is_set() for each in self._waiting)
                if len(self._waiting) < wanted and not booting:
                    self._prepare_one()
                await self._changed.wait()

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
