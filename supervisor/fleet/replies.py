"""What a gateway hears of its jobs: one stream for all of them, one channel for each.

Whoever reads a channel slowly loses its own events, never its result, and stops nobody else.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import trio

from supervisor.fleet.going_on import go_on
from supervisor.fleet.outage import OUTAGE
from supervisor.fleet.scripts import job_script
from supervisor.fleet.streams import Fields, entries
from supervisor.redis_link.link import RedisLink

_log = logging.getLogger(__name__)
_BLOCK_MILLISECONDS: Final = 2000
_PAUSE_SECONDS: Final = 0.2
_READ_AT_ONCE: Final = 16
"""Each may be a piece of output of 64 KiB, or a result of some MiB; while they are read there are two copies of all."""
_CHECK_AT_ONCE: Final = 500
_EVENTS: Final = 256
_EVENT_BYTES: Final = 1 << 20
"""Of one job, that wait to be read."""
_UNKNOWN_CHECKS: Final = 30
_LONGEST_REASON: Final = 200
_DIGITS: Final = 18
_RECEIVED_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 60.0

# ARGV: gateway, last id that was read ('' for none), life of a result that was received, how many were, those, then
# jobs that are waited for. Gives state, reason, whether it began, and the result of each that has ended.
_CHECK: Final = job_script("""
local gateway, last, life, received = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if last ~= '' then
  -- Exactly: what is left would be kept for ever by the trimming that is almost exact.
  redis.pcall('XTRIM', key('replies', gateway), 'MINID', last)
end
for number = 5, 4 + received do
  redis.call('PEXPIRE', key('result', ARGV[number]), life)
end
local found = {}
for number = 5 + received, #ARGV do
  local job = ARGV[number]
  local known = redis.call('HMGET', key('job', job), 'state', 'reason', 'worker')
  if not known[1] then
    table.insert(found, {job, 'unknown', '', 0, false})
  elseif known[1] ~= 'queued' and known[1] ~= 'running' then
    local result = redis.call('GET', key('result', job))
    table.insert(found, {job, known[1], known[2] or '', known[3] and 1 or 0, result})
  end
end
return found
""")


@dataclass(frozen=True, slots=True)
class Event:
    """Something on the way."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """The end: what the worker answered."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """The end: there will be no answer. ``began``: it may have run, whole or in part; otherwise it never did."""

    reason: str
    began: bool = True


Reply = Event | Result | Lost


class _Expected:
    """One job that is waited for."""

    def __init__(self) -> None:
        # One more than events: there is always room for the end.
        self.send, self.receive = trio.open_memory_channel[Reply](_EVENTS + 1)
        self.number = 0
        self.dropping = False
        self.sizes: deque[int] = deque()
        """Of what waits to be read."""
        self.checks_to_go = _UNKNOWN_CHECKS

    def event(self, number: int, payload: bytes) -> None:
        if number <= self.number:
            return  # an answer got lost on its way, and the worker said it again
        self.number = number
        waiting = self.send.statistics().current_buffer_used
        while len(self.sizes) > waiting:
            self.sizes.popleft()
        # Few long gaps, not one after each event that is read.
        part = 2 if self.dropping else 1
        self.dropping = waiting >= _EVENTS // part or sum(self.sizes) >= _EVENT_BYTES // part
        if not self.dropping:
            self.sizes.append(len(payload))
            self._say(Event(payload))

    def end(self, reply: Result | Lost) -> None:
        self._say(reply)
        self.send.close()

    def _say(self, reply: Reply) -> None:
        try:
            self.send.send_nowait(reply)
        except trio.BrokenResourceError:
            pass  # nobody listens any more, and is about to say so


class Replies:
    """Use :func:`open_replies`."""

    def __init__(self, link: RedisLink, gateway: str, check_seconds: float, silent_seconds: float) -> None:
        self._link = link
        self._gateway = gateway
        self._check_seconds = check_seconds
        self._silent_seconds = silent_seconds
        self._expected: dict[str, _Expected] = {}
        self._received: list[str] = []
        self._last = ""

    @asynccontextmanager
    async def expect(self, job: str) -> AsyncIterator[trio.MemoryReceiveChannel[Reply]]:
        """Hear of a job for the block; to be entered before it is submitted.

        The channel gives events, not those for which there was no room, then one end, a :class:`Result` or
        :class:`Lost`, and is closed.
        """
        expected = self._expected[job] = _Expected()
        try:
            with expected.receive:
                yield expected.receive
        finally:
            self._expected.pop(job, None)
            expected.send.close()

    async def _read(self) -> None:
        stream = self._link.key("replies", self._gateway)
        async with self._link.open_line() as line:
            while True:
                words = ("XREAD", "COUNT", _READ_AT_ONCE, "BLOCK", _BLOCK_MILLISECONDS)
                try:
                    answer = await line.ask(*words, "STREAMS", stream, self._last or "0-0")
                except OUTAGE:
                    await trio.sleep(_PAUSE_SECONDS)
                    continue
                self._hear_all(answer)
                # What was read is not kept while nothing more comes.
                del answer

    def _hear_all(self, answer: Any) -> None:
        for _, entry, fields in entries(answer):
            self._last = entry
            self._hear(fields or {})

    def _hear(self, fields: Fields) -> None:
        job = fields.get(b"job", b"").decode(errors="replace")
        expected = self._expected.get(job)
        if expected is None:
            return
        payload = fields.get(b"payload", b"")
        match fields.get(b"kind"):
            case b"event" if fields.get(b"number", b"")[:_DIGITS].isdigit():
                expected.event(int(fields[b"number"][:_DIGITS]), payload)
            case b"result":
                self._end(job, Result(payload))
            case b"lost":
                self._end(job, Lost(_text(payload), fields.get(b"began") == b"1"))
            case _:
                _log.warning("job %s: a reply of an unknown kind", job)

    def _end(self, job: str, reply: Result | Lost) -> None:
        self._expected.pop(job).end(reply)
        if isinstance(reply, Result):
            self._received.append(job)

    async def _check(self) -> None:
        """Look jobs up in the ledger now and then: a reply may have been lost by an outage, or trimmed away.

        While Redis is away its jobs go on, and are waited for; but nobody is left waiting for ever.
        """
        heard = trio.current_time()
        while True:
            await trio.sleep(self._check_seconds)
            try:
                await self.check()
            except OUTAGE as error:
                _log.warning("jobs that wait for an answer cannot be looked up: %s", error.message)
                if trio.current_time() - heard > self._silent_seconds:
                    for job in list(self._expected):
                        self._end(job, Lost("Redis has been silent for too long"))
            else:
                heard = trio.current_time()

    async def check(self) -> None:
        """Look up what is waited for, and forget what was read.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        last, received, self._received = self._last, self._received, []
        waited = list(self._expected.items())
        for first in range(0, max(len(waited), len(received), 1), _CHECK_AT_ONCE):
            part = waited[first : first + _CHECK_AT_ONCE]
            done = received[first : first + _CHECK_AT_ONCE]
            arguments: list[str | int] = [
                self._gateway,
                last,
                int(_RECEIVED_SECONDS * 1000),
                len(done),
                *done,
                *(job for job, _ in part),
            ]
            found = await self._link.run(_CHECK, [self._link.key()], arguments)
            ended = {name.decode(errors="replace"): rest for name, *rest in found}
            for job, expected in part:
                if self._expected.get(job) is not expected:
                    continue  # it ended meanwhile
                if job not in ended:
                    expected.checks_to_go = 1
                    continue
                state, reason, began, result = ended[job]
                self._settle(job, expected, _text(state), Lost(_text(reason), bool(began)), result)

    def _settle(self, job: str, expected: _Expected, state: str, lost: Lost, result: bytes | None) -> None:
        if result is not None:
            # It was not told, or we are not where the stream is: somebody had it begin anew, or put a number into it
            # that is higher than all to come. What is read twice is heard once.
            self._last = ""
            self._end(job, Result(result))
        elif state == "unknown":
            # It may be on its way there; when it is unknown after it was known, or for long, Redis lost what it had.
            expected.checks_to_go -= 1
            if expected.checks_to_go <= 0:
                self._end(job, Lost("the queue has lost it"))
        else:
            self._end(job, Lost(lost.reason or f"it is {state}, and its answer is gone", lost.began))


def _text(said: bytes) -> str:
    return said[:_LONGEST_REASON].decode(errors="replace")


@asynccontextmanager
async def open_replies(
    link: RedisLink, gateway: str, *, check_seconds: float = 2.0, silent_seconds: float = SILENT_SECONDS
) -> AsyncIterator[Replies]:
    """Listen for the block. Whoever waits is told that all is lost when Redis is silent for ``silent_seconds``."""
    async with trio.open_nursery() as nursery:
        replies = Replies(link, gateway, check_seconds, silent_seconds)
        nursery.start_soon(go_on, replies._read)  # noqa: SLF001 - its tasks
        nursery.start_soon(go_on, replies._check)  # noqa: SLF001
        yield replies
        nursery.cancel_scope.cancel()
