"""The ledger: what became of each job; and the reaper, who closes those that nobody else can close any more."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, cast

import trio

from supervisor.fleet.outage import OUTAGE
from supervisor.fleet.scripts import job_script
from supervisor.fleet.watch_scripts import REAP_GATEWAY, REAP_WORKER, TIDY, WATCH
from supervisor.redis_link.link import RedisLink
from supervisor.settings.fleet import FleetSettings

_log = logging.getLogger(__name__)
_AT_ONCE: Final = 200
_LONGEST_NAME: Final = 128

State = Literal["queued", "running", "done", "failed", "lost", "cancelled", "expired"]
OPEN: Final = frozenset[State](("queued", "running"))

# ARGV: most. Gives id and fields of each, the latest first.
_LATEST: Final = job_script("""
local found = {}
for _, job in ipairs(redis.call('ZREVRANGE', key('ledger'), 0, tonumber(ARGV[1]) - 1)) do
  local fields = redis.call('HGETALL', key('job', job))
  if #fields > 0 then table.insert(found, {job, fields}) end
end
return found
""")


@dataclass(frozen=True, slots=True)
class Line:
    """What the ledger says of a job. Times are seconds since the epoch by Redis' clock."""

    job: str
    state: State
    gateway: str
    lane: str
    worker: str | None
    queued_at: float
    began_at: float | None
    ended_at: float | None
    reason: str | None
    hops: int


class Ledger:
    """Reads it."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def line(self, job: str) -> Line | None:
        """Give what became of a job, if that is still known.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        hash_key = self._link.key("job", job)
        found = await self._link.call(lambda client: client.hgetall(hash_key))
        return _line(job, cast("dict[bytes, bytes]", found)) if found else None

    async def latest(self, most: int = 1000) -> list[Line]:
        """Give the jobs that were queued last, the latest first.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        found = await self._link.run(_LATEST, [self._link.key()], [most])
        return [_line(_shown(job), dict(zip(fields[::2], fields[1::2], strict=True))) for job, fields in found]

    async def result(self, job: str) -> bytes | None:
        """Give what the worker answered, as long as it is kept.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        name = self._link.key("result", job)
        return cast("bytes | None", await self._link.call(lambda client: client.get(name)))


def _line(job: str, fields: dict[bytes, bytes]) -> Line:
    # What it says may be anything: it is shown to an operator, and nothing is done by it.
    def text(name: bytes) -> str | None:
        return fields[name].decode(errors="replace") if name in fields else None

    def seconds(name: bytes) -> float | None:
        return _number(fields[name]) / 1000 if name in fields else None

    return Line(
        job=job,
        state=cast("State", text(b"state")),
        gateway=text(b"gateway") or "",
        lane=text(b"lane") or "",
        worker=text(b"worker"),
        queued_at=seconds(b"queued") or 0.0,
        began_at=seconds(b"began"),
        ended_at=seconds(b"ended"),
        reason=text(b"reason"),
        hops=int(_number(fields.get(b"hops", b"0"))),
    )


def _number(written: bytes) -> float:
    with suppress(ValueError):
        found = float(written)
        if math.isfinite(found):
            return found
    return 0.0


async def reap_worker(link: RedisLink, settings: FleetSettings, worker: str | bytes, *, itself: bool = False) -> int:
    """Close or pass on all that a dead worker had, and give how many jobs that were; nothing if it lives.

    What it had begun is lost; what it had not goes back into its lane, or to the fallback, if it was for this worker
    alone. ``itself``: it is the worker who says so, as it begins anew; what waits in its own lane stays there.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    keep, lost = int(settings.ledger_seconds * 1000), "" if itself else str(int(settings.lost_seconds * 1000))
    total = 0
    while done := int(await link.run(REAP_WORKER, [link.key()], [worker, keep, lost, _AT_ONCE])):
        total += done
        if itself and done < _AT_ONCE:
            break
    return total


async def reap(link: RedisLink, settings: FleetSettings) -> int:
    """Look once after everybody's jobs, unless another has just done so; give how many needed it.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    keep, lost = int(settings.ledger_seconds * 1000), int(settings.lost_seconds * 1000)
    dead = await link.run(WATCH, [link.key()], [int(settings.heartbeat_seconds * 1000), lost])
    if not dead:
        return 0
    workers, gateways = dead
    total = 0
    for worker in workers:
        done = await reap_worker(link, settings, worker)
        total += done
        _log.warning("worker %s is gone; jobs that it had: %d", _shown(worker), done)
    for gateway in gateways:
        await link.run(REAP_GATEWAY, [link.key()], [gateway, lost])
        _log.warning("gateway %s is gone", _shown(gateway))
    while done := int(await link.run(TIDY, [link.key()], [keep, lost, _AT_ONCE])):
        total += done
    return total


def _shown(name: bytes) -> str:
    return name[:_LONGEST_NAME].decode(errors="replace")


async def run_reaper(link: RedisLink, settings: FleetSettings) -> None:
    """Look after everybody's jobs each heartbeat, for ever: a task of every gateway and worker, who take turns."""
    while True:
        try:
            await reap(link, settings)
        except OUTAGE as error:
            _log.warning("nobody is looked after: %s", error.message)
        await trio.sleep(settings.heartbeat_seconds)
