"""All settings: one frozen tree. Its branches lie beside it by subject; :mod:`supervisor.settings.loading` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Struct

from supervisor.settings.doors import HttpSettings, JwtSettings, McpSettings, TlsSettings
from supervisor.settings.execution import (
    CellsSettings,
    ExecutionSettings,
    FilesSettings,
    LiveSettings,
    ToolsSettings,
)
from supervisor.settings.fleet import FleetSettings, RedisSettings, S3Settings, StateSettings
from supervisor.settings.meta import SECRET, meta
from supervisor.settings.operation import (
    AdminSettings,
    HostSettings,
    LimitsSettings,
    LogSettings,
    RatesSettings,
    UsageSettings,
)
from supervisor.settings.sandboxes import EgressSettings, JailerSettings, MicrovmSettings
from supervisor.settings.tracing import TracingSettings


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole tree."""

    bind: Annotated[str, meta("HOST:PORT or unix:/path", pattern=r"^(unix:/.+|.+:[0-9]{1,5})$")] = "127.0.0.1:8000"
    state_dir: Annotated[str, meta("directory of everything that is kept", pattern=r"^/")] = "/var/lib/gaoler"
    image_dir: Annotated[str, meta("directory of the runtime images; empty: images in state_dir")] = ""
    api_key: Annotated[
        str, meta("the key of the callers; empty: generated once and kept in state_dir", extra=SECRET)
    ] = ""
    api_keys: Annotated[
        str, meta("more keys of callers, separated by commas; 'gaoler keys' makes named ones", extra=SECRET)
    ] = ""
    admin_key: Annotated[
        str,
        meta("who shows it is the operator; empty: generated once and kept in state_dir", extra=SECRET),
    ] = ""
    aliases: Annotated[bool, meta("read other servers' names of settings too, where nothing else says them")] = True
    log: LogSettings = LogSettings()
    execution: ExecutionSettings = ExecutionSettings()
    limits: LimitsSettings = LimitsSettings()
    cells: CellsSettings = CellsSettings()
    live: LiveSettings = LiveSettings()
    tools: ToolsSettings = ToolsSettings()
    files: FilesSettings = FilesSettings()
    host: HostSettings = HostSettings()
    http: HttpSettings = HttpSettings()
    tls: TlsSettings = TlsSettings()
    mcp: McpSettings = McpSettings()
    rates: RatesSettings = RatesSettings()
    admin: AdminSettings = AdminSettings()
    usage: UsageSettings = UsageSettings()
    jwt: JwtSettings = JwtSettings()
    tracing: TracingSettings = TracingSettings()
    egress: EgressSettings = EgressSettings()
    microvm: MicrovmSettings = MicrovmSettings()
    jailer: JailerSettings = JailerSettings()
    redis: RedisSettings = RedisSettings()
    s3: S3Settings = S3Settings()
    state: StateSettings = StateSettings()
    fleet: FleetSettings = FleetSettings()

    @property
    def state_path(self) -> Path:
        """The state directory."""
        return Path(self.state_dir)

    @property
    def image_path(self) -> Path:
        """The directory of the images."""
        return Path(self.image_dir) if self.image_dir else self.state_path / "images"

    @property
    def more_keys(self) -> list[str]:
        """The keys of ``api_keys``."""
        return [each for each in map(str.strip, self.api_keys.split(",")) if each]

    @property
    def uses_redis(self) -> bool:
        """Sessions are in Redis."""
        return bool(self.redis.url or self.redis.host)

    @property
    def subordinate_range(self) -> tuple[int, int]:
        """First uid and count of the subordinate range."""
        first, _, count = self.jailer.subordinate_uids.partition(":")
        return int(first), int(count)


def on_this_host_alone(settings: Settings) -> Settings:
    """Give the same settings without Redis, S3, fleet and tracing: for what keeps nothing beyond its own end."""
    return msgspec.structs.replace(
        settings, redis=RedisSettings(), s3=S3Settings(), fleet=FleetSettings(), tracing=TracingSettings()
    )


def quieter(settings: Settings) -> Settings:
    """Give the same settings for a command that runs sandboxes of its own: it says little, and to standard error."""
    return msgspec.structs.replace(settings, log=LogSettings(level="WARNING"))
