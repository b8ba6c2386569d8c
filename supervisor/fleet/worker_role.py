"""The process of role ``worker``: sandboxes and jobs, no doors but the one for its operator."""

from __future__ import annotations

import logging
from typing import Final, cast

import trio
from hypercorn.typing import ASGIFramework

from http_api.internal import create_internal_app
from supervisor.administration.internal import OwnProcess
from supervisor.administration.readiness import own_health
from supervisor.callers import attempt_counter
from supervisor.core import Prepared
from supervisor.daemon import start_keeping, start_reloads
from supervisor.fleet.membership import Member, open_member, open_worker
from supervisor.own_core import open_core
from supervisor.service.drain import SAVING_SECONDS
from supervisor.service.given import Service
from supervisor.service.watchdog import feed
from supervisor.serving.listening import Place, await_signal, listen, stop_soon

log: Final = logging.getLogger("gaoler.worker")


async def serve_worker(prepared: Prepared, service: Service | None = None) -> None:
    """Do jobs until SIGTERM, or until somebody drains it; then finish, hand sessions over, leave. A second one hurries.

    Raises:
        SandboxFailed, StoreUnavailable: as :func:`supervisor.daemon.serve`.
    """
    settings, service = prepared.settings, service or Service()
    async with open_core(prepared) as core, open_member(prepared, core) as member, trio.open_nursery() as nursery:
        start_keeping(nursery, prepared, core)
        process = OwnProcess(prepared, core, member.drain)
        app = create_internal_app(
            settings.fleet.service_token, process, attempt_counter(settings), own_health(prepared, core)
        )
        stop, hurry = trio.Event(), trio.Event()
        nursery.start_soon(await_signal, member.leaving, hurry)
        async with open_worker(member):
            start_reloads(nursery, prepared, core, None, service)
            place = Place(settings, prepared.bound, prepared.own_filter, prepared.certificate, service)
            await nursery.start(listen, cast("ASGIFramework", app), place, stop)
            nursery.start_soon(feed, service, core.jailer.look)
            await member.leaving.wait()
            drain_seconds = settings.fleet.drain_seconds
            service.notifier.stopping(f"draining: {member.running} jobs under way", drain_seconds + SAVING_SECONDS)
            await _until_left(member, hurry)
        stop.set()
        await stop_soon(nursery.cancel_scope)


async def _until_left(member: Member, hurry: trio.Event) -> None:
    await member.leaving.wait()

    async def leave() -> None:
        await member.leave(member.prepared.settings.fleet.drain_seconds)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await hurry.wait()
        log.warning("leaving at once: %d jobs under way are lost", member.running)
        nursery.cancel_scope.cancel()
