"""Figures of a fleet as a gateway sees it, in the text format of Prometheus. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from supervisor.fleet.queue import Backlog
from supervisor.operation import Sample, as_text

if TYPE_CHECKING:
    from supervisor.fleet.remote import Fleet


def gauges(fleet: Fleet, backlog: Backlog) -> str:
    """Give them."""
    return as_text(_samples(fleet, backlog))


def _samples(fleet: Fleet, backlog: Backlog) -> Iterator[Sample]:
    roster = fleet.roster
    yield "gaoler_redis_reachable", "gauge", "Redis has answered at the last heartbeat.", {}, float(roster.reachable)
    for state in ("ready", "draining"):
        count = sum(each.state == state for each in roster.workers)
        yield "gaoler_workers", "gauge", "Workers that live.", {"state": state}, float(count)
    yield "gaoler_gateways", "gauge", "Gateways that live.", {}, float(len(roster.gateways))
    for worker in roster.workers:
        labels = {"worker": worker.name}
        yield "gaoler_worker_places", "gauge", "Executions it takes at once.", labels, float(worker.places)
    for worker in roster.workers:
        labels = {"worker": worker.name}
        yield "gaoler_worker_running", "gauge", "Executions it runs.", labels, float(worker.running)
    for worker in roster.workers:
        labels = {"worker": worker.name}
        yield "gaoler_worker_live_sessions", "gauge", "Sessions in memory.", labels, float(worker.live_sessions)
    for lane, waiting in sorted(backlog.lanes.items()):
        yield "gaoler_queue_length", "gauge", "Jobs that nobody has begun.", {"lane": lane}, float(waiting.length)
    for lane, waiting in sorted(backlog.lanes.items()):
        yield "gaoler_queue_age_seconds", "gauge", "Wait of the oldest.", {"lane": lane}, waiting.oldest_seconds
    admission = fleet.admission
    yield "gaoler_gateway_running", "gauge", "Executions of this gateway under way.", {}, float(admission.running)
    yield "gaoler_gateway_waiting", "gauge", "Executions that wait in this gateway.", {}, float(admission.waiting)
    yield "gaoler_gateway_calls", "gauge", "Jobs of this gateway under way.", {}, float(fleet.calls.under_way)
