"""The composition root: builds every object and passes it on. The only place that sees everything."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, cast

import trio
from hypercorn.typing import ASGIFramework

from http_api.internal import create_internal_app
from supervisor.administration.internal import OwnProcess
from supervisor.callers import access_of, attempt_counter, identities, rate_limiter
from supervisor.core import Core, Prepared
from supervisor.doors import open_application
from supervisor.errors import SandboxFailed
from supervisor.files.service import run_sweeper
from supervisor.front import Front, own_front
from supervisor.identity.credentials import Credentials
from supervisor.identity.keys import ApiKey
from supervisor.jailer.setup import JailerHandle
from supervisor.own_core import open_core
from supervisor.service import reload
from supervisor.service.drain import Underway, drain
from supervisor.service.given import Service
from supervisor.service.watchdog import feed
from supervisor.serving.listening import Place, await_signal, listen, stop_soon

log: Final = logging.getLogger("gaoler.daemon")


async def serve(prepared: Prepared, service: Service | None = None, *, on_ready: trio.Event | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until the keeper or the connector is gone. A second signal hurries.

    Raises:
        SandboxFailed: the jailer cannot be kept alive; a supervisor should start the daemon again.
        StoreUnavailable: the connector is gone; as above.
    """
    settings, service = prepared.settings, service or Service()
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(open_core(prepared))
        if core.sharing is None:
            front, shared_keys = own_front(prepared, core, rate_limiter(settings)), _no_keys
        else:
            front, shared_keys = await _open_membership(stack, prepared, core)
        attempts = attempt_counter(settings)
        internal = create_internal_app(settings.fleet.service_token, OwnProcess(prepared, core), attempts)
        access = access_of(settings, identities(prepared, attempts, shared_keys))
        doors = await stack.enter_async_context(open_application(front, access, cast("ASGIFramework", internal)))
        app = Underway(doors)
        nursery = await stack.enter_async_context(trio.open_nursery())
        start_keeping(nursery, prepared, core)
        stop, hurry = front.means.stopping, trio.Event()
        nursery.start_soon(await_signal, stop, hurry)
        start_reloads(nursery, prepared, core, access.operators.credentials, service)
        place = Place(settings, prepared.bound, prepared.own_filter, prepared.certificate, service)
        await nursery.start(listen, cast("ASGIFramework", app), place, stop)
        nursery.start_soon(feed, service, core.jailer.look)
        if on_ready is not None:
            on_ready.set()
        await stop.wait()
        await drain(app, settings.execution.drain_seconds, hurry, service)
        await stop_soon(nursery.cancel_scope)


def _no_keys() -> Sequence[ApiKey]:
    return ()


async def _open_membership(
    stack: AsyncExitStack, prepared: Prepared, core: Core
) -> tuple[Front, Callable[[], Sequence[ApiKey]]]:
    """Be one of several daemons at one Redis, for as long as the stack is open."""
    from supervisor.fleet.membership import open_member, open_worker

    member = await stack.enter_async_context(open_member(prepared, core))
    await stack.enter_async_context(open_worker(member))
    return own_front(prepared, core, member.rates(), member.shared_keys.change_and_look), member.shared_keys


def start_keeping(nursery: trio.Nursery, prepared: Prepared, core: Core) -> None:
    """Start what every daemon with sandboxes does beside its work."""
    nursery.start_soon(run_sweeper, core.files, prepared.settings.files.sweep_minutes * 60)
    nursery.start_soon(watch_keeper, prepared.jailer)
    nursery.start_soon(core.counts.watch_loop)
    if prepared.connector is not None:
        nursery.start_soon(prepared.connector.await_end)


def start_reloads(
    nursery: trio.Nursery, prepared: Prepared, core: Core, credentials: Credentials | None, service: Service
) -> None:
    """From now on read rules, keys and the certificate anew at SIGHUP. ``credentials``: of doors, if there are some."""
    settings = prepared.settings
    left = reload.told_file(settings.state_path / "data", settings.fleet.role)
    reload.forget(left)

    async def work() -> None:
        if prepared.certificate is not None:
            prepared.certificate.read_again()
        core.rules.read()
        if prepared.policy.network == "egress":
            await core.network.reconfigure()
        told = reload.take_told(left)
        if told is not None:
            reload.renew(credentials, told)

    nursery.start_soon(reload.follow, service, work)


async def watch_keeper(handle: JailerHandle) -> None:
    """The keeper ends only when it is told to, or when it cannot go on: then we cannot either."""
    pidfd = os.pidfd_open(handle.keeper_pid)
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    raise SandboxFailed("the jailer's keeper is gone")
