"""Leases: a live session belongs to one worker, and every lease has a number that is higher than all before it.

Who writes for a session shows the number; the stores refuse every one but the latest. So a worker that was cut off and
comes back can spoil nothing, whatever it still believes.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import trio

from supervisor.execution.values import SessionId
from supervisor.fleet.outage import OUTAGE
from supervisor.fleet.scripts import job_script
from supervisor.fleet.watch_scripts import CALM
from supervisor.redis_link.faults import reading
from supervisor.redis_link.link import RedisLink
from supervisor.settings.fleet import FleetSettings

_log = logging.getLogger(__name__)
_AT_ONCE: Final = 500
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

# ARGV: session, holder, life (ms), lost (ms), who asks. Gives the holder and, if that is the one who asked, the number,
# and who had it before and did not let it go.
_ACQUIRE: Final = job_script(
    CALM
    + """
local session, holder, life, lost, who = unpack(ARGV)
local lease = key('lease', session)
local other = redis.call('HGET', lease, 'holder')
if other and other ~= holder and not dead(other, lost) then return {other} end
-- Higher than all before, also if Redis has lost the latest of them: microseconds, unless they stand still.
local last = tonumber(redis.call('GET', key('fence-number')) or '0')
local number = whole(math.max(last + 1, tonumber(clock[1]) * 1000000 + tonumber(clock[2])))
redis.call('SET', key('fence-number'), number)
redis.call('DEL', lease)
redis.call('HSET', lease, 'holder', holder, 'number', number)
redis.call('PEXPIRE', lease, life)
redis.call('SET', key('fence', session), number, 'PX', 7 * DAY)
local before = redis.call('GET', key('open', session)) or ''
redis.call('SET', key('open', session), who, 'PX', 7 * DAY)
return {holder, number, before}
"""
)

# ARGV: session, lost (ms). Gives the holder, if it lives. A lease that ran out while Redis was away was not let go: the
# sandbox is still where it was, and its worker renews the lease in a moment.
_HOLDER: Final = job_script(
    CALM
    + """
local session, lost = unpack(ARGV)
local holder = redis.call('HGET', key('lease', session), 'holder')
if not holder then holder = string.match(redis.call('GET', key('open', session)) or '', '^(%S+) ') end
if holder and dead(holder, lost) then return false end
return holder or false
""",
    brief=True,
)

# ARGV: session, number.
_RELEASE: Final = job_script("""
local lease = key('lease', ARGV[1])
if redis.call('GET', key('fence', ARGV[1])) ~= ARGV[2] then return 0 end
redis.call('DEL', key('open', ARGV[1]))
return redis.call('DEL', lease)
""")

# ARGV: holder, life (ms), then session and number of each. Gives those that another has got.
_RENEW: Final = job_script("""
local holder, life = ARGV[1], ARGV[2]
local lost = {}
for at = 3, #ARGV, 2 do
  local session, number = ARGV[at], ARGV[at + 1]
  local lease, fence = key('lease', session), key('fence', session)
  if redis.call('GET', fence) == number then
    redis.call('HSET', lease, 'holder', holder, 'number', number)
    redis.call('PEXPIRE', lease, life)
    redis.call('PEXPIRE', fence, 7 * DAY)
  else
    table.insert(lost, session)
  end
end
return lost
""")


@dataclass(frozen=True, slots=True)
class Lease:
    """A session that is a worker's, until it lets it go or another has a lease with a higher number."""

    session_id: SessionId
    holder: str
    number: int
    taken_from: str | None = None
    """Who had it and did not let it go: a worker that is gone, or an earlier process of the same name."""


def _name(holder: bytes) -> str:
    """Read a worker's name.

    Raises:
        StoreSpoilt: it is none.
    """
    with reading():
        name = holder.decode("ascii")
        if not _NAME.fullmatch(name):
            raise ValueError(name)
        return name


class Leases:
    """The leases of one worker."""

    def __init__(self, link: RedisLink, settings: FleetSettings, holder: str) -> None:
        self._link = link
        self._holder = holder
        self._life = int(settings.lease_seconds * 1000)
        self._lost = int(settings.lost_seconds * 1000)
        self._beat_seconds = settings.heartbeat_seconds
        self._held: dict[SessionId, Lease] = {}
        self._who = f"{holder} {secrets.token_hex(8)}"
        """Tells this process from an earlier one of the same name."""

    @property
    def held(self) -> dict[SessionId, Lease]:
        """Give those that we believe to hold."""
        return dict(self._held)

    async def acquire(self, session_id: SessionId) -> Lease | str:
        """Give a lease, or the name of the worker that holds the session.

        One that we hold already is given as it is. One whose holder's heartbeat is missing is taken from it at once.

        Raises:
            StoreUnavailable: Redis does not answer; call again, or release is left to the lease's end.
        """
        if (held := self._held.get(session_id)) is not None:
            return held
        arguments: list[str | int] = [session_id, self._holder, self._life, self._lost, self._who]
        holder, *number = await self._link.run(_ACQUIRE, [self._link.key()], arguments, lasting=True)
        if not number:
            return _name(holder)
        with reading():
            before = number[1].decode()
            taken_from = _name(number[1].partition(b" ")[0]) if before not in ("", self._who) else None
            lease = Lease(session_id, self._holder, int(number[0]), taken_from)
        # Two of our tasks may have asked at once: the higher number is the one that holds.
        if (held := self._held.get(session_id)) is None or held.number < lease.number:
            self._held[session_id] = lease
        return self._held[session_id]

    async def release(self, lease: Lease) -> None:
        """Let a session go; another may have it at once.

        Raises:
            StoreUnavailable: Redis does not answer; it is not renewed any more and ends by itself.
        """
        if self._held.get(lease.session_id) == lease:
            del self._held[lease.session_id]
        await self._link.run(_RELEASE, [self._link.key()], [lease.session_id, lease.number])

    async def holder_of(self, session_id: SessionId) -> str | None:
        """Give the worker that holds a session, or held it last and did not let it go; a dead one holds nothing.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        holder = cast("bytes | None", await self._link.run(_HOLDER, [self._link.key()], [session_id, self._lost]))
        return None if holder is None else _name(holder)

    async def renew(self) -> list[SessionId]:
        """Renew all that we hold, and give those that another has got meanwhile: we hold them no more.

        One that ran out, because Redis was away, is ours again if nobody took it.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        held = list(self._held.values())
        gone = []
        for first in range(0, len(held), _AT_ONCE):
            part = {each.session_id: each for each in held[first : first + _AT_ONCE]}
            words: list[str | int] = [word for each in part.values() for word in (each.session_id, each.number)]
            for name in await self._link.run(_RENEW, [self._link.key()], [self._holder, self._life, *words]):
                session_id = SessionId(name.decode())
                # It may have been released, or acquired anew, while we asked.
                if self._held.get(session_id) == part[session_id]:
                    del self._held[session_id]
                    gone.append(session_id)
        return gone

    async def run_renewals(self, on_lost: Callable[[SessionId], None]) -> None:
        """Renew every heartbeat, for ever, and say which sessions another has got."""
        while True:
            await trio.sleep(self._beat_seconds)
            try:
                for session_id in await self.renew():
                    _log.warning("session %s is another worker's now", session_id)
                    on_lost(session_id)
            except OUTAGE as error:
                _log.warning("leases cannot be renewed: %s", error.message)
