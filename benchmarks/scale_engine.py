"""A discrete-event simulation of queues: stations with servers, pools of places, jobs that walk a way through them.

Pure: no clock, no input or output; the same seed gives the same run. Times are in seconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Final

Draw = Callable[[Random], float]
"""Gives how long a service takes."""
ENDLESS: Final = 0
"""So many servers: nobody ever waits; the time just goes by."""


def fixed(seconds: float) -> Draw:
    """Always the same."""
    return lambda _random: seconds


def exponential(mean: float) -> Draw:
    """As if without memory: the usual guess where only the mean is known, and an unfriendly one."""
    return lambda random: random.expovariate(1 / mean) if mean > 0 else 0.0


def sampled(values: Sequence[float], mean: float) -> Draw:
    """One of these, all scaled so that their mean is ``mean``."""
    scale = mean * len(values) / sum(values)
    return lambda random: random.choice(values) * scale


@dataclass(frozen=True, slots=True)
class Use:
    """Be served at a station. With a place taken, ``{host}`` in its name is the number of the place's host."""

    station: str
    draw: Draw


@dataclass(frozen=True, slots=True)
class Take:
    """Wait for a free place of the pool, in order; who has waited longest for work gives it, as a Redis stream does."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Give the place back."""


Step = Use | Take | Leave


@dataclass(frozen=True, slots=True)
class Stations:
    """How many servers each station has, and places for each host; a service longer than ``quantum`` takes turns."""

    servers: Mapping[str, int]
    places: Sequence[int] = ()
    quantum: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Who sends jobs: so many ``clients`` that each wait for an answer, or else so many a second by chance."""

    jobs: int
    """How many in all."""
    clients: int = 0
    rate: float = 0.0
    unmeasured: float = 0.2
    """The first jobs, this part of all, find empty queues: not counted in times and rates."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    started: int
    finished: int
    rate: float
    """Jobs a second."""
    latencies: Sequence[float]
    """Sorted."""
    busy: Mapping[str, float]
    """Part of the time that the servers of each station worked."""
    places_busy: float
    """Part of the places that were taken, over the time."""

    def latency(self, part: float) -> float:
        """Give a quantile."""
        return self.latencies[min(len(self.latencies) - 1, int(part * len(self.latencies)))]

    @property
    def mean_latency(self) -> float:
        """Give the mean."""
        return sum(self.latencies) / len(self.latencies)


@dataclass(slots=True)
class _Job:
    number: int
    started_at: float
    step: int = 0
    host: int = -1
    left: float = 0.0
    """Of the service that it is in."""


@dataclass(slots=True)
class _Station:
    servers: int
    working: int = 0
    waiting: deque[_Job] = field(default_factory=deque)
    work: float = 0.0
    """Seconds of service given since the measurement began."""


class _Run:
    def __init__(self, stations: Stations, way: Sequence[Step], load: Load, seed: int) -> None:
        self._stations = {name: _Station(servers) for name, servers in stations.servers.items()}
        self._quantum = stations.quantum
        self._way = way
        self._load = load
        self._random = Random(seed)
        self._events: list[tuple[float, int, _Job, _Station | None, float]] = []
        self._order = count()
        most = max(stations.places, default=0)
        self._free = deque(host for turn in range(most) for host, many in enumerate(stations.places) if turn < many)
        self._all_places = len(self._free)
        self._wanting: deque[_Job] = deque()
        self._now = 0.0
        self._started = self._finished = 0
        self._latencies: list[float] = []
        self._measured_from = 0.0
        self._skip = int(load.jobs * load.unmeasured)
        self._place_seconds = 0.0
        self._place_changed = 0.0
        self._window: tuple[float, int, dict[str, float], float] | None = None

    def go(self) -> Outcome:
        """Run until every job has come out."""
        for _ in range(min(self._load.clients, self._load.jobs) or 1):
            self._arrive()
        while self._events:
            self._now, _, job, station, served = heapq.heappop(self._events)
            if station is None:
                self._begin(job)
            else:
                self._serviced(job, station, served)
        self._close()
        assert self._window is not None
        elapsed, finished, work, place_seconds = self._window
        return Outcome(
            started=self._started,
            finished=self._finished,
            rate=finished / elapsed,
            latencies=sorted(self._latencies),
            busy={name: work[name] / (each.servers * elapsed) for name, each in self._stations.items() if each.servers},
            places_busy=place_seconds / (self._all_places * elapsed) if self._all_places else 0.0,
        )

    def _close(self) -> None:
        """End the measurement of rates, once: when nobody comes any more queues run empty, which is no rate."""
        if self._window is None:
            self._count_places()
            elapsed = max(self._now - self._measured_from, 1e-12)
            work = {name: each.work for name, each in self._stations.items()}
            self._window = (elapsed, len(self._latencies), work, self._place_seconds)

    def _arrive(self) -> None:
        """Have the next job come: at once with clients, else after a time by chance."""
        if self._started == self._load.jobs:
            if self._latencies:
                self._close()
            return
        self._started += 1
        at = self._now if self._load.clients else self._now + self._random.expovariate(self._load.rate)
        self._push(at, _Job(self._started, at), None, 0.0)

    def _push(self, at: float, job: _Job, station: _Station | None, served: float) -> None:
        heapq.heappush(self._events, (at, next(self._order), job, station, served))

    def _begin(self, job: _Job) -> None:
        if not self._load.clients:
            self._arrive()
        self._go_on(job)

    def _go_on(self, job: _Job) -> None:
        """Walk on until something takes time or has to be waited for."""
        while job.step < len(self._way):
            step = self._way[job.step]
            match step:
                case Take():
                    if not self._free:
                        self._wanting.append(job)
                        return
                    self._take(job)
                case Leave():
                    self._give_back(job)
                case Use(station, draw):
                    job.left = draw(self._random)
                    self._ask(job, self._stations[station.format(host=job.host)])
                    return
            job.step += 1
        self._end(job)

    def _take(self, job: _Job) -> None:
        self._count_places()
        job.host = self._free.popleft()

    def _give_back(self, job: _Job) -> None:
        self._count_places()
        self._free.append(job.host)
        if self._wanting:
            following = self._wanting.popleft()
            self._take(following)
            following.step += 1
            self._go_on(following)

    def _count_places(self) -> None:
        taken = self._all_places - len(self._free)
        self._place_seconds += taken * (self._now - self._place_changed)
        self._place_changed = self._now

    def _ask(self, job: _Job, station: _Station) -> None:
        if station.servers != ENDLESS and station.working >= station.servers:
            station.waiting.append(job)
        else:
            self._serve(job, station)

    def _serve(self, job: _Job, station: _Station) -> None:
        station.working += 1
        turn = job.left if self._quantum is None or station.servers == ENDLESS else min(job.left, self._quantum)
        self._push(self._now + turn, job, station, turn)

    def _serviced(self, job: _Job, station: _Station, served: float) -> None:
        station.working -= 1
        station.work += served
        job.left -= served
        if job.left > 1e-12:
            station.waiting.append(job)
        if station.waiting and (station.servers == ENDLESS or station.working < station.servers):
            self._serve(station.waiting.popleft(), station)
        if job.left <= 1e-12:
            job.step += 1
            self._go_on(job)

    def _end(self, job: _Job) -> None:
        self._finished += 1
        if self._finished == self._skip:
            self._measured_from = self._place_changed = self._now
            self._place_seconds = 0.0
            for station in self._stations.values():
                station.work = 0.0
        elif self._finished > self._skip:
            self._latencies.append(self._now - job.started_at)
        if self._load.clients:
            self._arrive()


def simulate(stations: Stations, way: Sequence[Step], load: Load, *, seed: int) -> Outcome:
    """Send jobs through their way until all have come out."""
    return _Run(stations, way, load, seed).go()
