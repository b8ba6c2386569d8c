"""The objects of a daemon with sandboxes of its own, whether its doors or a fleet's gateways ask them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from supervisor.activity.activity import Activity
from supervisor.admission.admission import Admission
from supervisor.admission.fair_queue import QueueLimits
from supervisor.admission.host import HostView, memory_cgroups, own_cgroup
from supervisor.admission.pressure import HostLimits, Pressure
from supervisor.core import Core, GatewayPrepared, Prepared
from supervisor.execution.executor import Executor
from supervisor.execution.in_jail import InJail
from supervisor.execution.inputs import InputResolver
from supervisor.execution.results import ResultLimits
from supervisor.files.service import FileLimits, FileService
from supervisor.files.tools import OwnTurns
from supervisor.identity.derived import DerivedIds
from supervisor.jailer.cgroup_subtree import mount_points
from supervisor.jailer.client import JailerClient, open_jailer
from supervisor.jailer.setup import EGRESS_SOCKET
from supervisor.live.means import LiveLimits
from supervisor.live.processes import ProcessLimits
from supervisor.live.sessions import open_live
from supervisor.metrics.counts import Counts
from supervisor.microvm.preparation import most_machines
from supervisor.network.audit import AUDIT_FILE, open_audit
from supervisor.network.grants import Network, open_network
from supervisor.network.rules_in_force import RulesInForce
from supervisor.preparation.own_files import fleet_secret, read_or_make_secret
from supervisor.programmatic.programs import ProgramLimits, Programs, open_programs
from supervisor.runtimes.language_view import counted_name
from supervisor.settings.tree import Settings
from supervisor.store import Quota
from supervisor.stores_in_use import Stores, open_stores
from supervisor.tracing.tracer import Tracer

if TYPE_CHECKING:
    from supervisor.fleet.sharing import Sharing


@asynccontextmanager
async def open_core(prepared: Prepared) -> AsyncIterator[Core]:
    """Open stores and jailer for the block."""
    settings = prepared.settings
    data = settings.state_path / "data"
    async with (
        open_stores(settings, prepared.dial, data) as stores,
        open_jailer(prepared.jailer.socket_path) as jailer,
        open_tracer(prepared, partial(counted_name, prepared.catalogue)) as tracer,
        _open_network(prepared) as (network, rules),
        _open_pressure(prepared, jailer) as pressure,
    ):
        kept = settings.files
        ids = DerivedIds(fleet_secret(settings) or read_or_make_secret(data / "hint_key"))
        files = file_service(settings, stores, ids, pressure)
        sharing = _sharing(prepared, stores)
        holds = None if sharing is None else sharing.holds
        admission = Admission(queue_limits(settings), pressure, queue_seconds=settings.execution.queue_seconds)
        results = ResultLimits(
            kept.result_files, kept.file_bytes, kept.session_bytes, kept.files_per_session, kept.packages_bytes
        )
        resolver = InputResolver(files, prepared.policy.limits.workspace_bytes)
        work = InJail(files, results)
        async with open_live(jailer, files, resolver, work, admission, network, _live_limits(prepared), holds) as live:
            files.on_deleted = live.discard
            if holds is not None:
                holds.on_lost = live.lose
            executor = Executor(
                jailer,
                resolver,
                work,
                admission,
                live,
                network,
                prepared.policy,
                prepared.languages,
                catalogue=prepared.catalogue,
                ids=ids,
                tiers=prepared.tiers,
            )

            def make(nursery: trio.Nursery) -> Programs:
                limits = _program_limits(settings)
                return Programs(
                    jailer,
                    resolver,
                    work,
                    admission,
                    network,
                    prepared.policy,
                    prepared.languages,
                    ids=ids,
                    limits=limits,
                    tiers=prepared.tiers,
                    nursery=nursery,
                )

            async with open_programs(make) as programs:
                turns = OwnTurns() if sharing is None else sharing.turns
                yield Core(
                    files=files,
                    executor=executor,
                    programs=programs,
                    jailer=jailer,
                    admission=admission,
                    live=live,
                    network=network,
                    rules=rules,
                    pressure=pressure,
                    ids=ids,
                    turns=turns,
                    stores=stores,
                    sharing=sharing,
                    counts=Counts(),
                    tracer=tracer,
                    activity=Activity(partial(counted_name, prepared.catalogue), tracer),
                )


@asynccontextmanager
async def open_tracer(
    prepared: Prepared | GatewayPrepared, language_of: Callable[[str], str]
) -> AsyncIterator[Tracer | None]:
    """Have executions traced for the block, if the settings say where to."""
    settings = prepared.settings
    if not settings.tracing.url:
        yield None
        return
    # Who has no use for it should not wait for protobuf.
    from supervisor.tracing.exporter import open_tracing

    assert prepared.dial is not None
    role = settings.fleet.role
    async with open_tracing(
        settings.tracing, prepared.dial, name=prepared.name, role=role, language_of=language_of
    ) as tracer:
        yield tracer


def _sharing(prepared: Prepared, stores: Stores) -> Sharing | None:
    """Say how sessions are shared with other daemons, if they are."""
    if stores.link is None:
        return None
    from supervisor.fleet.sharing import share

    return share(stores.link, prepared.settings.fleet, prepared.name)


def file_service(settings: Settings, stores: Stores, ids: DerivedIds, pressure: Pressure) -> FileService:
    """Make what works on kept files."""
    kept = settings.files
    # What belongs to nobody in particular is many people's.
    quota = Quota(kept.user_bytes, kept.user_sessions, kept.tenant_bytes, settings.rates.shared_factor)
    retention = kept.retention_hours * 3600
    limits = FileLimits(kept.file_bytes, kept.files_per_session, kept.session_bytes, retention, quota)
    return FileService(
        stores.sessions,
        stores.blobs,
        limits,
        ids,
        pressure=pressure,
        clock=time.time,
        states=stores.states,
        remove_orphans=kept.remove_orphans,
    )


@asynccontextmanager
async def _open_network(prepared: Prepared) -> AsyncIterator[tuple[Network, RulesInForce]]:
    """Have the daemon's side of the egress proxy for the block; where the policy has no network it is only words."""
    settings, data = prepared.settings, prepared.settings.state_path / "data"
    egress, enabled = settings.egress, prepared.policy.network == "egress"
    rules = RulesInForce(prepared.rule_source)
    with open_audit(
        data / AUDIT_FILE if enabled else None, file_bytes=egress.audit_bytes, files=egress.audit_files
    ) as audit:
        socket_path = settings.state_path / "run" / EGRESS_SOCKET
        async with (
            open_network(prepared.policy, socket_path, audit, rules.configuration) as network,
            trio.open_nursery() as nursery,
        ):
            if enabled:
                nursery.start_soon(rules.watch, network.reconfigure)
            yield network, rules
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_pressure(prepared: Prepared, jailer: JailerClient) -> AsyncIterator[Pressure]:
    """Watch the host for the block, and have the jailer give its cells back while memory is tight."""
    pressure, view = Pressure(_host_limits(prepared.settings)), _host_view(prepared)

    async def spare_cells() -> None:
        while True:
            await pressure.wait(tight=True)
            async with trio.open_nursery() as tight:
                tight.start_soon(jailer.keep_spare)
                await pressure.wait(tight=False)
                tight.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(pressure.watch, view.look)
        nursery.start_soon(spare_cells)
        yield pressure
        nursery.cancel_scope.cancel()


def _host_limits(settings: Settings) -> HostLimits:
    host = settings.host
    return HostLimits(
        host.free_memory_bytes,
        host.free_memory_percent,
        host.memory_stall_percent,
        host.free_disk_bytes,
        host.free_disk_inodes,
    )


def _host_view(prepared: Prepared) -> HostView:
    layout = prepared.jailer.layout
    unified = layout.version == 2
    key = "unified" if unified else "memory"
    own = own_cgroup(Path("/proc/self/cgroup").read_text(encoding="utf-8"), unified=unified)
    cgroups = memory_cgroups(Path(layout.directories[key]), mount_points()[key], own)
    return HostView(prepared.settings.state_path / "data", cgroups)


def queue_limits(settings: Settings) -> QueueLimits:
    """Give how many executions run and wait at once."""
    execution = settings.execution
    return QueueLimits(
        places=execution.concurrent,
        places_per_principal=min(execution.concurrent, execution.concurrent_per_user),
        waiting=execution.queue_length,
        waiting_per_principal=min(execution.queue_length, execution.queue_length_per_user),
    )


def _program_limits(settings: Settings) -> ProgramLimits:
    tools = settings.tools
    return ProgramLimits(tools.waiting, tools.waiting_per_user, tools.token_seconds, tools.held_bytes)


def _live_limits(prepared: Prepared) -> LiveLimits:
    live, microvm = prepared.settings.live, prepared.settings.microvm
    profiles = {each.profile for each in prepared.languages.values() if each.profile is not None}
    return LiveLimits(
        sessions=live.sessions,
        sessions_per_owner=live.sessions_per_user,
        idle_seconds=live.idle_minutes * 60,
        state_bytes=live.state_bytes,
        archive_seconds=live.archive_hours * 3600,
        save_seconds=live.save_seconds,
        interrupt_seconds=live.interrupt_seconds,
        policy=prepared.policy.name,
        profile=min(profiles),
        process=ProcessLimits(live.process_minutes * 60, live.process_output_bytes),
        processes_per_owner=live.processes_per_user,
        best_tier=prepared.tiers.best,
        # One is left to executions that keep nothing, if there are two.
        machines=max(1, most_machines(microvm.memory_mib, microvm.memory_budget_mib, microvm.max) - 1),
        snapshot_seconds=prepared.settings.state.snapshot_seconds if prepared.settings.uses_redis else None,
    )
