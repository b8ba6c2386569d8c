"""What the doors of a gateway work with: objects behind which workers do it."""

from __future__ import annotations

import logging
import time
from typing import Final

import trio

from egress.allowlist import Rule
from supervisor.administration.administration import Means
from supervisor.administration.sessions import Sessions
from supervisor.admission.pressure import Pressure
from supervisor.callers import rate_rules
from supervisor.core import GatewayPrepared
from supervisor.errors import GaolerError
from supervisor.execution.values import SessionId
from supervisor.files.links import FileLinks
from supervisor.files.tools import FileTools
from supervisor.fleet.gateway import Gateway, gateway_health
from supervisor.fleet.gateway_operation import GatewayOperation
from supervisor.fleet.gateway_process import GatewayProcess
from supervisor.fleet.rates import RedisRates
from supervisor.fleet.remote import (
    RemoteAssistants,
    RemoteExecutor,
    RemoteProcesses,
    RemotePrograms,
    RemoteSandboxes,
)
from supervisor.fleet.turns import FleetTurns
from supervisor.front import Front
from supervisor.network.explain import explain
from supervisor.network.rules_in_force import RulesInForce
from supervisor.own_core import file_service
from supervisor.policy import Policy
from supervisor.stores_in_use import Stores

log: Final = logging.getLogger("gaoler.gateway")


def gateway_front(
    prepared: GatewayPrepared, stores: Stores, gateway: Gateway, pressure: Pressure, nursery: trio.Nursery
) -> Front:
    """Put it together. Sandboxes of deleted sessions are discarded in ``nursery``."""
    settings, policy, fleet, link = prepared.settings, prepared.policy, gateway.fleet, stores.link
    assert link is not None
    files = file_service(settings, stores, fleet.ids, pressure)
    sandboxes, operation = RemoteSandboxes(fleet), GatewayOperation(gateway)

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
        operation=operation,
        health=gateway_health(gateway, fleet.roster.languages, stores),
        languages=fleet.roster.languages,
        explain_network=lambda url, method: explain(policy, _rules(policy, gateway.rules), url, method),
        activity=gateway.activity,
        means=Means(
            settings,
            gateway.activity,
            GatewayProcess(prepared.name, policy, fleet, link, settings.fleet),
            Sessions(stores.sessions, files, None),
            stores.usage,
            operation,
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
