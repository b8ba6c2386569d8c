"""The process of role ``gateway``: both doors, and no sandbox. What is asked for is done by workers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, cast

import trio
from hypercorn.typing import ASGIFramework

from http_api.internal import create_internal_app
from supervisor import __version__
from supervisor.activity.activity import Activity
from supervisor.admission.admission import Admission
from supervisor.admission.pressure import HostLimits, Pressure
from supervisor.callers import Identities, access_of, attempt_counter
from supervisor.core import GatewayPrepared
from supervisor.doors import open_application
from supervisor.errors import ConfigurationError, GaolerError
from supervisor.files.service import run_sweeper
from supervisor.fleet.calls import Calls
from supervisor.fleet.changes import Changes
from supervisor.fleet.gateway import Gateway
from supervisor.fleet.gateway_front import gateway_front
from supervisor.fleet.going_on import go_on
from supervisor.fleet.leases import Leases
from supervisor.fleet.ledger import run_reaper
from supervisor.fleet.manifest import Signer
from supervisor.fleet.program_places import ProgramPlaces
from supervisor.fleet.queue import Backlog, JobQueue
from supervisor.fleet.registry import GatewayRecord, open_announcer
from supervisor.fleet.remote import (
    Fleet,
)
from supervisor.fleet.replies import open_replies
from supervisor.fleet.roster import Roster
from supervisor.fleet.shared_keys import SharedKeys
from supervisor.identity.credentials import Credentials
from supervisor.identity.derived import DerivedIds
from supervisor.network.rules_in_force import RulesInForce
from supervisor.own_core import open_tracer, queue_limits
from supervisor.preparation.own_files import fleet_secret
from supervisor.preparation.tiers_in_force import tiers_wanted
from supervisor.runtimes.catalogue import load_groups, load_languages
from supervisor.runtimes.language_view import Stock, counted_name, language_table
from supervisor.service import reload
from supervisor.service.drain import Underway, drain
from supervisor.service.given import Service
from supervisor.service.watchdog import alive, feed
from supervisor.serving.listening import Place, await_signal, listen, stop_soon
from supervisor.store.state_tiers import run_archiver
from supervisor.stores_in_use import Stores, open_stores

log: Final = logging.getLogger("gaoler.gateway")

_NOT_WATCHED: Final = HostLimits(0, 0.0, 100.0, 0, 0)
"""A gateway runs nothing that could starve its host; what it keeps is elsewhere."""


async def serve_gateway(prepared: GatewayPrepared, service: Service | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until the connector is gone. A second signal hurries.

    Raises:
        StoreUnavailable: Redis or S3 does not answer at the start, or the connector is gone.
    """
    settings, service = prepared.settings, service or Service()
    async with (
        open_stores(settings, prepared.dial, settings.state_path / "data") as stores,
        _open_gateway(prepared, stores) as gateway,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(prepared.connector.await_end)
        nursery.start_soon(go_on, run_sweeper, gateway.front.files, settings.files.sweep_minutes * 60)
        attempts = attempt_counter(settings)
        internal = create_internal_app(settings.fleet.service_token, gateway, attempts)
        keys = gateway.shared_keys
        await keys.look()
        nursery.start_soon(go_on, keys.follow, settings.fleet.heartbeat_seconds)
        who = Identities(
            prepared.api_key,
            prepared.token_keys,
            prepared.oauth_keys,
            attempts,
            keys,
            admin_key=prepared.admin_key,
        )
        access = access_of(settings, who)
        async with open_application(gateway.front, access, cast("ASGIFramework", internal)) as doors:
            app, stop, hurry = Underway(doors), gateway.front.means.stopping, trio.Event()
            nursery.start_soon(await_signal, stop, hurry)
            left = reload.told_file(settings.state_path / "data", settings.fleet.role)
            reload.forget(left)
            work = partial(_reload, gateway, access.operators.credentials, left)
            nursery.start_soon(reload.follow, service, work)
            place = Place(settings, prepared.bound, prepared.own_filter, prepared.certificate, service)
            await nursery.start(listen, cast("ASGIFramework", app), place, stop)
            nursery.start_soon(feed, service, alive)
            await stop.wait()
            await drain(app, settings.execution.drain_seconds, hurry, service)
            await stop_soon(nursery.cancel_scope)


async def _reload(gateway: Gateway, credentials: Credentials, left: Path) -> None:
    """Read anew what callers are told of rules, by what they are known, and the certificate."""
    if gateway.prepared.certificate is not None:
        gateway.prepared.certificate.read_again()
    gateway.rules.read()
    told = reload.take_told(left)
    if told is not None:
        reload.renew(credentials, told)


@asynccontextmanager
async def _open_gateway(prepared: GatewayPrepared, stores: Stores) -> AsyncIterator[Gateway]:
    """Be a gateway for the block: seen by others, following the fleet, hearing answers."""
    settings, name, link = prepared.settings, prepared.name, stores.link
    assert link is not None
    secret = fleet_secret(settings)
    if prepared.signing_key is None or secret is None:
        raise ConfigurationError("a gateway needs fleet.signing_key and fleet.secret", field="fleet.signing_key")
    pressure = Pressure(_NOT_WATCHED)
    admission = Admission(queue_limits(settings), pressure, queue_seconds=settings.execution.queue_seconds)

    def record() -> GatewayRecord:
        return GatewayRecord(name, admission.running + admission.waiting, __version__)

    async with (
        open_announcer(link, settings.fleet, record) as announcer,
        open_replies(link, name) as replies,
        open_tracer(prepared, lambda name: counted_name(roster.languages, name)) as tracer,
        trio.open_nursery() as nursery,
    ):
        tiers = tiers_wanted(settings, prepared.policies, load_languages())
        own = language_table(load_languages(), load_groups(), {}, Stock(), prepared.policy, tiers)
        roster = Roster(announcer.registry, own)
        await roster.look()
        queue, ids = JobQueue(link, settings.fleet, name), DerivedIds(secret)
        signer = Signer(*prepared.signing_key)
        calls = Calls(queue, replies, signer, announcer.clock.now, gateway=name, policy=prepared.policy.name)
        fleet = Fleet(
            calls=calls,
            roster=roster,
            leases=Leases(link, settings.fleet, name),
            admission=admission,
            tiers=tiers,
            policy=prepared.policy,
            ids=ids,
            programs=ProgramPlaces(link, settings.tools.token_seconds),
            queue_seconds=settings.execution.queue_seconds,
        )
        activity = Activity(partial(counted_name, roster.languages), tracer)
        rules, keys = RulesInForce(prepared.rule_source), SharedKeys(link)
        gateway = Gateway(prepared, fleet, stores, queue, rules, Backlog({}), keys, activity, tracer)
        gateway.made_front = gateway_front(prepared, stores, gateway, pressure, nursery)
        changes = Changes(link, name)
        gateway.front.files.on_changed = changes.note
        nursery.start_soon(go_on, calls.run)
        nursery.start_soon(go_on, changes.tell)
        nursery.start_soon(go_on, changes.hear, gateway.front.files)
        nursery.start_soon(go_on, roster.watch, settings.fleet.heartbeat_seconds)
        nursery.start_soon(go_on, run_reaper, link, settings.fleet)
        nursery.start_soon(gateway.counts.watch_loop)
        nursery.start_soon(go_on, _follow, gateway, settings.fleet.heartbeat_seconds)
        if stores.states is not None:
            nursery.start_soon(go_on, run_archiver, stores.states)
        yield gateway
        nursery.cancel_scope.cancel()


async def _follow(gateway: Gateway, seconds: float) -> None:
    """Let as many executions through as the workers have places; look what waits. Until cancelled."""
    while True:
        gateway.fleet.admission.resize(gateway.fleet.roster.places)
        try:
            gateway.seen = await gateway.queue.backlog()
        except GaolerError as error:
            log.debug("the queue cannot be seen: %s", error)
        await trio.sleep(seconds)
