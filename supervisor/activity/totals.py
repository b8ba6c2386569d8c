"""Figures of everything that has ended: counters and histograms for monitoring, percentiles for people."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from supervisor.activity.records import ExecutionRecord
from supervisor.activity.timeline import STEPS

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds: upper bounds of the histograms' buckets."""
WHOLE: Final = "whole"
"""Beside the steps: from the door's call to its answer."""
_LATEST: Final = 1000


class Histogram:
    """Counts durations by their size; ``counts`` has one more than :data:`BOUNDS`, for what is larger than all."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.latest: deque[float] = deque(maxlen=_LATEST)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        self.latest.append(seconds)


class Latency(Struct, frozen=True):
    """Of one step, in seconds: exact, of the latest thousand executions; ``count``: how many these are."""

    count: int
    p50: float
    p95: float
    p99: float


class Totals:
    """Of one daemon since its start."""

    def __init__(self, language_of: Callable[[str], str] = str) -> None:
        """``language_of`` gives the name under which a language is counted: callers may name what they like."""
        self._language_of = language_of
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        """By door, language and outcome."""
        self.refusals: Counter[tuple[str, str]] = Counter()
        """Of those that were refused or failed: by that, and the name of the error."""
        self.steps: dict[str, Histogram] = {name: Histogram() for name in (*STEPS, WHOLE)}
        self.cpu_seconds = 0.0
        self.output_bytes = 0
        self.files = 0

    def add(self, record: ExecutionRecord) -> None:
        """Count an execution that has ended. What was refused has no durations: it did nothing."""
        self.outcomes[record.door, self._language_of(record.language), record.outcome] += 1
        if record.outcome in ("refused", "failed"):
            self.refusals[record.outcome, record.detail or "unknown"] += 1
        self.cpu_seconds += record.cpu_seconds
        self.output_bytes += record.output_bytes
        self.files += record.files
        if record.outcome == "refused":
            return
        for name, seconds in record.spent.items():
            if name in self.steps:
                self.steps[name].add(seconds)
        self.steps[WHOLE].add(record.seconds)

    def latencies(self) -> dict[str, Latency]:
        """Give the percentiles of every step that has been passed."""
        return {name: _latency(each.latest) for name, each in self.steps.items() if each.latest}


def _latency(durations: Iterable[float]) -> Latency:
    ordered = sorted(durations)
    last = len(ordered) - 1
    p50, p95, p99 = (ordered[round(last * part)] for part in (0.5, 0.95, 0.99))
    return Latency(len(ordered), p50, p95, p99)
