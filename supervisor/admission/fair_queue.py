"""Who runs next. Pure: principals come and go, decisions come out; nothing is awaited here.

Fair on two levels: the tenant with the fewest running executions is next, within it the user with the fewest, and
among equals the one who was served longest ago. Nobody can take the last places, nor more than a share of the queue,
so a flood of one leaves room for the others.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Final

from supervisor.execution.values import Principal

_MEMORY: Final = 0.9
"""Weight of the past in the running mean of how long a place is held."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of admission; ``per_principal``: for each user of a tenant, and for all its nameless callers together."""

    places: int
    places_per_principal: int
    waiting: int
    waiting_per_principal: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What one that runs may have beside its place."""

    share: float
    """Its part of the CPU, when others want it too, of what a tenant has: tenants weigh the same, so do a tenant's
    users, so do one user's executions."""
    modest: bool
    """Others come first where something is scarce: its user has another one running, or its tenant has more than half
    of all places and is not the only tenant."""


@dataclass(eq=False, slots=True)
class Ticket:
    """One that waits or runs."""

    key: Key


@dataclass(slots=True)
class FairQueue:
    """The state of admission."""

    limits: QueueLimits
    running: Counter[Key] = field(default_factory=Counter)
    running_of_tenant: Counter[str] = field(default_factory=Counter)
    waiting: dict[Key, deque[Ticket]] = field(default_factory=dict)
    _tenants: set[str] = field(default_factory=set)
    """The first two that came: whether there is more than one."""
    _served: dict[Key, int] = field(default_factory=dict)
    _turn: int = 0
    _mean_seconds: float = 1.0
    _most: int = 0
    """Places of one principal, as they were set."""

    def __post_init__(self) -> None:
        self._most = self.limits.places_per_principal

    @property
    def total_running(self) -> int:
        """How many run."""
        return self.running.total()

    @property
    def places(self) -> int:
        """How many may run at once."""
        return self.limits.places

    @property
    def total_waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self.waiting.values()))

    def enter(self, principal: Principal) -> tuple[Ticket, bool] | str:
        """Decide about a new one: a ticket and whether it runs at once, or the reason for a refusal."""
        ticket = Ticket((principal.tenant, principal.user or ""))
        if not self.waiting and self._may_run(ticket.key):
            self._begin(ticket.key)
            return ticket, True
        queue = self.waiting.get(ticket.key)
        if queue is None and self._may_run(ticket.key) and not self._anybody_may_run():
            self._begin(ticket.key)
            return ticket, True
        if self.total_waiting >= self.limits.waiting:
            return "all places and the queue are taken"
        if queue is not None and len(queue) >= self.limits.waiting_per_principal:
            return "you have too many executions waiting"
        self.waiting.setdefault(ticket.key, deque()).append(ticket)
        return ticket, False

    def leave(self, ticket: Ticket, held_seconds: float) -> list[Ticket]:
        """One that ran is done; give those that run now."""
        self._mean_seconds = _MEMORY * self._mean_seconds + (1 - _MEMORY) * held_seconds
        self._end(ticket.key)
        return self._admit()

    def resize(self, places: int) -> list[Ticket]:
        """Have so many places from now on; give those that run now. Those that run too many go on."""
        self.limits = replace(self.limits, places=places, places_per_principal=min(places, self._most))
        return self._admit()

    def give_up(self, ticket: Ticket) -> None:
        """One that waits does not want any more."""
        queue = self.waiting[ticket.key]
        queue.remove(ticket)
        if not queue:
            del self.waiting[ticket.key]

    def standing(self, ticket: Ticket) -> Standing:
        """Say what one that has just begun to run may have."""
        tenant = ticket.key[0]
        users = sum(1 for key in self.running if key[0] == tenant)
        own, of_tenant = self.running[ticket.key], self.running_of_tenant[tenant]
        crowds_others = len(self._tenants) > 1 and of_tenant * 2 > self.limits.places
        return Standing(share=1 / (users * own), modest=own > 1 or crowds_others)

    @property
    def retry_seconds(self) -> float:
        """After what time it makes sense to come again."""
        wait = self._mean_seconds * (self.total_waiting + 1) / self.limits.places
        return min(60.0, max(1.0, wait))

    def _admit(self) -> list[Ticket]:
        admitted: list[Ticket] = []
        while able := [key for key in self.waiting if self._may_run(key)]:
            key = min(able, key=self._rank)
            ticket = self.waiting[key].popleft()
            if not self.waiting[key]:
                del self.waiting[key]
            self._begin(key)
            admitted.append(ticket)
        return admitted

    def _anybody_may_run(self) -> bool:
        return any(self._may_run(key) for key in self.waiting)

    def _may_run(self, key: Key) -> bool:
        return self.total_running < self.limits.places and self.running[key] < self.limits.places_per_principal

    def _rank(self, key: Key) -> tuple[int, int, int]:
        return self.running_of_tenant[key[0]], self.running[key], self._served.get(key, 0)

    def _begin(self, key: Key) -> None:
        self._turn += 1
        if len(self._tenants) < 2:
            self._tenants.add(key[0])
        self._served[key] = self._turn
        self.running[key] += 1
        self.running_of_tenant[key[0]] += 1

    def _end(self, key: Key) -> None:
        self.running[key] -= 1
        self.running_of_tenant[key[0]] -= 1
        # Without the zeros: there are more principals than places.
        self.running += Counter()
        self.running_of_tenant += Counter()
        if key not in self.running and key not in self.waiting:
            self._served.pop(key, None)
