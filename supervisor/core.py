"""The values of the composition: what was prepared as root, and the objects behind the doors."""

from __future__ import annotations

import re
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor.activity.activity import Activity
from supervisor.admission.admission import Admission
from supervisor.admission.pressure import Pressure
from supervisor.connector.client import Connector
from supervisor.connector.dialling import Dial
from supervisor.execution.executor import Executor
from supervisor.execution.tier import TierRules
from supervisor.files.links import FileLinks
from supervisor.files.service import FileService
from supervisor.files.tools import Turns
from supervisor.identity.derived import DerivedIds
from supervisor.identity.oauth import OAuthKey
from supervisor.identity.tokens import PublicKey
from supervisor.jailer.cells import PoolPlan
from supervisor.jailer.client import JailerClient
from supervisor.jailer.setup import JailerHandle
from supervisor.live.sessions import LiveSessions
from supervisor.metrics.counts import Counts
from supervisor.network.grants import Network
from supervisor.network.rules_in_force import RulesInForce, RuleSource
from supervisor.policy import Policy
from supervisor.programmatic.programs import Programs
from supervisor.runtimes.catalogue import InstalledLanguage
from supervisor.runtimes.language_view import LanguageTable
from supervisor.serving.tls import Certificate
from supervisor.settings.tree import Settings
from supervisor.stores_in_use import Stores
from supervisor.tracing.tracer import Tracer

if TYPE_CHECKING:
    from supervisor.fleet.sharing import Sharing


def new_process_name() -> str:
    """Make a name that no other process of a fleet has: that of the host, and something of our own."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:40] or "host"
    return f"{host}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was read and made as root, before the daemon became an ordinary user."""

    settings: Settings
    policy: Policy
    languages: Mapping[str, InstalledLanguage]
    api_key: str
    jailer: JailerHandle
    token_keys: Mapping[str, PublicKey]
    oauth_keys: Mapping[str, OAuthKey]
    rule_source: RuleSource
    catalogue: LanguageTable
    tiers: TierRules
    own_filter: bytes
    """The seccomp program (BPF) that the daemon puts on itself when it serves."""
    bound: socket.socket | None = None
    """Of the host's network, which the daemon is not in; ``None``: a unix socket that it makes itself, or nothing."""
    dial: Dial | None = None
    """The way to Redis, S3 and the receiver of spans, where the settings name one of them."""
    connector: Connector | None = None
    """Behind ``dial``; when it ends, so does the daemon."""
    signing_key: tuple[str, bytes] | None = None
    """The key that signs manifests: its id, and its PEM."""
    trusted_keys: Mapping[str, bytes] = field(default_factory=dict)
    """Public keys (PEM) of gateways, by id."""
    certificate: Certificate | None = None
    """What HTTPS is spoken with; ``None``: plain HTTP."""
    image_name: str = ""
    """Of the image in use, which is a hash of its files."""
    admin_key: str = ""
    """The master key."""
    pools: Sequence[PoolPlan] = ()
    """Of cells that wait."""
    made_name: str = field(default_factory=new_process_name)

    @property
    def name(self) -> str:
        """Of this process in its fleet."""
        return self.settings.fleet.name or self.made_name


@dataclass(frozen=True, slots=True)
class GatewayPrepared:
    """What was read and made for a gateway before it became an ordinary user: no image, no jailer, no sandboxes."""

    settings: Settings
    policies: Mapping[str, Policy]
    policy: Policy
    """The one in force: what callers are told, and what a request is checked against before it is put in the queue."""
    api_key: str
    token_keys: Mapping[str, PublicKey]
    oauth_keys: Mapping[str, OAuthKey]
    rule_source: RuleSource
    own_filter: bytes
    """The seccomp program (BPF) that the gateway puts on itself when it serves."""
    bound: socket.socket | None
    """As in :class:`Prepared`."""
    dial: Dial
    connector: Connector
    """Behind ``dial``; when it ends, so does the gateway."""
    signing_key: tuple[str, bytes] | None
    trusted_keys: Mapping[str, bytes]
    admin_key: str = ""
    """The master key; empty: there is none, and none is made up, for other gateways would refuse it."""
    certificate: Certificate | None = None
    """As in :class:`Prepared`."""
    made_name: str = field(default_factory=new_process_name)

    @property
    def name(self) -> str:
        """Of this process in its fleet."""
        return self.settings.fleet.name or self.made_name


@dataclass(frozen=True, slots=True)
class Core:
    """The domain objects behind the doors."""

    files: FileService
    executor: Executor
    programs: Programs
    jailer: JailerClient
    admission: Admission
    live: LiveSessions
    network: Network
    rules: RulesInForce
    pressure: Pressure
    ids: DerivedIds
    turns: Turns
    stores: Stores
    sharing: Sharing | None
    """With other daemons, if sessions are in Redis."""
    counts: Counts
    tracer: Tracer | None
    activity: Activity
    """What is done with all of these."""

    def links(self, settings: Settings) -> FileLinks:
        """Make links to files."""
        return FileLinks(self.ids, settings.http.link_minutes * 60, clock=time.time)
