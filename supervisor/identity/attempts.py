"""Callers who fail: how often an address may show credentials that do not hold, and how long it is shut out then.

After so many failures nothing that an address shows is looked at for a while, a good credential neither: a guess learns
nothing, not even that it was right. Each failure after that shuts it out for twice as long. What has held from the same
address before goes on to be looked at: behind one address there may be many (a proxy that is not named in
``http.trusted_proxies``, a university), and one of them must not be able to shut out the others. Such a caller is known
by a keyed hash of exactly what it sent; LibreChat's tokens, of which each is new, are looked at where one has held,
because a signature is not guessed. Showing no credential is no attempt.

Memory is bounded: what was longest not seen is forgotten.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from supervisor.errors import Busy, Unauthenticated
from supervisor.logs.security_log import tell
from supervisor.serving.addresses import counted_as

MAX_ADDRESSES: Final = 20_000
MAX_KNOWN: Final = 50_000
SIGNED: Final = b"signed"
"""Stands for every signed token that holds from an address."""
REASON_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class AttemptRules:
    """``failures`` in ``seconds`` shut an address out for ``first_seconds``; then twice as long, up to the longest."""

    failures: int = 10
    seconds: float = 60.0
    first_seconds: float = 30.0
    longest_seconds: float = 900.0


@dataclass(slots=True)
class _Record:
    failures: deque[float] = field(default_factory=deque)
    """When, in the window, by the clock."""
    count: int = 0
    """In all, since it was last forgotten."""
    shut_outs: int = 0
    until: float = -math.inf
    refused: int = 0
    """Unlooked at, since the last event was told."""


class Attempts:
    """All addresses. ``rules``: ``None`` only tells of failures. ``clock``: any steady one, in seconds."""

    def __init__(self, rules: AttemptRules | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self.counts: Counter[str] = Counter()
        """``failed``, ``refused`` and ``shut_out``, since the start."""

    @contextmanager
    def attempt(self, address: str, shown: str, *, signed: bool = False) -> Iterator[None]:
        """Look at a credential inside the block, which raises ``Unauthenticated`` if it does not hold.

        ``shown``: all that was sent as a credential. ``signed``: it is a token, whose signature is looked at.

        Raises:
            Busy: the address is shut out; the block is not entered.
        """
        where = counted_as(address)
        mark = (where, SIGNED if signed else self._digest(shown))
        self._check(where, address, mark)
        try:
            yield
        except Unauthenticated as error:
            self._known.pop(mark, None)
            self._failed(where, address, error.message)
            raise
        self._held(mark)

    def _check(self, where: str, address: str, mark: tuple[str, bytes]) -> None:
        record = self._records.get(where)
        if record is None:
            return
        wait = record.until - self._clock()
        if wait <= 0 or mark in self._known:
            return
        self.counts["refused"] += 1
        record.refused += 1
        if record.refused == 1:
            tell("authentication_refused", address=address, seconds=math.ceil(wait), count=record.count)
        raise Busy(
            "too many credentials that do not hold were shown from this address; none is looked at for a while",
            retry_after_seconds=wait,
        )

    def _failed(self, where: str, address: str, reason: str) -> None:
        self.counts["failed"] += 1
        now, rules = self._clock(), self._rules
        if rules is None:
            tell("authentication_failed", address=address, reason=reason[:REASON_CHARACTERS])
            return
        record = self._record(where, now, rules)
        record.count += 1
        record.failures.append(now)
        tell(
            "authentication_failed",
            address=address,
            reason=reason[:REASON_CHARACTERS],
            count=record.count,
            refused=record.refused,
        )
        record.refused = 0
        if now < record.until or (len(record.failures) < rules.failures and not record.shut_outs):
            return
        seconds = min(rules.first_seconds * 2.0 ** min(record.shut_outs, 32), rules.longest_seconds)
        record.until = now + seconds
        record.shut_outs += 1
        record.failures.clear()
        self.counts["shut_out"] += 1
        tell("address_shut_out", address=address, counted_as=where, seconds=math.ceil(seconds), count=record.count)

    def _record(self, where: str, now: float, rules: AttemptRules) -> _Record:
        """Give what is remembered of an address; a long calm makes it forgotten, a good credential does not."""
        record = self._records.get(where)
        if record is None or (record.shut_outs and now - record.until > rules.longest_seconds):
            record = self._records[where] = _Record()
        while record.failures and record.failures[0] <= now - rules.seconds:
            record.failures.popleft()
        self._records.move_to_end(where)
        if len(self._records) > MAX_ADDRESSES:
            self._records.popitem(last=False)
        return record

    def _held(self, mark: tuple[str, bytes]) -> None:
        self._known[mark] = None
        self._known.move_to_end(mark)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _digest(self, shown: str) -> bytes:
        return hashlib.blake2b(shown.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).digest()
