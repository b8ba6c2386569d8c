"""The composition root: builds every object and passes it on. The only place that sees everything."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import trio
from hypercorn.config import Config

from supervisor.admission import Admission
from supervisor.core import Core, Prepared
from supervisor.doors import open_application
from supervisor.errors import ConfigurationError, SandboxFailed
from supervisor.executor import Executor
from supervisor.fair_queue import QueueLimits
from supervisor.files import FileLimits, FileService, run_sweeper
from supervisor.host import HostView, memory_cgroups, own_cgroup
from supervisor.identity.derived import DerivedIds
from supervisor.in_jail import InJail
from supervisor.inputs import InputResolver
from supervisor.jailer import kernel
from supervisor.jailer.cgroup_subtree import mount_points
from supervisor.jailer.client import JailerClient, open_jailer
from supervisor.jailer.setup import EGRESS_SOCKET, JailerHandle
from supervisor.live import open_live
from supervisor.live_means import LiveLimits
from supervisor.microvm.preparation import most_machines
from supervisor.network.audit import AUDIT_FILE, open_audit
from supervisor.network.grants import Network, open_network
from supervisor.network.rules_in_force import RulesInForce
from supervisor.pressure import HostLimits, Pressure
from supervisor.processes import ProcessLimits
from supervisor.programmatic import ProgramLimits, Programs, open_programs
from supervisor.results import ResultLimits
from supervisor.serving import Patience
from supervisor.serving import serve as serve_http
from supervisor.settings import Settings
from supervisor.store import Quota
from supervisor.store.disk import open_blobs
from supervisor.store.sqlite import open_sqlite

log: Final = logging.getLogger("gaoler.daemon")

STOP_SECONDS: Final = 5
SECRET_BYTES: Final = 32


@asynccontextmanager
async def open_core(prepared: Prepared) -> AsyncIterator[Core]:
    """Open stores and jailer for the block."""
    settings = prepared.settings
    data = settings.state_path / "data"
    async with (
        open_sqlite(data / "gaoler.sqlite") as sessions,
        open_blobs(data / "blobs", reserve_bytes=settings.files.reserve_bytes) as blobs,
        open_jailer(prepared.jailer.socket_path) as jailer,
        _open_network(prepared) as (network, rules),
        _open_pressure(prepared, jailer) as pressure,
    ):
        kept = settings.files
        # What belongs to nobody in particular is many people's.
        quota = Quota(kept.user_bytes, kept.user_sessions, kept.tenant_bytes, settings.rates.shared_factor)
        retention = kept.retention_hours * 3600
        limits = FileLimits(kept.file_bytes, kept.files_per_session, kept.session_bytes, retention, quota)
        ids = DerivedIds(read_or_make_secret(data / "hint_key"))
        files = FileService(sessions, blobs, limits, ids, pressure=pressure, clock=time.time)
        admission = Admission(_queue_limits(settings), pressure, queue_seconds=settings.execution.queue_seconds)
        results = ResultLimits(
            kept.result_files, kept.file_bytes, kept.session_bytes, kept.files_per_session, kept.packages_bytes
        )
        resolver = InputResolver(files, prepared.policy.limits.workspace_bytes)
        work = InJail(files, results)
        async with open_live(jailer, files, resolver, work, admission, network, _live_limits(prepared)) as live:
            files.on_deleted = live.discard
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
                yield Core(files, executor, programs, jailer, admission, live, network, rules, pressure, ids)


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


def _queue_limits(settings: Settings) -> QueueLimits:
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
    )


async def serve(prepared: Prepared, *, on_ready: trio.Event | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until the keeper or the connector is gone.

    Raises:
        SandboxFailed: the jailer cannot be kept alive; a supervisor should start the daemon again.
        StoreUnavailable: the connector is gone; as above.
    """
    settings = prepared.settings
    async with (
        open_core(prepared) as core,
        open_application(prepared, core) as app,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(run_sweeper, core.files, settings.files.sweep_minutes * 60)
        nursery.start_soon(_watch_keeper, prepared.jailer)
        if prepared.connector is not None:
            nursery.start_soon(prepared.connector.await_end)
        stop = trio.Event()
        nursery.start_soon(_await_signal, stop)

        async def serve_until_stopped(*, task_status: trio.TaskStatus[list[str]]) -> None:
            await serve_http(
                app, _http_config(prepared), _patience(settings), shutdown_trigger=stop.wait, task_status=task_status
            )
            stop.set()

        bound = await nursery.start(serve_until_stopped)
        # Nothing listens or is started after this; threads that wait for work are bound by it too.
        kernel.install_seccomp(prepared.own_filter, all_threads=True)
        _announce(bound, settings)
        if on_ready is not None:
            on_ready.set()
        await stop.wait()
        log.info("stopping")
        nursery.cancel_scope.deadline = trio.current_time() + STOP_SECONDS
        nursery.cancel_scope.cancel()


def _http_config(prepared: Prepared) -> Config:
    config = Config()
    config.bind = [prepared.settings.bind if prepared.bound is None else f"fd://{prepared.bound.detach()}"]
    config.include_server_header = False
    config.graceful_timeout = STOP_SECONDS
    config.accesslog = None
    config.errorlog = logging.getLogger("gaoler.hypercorn")
    config.umask = 0o117
    return config


def _patience(settings: Settings) -> Patience:
    http = settings.http
    return Patience(
        connections=http.connections,
        connections_per_address=http.connections_per_address,
        header_seconds=http.header_seconds,
        body_seconds=http.body_seconds,
        send_seconds=http.send_seconds,
        idle_seconds=http.idle_seconds,
    )


def _announce(bound: list[str], settings: Settings) -> None:
    """Say where it listens, on a line that programs can read too."""
    for address in bound:
        log.info("listening on %s state_dir=%s", address, settings.state_dir)


async def _await_signal(stop: trio.Event) -> None:
    # One that comes at the very end would be sent to ourselves again, which our own filter forbids.
    with suppress(PermissionError), trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stop.set()


async def _watch_keeper(handle: JailerHandle) -> None:
    """The keeper ends only when it is told to, or when it cannot go on: then we cannot either."""
    pidfd = os.pidfd_open(handle.keeper_pid)
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    raise SandboxFailed("the jailer's keeper is gone")


def read_or_make_secret(path: Path) -> bytes:
    """Give :data:`SECRET_BYTES` random bytes that are kept in a file of the daemon's own.

    The file appears whole or not at all: ids derived from half a secret, or from none, could be guessed.

    Raises:
        ConfigurationError: the file holds something else.
    """
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        secret = os.urandom(SECRET_BYTES)
        _write_whole(path, secret)
    if len(secret) != SECRET_BYTES:
        raise ConfigurationError(f"{path} does not hold {SECRET_BYTES} bytes: remove it", field="state_dir")
    return secret


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    temporary.rename(path)


def read_or_make_key(settings: Settings, path: Path) -> tuple[str, bool]:
    """Give the API key and whether it was made now: the one that is set, else the one kept in the state directory."""
    if settings.api_key:
        return settings.api_key, False
    try:
        return path.read_text().strip(), False
    except FileNotFoundError:
        pass
    key = "gk-" + os.urandom(24).hex()
    _write_whole(path, f"{key}\n".encode())
    return key, True
