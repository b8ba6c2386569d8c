"""Both doors, put together: what each works with, and which path of the one bind leads to which."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from hypercorn.typing import ASGIFramework

from http_api.app import create_app
from http_api.services import Door, DoorSettings
from mcp_server.server import open_server
from mcp_server.services import Door as McpDoor
from mcp_server.services import DoorSettings as McpSettings
from mcp_server.transport import McpApp, serves
from supervisor import __version__
from supervisor.assistants import Assistants, as_picture
from supervisor.background import Background
from supervisor.core import Core, Prepared
from supervisor.file_tools import FileTools
from supervisor.identity.credentials import Credentials
from supervisor.identity.keys import KEY_FILE, ApiKey, KeyRing, digest_of
from supervisor.identity.oauth import OAuthRules, OAuthVerifier
from supervisor.identity.tokens import TokenRules, TokenVerifier
from supervisor.jailer.client import JailerClient
from supervisor.network.explain import explain
from supervisor.operation import Operation
from supervisor.pressure import Pressure
from supervisor.rates import Rate, RateLimiter
from supervisor.settings import Settings
from supervisor.wording import policy_in_words


@dataclass(frozen=True, slots=True)
class _Health:
    jailer: JailerClient
    languages: tuple[str, ...]
    pressure: Pressure
    version: str = __version__

    @property
    def ready(self) -> bool:
        return self.jailer.connected and not self.pressure.shortages

    @property
    def status(self) -> str:
        if not self.jailer.connected:
            return "unavailable"
        short = ", ".join(self.pressure.resources)
        return f"shedding: {short}" if short else "ok"


@asynccontextmanager
async def open_application(prepared: Prepared, core: Core) -> AsyncIterator[ASGIFramework]:
    """Both doors behind one bind: each path belongs to one of them."""
    credentials, rates = _credentials(prepared), rate_limiter(prepared.settings)
    http = create_app(_door(prepared, core, credentials, rates))
    if not prepared.settings.mcp.enabled:
        yield cast("ASGIFramework", http)
        return
    door = mcp_door(prepared, core, credentials, rates)
    async with open_server(door) as (server, note_change):
        core.files.on_changed = note_change
        mcp = McpApp(server, door)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            chosen = mcp if scope["type"] == "http" and serves(scope["path"]) else http
            await chosen(scope, receive, send)

        async with mcp.run():
            yield cast("ASGIFramework", app)


def mcp_door(prepared: Prepared, core: Core, credentials: Credentials, rates: RateLimiter) -> McpDoor:
    """Put together what the MCP door works with."""
    settings, policy = prepared.settings, prepared.policy
    mcp, http = settings.mcp, settings.http
    hosts = {*filter(None, mcp.allowed_hosts.lower().split(",")), *_own_names(settings)}
    return McpDoor(
        version=__version__,
        credentials=credentials,
        rates=rates,
        ids=core.ids,
        executor=core.executor,
        programs=core.programs,
        sessions=core.files,
        files=FileTools(core.files, core.live),
        processes=Background(core.live, core.files, policy, prepared.languages, prepared.tiers),
        assistants=Assistants(core.executor, core.files, core.live),
        links=core.links(settings),
        explain_network=lambda url: explain(policy, core.network.rules(), url),
        recognise_picture=as_picture,
        languages=prepared.catalogue,
        policy_words=policy_in_words(policy, prepared.catalogue.tiers),
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


def rate_limiter(settings: Settings) -> RateLimiter:
    """Make what counts calls; both doors count together."""
    rates = settings.rates
    limits = {kind: Rate.parse(getattr(rates, kind)) for kind in ("exec", "upload", "download", "listing")}
    return RateLimiter(limits, rates.shared_factor)


def _door(prepared: Prepared, core: Core, credentials: Credentials, rates: RateLimiter) -> Door:
    settings = prepared.settings
    http = settings.http
    names = tuple(sorted({each.language.name for each in prepared.languages.values()}))
    return Door(
        credentials=credentials,
        rates=rates,
        executor=core.executor,
        programs=core.programs,
        files=core.files,
        links=core.links(settings),
        operation=Operation(core),
        health=_Health(core.jailer, names, core.pressure),
        languages=prepared.catalogue,
        settings=DoorSettings(
            body_bytes=http.body_bytes,
            code_characters=http.code_characters,
            base64_bytes=http.base64_bytes,
            cors_origins=frozenset(filter(None, http.cors_origins.split(","))),
            documentation=http.documentation,
            stateful=prepared.policy.state != "never",
        ),
    )


def anonymous_credentials() -> Credentials:
    """Ask nobody: for a server that only its parent process can reach."""
    return Credentials(None, None)


def _credentials(prepared: Prepared) -> Credentials:
    settings = prepared.settings
    if not settings.http.authentication:
        return Credentials(None, None)
    default = ApiKey("default", "default", digest_of(prepared.api_key))
    jwt = settings.jwt
    rules = TokenRules(jwt.issuer, jwt.audience, jwt.lifetime_seconds, jwt.leeway_seconds, jwt.reuse_seconds)
    tokens = TokenVerifier(prepared.token_keys, rules, clock=time.time) if prepared.token_keys else None
    mcp = settings.mcp
    audience = mcp.oauth_audience or f"{settings.http.public_url.rstrip('/')}/mcp"
    oauth = OAuthRules(mcp.authorization_server, audience, mcp.oauth_tenant)
    verifier = OAuthVerifier(prepared.oauth_keys, oauth, clock=time.time) if prepared.oauth_keys else None
    return Credentials(KeyRing([default], settings.state_path / "data" / KEY_FILE), tokens, verifier)
