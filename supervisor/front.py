"""What both doors work with, whether it is done on this host or by the workers of a fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from http_api.services import Health, Operation
from mcp_server.services import Assistants, Processes
from supervisor.activity.activity import Activity
from supervisor.administration.administration import Means
from supervisor.administration.egress import OwnEgress
from supervisor.administration.keys import Change
from supervisor.administration.operation import Operation as LocalOperation
from supervisor.administration.own_process import OwnProcess
from supervisor.administration.readiness import own_health
from supervisor.administration.sessions import Sessions
from supervisor.admission.key_rates import Counter
from supervisor.core import Core, Prepared
from supervisor.execution.assistants import Assistants as LocalAssistants
from supervisor.execution.protocols import Executor, Programs
from supervisor.files.links import FileLinks
from supervisor.files.service import FileService
from supervisor.files.tools import FileTools
from supervisor.identity.derived import DerivedIds
from supervisor.live.background import Background
from supervisor.metrics.counts import Counts
from supervisor.network.audit import AUDIT_FILE
from supervisor.network.explain import explain
from supervisor.policy import Policy
from supervisor.runtimes.language_view import Languages
from supervisor.settings.tree import Settings
from supervisor.workspace.views import NetworkAnswer


@dataclass(frozen=True, slots=True)
class Front:
    """What both doors work with, whether it is done on this host or by the workers of a fleet."""

    settings: Settings
    policy: Policy
    files: FileService
    executor: Executor
    programs: Programs
    file_tools: FileTools
    processes: Processes
    assistants: Assistants
    rates: Counter
    links: FileLinks
    ids: DerivedIds
    operation: Operation
    health: Health
    languages: Languages
    explain_network: Callable[[str, str | None], NetworkAnswer]
    activity: Activity
    counts: Counts
    means: Means
    """What operators ask and change."""


def own_front(prepared: Prepared, core: Core, rates: Counter, change_keys: Change | None = None) -> Front:
    """Put together what the doors of a daemon with sandboxes of its own work with."""
    settings, policy = prepared.settings, prepared.policy
    return Front(
        settings=settings,
        policy=policy,
        files=core.files,
        executor=core.executor,
        programs=core.programs,
        file_tools=FileTools(core.files, core.live, core.turns),
        processes=Background(core.live, core.files, policy, prepared.languages, prepared.tiers),
        assistants=LocalAssistants(core.executor, core.files, core.live),
        rates=rates,
        links=core.links(settings),
        ids=core.ids,
        operation=LocalOperation(prepared, core),
        health=own_health(prepared, core),
        languages=prepared.catalogue,
        explain_network=lambda url, method: explain(policy, core.network.rules(), url, method),
        activity=core.activity,
        counts=core.counts,
        means=Means(
            settings,
            core.activity,
            OwnProcess(prepared, core),
            Sessions(core.stores.sessions, core.files, core.live),
            core.stores.usage,
            OwnEgress(core, settings.state_path / "data" / AUDIT_FILE),
            change_keys,
        ),
    )
