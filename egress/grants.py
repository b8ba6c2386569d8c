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
from typing import Final

import trio

from egress.addresses import Address
from egress.allowlist import FAILURES, Ask, Refusal, Rule, Scheme, address_fault, decide, narrow
from egress.bucket import Bucket
from egress.control import Limits, OpenGrant, Record
from egress.names import BadName
from egress.own_addresses import is_own
from egress.sandbox_names import SyntheticNames

SAME_SECONDS: Final = 5.0
"""The same refusal within it, by a resolver that tries again for example, is no news."""
MAX_RECENT: Final = 256

Report = Callable[[Record], Awaitable[None]]


class Refused(Exception):
    """A sandbox may not; it has been recorded."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.why)
        self.refusal = refusal


class Unreachable(Exception):
    """It may, but there is no way to it; the message says why."""


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
    carried: bool = False
    """Bytes go through that nobody looks into."""
    labels: dict[str, str] = field(default_factory=dict)
    _until: float = math.inf
    _rests: bool = False

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
        fault = address_fault(self.rule, self.ask, address) or own_fault(self.rule, self.ask, address)
        if fault is not None:
            raise Refused(fault)

    def rest(self) -> None:
        """What goes on inside is counted there: only the time of a connection holds for this one."""
        self._rests = True
        self.touch()

    def touch(self) -> None:
        """Something went through: it is not idle."""
        limits = self.grant.limits
        hard = self.clock + min(limits.connection_seconds, self.rule.total_seconds or math.inf)
        self.scope.deadline = hard if self._rests else min(hard, trio.current_time() + limits.idle_seconds)
        self._until = hard

    def count(self, *, sent: int = 0, received: int = 0) -> None:
        """Count bytes; a budget that is spent ends the passage."""
        self.sent += sent
        self.received += received
        self.touch()
        self.grant.spend(self, sent + received)

    def count_sent(self, count: int) -> None:
        """Count bytes that are about to be sent."""
        self.count(sent=count)

    def count_received(self, count: int) -> None:
        """Count bytes that are about to be given to the sandbox."""
        self.count(received=count)

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
        self._allowed_records = Bucket(limits.records_per_second)
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
        if isinstance(rule, Rule) and not (passage.carried and rule.intercept):
            before, passage.rule = passage.rule, rule
            try:
                if passage.address is not None:
                    passage.check_address(passage.address)
            except Refused:
                passage.rule = before
            else:
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
        """Count bytes against the budgets of sandbox and rule, before they are sent."""
        self.total_bytes += count
        name = passage.rule.name
        self._spent[name] = self._spent.get(name, 0) + count
        why = self._overspent(passage.rule, 0)
        if why is not None:
            passage.end(Refusal("budget", str(passage.ask), why))

    def _check_budget(self, ask: Ask, rule: Rule) -> None:
        if self.closed.is_set():
            raise Refused(Refusal("closed", str(ask), "the sandbox is gone"))
        why = self._overspent(rule, 1)
        if why is not None:
            raise Refused(Refusal("budget", str(ask), why))

    def _overspent(self, rule: Rule, more: int) -> str | None:
        budget = rule.total_bytes
        if budget is not None and self._spent.get(rule.name, 0) + more > budget:
            return f"the {budget} bytes that rule {rule.name} gives one sandbox are spent"
        if self.total_bytes + more > self.limits.total_bytes:
            return f"the {self.limits.total_bytes} bytes of one sandbox are spent"
        return None

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
            self._check_budget(ask, rule)
        except Refused as error:
            await self.record_refusal(kind, ask, error.refusal)
            raise
        scope = trio.CancelScope()
        passage = Passage(self, kind, ask, rule, scope, labels=self.opened.labels)
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
        elif not self._allowed_records.take():
            self._suppressed += 1
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
                labels=passage.labels if passage else self.opened.labels,
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


def own_fault(rule: Rule, ask: Ask, address: Address) -> Refusal | None:
    """Refuse this host's own addresses, unless the rule opens them."""
    if any(address in network for network in rule.reachable) or not is_own(address):
        return None
    why = f"{ask.host.text} leads to {address}, which is this host itself"
    return Refusal("address", str(ask), why, f'addresses = ["{address}/{address.max_prefixlen}"] in rule {rule.name}')


def _still_covered(rules: tuple[Rule, ...], patterns: tuple[str, ...]) -> tuple[Rule, ...]:
    """Cut down to what a request wanted and the rules still allow; what they no longer do is just not there."""
    found: list[Rule] = []
    for pattern in patterns:
        try:
            found += narrow(rules, [pattern])
        except (BadName, ValueError):
            continue
    return tuple(found)
