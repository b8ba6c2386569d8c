"""The gateway's end of the queue: put a job into a lane, cancel it, see what waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from supervisor.errors import Busy, InvalidRequest, StoreUnavailable
from supervisor.fleet.lanes import POOL
from supervisor.fleet.scripts import CANCEL, SUBMIT, job_script
from supervisor.redis_link.link import RedisLink
from supervisor.settings.fleet import FleetSettings

_RETRY_SECONDS: Final = 2.0
_MOST_LANES: Final = 10_000
_LONGEST_NAME: Final = 128
Found = Literal["unknown", "queued", "running", "done", "failed", "lost", "cancelled", "expired"]

# Gives the time, then for each lane: its name, how many wait in it, since when the first.
_BACKLOG: Final = job_script("""
local found = {whole(now)}
local function look(lane)
  local waiting = key('waiting', lane)
  local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
  table.insert(found, {lane, redis.call('ZCARD', waiting), first[2] or ''})
end
for _, pool in ipairs(redis.call('SMEMBERS', key('pools'))) do look(pool) end
for _, worker in ipairs(redis.call('HKEYS', key('workers'))) do look('worker:' .. worker) end
return found
""")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A job that was submitted, and the lane into which it went."""

    job: str
    lane: str


@dataclass(frozen=True, slots=True)
class LaneBacklog:
    """What waits in a lane and has been begun by nobody."""

    length: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, lane by lane."""

    lanes: dict[str, LaneBacklog]

    @property
    def length(self) -> int:
        """Give how many wait in all pools."""
        return sum(each.length for lane, each in self.lanes.items() if lane.startswith(POOL))

    @property
    def oldest_seconds(self) -> float:
        """Give how long the first of all has waited."""
        return max((each.oldest_seconds for each in self.lanes.values()), default=0.0)


class JobQueue:
    """Jobs of one gateway; what is said of them comes by :mod:`supervisor.fleet.replies`."""

    def __init__(self, link: RedisLink, settings: FleetSettings, gateway: str) -> None:
        self._link = link
        self._settings = settings
        self._gateway = gateway

    async def submit(
        self,
        job: str,
        lane: str,
        signed: bytes,
        body: bytes,
        *,
        expires_at: float,
        fallback: str | None = None,
        submit_by: float | None = None,
    ) -> Ticket:
        """Put a job into a lane and note it in the ledger; a job that is known is not put there again.

        It is never begun after ``expires_at`` (Redis' clock). ``fallback``: the lane that it goes to if the worker of
        its own is gone before it began. The lane in the ticket is the one that it went to. ``submit_by``: what comes to
        Redis later than that (its clock) changes nothing.

        Raises:
            Busy: too many wait, or for too long, or there is nobody any more who reads the lane.
            InvalidRequest: its time is over already.
            StoreUnavailable: Redis does not answer; it may have been submitted: cancel it.
        """
        settings = self._settings
        keep = _milliseconds(settings.ledger_seconds)
        became, where = await self._link.run(
            SUBMIT,
            [self._link.key()],
            [
                *(job, lane, self._gateway, signed, body, _milliseconds(expires_at), fallback or ""),
                *(settings.queue_length, _milliseconds(settings.queue_age_seconds), keep),
                _milliseconds(min(expires_at, submit_by or expires_at)),
            ],
            lasting=True,
        )
        match became.decode():
            case "long":
                raise Busy("too many executions wait for a worker", retry_after_seconds=_RETRY_SECONDS)
            case "old":
                raise Busy("executions wait too long for a worker", retry_after_seconds=_RETRY_SECONDS)
            case "gone":
                raise Busy("the worker of this session has just left", retry_after_seconds=_RETRY_SECONDS)
            case "late":
                raise StoreUnavailable("the server's Redis has taken too long")
            case "expired":
                raise InvalidRequest("the execution's time is over before it began")
            case _:
                return Ticket(job, where.decode(errors="replace"))

    @property
    def patience_seconds(self) -> float:
        """So long, at least, a submission is tried."""
        return self._link.patience_seconds

    async def cancel(self, ticket: Ticket) -> Found:
        """Cancel a job and give the state in which it was found.

        One that is queued never begins; the worker of one that is running is told; one that is not known (its
        submission is on the way) will be taken for submitted when it comes, and never begins. Others stay as they are.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        keep = _milliseconds(self._settings.ledger_seconds)
        found: bytes = await self._link.run(CANCEL, [self._link.key()], [ticket.job, keep])
        return found.decode()  # type: ignore[return-value]  # one of the ledger's states

    async def backlog(self) -> Backlog:
        """Look at what waits in the lanes of all pools and all workers."""
        now, *found = await self._link.run(_BACKLOG, [self._link.key()])
        return Backlog(
            {
                # Names of lanes are for people here.
                lane.decode(errors="replace")[:_LONGEST_NAME]: LaneBacklog(
                    int(length), max(0.0, (int(now) - float(first)) / 1000) if first else 0.0
                )
                for lane, length, first in found[:_MOST_LANES]
            }
        )


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
