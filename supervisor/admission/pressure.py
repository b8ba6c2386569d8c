"""Whether the host can take more: memory and disk are watched, and new work is refused before the host suffers.

Two degrees. When memory gets *tight* what only saves time is given back: interpreters that nobody uses, cells that
wait. When memory or disk is *short* new executions and uploads are refused, with the setting that says so; what runs
goes on. One task looks, everybody else reads an attribute. Deciding is pure (:func:`shortages`, :func:`is_tight`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import trio

from supervisor.errors import Overloaded

log: Final = logging.getLogger("gaoler.pressure")

LOOK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 10.0
RELIEF: Final = 1.25
"""A shortage ends when there is so many times as much as where it began: it does not come and go at the border."""
TIGHT: Final = 2.0
"""Memory is tight below so many times what is short."""

Resource = Literal["memory", "disk"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the host has at one moment."""

    total_memory_bytes: int
    free_memory_bytes: int
    """Of the host, or the room in a cgroup around us if that is less."""
    stalled_percent: float | None
    """Of the last ten seconds, in which every task waited for memory (PSI); ``None``: the kernel does not say."""
    free_disk_bytes: int
    free_disk_inodes: int | None
    """``None``: this file system has no such limit."""


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Below these new work is refused. 0 switches one off, 100 does so for the stall."""

    free_memory_bytes: int
    free_memory_percent: float
    memory_stall_percent: float
    free_disk_bytes: int
    free_disk_inodes: int


@dataclass(frozen=True, slots=True)
class Shortage:
    """Something of which there is too little."""

    resource: Resource
    setting: str
    words: str

    @property
    def message(self) -> str:
        """Say it to a caller."""
        return f"the server is short of {self.resource} and takes no new work now: {self.words} ({self.setting})"


@dataclass(frozen=True, slots=True)
class _Rule:
    resource: Resource
    setting: str
    there: float
    least: float
    words: str


def shortages(reading: Reading, limits: HostLimits, before: frozenset[str]) -> tuple[Shortage, ...]:
    """Decide what is short now; ``before``: settings by which something was short at the last look."""
    found: list[Shortage] = []
    for rule in _rules(reading, limits):
        least = rule.least * RELIEF if rule.setting in before else rule.least
        if rule.there < least:
            found.append(Shortage(rule.resource, rule.setting, rule.words))
    return tuple(found)


def _rules(reading: Reading, limits: HostLimits) -> list[_Rule]:
    least_bytes = reading.total_memory_bytes * limits.free_memory_percent / 100
    rules = [
        _Rule(
            "memory",
            "host.free_memory_bytes",
            reading.free_memory_bytes,
            limits.free_memory_bytes,
            f"less than {limits.free_memory_bytes} bytes are free",
        ),
        _Rule(
            "memory",
            "host.free_memory_percent",
            reading.free_memory_bytes,
            least_bytes,
            f"less than {limits.free_memory_percent:g} % is free",
        ),
        _Rule(
            "disk",
            "host.free_disk_bytes",
            reading.free_disk_bytes,
            limits.free_disk_bytes,
            f"less than {limits.free_disk_bytes} bytes are free for its files",
        ),
    ]
    if reading.free_disk_inodes is not None:
        words = f"less than {limits.free_disk_inodes} files can be made"
        rules.append(_Rule("disk", "host.free_disk_inodes", reading.free_disk_inodes, limits.free_disk_inodes, words))
    # Alone it says little: one sandbox that fights with its own limit makes an idle host look stalled.
    if (
        reading.stalled_percent is not None
        and limits.memory_stall_percent < 100
        and is_tight(reading, limits, before=True)
    ):
        words = f"for more than {limits.memory_stall_percent:g} % of the time everything waits for memory"
        # As the others: what is there against what is wanted, here as a ratio.
        calm = limits.memory_stall_percent / max(reading.stalled_percent, 0.01)
        rules.append(_Rule("memory", "host.memory_stall_percent", calm, 1.0, words))
    return rules


def is_tight(reading: Reading, limits: HostLimits, *, before: bool) -> bool:
    """Decide whether what only saves time has to be given back."""
    percent = reading.total_memory_bytes * limits.free_memory_percent / 100
    least = TIGHT * max(limits.free_memory_bytes, percent)
    return reading.free_memory_bytes < (least * RELIEF if before else least)


class Pressure:
    """What is short now. :meth:`note` is called by one task; all others read."""

    def __init__(self, limits: HostLimits) -> None:
        self._limits = limits
        self.shortages: tuple[Shortage, ...] = ()
        self.reading: Reading | None = None
        self.tight = False
        self.refused: Counter[str] = Counter()
        """Work that was refused, by resource."""
        self._changed = trio.Event()

    @property
    def resources(self) -> tuple[str, ...]:
        """Name what is short, once each."""
        return tuple(dict.fromkeys(each.resource for each in self.shortages))

    def check(self) -> None:
        """Refuse new work if anything is short.

        Raises:
            Overloaded: it is; says of what, and by which setting.
        """
        if self.shortages:
            first = self.shortages[0]
            self.refused[first.resource] += 1
            raise Overloaded(first.message, resource=first.resource, retry_after_seconds=RETRY_SECONDS)

    def note(self, reading: Reading) -> None:
        """Take a reading in; a change is one line in the log."""
        before, tight = self.shortages, self.tight
        self.reading = reading
        self.shortages = shortages(reading, self._limits, frozenset(each.setting for each in before))
        self.tight = is_tight(reading, self._limits, before=tight)
        if [each.setting for each in self.shortages] != [each.setting for each in before]:
            _tell(self.shortages, reading, sum(self.refused.values()))
        if self.tight != tight:
            log.info("memory is %s free=%d", "tight" if self.tight else "no longer tight", reading.free_memory_bytes)
            self._changed.set()
            self._changed = trio.Event()

    async def wait(self, *, tight: bool) -> None:
        """Wait until memory is tight, or no longer."""
        while self.tight is not tight:
            await self._changed.wait()

    async def watch(
        self, look: Callable[[], Reading], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Look for ever, in a thread: a state directory may be far away. Ready after the first look.

        Raises:
            OSError: the first look failed. A later failure is logged once, and what was known goes on to hold.
        """
        self.note(await trio.to_thread.run_sync(look))
        task_status.started()
        blind = False
        while True:
            await trio.sleep(LOOK_SECONDS)
            try:
                self.note(await trio.to_thread.run_sync(look))
            except OSError as error:
                if not blind:
                    log.error("the host cannot be looked at, the last look goes on to hold: %s", error)
                blind = True
            else:
                blind = False


def _tell(short: tuple[Shortage, ...], reading: Reading, refused: int) -> None:
    if short:
        for each in short:
            log.warning("shedding load: %s: %s (%s)", each.resource, each.words, each.setting)
    else:
        log.warning(
            "no longer shedding load: memory free=%d disk free=%d refused_so_far=%d",
            reading.free_memory_bytes,
            reading.free_disk_bytes,
            refused,
        )
