"""The composition root: builds every object and passes it on. The only place that sees everything."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from http_api.app import create_app
from http_api.services import Door, DoorSettings
from mcp_server.server import open_server
from mcp_server.services import Door as McpDoor
from mcp_server.services import DoorSettings as McpSettings
from mcp_server.services import LanguageInfo
from mcp_server.transport import McpApp, serves
from supervisor import __version__
from supervisor.admission import Admission
from supervisor.assistants import Assistants, as_picture
from supervisor.background import Background
from supervisor.errors import SandboxFailed
from supervisor.executor import Executor
from supervisor.fair_queue import QueueLimits
from supervisor.file_tools import FileTools
from supervisor.files import FileLimits, FileService, run_sweeper
from supervisor.identity.credentials import Credentials
from supervisor.identity.derived import DerivedIds
from supervisor.identity.keys import KEY_FILE, ApiKey, KeyRing, digest_of
from supervisor.identity.oauth import OAuthKey, OAuthRules, OAuthVerifier
from supervisor.identity.tokens import PublicKey, TokenRules, TokenVerifier
from supervisor.in_jail import InJail
from supervisor.inputs import InputResolver
from supervisor.jailer.client import JailerClient, open_jailer
from supervisor.jailer.setup import JailerHandle
from supervisor.links import FileLinks
from supervisor.live import LiveSessions, open_live
from supervisor.live_session import LiveLimits
from supervisor.network import explain
from supervisor.policy import Policy
from supervisor.processes import ProcessLimits
from supervisor.programmatic import ProgramLimits, Programs, open_programs
from supervisor.rates import Rate, RateLimiter
from supervisor.results import ResultLimits
from supervisor.runtimes.catalogue import InstalledLanguage
from supervisor.serving import serve as serve_http
from supervisor.settings import Settings
from supervisor.store.disk import open_blobs
from supervisor.store.sqlite import open_sqlite
from supervisor.wording import policy_in_words

log: Final = logging.getLogger("gaoler.daemon")

STOP_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was read and made as root, before the daemon became an ordinary user."""

    settings: Settings
    policy: Policy
    languages: Mapping[str, InstalledLanguage]
    api_key: str
    jailer: JailerHandle
    token_keys: Mapping[str, PublicKey] = field(default_factory=dict)
    oauth_keys: Mapping[str, OAuthKey] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Core:
    """The domain objects behind the doors."""

    files: FileService
    executor: Executor
    programs: Programs
    jailer: JailerClient
    admission: Admission
    live: LiveSessions
    ids: DerivedIds

    def links(self, settings: Settings) -> FileLinks:
        """Make links to files."""
        return FileLinks(self.ids, settings.http.link_minutes * 60, clock=time.time)


@asynccontextmanager
async def open_core(prepared: Prepared) -> AsyncIterator[Core]:
    """Open stores and jailer for the block."""
    settings = prepared.settings
    data = settings.state_path / "data"
    async with (
        open_sqlite(data / "gaoler.sqlite") as sessions,
        open_blobs(data / "blobs", reserve_bytes=settings.files.reserve_bytes) as blobs,
        open_jailer(prepared.jailer.socket_path) as jailer,
    ):
        kept = settings.files
        limits = FileLimits(kept.file_bytes, kept.files_per_session, kept.session_bytes, kept.retention_hours * 3600)
        ids = DerivedIds(read_or_make_secret(data / "hint_key"))
        files = FileService(sessions, blobs, limits, ids, clock=time.time)
        admission = Admission(_queue_limits(settings), queue_seconds=settings.execution.queue_seconds)
        results = ResultLimits(kept.result_files, kept.file_bytes, kept.session_bytes, kept.files_per_session)
        resolver = InputResolver(files, prepared.policy.limits.workspace_bytes)
        work = InJail(files, results)
        async with open_live(jailer, files, resolver, work, admission, _live_limits(prepared)) as live:
            files.on_deleted = live.discard
            executor = Executor(
                jailer,
                resolver,
                work,
                admission,
                live,
                prepared.policy,
                prepared.languages,
                ids=ids,
            )
            language = next(each for each in prepared.languages.values() if each.language.name == "python")

            def make(nursery: trio.Nursery) -> Programs:
                limits = _program_limits(settings)
                return Programs(
                    jailer,
                    resolver,
                    work,
                    admission,
                    prepared.policy,
                    language,
                    ids=ids,
                    limits=limits,
                    nursery=nursery,
                )

            async with open_programs(make) as programs:
                yield Core(files, executor, programs, jailer, admission, live, ids)


def _queue_limits(settings: Settings) -> QueueLimits:
    execution = settings.execution
    return QueueLimits(
        places=execution.concurrent,
        places_per_principal=min(execution.concurrent, execution.concurrent_per_user),
        waiting=execution.queue_length,
        waiting_per_principal=min(execution.queue_length, execution.queue_length_per_user),
    )


def _program_limits(settings: Settings) -> ProgramLimits:
    tools = settings.tools
    return ProgramLimits(tools.waiting, tools.waiting_per_user, tools.token_seconds, tools.held_bytes)


def _live_limits(prepared: Prepared) -> LiveLimits:
    live = prepared.settings.live
    profiles = {each.profile for each in prepared.languages.values() if each.profile is not None}
    return LiveLimits(
        sessions=live.sessions,
        idle_seconds=live.idle_minutes * 60,
        reserve_memory_bytes=live.reserve_memory_bytes,
        state_bytes=live.state_bytes,
        archive_seconds=live.archive_hours * 3600,
        save_seconds=live.save_seconds,
        interrupt_seconds=live.interrupt_seconds,
        policy=prepared.policy.name,
        profile=min(profiles),
        process=ProcessLimits(live.process_minutes * 60, live.process_output_bytes),
    )


@dataclass(frozen=True, slots=True)
class _Health:
    jailer: JailerClient
    languages: tuple[str, ...]
    language_names: frozenset[str]
    version: str = __version__

    @property
    def ready(self) -> bool:
        return self.jailer.connected


async def serve(prepared: Prepared, *, on_ready: trio.Event | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until the keeper is gone.

    Raises:
        SandboxFailed: the jailer cannot be kept alive; a supervisor should start the daemon again.
    """
    settings = prepared.settings
    async with (
        open_core(prepared) as core,
        _open_application(prepared, core) as app,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(run_sweeper, core.files, settings.files.sweep_minutes * 60)
        nursery.start_soon(_watch_keeper, prepared.jailer)
        stop = trio.Event()
        nursery.start_soon(_await_signal, stop)

        async def serve_until_stopped(*, task_status: trio.TaskStatus[list[str]]) -> None:
            await serve_http(app, _http_config(settings), shutdown_trigger=stop.wait, task_status=task_status)
            stop.set()

        bound = await nursery.start(serve_until_stopped)
        _announce(bound, settings)
        if on_ready is not None:
            on_ready.set()
        await stop.wait()
        log.info("stopping")
        nursery.cancel_scope.deadline = trio.current_time() + STOP_SECONDS
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_application(prepared: Prepared, core: Core) -> AsyncIterator[ASGIFramework]:
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
    by_name = {each.language.name: each for each in prepared.languages.values()}
    return McpDoor(
        version=__version__,
        credentials=credentials,
        rates=rates,
        ids=core.ids,
        executor=core.executor,
        programs=core.programs,
        sessions=core.files,
        files=FileTools(core.files, core.live),
        processes=Background(core.live, core.files, policy, prepared.languages),
        assistants=Assistants(core.executor, core.files, core.live),
        links=core.links(settings),
        explain_network=partial(explain, policy),
        recognise_picture=as_picture,
        languages=tuple(
            LanguageInfo(name, each.language.title, tuple(each.language.aliases), each.profile is not None)
            for name, each in sorted(by_name.items())
        ),
        policy_words=policy_in_words(policy),
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
        health=_Health(core.jailer, names, frozenset(prepared.languages)),
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


def _http_config(settings: Settings) -> Config:
    config = Config()
    config.bind = [settings.bind]
    config.include_server_header = False
    config.graceful_timeout = STOP_SECONDS
    config.keep_alive_timeout = 75
    # Headers that do not come are a slowloris.
    config.read_timeout = None
    config.h11_max_incomplete_size = 32 * 1024
    config.accesslog = None
    config.errorlog = logging.getLogger("gaoler.hypercorn")
    config.umask = 0o117
    return config


def _announce(bound: list[str], settings: Settings) -> None:
    """Say where it listens, on a line that programs can read too."""
    for address in bound:
        log.info("listening on %s state_dir=%s", address, settings.state_dir)


async def _await_signal(stop: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stop.set()


async def _watch_keeper(handle: JailerHandle) -> None:
    """The keeper ends only when it is told to, or when it cannot go on: then we cannot either."""
    pidfd = os.pidfd_open(handle.keeper_pid)
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    raise SandboxFailed("the jailer's keeper is gone")


def read_or_make_secret(path: Path) -> bytes:
    """Give 32 random bytes that are kept in a file of the daemon's own."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        secret = os.urandom(32)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(secret)
        return secret


def read_or_make_key(settings: Settings, path: Path) -> tuple[str, bool]:
    """Give the API key and whether it was made now: the one that is set, else the one kept in the state directory."""
    if settings.api_key:
        return settings.api_key, False
    try:
        return path.read_text().strip(), False
    except FileNotFoundError:
        pass
    key = "gk-" + os.urandom(24).hex()
    temporary = path.with_suffix(".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(key + "\n")
    temporary.rename(path)
    return key, True
