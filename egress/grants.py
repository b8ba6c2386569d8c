"""What one sandbox may do on the network, what it does now, and what it has used.

A grant belongs to the listeners inside one sandbox's network namespace; nothing that a sandbox says can make it
another's. A :class:`Passage` is one thing that it does: a tunnel, or one HTTP request.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

import trio

from egress.addresses import Address
from egress.allowlist import FAILURES, Ask, Refusal, Rule, Scheme, address_fault, decide, narrow
from egress.control import Limits, OpenGrant, Record
from egress.names import BadName, Host

FIRST_SYNTHETIC: Final = int(IPv4Address("198.18.0.1"))
SAME_SECONDS: Final = 5.0
"""The same refusal within it, by a resolver that tries again for example, is no news."""
MAX_RECENT: Final = 256
MAX_NAMES: Final = 4096
"""Names of one sandbox that have an address at once; the oldest goes."""

Report = Callable[[Record], Awaitable[None]]


class Refused(Exception):
    """A sandbox may not; it has been recorded."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.why)
        self.refusal = refusal


class Unreachable(Exception):
    """It may, but there is no way to it; the message says why."""


class Bucket:
    """So many a second, and a few more at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, 4 * rate)
        self._level = self._burst
        self._at = -math.inf

    def take(self) -> bool:
        """Say whether there is room for one more now, and take it."""
        now = trio.current_time()
        if self._at > -math.inf:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True

    @property
    def wait_seconds(self) -> float:
        """How long until there is room for one."""
        return max(0.0, (1 - self._level) / self._rate)


class SyntheticNames:
    """Addresses that exist in one sandbox only, each for one name. They are given in turn and mean nothing outside."""

    def __init__(self) -> None:
        self._by_name: dict[str, IPv4Address] = {}
        self._by_address: dict[IPv4Address, str] = {}
        self._next = 0

    def address(self, name: str) -> IPv4Address:
        """Give the address of a name, the same as before if it has one."""
        known = self._by_name.pop(name, None)
        if known is None:
            known = IPv4Address(FIRST_SYNTHETIC + self._next)
            self._next = (self._next + 1) % (MAX_NAMES + 1)
            old = self._by_address.pop(known, None)
            if old is not None:
                del self._by_name[old]
            self._by_address[known] = name
        self._by_name[name] = known
        return known

    def host(self, address: Address) -> Host | None:
        """Give the name behind an address, if it is one of ours."""
        name = self._by_address.get(address) if isinstance(address, IPv4Address) else None
        return None if name is None else Host(name)


@dataclass(eq=False, slots=True)
class Passage:
    """One thing that a sandbox does on the network. ``sent`` and ``received`` are bytes as the sandbox sees them."""

    grant: Grant
    kind: str
    ask: Ask
    rule: Rule
    scope: trio.CancelScope
    began: float = field(default_factory=time.time)
    clock: float = field(default_factory=trio.current_time)
    address: Address | None = None
    sent: int = 0
    received: int = 0
    ended_by: Refusal | None = None
    _until: float = math.inf

    def settle(self, scheme: Scheme) -> None:
        """Now that it is known what is spoken: find the rule for that.

        Raises:
            Refused: there is none.
        """
        ask = Ask(self.ask.host, self.ask.port, scheme, self.ask.method, self.ask.path)
        self.rule, self.ask = self.grant.decide(ask), ask
        if self.address is not None:
            self.check_address(self.address)
        self.touch()

    def check_address(self, address: Address) -> None:
        """Check an address that is about to be dialled.

        Raises:
            Refused: the rule does not open it.
        """
        fault = address_fault(self.rule, self.ask, address)
        if fault is not None:
            raise Refused(fault)

    def touch(self) -> None:
        """Something went through: it is not idle."""
        limits = self.grant.limits
        hard = self.clock + min(limits.connection_seconds, self.rule.total_seconds or math.inf)
        self.scope.deadline = min(hard, trio.current_time() + limits.idle_seconds)
        self._until = hard

    def count(self, *, sent: int = 0, received: int = 0) -> None:
        """Count bytes; a budget that is spent ends the passage."""
        self.sent += sent
        self.received += received
        self.touch()
        self.grant.spend(self, sent + received)

    def end(self, refusal: Refusal) -> None:
        """End it from outside, with the reason."""
        if self.ended_by is None:
            self.ended_by = refusal
        self.scope.cancel()

    def timed_out(self) -> Refusal:
        """Say which time is over."""
        limits = self.grant.limits
        if trio.current_time() >= self._until:
            return Refusal("time", str(self.ask), "the time for one connection is over")
        return Refusal("idle", str(self.ask), f"nothing came for {limits.idle_seconds:g} s")


class Grant:
    """One sandbox's. Use :meth:`passage` for whatever it wants to do."""

    def __init__(self, opened: OpenGrant, limits: Limits, report: Report) -> None:
        self.opened = opened
        self.limits = limits
        self.names = SyntheticNames()
        self.passages: set[Passage] = set()
        self.rules: tuple[Rule, ...] = ()
        self.total_bytes = 0
        self.closed = trio.Event()
        self.queries = Bucket(limits.queries_per_second)
        self._records = Bucket(limits.records_per_second)
        self._suppressed = 0
        self._recent: dict[tuple[str, str, int, str, str | None], float] = {}
        self._spent: dict[str, int] = {}
        self._report = report

    def apply(self, rule_sets: Mapping[str, tuple[Rule, ...]], opened: OpenGrant | None = None) -> None:
        """Follow changed rules: what is connected and no longer allowed is cut."""
        self.opened = opened or self.opened
        rules = tuple(rule for name in self.opened.rule_sets for rule in rule_sets.get(name, ()))
        if self.opened.narrowed is not None:
            rules = _still_covered(rules, self.opened.narrowed)
        self.rules = rules
        for passage in list(self.passages):
            self._review(passage)

    def _review(self, passage: Passage) -> None:
        rule = decide(self.rules, passage.ask, self.opened.where)
        if isinstance(rule, Rule):
            fault = None if passage.address is None else address_fault(rule, passage.ask, passage.address)
            if fault is None:
                passage.rule = rule
                return
        what = str(passage.ask)
        passage.end(Refusal("changed", what, "the rules have changed and no longer allow it", ""))

    def decide(self, ask: Ask) -> Rule:
        """Find the rule that allows it.

        Raises:
            Refused: there is none.
        """
        rule = decide(self.rules, ask, self.opened.where)
        if isinstance(rule, Refusal):
            raise Refused(rule)
        return rule

    def allows(self, ask: Ask) -> bool:
        """Say whether a rule allows it."""
        return isinstance(decide(self.rules, ask, self.opened.where), Rule)

    def spend(self, passage: Passage, count: int) -> None:
        """Count bytes against the budgets of sandbox and rule."""
        self.total_bytes += count
        spent = self._spent[passage.rule.name] = self._spent.get(passage.rule.name, 0) + count
        budget = passage.rule.total_bytes
        if budget is not None and spent > budget:
            why = f"the {budget} bytes that rule {passage.rule.name} gives one sandbox are spent"
        elif self.total_bytes > self.limits.total_bytes:
            why = f"the {self.limits.total_bytes} bytes of one sandbox are spent"
        else:
            return
        passage.end(Refusal("budget", str(passage.ask), why))

    @asynccontextmanager
    async def passage(self, kind: str, ask: Ask) -> AsyncIterator[Passage]:
        """Have a passage for the block, if the rules allow it; it is recorded at its end, however that comes.

        A changed rule, a spent budget or silence ends the block as if it had been cancelled.

        Raises:
            Refused: it may not, or was ended.
            Unreachable: what the block raises.
        """
        try:
            rule = self.decide(ask)
        except Refused as error:
            await self.record_refusal(kind, ask, error.refusal)
            raise
        scope = trio.CancelScope()
        passage = Passage(self, kind, ask, rule, scope)
        passage.touch()
        self.passages.add(passage)
        try:
            with scope:
                yield passage
        except Refused as error:
            passage.ended_by = error.refusal
            raise
        except Unreachable as error:
            passage.ended_by = Refusal("unreachable", str(passage.ask), str(error))
            raise
        finally:
            self.passages.discard(passage)
            if scope.cancelled_caught and passage.ended_by is None and not self.closed.is_set():
                passage.ended_by = passage.timed_out()
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self._record(passage)
        if scope.cancelled_caught:
            raise Refused(passage.ended_by or Refusal("closed", str(passage.ask), "the sandbox is gone"))

    async def _record(self, passage: Passage) -> None:
        refusal = passage.ended_by
        if refusal is not None and refusal.code not in FAILURES:
            if not self._records.take():
                self._suppressed += 1
                return
        elif passage.rule.log != "all" and refusal is None:
            return
        verdict = "allowed" if refusal is None else "failed" if refusal.code in FAILURES else "refused"
        await self._write(passage.kind, passage.ask, refusal, verdict, passage)

    async def record_refusal(self, kind: str, ask: Ask, refusal: Refusal) -> None:
        """Record what never became a passage; what has just been recorded is only counted."""
        same = (kind, ask.host.text, ask.port, refusal.code, ask.path)
        now = trio.current_time()
        recent = now - self._recent.get(same, -math.inf) < SAME_SECONDS
        if recent or not self._records.take():
            self._suppressed += 1
            return
        self._recent[same] = now
        if len(self._recent) > MAX_RECENT:
            del self._recent[next(iter(self._recent))]
        await self._write(kind, ask, refusal, "refused", None)

    async def _write(self, kind: str, ask: Ask, refusal: Refusal | None, verdict: str, passage: Passage | None) -> None:
        suppressed, self._suppressed = self._suppressed, 0
        await self._report(
            Record(
                grant=self.opened.grant,
                labels=self.opened.labels,
                time=passage.began if passage else time.time(),
                verdict=verdict,
                kind=kind,
                host=ask.host.text,
                port=ask.port,
                rule=passage.rule.name if passage else None,
                method=ask.method,
                path=ask.path[:512] if ask.path is not None else None,
                address=str(passage.address) if passage and passage.address is not None else None,
                sent=passage.sent if passage else 0,
                received=passage.received if passage else 0,
                seconds=trio.current_time() - passage.clock if passage else 0.0,
                code=refusal.code if refusal else None,
                reason=refusal.why if refusal else None,
                explanation=refusal.text() if refusal else None,
                suppressed=suppressed,
            )
        )

    def close(self) -> None:
        """End everything."""
        self.closed.set()
        for passage in list(self.passages):
            passage.end(Refusal("closed", str(passage.ask), "the sandbox is gone"))


def _still_covered(rules: tuple[Rule, ...], patterns: tuple[str, ...]) -> tuple[Rule, ...]:
    """Cut down to what a request wanted and the rules still allow; what they no longer do is just not there."""
    found: list[Rule] = []
    for pattern in patterns:
        try:
            found += narrow(rules, [pattern])
        except (BadName, ValueError):
            continue
    return tuple(found)
