"""Both doors, put together: what each is given, and which path of the one bind leads to which."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

from hypercorn.typing import ASGIFramework

from http_api.app import create_app
from http_api.internal import PREFIX
from http_api.services import Door, DoorSettings
from mcp_server.server import open_server
from mcp_server.services import Door as McpDoor
from mcp_server.services import DoorSettings as McpSettings
from mcp_server.transport import McpApp, serves
from supervisor import __version__
from supervisor.activity.watched import WatchedExecutor, WatchedPrograms
from supervisor.administration.administration import Administration, open_administration
from supervisor.admission.key_rates import RatesByKey
from supervisor.admission.told_rates import ToldRates
from supervisor.callers import Access
from supervisor.execution.assistants import as_picture
from supervisor.execution.protocols import Rates
from supervisor.execution.values import SessionId
from supervisor.execution.wording import policy_in_words
from supervisor.front import Front
from supervisor.identity.credentials import Credentials
from supervisor.identity.operators import Operators
from supervisor.metrics.counts import CountedRates
from supervisor.settings.tree import Settings


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
