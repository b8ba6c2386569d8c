"""Where the figures come from: the objects of a process, looked at when somebody asks."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from supervisor import __version__
from supervisor.activity.totals import BOUNDS, WHOLE, Histogram, Totals
from supervisor.admission.pressure import Pressure
from supervisor.metrics.counts import Counts
from supervisor.metrics.text import Buckets, Point

if TYPE_CHECKING:
    from supervisor.files.service import FileService
    from supervisor.jailer.protocol import Pools
    from supervisor.live.sessions import LiveSessions
    from supervisor.network.grants import Network
    from supervisor.redis_link.link import RedisLink
    from supervisor.stores_in_use import Stores
    from supervisor.tracing.tracer import Tracer

LIMITS: Final = {"memory": "out_of_memory", "time": "timed_out", "output": "output_limit"}
"""Limits, and the outcomes of executions that were ended at them."""
_PROC: Final = Path("/proc/self")


def of_build(role: str, image: str = "") -> Iterator[Point]:
    """Say what runs."""
    yield Point("gaoler_build_info", 1, (__version__, role, image))


def of_totals(totals: Totals) -> Iterator[Point]:
    """Give the figures of what has ended."""
    for labels, count in sorted(totals.outcomes.items()):
        yield Point("gaoler_executions_total", count, labels)
    for step, histogram in totals.steps.items():
        if step == WHOLE:
            yield Point("gaoler_execution_seconds", _buckets(histogram))
        else:
            yield Point("gaoler_execution_step_seconds", _buckets(histogram), (step,))
    for why, count in sorted(totals.refusals.items()):
        yield Point("gaoler_refusals_total", count, why)
    yield Point("gaoler_execution_cpu_seconds_total", totals.cpu_seconds)
    yield Point("gaoler_execution_output_bytes_total", totals.output_bytes)
    yield Point("gaoler_execution_files_total", totals.files)
    for limit, outcome in LIMITS.items():
        hits = sum(count for (_, _, how), count in totals.outcomes.items() if how == outcome)
        yield Point("gaoler_limit_hits_total", hits, (limit,))


def of_pools(pools: Pools | None) -> Iterator[Point]:
    """Give the figures of the jailer: nothing, while there is none that answers."""
    if pools is None:
        return
    yield Point("gaoler_jails", pools.jails)
    for each in pools.pools:
        labels = (each.policy, each.profile or "")
        yield Point("gaoler_pool_cells", each.ready, labels)
        yield Point("gaoler_pool_floor", each.floor, labels)
        yield Point("gaoler_pool_ceiling", each.ceiling, labels)
        yield Point("gaoler_pool_target", each.target, labels)
        yield Point("gaoler_pool_claims_total", each.claims, labels)
        yield Point("gaoler_pool_misses_total", each.misses, labels)
        yield Point("gaoler_pool_built_total", each.built, labels)
        yield Point("gaoler_pool_lost_total", each.lost, labels)


def of_live(live: LiveSessions) -> Iterator[Point]:
    """Give the figures of the sessions that keep their interpreter."""
    yield Point("gaoler_live_sessions", live.count)
    for outcome in ("done", "failed"):
        yield Point("gaoler_session_saves_total", live.saves[outcome], (outcome,))
    for outcome in ("done", "failed"):
        yield Point("gaoler_session_restores_total", live.restores[outcome], (outcome,))


def of_reconciliation(files: FileService, found: Mapping[str, int]) -> Iterator[Point]:
    """Give what had died has left, as far as it was found; ``found``: at the start and by the jailer."""
    all_found = {**found, "blob": files.removed_blobs}
    for what, count in sorted(all_found.items()):
        yield Point("gaoler_reconciled_total", count, (what,))
    yield Point("gaoler_sessions_expired_total", files.expired_sessions)


def of_pressure(pressure: Pressure) -> Iterator[Point]:
    """Give the figures of what the host is short of."""
    for each in ("memory", "disk"):
        yield Point("gaoler_shedding", each in pressure.resources, (each,))
        yield Point("gaoler_shed_total", pressure.refused[each], (each,))
    reading = pressure.reading
    if reading is not None:
        yield Point("gaoler_memory_free_bytes", reading.free_memory_bytes)
        yield Point("gaoler_disk_free_bytes", reading.free_disk_bytes)
        if reading.free_disk_inodes is not None:
            yield Point("gaoler_disk_free_inodes", reading.free_disk_inodes)


def of_network(network: Network, rule_faults: int) -> Iterator[Point]:
    """Give the figures of the egress proxy, where the policy has a network."""
    if not network.enabled:
        return
    audit = network.audit
    yield Point("gaoler_egress_connected", network.connected)
    yield Point("gaoler_egress_restarts_total", max(0, network.restarts))
    yield Point("gaoler_egress_grants", network.open_grants)
    for labels, count in sorted(audit.verdicts.items()):
        yield Point("gaoler_egress_decisions_total", count, labels)
    for code, count in sorted(audit.refusals.items()):
        yield Point("gaoler_egress_refusals_total", count, (code,))
    yield Point("gaoler_egress_bytes_total", audit.sent_bytes, ("sent",))
    yield Point("gaoler_egress_bytes_total", audit.received_bytes, ("received",))
    yield Point("gaoler_egress_unwritten_total", audit.suppressed)
    yield Point("gaoler_egress_audit_failures_total", audit.write_failures)
    yield Point("gaoler_egress_rule_faults_total", rule_faults)


def of_stores(stores: Stores) -> Iterator[Point]:
    """Give the figures of Redis and S3, where they are used."""
    if stores.link is not None:
        yield from _of_link(stores.link)
    if stores.s3 is not None:
        yield Point("gaoler_s3_retries_total", stores.s3.retries)
        yield Point("gaoler_s3_given_up_total", stores.s3.given_up)


def _of_link(link: RedisLink) -> Iterator[Point]:
    for fault, count in sorted(link.troubles.faults.items()):
        yield Point("gaoler_redis_faults_total", count, (fault,))
    yield Point("gaoler_redis_retries_total", link.troubles.retries)
    yield Point("gaoler_redis_given_up_total", link.troubles.given_up)


def of_counts(counts: Counts) -> Iterator[Point]:
    """Give what the doors have refused, and how late the loop is."""
    for kind, count in sorted(counts.rate_refusals.items()):
        yield Point("gaoler_rate_refusals_total", count, (kind,))
    yield Point("gaoler_authentication_failures_total", counts.authentication_failures)
    yield Point("gaoler_event_loop_lag_seconds", counts.lag)


def of_tracer(tracer: Tracer | None) -> Iterator[Point]:
    """Give the figures of tracing, where there is any."""
    if tracer is None:
        return
    for outcome, count in tracer.spans.items():
        yield Point("gaoler_tracing_spans_total", count, (outcome,))
    for outcome, count in tracer.exports.items():
        yield Point("gaoler_tracing_exports_total", count, (outcome,))


def of_process() -> Iterator[Point]:
    """Give what the kernel says of this process, under the names that Prometheus' own clients use."""
    # Behind the name of the program, which may hold anything: proc_pid_stat(5), from the third field on.
    fields = (_PROC / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    yield Point("process_cpu_seconds_total", (int(fields[11]) + int(fields[12])) / ticks)
    yield Point("process_threads", int(fields[17]))
    yield Point("process_virtual_memory_bytes", int(fields[20]))
    yield Point("process_resident_memory_bytes", int(fields[21]) * page)
    yield Point("process_start_time_seconds", _boot_time() + int(fields[19]) / ticks)
    yield Point("process_open_fds", len(os.listdir(_PROC / "fd")) - 1)  # noqa: PTH208 - names only, and no Path for each
    yield Point("process_max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def _buckets(histogram: Histogram) -> Buckets:
    return Buckets(BOUNDS, tuple(histogram.counts), histogram.seconds)
