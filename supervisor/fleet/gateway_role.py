"""The process of role ``gateway``: both doors, and no sandbox. What is asked for is done by workers."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import trio
from hypercorn.typing import ASGIFramework

from egress.allowlist import Rule
from http_api.internal import create_internal_app
from supervisor import __version__
from supervisor.activity.activity import Activity
from supervisor.administration.administration import Means
from supervisor.administration.sessions import Sessions
from supervisor.admission import Admission
from supervisor.core import GatewayPrepared
from supervisor.doors import Front, Identities, access_of, attempt_counter, open_application, rate_rules
from supervisor.errors import ConfigurationError, GaolerError, Unsupported
from supervisor.execution import SessionId
from supervisor.file_tools import FileTools
from supervisor.files import run_sweeper
from supervisor.fleet.calls import Calls
from supervisor.fleet.changes import Changes
from supervisor.fleet.gateway_process import GatewayProcess
from supervisor.fleet.gauges import of_fleet
from supervisor.fleet.going_on import go_on
from supervisor.fleet.languages import FleetLanguages
from supervisor.fleet.leases import Leases
from supervisor.fleet.ledger import run_reaper
from supervisor.fleet.manifest import Signer
from supervisor.fleet.program_places import ProgramPlaces
from supervisor.fleet.queue import Backlog, JobQueue
from supervisor.fleet.rates import RedisRates
from supervisor.fleet.registry import GatewayRecord, described, open_announcer
from supervisor.fleet.remote import (
    Fleet,
    RemoteAssistants,
    RemoteExecutor,
    RemoteProcesses,
    RemotePrograms,
    RemoteSandboxes,
)
from supervisor.fleet.replies import open_replies
from supervisor.fleet.roster import Roster
from supervisor.fleet.shared_keys import SharedKeys
from supervisor.fleet.turns import FleetTurns
from supervisor.identity.credentials import Credentials
from supervisor.identity.derived import DerivedIds
from supervisor.language_view import Stock, counted_name, language_table
from supervisor.links import FileLinks
from supervisor.listening import Place, await_signal, listen, stop_soon
from supervisor.metrics.counts import Counts
from supervisor.metrics.sources import of_build, of_counts, of_process, of_stores, of_totals, of_tracer
from supervisor.metrics.text import as_text
from supervisor.network.explain import explain
from supervisor.network.rules_in_force import RulesInForce
from supervisor.own_core import file_service, open_tracer, queue_limits
from supervisor.own_files import fleet_secret
from supervisor.policy import Policy
from supervisor.pressure import HostLimits, Pressure
from supervisor.readiness import Check, Health, store_probes
from supervisor.runtimes.catalogue import load_groups, load_languages
from supervisor.service import reload
from supervisor.service.drain import Underway, drain
from supervisor.service.given import Service
from supervisor.service.watchdog import alive, feed
from supervisor.store.state_tiers import run_archiver
from supervisor.stores_in_use import Stores, open_stores
from supervisor.tiers_in_force import tiers_wanted
from supervisor.tracing.tracer import Tracer

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


@dataclass(slots=True)
class Gateway:
    """What a gateway says of itself at ``/internal`` and at ``/health``; and an operator's questions at the doors."""

    prepared: GatewayPrepared
    fleet: Fleet
    stores: Stores
    queue: JobQueue
    rules: RulesInForce
    seen: Backlog
    """What waited at the last look."""
    shared_keys: SharedKeys
    activity: Activity
    tracer: Tracer | None
    counts: Counts = field(default_factory=Counts)
    made_front: Front | None = None

    @property
    def front(self) -> Front:
        """What the doors work with."""
        assert self.made_front is not None
        return self.made_front

    # -- health --

    @property
    def ready(self) -> bool:
        """There is a worker that takes work."""
        return self.fleet.roster.reachable and bool(self.fleet.roster.ready)

    @property
    def status_text(self) -> str:
        """Say ``ok``, or what is missing."""
        if not self.fleet.roster.reachable:
            return "unavailable: no Redis"
        return "ok" if self.fleet.roster.ready else "unavailable: no worker"

    # -- /internal --

    def status(self) -> dict[str, Any]:
        """Say what it is and does."""
        return {
            "role": "gateway",
            "name": self.prepared.name,
            "version": __version__,
            "ready": self.ready,
            "running": self.fleet.admission.running,
            "waiting": self.fleet.admission.waiting,
            "workers": len(self.fleet.roster.workers),
            "gateways": len(self.fleet.roster.gateways),
        }

    async def workers(self) -> Sequence[dict[str, Any]]:
        """List the workers."""
        return [described(each) for each in self.fleet.roster.workers]

    async def backlog(self) -> dict[str, Any]:
        """Say what waits, lane by lane, and here."""
        lanes = (await self.queue.backlog()).lanes
        return {"lanes": msgspec.to_builtins(lanes), "waiting_here": self.fleet.admission.waiting}

    def drain(self) -> bool:
        """Say that it cannot be: it is stopped, and clients come through another one."""
        return False

    # -- operation --

    def egress(self) -> dict[str, Any]:
        """Give the rules that this gateway tells callers of. Those that hold are in the files of the workers."""
        return {"enabled": self.prepared.policy.network == "egress", "connected": False, "sets": []}

    async def put_egress(self, _name: str, _payload: bytes) -> dict[str, Any]:
        """Refuse: rules of a fleet are files, the same on all workers."""
        raise Unsupported(_RULES, code="rules_are_files")

    async def log(self, _verdict: str, _limit: int) -> list[dict[str, Any]]:
        """Refuse: what the proxies decide is written where they are."""
        raise Unsupported(_RULES, code="rules_are_files")

    async def allow(self, _name: str, _rule: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse, as :meth:`put_egress`."""
        raise Unsupported(_RULES, code="rules_are_files")

    async def drop_egress(self, _name: str) -> dict[str, Any]:
        """Refuse, as :meth:`put_egress`."""
        raise Unsupported(_RULES, code="rules_are_files")

    async def metrics(self) -> str:
        """Give all figures as text."""
        return as_text(
            chain(
                of_build("gateway"),
                of_fleet(self.fleet, self.seen),
                of_totals(self.activity.totals),
                of_counts(self.counts),
                of_stores(self.stores),
                of_tracer(self.tracer),
                of_process(),
            )
        )


_RULES: Final = (
    "the rules of a fleet's network are files, the same on every worker: change them there, and they hold at once"
)


def _health(gateway: Gateway, catalogue: FleetLanguages, stores: Stores) -> Health:
    return Health(
        role="gateway",
        say=lambda: gateway.status_text,
        names=lambda: [each.name for each in catalogue.languages if each.installed],
        known=partial(_checks, gateway.fleet.roster),
        probes=store_probes(gateway.prepared.settings, stores),
    )


def _checks(roster: Roster) -> Iterator[Check]:
    seen, workers = roster.reachable, len(roster.ready)
    yield Check("fleet", seen, "" if seen else "Redis did not answer when it was looked at")
    yield Check("workers", bool(workers), f"{workers} take work" if workers else "none takes work")


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
        gateway.made_front = _front(prepared, stores, gateway, pressure, nursery)
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


def _front(
    prepared: GatewayPrepared, stores: Stores, gateway: Gateway, pressure: Pressure, nursery: trio.Nursery
) -> Front:
    settings, policy, fleet, link = prepared.settings, prepared.policy, gateway.fleet, stores.link
    assert link is not None
    files = file_service(settings, stores, fleet.ids, pressure)
    sandboxes = RemoteSandboxes(fleet)

    def discard(session_id: SessionId) -> None:
        nursery.start_soon(_discard, sandboxes, session_id)

    files.on_deleted = discard
    return Front(
        settings=settings,
        policy=policy,
        files=files,
        executor=RemoteExecutor(fleet),
        programs=RemotePrograms(fleet),
        file_tools=FileTools(files, sandboxes, FleetTurns(link)),
        processes=RemoteProcesses(fleet, files),
        assistants=RemoteAssistants(fleet),
        rates=RedisRates(link, rate_rules(settings), settings.rates.shared_factor),
        links=FileLinks(fleet.ids, settings.http.link_minutes * 60, clock=time.time),
        ids=fleet.ids,
        operation=gateway,
        health=_health(gateway, fleet.roster.languages, stores),
        languages=fleet.roster.languages,
        explain_network=lambda url: explain(policy, _rules(policy, gateway.rules), url),
        activity=gateway.activity,
        means=Means(
            settings,
            gateway.activity,
            GatewayProcess(prepared.name, policy, fleet, link, settings.fleet),
            Sessions(stores.sessions, files, None),
            stores.usage,
            gateway,
            gateway.shared_keys.change_and_look,
        ),
        counts=gateway.counts,
    )


def _rules(policy: Policy, rules: RulesInForce) -> list[Rule]:
    sets = rules.configuration().rule_sets
    return [rule for name in policy.egress for rule in sets.get(name, ())]


async def _discard(sandboxes: RemoteSandboxes, session_id: SessionId) -> None:
    """Named boundary: the session is deleted already; what is left of its sandbox ends when it is not used."""
    try:
        await sandboxes.discard(session_id)
    except GaolerError as error:
        log.warning("sandbox of a deleted session not ended session=%s reason=%s", session_id, error)
