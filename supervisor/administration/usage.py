"""What each caller uses, day by day: counted in memory as executions end, and kept every few seconds.

A daemon that is killed loses what the last seconds have added. Refused requests and the legs of a program that waits
for its caller are no executions; jobs of a gateway are counted by the gateway.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import trio

from supervisor.activity.records import ExecutionRecord
from supervisor.errors import GaolerError
from supervisor.store.usage import COUNTS, UsageStore, Used

log: Final = logging.getLogger("gaoler.usage")

FLUSH_SECONDS: Final = 5.0
LAST_FLUSH_SECONDS: Final = 5.0
MOST_CALLERS: Final = 10_000
"""Of one day that are told apart; whoever names ever new users is then counted under :data:`OTHERS`."""
OTHERS: Final = "*"
"""No user has this name."""
Who = tuple[str, str, str, str]


class UsageBook:
    """Counts. :meth:`note` is told of each end; ``clock``: seconds since the epoch."""

    def __init__(self, store: UsageStore, *, days: int, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._days = days
        self._clock = clock
        self._pending: dict[Who, Used] = {}
        self._known: set[Who] = set()
        self._day = ""
        self._writing = trio.Lock()

    def note(self, record: ExecutionRecord) -> None:
        """Count an execution that has ended."""
        if record.door == "worker" or record.outcome in ("refused", "waits_for_tools"):
            return
        self._add(self._used(record))

    def _used(self, record: ExecutionRecord) -> Used:
        return Used(
            day=self.today(),
            tenant=record.tenant,
            credential=record.credential,
            user=record.user or "",
            executions=1,
            failed=int(record.outcome == "failed"),
            wall_seconds=record.wall_seconds,
            cpu_seconds=record.cpu_seconds,
            output_bytes=record.output_bytes,
            files=record.files,
        )

    def _add(self, used: Used) -> None:
        if used.day != self._day:
            self._day = used.day
            self._known = {each for each in self._pending if each[0] == used.day}
        if used.who not in self._known and len(self._known) >= MOST_CALLERS:
            used = msgspec.structs.replace(used, user=OTHERS)
        self._known.add(used.who)
        before = self._pending.get(used.who)
        self._pending[used.who] = used if before is None else _together(before, used)

    def today(self, back: int = 0) -> str:
        """Give the day, so many days ago."""
        return (datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=back)).strftime("%Y-%m-%d")

    async def flush(self) -> None:
        """Keep what was counted.

        Raises:
            GaolerError: it cannot be kept now, and goes on to be counted.
        """
        async with self._writing:
            pending, self._pending = self._pending, {}
            if not pending:
                return
            kept = False
            try:
                await self._store.add(sorted(pending.values()))
                kept = True
            finally:
                if not kept:
                    for each in pending.values():
                        self._add_back(each)

    def _add_back(self, used: Used) -> None:
        before = self._pending.get(used.who)
        self._pending[used.who] = used if before is None else _together(before, used)

    async def run(self) -> None:
        """Keep it every few seconds until cancelled, and once more then; forget what is old."""
        forgotten = ""
        try:
            while True:
                await trio.sleep(FLUSH_SECONDS)
                try:
                    await self.flush()
                    if forgotten != self.today():
                        await self._store.forget(self.today(self._days))
                        forgotten = self.today()
                except GaolerError as error:
                    log.warning("what callers use is not kept yet: %s", error.message)
                except Exception:
                    # Named boundary: what is in Redis may be anybody's, and no daemon ends for want of a count.
                    log.exception("what callers use cannot be kept")
        finally:
            with trio.move_on_after(LAST_FLUSH_SECONDS, shield=True):
                try:
                    await self.flush()
                except Exception:
                    # As above; and others have still to be closed.
                    log.exception("what callers used in the last seconds is lost")

    async def between(self, first: str, last: str, tenant: str | None, limit: int) -> list[Used]:
        """Give what was used on these days and between them, the latest day first.

        Raises:
            GaolerError: the store does not answer.
        """
        try:
            await self.flush()
        except GaolerError as error:
            log.warning("what callers use is not kept yet: %s", error.message)
        return await self._store.between(first, last, tenant, limit)


def _together(one: Used, other: Used) -> Used:
    return msgspec.structs.replace(one, **{name: getattr(one, name) + getattr(other, name) for name in COUNTS})
