"""Every figure that a process of ours tells, by name: what it is, its type, its labels. They are named nowhere else.

The names follow Prometheus' conventions: base units, ``_total`` on what only grows, ``_seconds`` and ``_bytes``. A
label has few values: doors, outcomes, steps, policies, workers; never a caller, a session, a key or a file. What is
written (:mod:`supervisor.metrics.text`) has to be here, and docs/observability.md has this as a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Family:
    """All figures of one name."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


_EXECUTIONS: Final = (
    Family(
        "gaoler_executions_total",
        "counter",
        "Executions that have ended, refused ones too.",
        ("door", "language", "outcome"),
    ),
    Family("gaoler_execution_seconds", "histogram", "From the door's call to its answer, without what was refused."),
    Family("gaoler_execution_step_seconds", "histogram", "Time of each step of an execution.", ("step",)),
    Family("gaoler_execution_cpu_seconds_total", "counter", "Processor time of programs."),
    Family("gaoler_execution_output_bytes_total", "counter", "What programs have written, also what was cut."),
    Family("gaoler_execution_files_total", "counter", "Files that executions have left."),
    Family("gaoler_limit_hits_total", "counter", "Executions that were ended at a limit.", ("limit",)),
    Family(
        "gaoler_refusals_total",
        "counter",
        "Executions that were refused or failed, by the name of the error.",
        ("outcome", "error"),
    ),
    Family("gaoler_running", "gauge", "Executions that have a place now."),
    Family("gaoler_waiting", "gauge", "Executions that wait for a place."),
    Family("gaoler_places", "gauge", "Executions that may run at once."),
)
_SANDBOXES: Final = (
    Family("gaoler_jailer_connected", "gauge", "There is a jailer."),
    Family("gaoler_jails", "gauge", "Sandboxes in use."),
    Family("gaoler_pool_cells", "gauge", "Sandboxes that are ready and wait.", ("policy", "profile")),
    Family("gaoler_pool_floor", "gauge", "So many should wait at least.", ("policy", "profile")),
    Family("gaoler_pool_ceiling", "gauge", "So many may wait at most.", ("policy", "profile")),
    Family("gaoler_pool_target", "gauge", "So many should wait now.", ("policy", "profile")),
    Family("gaoler_pool_claims_total", "counter", "Sandboxes that were asked for.", ("policy", "profile")),
    Family(
        "gaoler_pool_misses_total", "counter", "Of those: nothing was ready, it had to be built.", ("policy", "profile")
    ),
    Family("gaoler_pool_built_total", "counter", "Sandboxes that were made.", ("policy", "profile")),
    Family("gaoler_pool_lost_total", "counter", "Sandboxes that failed before their use.", ("policy", "profile")),
    Family("gaoler_live_sessions", "gauge", "Sessions with an interpreter in memory."),
    Family("gaoler_session_saves_total", "counter", "Interpreters written down.", ("outcome",)),
    Family("gaoler_session_restores_total", "counter", "Interpreters brought back.", ("outcome",)),
)
_CARE: Final = (
    Family(
        "gaoler_reconciled_total",
        "counter",
        "Left by what had died, found and removed at a start or by a sweep.",
        ("what",),
    ),
    Family("gaoler_sessions_expired_total", "counter", "Sessions removed because their time was over."),
    Family("gaoler_shedding", "gauge", "New work is refused for want of it.", ("resource",)),
    Family("gaoler_shed_total", "counter", "Work refused for want of it.", ("resource",)),
    Family("gaoler_memory_free_bytes", "gauge", "Memory that is left to us."),
    Family("gaoler_disk_free_bytes", "gauge", "Disk space that is left where the state is."),
    Family("gaoler_disk_free_inodes", "gauge", "Files that can still be made where the state is."),
    Family("gaoler_rate_refusals_total", "counter", "Calls refused as too many of their kind.", ("kind",)),
    Family("gaoler_authentication_failures_total", "counter", "Requests whose credential does not hold."),
)
_EGRESS: Final = (
    Family("gaoler_egress_connected", "gauge", "There is an egress proxy."),
    Family("gaoler_egress_restarts_total", "counter", "Egress proxies after the first."),
    Family("gaoler_egress_grants", "gauge", "Sandboxes that have a network."),
    Family("gaoler_egress_decisions_total", "counter", "Decisions of the egress proxy.", ("kind", "verdict")),
    Family("gaoler_egress_refusals_total", "counter", "Why it said no.", ("code",)),
    Family("gaoler_egress_bytes_total", "counter", "Bytes through the egress proxy.", ("direction",)),
    Family("gaoler_egress_unwritten_total", "counter", "Decisions that were only counted: too many at once."),
    Family("gaoler_egress_audit_failures_total", "counter", "Lines of the audit that were lost."),
    Family("gaoler_egress_rule_faults_total", "counter", "Changed rules that were not taken."),
)
_STORES: Final = (
    Family("gaoler_redis_faults_total", "counter", "Calls of Redis that met an error.", ("fault",)),
    Family("gaoler_redis_retries_total", "counter", "Calls of Redis that were tried again."),
    Family("gaoler_redis_given_up_total", "counter", "Calls of Redis that were given up."),
    Family("gaoler_s3_retries_total", "counter", "Calls of S3 that were tried again."),
    Family("gaoler_s3_given_up_total", "counter", "Calls of S3 that were given up."),
)
_FLEET: Final = (
    Family("gaoler_redis_reachable", "gauge", "Redis has answered at the last heartbeat."),
    Family("gaoler_workers", "gauge", "Workers that live.", ("state",)),
    Family("gaoler_gateways", "gauge", "Gateways that live."),
    Family("gaoler_worker_places", "gauge", "Executions that a worker takes at once.", ("worker",)),
    Family("gaoler_worker_running", "gauge", "Executions that a worker runs.", ("worker",)),
    Family("gaoler_worker_live_sessions", "gauge", "Sessions that a worker has in memory.", ("worker",)),
    Family("gaoler_queue_length", "gauge", "Jobs that nobody has begun.", ("lane",)),
    Family("gaoler_queue_age_seconds", "gauge", "How long the oldest of them has waited.", ("lane",)),
    Family("gaoler_gateway_running", "gauge", "Executions of this gateway under way."),
    Family("gaoler_gateway_waiting", "gauge", "Executions that wait in this gateway."),
    Family("gaoler_gateway_calls", "gauge", "Jobs of this gateway under way."),
)
_PROCESS: Final = (
    Family("gaoler_build_info", "gauge", "What runs: always 1.", ("version", "role", "image")),
    Family("gaoler_event_loop_lag_seconds", "histogram", "How late a timer is: how long a task waits for its turn."),
    Family("gaoler_tracing_spans_total", "counter", "Spans by what became of them.", ("outcome",)),
    Family("gaoler_tracing_exports_total", "counter", "Batches of spans by what the receiver said.", ("outcome",)),
    Family("process_cpu_seconds_total", "counter", "Processor time of the process."),
    Family("process_resident_memory_bytes", "gauge", "Memory of the process."),
    Family("process_virtual_memory_bytes", "gauge", "Address space of the process."),
    Family("process_start_time_seconds", "gauge", "When it began, since the epoch."),
    Family("process_open_fds", "gauge", "Descriptors that are open."),
    Family("process_max_fds", "gauge", "Descriptors that may be open."),
    Family("process_threads", "gauge", "Threads of the process."),
)

FAMILIES: Final = {
    each.name: each for each in (*_EXECUTIONS, *_SANDBOXES, *_CARE, *_EGRESS, *_STORES, *_FLEET, *_PROCESS)
}
