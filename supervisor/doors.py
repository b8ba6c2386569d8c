"""Both doors, put together: what each works with, and which path of the one bind leads to which."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from hypercorn.typing import ASGIFramework

from http_api.app import create_app
from http_api.internal import PREFIX
from http_api.services import Door, DoorSettings, Health, Operation
from mcp_server.server import open_server
from mcp_server.services import Assistants, Processes, Rates
from mcp_server.services import Door as McpDoor
from mcp_server.services import DoorSettings as McpSettings
from mcp_server.transport import McpApp, serves
from supervisor import __version__
from supervisor.activity.activity import Activity
from supervisor.activity.watched import WatchedExecutor, WatchedPrograms
from supervisor.administration.administration import Administration, Means, open_administration
from supervisor.administration.egress import OwnEgress
from supervisor.administration.keys import Change
from supervisor.administration.own_process import OwnProcess
from supervisor.administration.sessions import Sessions
from supervisor.assistants import Assistants as LocalAssistants
from supervisor.assistants import as_picture
from supervisor.background import Background
from supervisor.core import Core, Prepared
from supervisor.execution import SessionId
from supervisor.execution_protocols import Executor, Programs
from supervisor.file_tools import FileTools
from supervisor.files import FileService
from supervisor.identity.attempts import AttemptRules, Attempts
from supervisor.identity.credentials import Credentials
from supervisor.identity.derived import DerivedIds
from supervisor.identity.keys import KEY_FILE, MASTER, ApiKey, KeyRing, digest_of
from supervisor.identity.oauth import OAuthKey, OAuthRules, OAuthVerifier
from supervisor.identity.operators import Operators
from supervisor.identity.tokens import PublicKey, TokenRules, TokenVerifier
from supervisor.key_rates import Counter, RatesByKey
from supervisor.language_view import Languages
from supervisor.links import FileLinks
from supervisor.metrics.counts import CountedRates, Counts
from supervisor.network.audit import AUDIT_FILE
from supervisor.network.explain import explain
from supervisor.operation import Operation as LocalOperation
from supervisor.policy import Policy
from supervisor.rates import Rate, RateLimiter
from supervisor.readiness import own_health
from supervisor.settings import Settings
from supervisor.told_rates import ToldRates
from supervisor.views import NetworkAnswer
from supervisor.wording import policy_in_words


@dataclass(frozen=True, slots=True)
class Identities:
    """By what callers are known."""

    api_key: str
    token_keys: Mapping[str, PublicKey]
    oauth_keys: Mapping[str, OAuthKey]
    attempts: Attempts
    """Those that failed, at all doors."""
    shared_keys: Callable[[], Sequence[ApiKey]] = tuple
    """API keys of the whole fleet."""
    admin_key: str = ""
    """The master key; empty: there is none."""


@dataclass(frozen=True, slots=True)
class Access:
    """What asks who calls; all of it looks at the same keys."""

    callers: Credentials
    operators: Operators
    ring: KeyRing


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
    explain_network: Callable[[str], NetworkAnswer]
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
        explain_network=lambda url: explain(policy, core.network.rules(), url),
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


def identities(prepared: Prepared, attempts: Attempts, shared_keys: Callable[[], Sequence[ApiKey]]) -> Identities:
    """Give by what callers are known to a daemon that was prepared."""
    return Identities(
        prepared.api_key,
        prepared.token_keys,
        prepared.oauth_keys,
        attempts,
        shared_keys,
        admin_key=prepared.admin_key,
    )


def attempt_counter(settings: Settings) -> Attempts:
    """Make what counts callers who fail; all doors of a process count together."""
    rate = Rate.parse(settings.http.failed_authentications)
    if rate is None:
        return Attempts(None)
    return Attempts(AttemptRules(rate.calls, rate.seconds, longest_seconds=settings.http.shut_out_seconds))


@asynccontextmanager
async def open_application(front: Front, access: Access, internal: ASGIFramework) -> AsyncIterator[ASGIFramework]:
    """Both doors, and what is for the fleet itself, behind one bind: each path belongs to one of them."""
    credentials, operators = access.callers, access.operators
    for each in (credentials, operators.credentials):
        each.on_refused = front.counts.note_refused_credential
    rates = CountedRates(ToldRates(RatesByKey(front.rates, access.ring.rates_of)), front.counts)
    async with open_administration(front.means, access.ring) as administration:
        door = _door(front, credentials, operators, rates, administration)
        http = cast("ASGIFramework", create_app(door))
        async with _with_mcp(front, mcp_door(front, credentials, rates), http, internal) as app:
            yield app


@asynccontextmanager
async def _with_mcp(
    front: Front, door: McpDoor, http: ASGIFramework, internal: ASGIFramework
) -> AsyncIterator[ASGIFramework]:

    async def without_mcp(scope: Any, receive: Any, send: Any) -> None:
        inside = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (internal if inside else http)(scope, receive, send)

    if not front.settings.mcp.enabled:
        yield without_mcp
        return
    async with open_server(door) as (server, note_change):
        front.files.on_changed = together(front.files.on_changed, note_change)
        front.files.on_changed_elsewhere = note_change
        mcp = McpApp(server, door)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            chosen = mcp if scope["type"] == "http" and serves(scope["path"]) else without_mcp
            await chosen(scope, receive, send)

        async with mcp.run():
            yield app


def together(*told: Callable[[SessionId], None]) -> Callable[[SessionId], None]:
    """Tell all of them."""

    def tell(session_id: SessionId) -> None:
        for each in told:
            each(session_id)

    return tell


def mcp_door(front: Front, credentials: Credentials, rates: Rates) -> McpDoor:
    """Put together what the MCP door works with."""
    settings, policy = front.settings, front.policy
    mcp, http = settings.mcp, settings.http
    hosts = {*filter(None, mcp.allowed_hosts.lower().split(",")), *_own_names(settings)}
    return McpDoor(
        version=__version__,
        credentials=credentials,
        rates=rates,
        ids=front.ids,
        executor=WatchedExecutor(front.executor, front.activity, "mcp"),
        programs=WatchedPrograms(front.programs, front.activity, "mcp"),
        sessions=front.files,
        files=front.file_tools,
        processes=front.processes,
        assistants=front.assistants,
        links=front.links,
        explain_network=front.explain_network,
        recognise_picture=as_picture,
        languages=front.languages,
        policy_words=policy_in_words(policy, front.languages.tiers),
        settings=McpSettings(
            body_bytes=mcp.body_bytes,
            code_characters=http.code_characters,
            base64_bytes=http.base64_bytes,
            sessions=mcp.sessions,
            sessions_per_user=mcp.sessions_per_user,
            idle_seconds=mcp.idle_minutes * 60,
            resume_seconds=mcp.resume_seconds,
            text_bytes=mcp.text_bytes,
            image_pixels=mcp.image_pixels,
            image_bytes=mcp.image_bytes,
            inline_bytes=mcp.inline_bytes,
            display_bytes=mcp.display_bytes,
            recent_bytes=mcp.recent_bytes,
            wall_seconds=policy.limits.wall_seconds,
            queue_seconds=settings.execution.queue_seconds,
            allowed_hosts=frozenset(hosts),
            allowed_origins=frozenset(filter(None, mcp.allowed_origins.split(","))),
            public_url=http.public_url,
            authorization_server=mcp.authorization_server,
            stateful=policy.state != "never",
        ),
    )


def _own_names(settings: Settings) -> set[str]:
    """Names under which this server is reached, as far as the settings say."""
    public = urlsplit(settings.http.public_url)
    bound = settings.bind.rpartition(":")[0].strip("[]").lower() if not settings.bind.startswith("unix:") else ""
    return {name for name in (public.hostname, public.netloc.lower(), bound) if name}


def rate_rules(settings: Settings) -> Mapping[str, Rate | None]:
    """Give how often one may call, by kind of call."""
    return {kind: Rate.parse(getattr(settings.rates, kind)) for kind in ("exec", "upload", "download", "listing")}


def rate_limiter(settings: Settings) -> RateLimiter:
    """Make what counts calls; both doors count together."""
    return RateLimiter(rate_rules(settings), settings.rates.shared_factor)


def _door(
    front: Front, credentials: Credentials, operators: Operators, rates: Rates, administration: Administration
) -> Door:
    http = front.settings.http
    return Door(
        credentials=credentials,
        operators=operators,
        rates=rates,
        executor=WatchedExecutor(front.executor, front.activity, "http"),
        programs=WatchedPrograms(front.programs, front.activity, "http"),
        files=front.files,
        links=front.links,
        operation=front.operation,
        administration=administration,
        health=front.health,
        languages=front.languages,
        settings=DoorSettings(
            body_bytes=http.body_bytes,
            code_characters=http.code_characters,
            base64_bytes=http.base64_bytes,
            cors_origins=frozenset(filter(None, http.cors_origins.split(","))),
            documentation=http.documentation,
            dashboard=http.dashboard,
            stateful=front.policy.state != "never",
        ),
    )


def anonymous_credentials() -> Credentials:
    """Ask nobody: for a server that only its parent process can reach."""
    return Credentials(None, None)


def _key_ring(settings: Settings, who: Identities) -> KeyRing:
    """Put all keys together, the master key too."""
    fixed = [ApiKey("default", "default", digest_of(who.api_key))] if who.api_key else []
    fixed += [
        ApiKey(f"api_keys-{number}", "default", digest_of(key)) for number, key in enumerate(settings.more_keys, 1)
    ]
    if who.admin_key:
        fixed.append(ApiKey(MASTER, "default", digest_of(who.admin_key), admin=True))
    return KeyRing(fixed, settings.state_path / "data" / KEY_FILE, who.shared_keys)


def access_of(settings: Settings, who: Identities) -> Access:
    """Make what asks callers, if they are asked at all, and what asks operators, who always are."""
    ring = _key_ring(settings, who)
    jwt = settings.jwt
    rules = TokenRules(jwt.issuer, jwt.audience, jwt.lifetime_seconds, jwt.leeway_seconds, jwt.reuse_seconds)
    tokens = TokenVerifier(who.token_keys, rules, clock=time.time) if who.token_keys else None
    mcp = settings.mcp
    audience = mcp.oauth_audience or f"{settings.http.public_url.rstrip('/')}/mcp"
    oauth = OAuthRules(mcp.authorization_server, audience, mcp.oauth_tenant)
    verifier = OAuthVerifier(who.oauth_keys, oauth, clock=time.time) if who.oauth_keys else None
    operators = Operators(
        Credentials(ring, tokens, verifier, who.attempts, for_operators=True), has_master=bool(who.admin_key)
    )
    asked = settings.http.authentication
    callers = Credentials(ring, tokens, verifier, who.attempts) if asked else Credentials(None, None)
    return Access(callers, operators, ring)
