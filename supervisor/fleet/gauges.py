"""Figures of a fleet as a gateway sees it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from supervisor.fleet.queue import Backlog
from supervisor.metrics.text import Point

if TYPE_CHECKING:
    from supervisor.fleet.remote import Fleet


def of_fleet(fleet: Fleet, backlog: Backlog) -> Iterator[Point]:
    """Give them."""
    roster = fleet.roster
    yield Point("gaoler_redis_reachable", roster.reachable)
    for state in ("ready", "draining"):
        yield Point("gaoler_workers", sum(each.state == state for each in roster.workers), (state,))
    yield Point("gaoler_gateways", len(roster.gateways))
    for worker in roster.workers:
        labels = (worker.name,)
        yield Point("gaoler_worker_places", worker.places, labels)
        yield Point("gaoler_worker_running", worker.running, labels)
        yield Point("gaoler_worker_live_sessions", worker.live_sessions, labels)
    for lane, waiting in sorted(backlog.lanes.items()):
        yield Point("gaoler_queue_length", waiting.length, (lane,))
        yield Point("gaoler_queue_age_seconds", waiting.oldest_seconds, (lane,))
    admission = fleet.admission
    yield Point("gaoler_gateway_running", admission.running)
    yield Point("gaoler_gateway_waiting", admission.waiting)
    yield Point("gaoler_gateway_calls", fleet.calls.under_way)
