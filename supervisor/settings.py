"""All settings: one frozen tree, read once at start from file, environment, credentials and flags, in that order.

What other servers call the same (:mod:`supervisor.settings_aliases`) is read too, and counts less than all of these.

An unknown key or a bad value refuses to start and names the key, where it came from, the value and what is allowed.
Nothing reads the environment later. ``docs/configuration.md`` is generated from this module.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError
from supervisor.service.credentials import read_credentials, refuse_strangers
from supervisor.settings_aliases import find_aliases, origin_of
from supervisor.settings_fleet import SECRET, FleetSettings, RedisSettings, S3Settings, StateSettings
from supervisor.settings_operation import LimitsSettings, LogSettings
from supervisor.settings_theirs import ROWS
from supervisor.settings_tracing import TracingSettings

DEFAULT_FILE: Final = Path("/etc/gaoler/gaoler.toml")
ENVIRONMENT_PREFIX: Final = "GAOLER_"
SHORTEST_KEY: Final = 16
_KEY_RULE: Final = f"at least {SHORTEST_KEY} characters"
_RATE_RULE: Final = r"^(off|[1-9][0-9]{0,6}/[1-9][0-9]{0,5})$"


def _meta(description: str, **rules: Any) -> Meta:
    return Meta(description=description, **rules)


class ExecutionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[execution]``: how much runs at once."""

    policy: Annotated[
        str, _meta("policy of every execution, a file of policies/sandbox", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    ] = "default"
    concurrent: Annotated[int, _meta("executions that run at once", ge=1, le=1024)] = 8
    concurrent_per_user: Annotated[int, _meta("executions of one user that run at once", ge=1, le=1024)] = 6
    queue_length: Annotated[int, _meta("executions that wait at most; more are refused with 429", ge=0, le=100_000)] = (
        128
    )
    queue_length_per_user: Annotated[int, _meta("executions of one user that wait at most", ge=0, le=100_000)] = 64
    queue_seconds: Annotated[float, _meta("longest wait in the queue before the refusal", gt=0, le=600)] = 30.0
    drain_seconds: Annotated[
        float, _meta("a daemon or gateway that is stopped lets requests under way end for so long", ge=0, le=3600)
    ] = 20.0


class CellsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[cells]``: sandboxes that are ready and wait."""

    floor: Annotated[int, _meta("cells with a warm interpreter that wait at least", ge=0, le=1024)] = 8
    bare_floor: Annotated[int, _meta("cells without one, for other languages, that wait at least", ge=0, le=1024)] = 4
    memory_bytes: Annotated[int, _meta("what all waiting cells together may cost", ge=0, le=1 << 42)] = 512 << 20


class LiveSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[live]``: sessions that keep their interpreter."""

    sessions: Annotated[int, _meta("interpreters kept at once; the longest unused goes first", ge=1, le=4096)] = 32
    sessions_per_user: Annotated[
        int, _meta("of one user at once; then its own longest unused goes first", ge=1, le=4096)
    ] = 16
    idle_minutes: Annotated[float, _meta("an unused interpreter is saved and ended after it", gt=0, le=24 * 60)] = 120.0
    state_bytes: Annotated[int, _meta("largest saved state, compressed", ge=4096, le=1 << 32)] = 100 << 20
    archive_hours: Annotated[float, _meta("a saved state is kept so long", gt=0, le=24 * 366)] = 24.0
    save_seconds: Annotated[float, _meta("longest time that saving or restoring may take", gt=0, le=600)] = 20.0
    interrupt_seconds: Annotated[
        float, _meta("after SIGINT, the time that code has to end before it is killed", gt=0, le=60)
    ] = 2.0
    process_minutes: Annotated[
        float, _meta("a background program is killed after it; its session ends it sooner if unused", gt=0, le=24 * 60)
    ] = 120.0
    processes_per_user: Annotated[
        int, _meta("background programs of one user at once, in all sessions; of one session 16", ge=0, le=100_000)
    ] = 48
    process_output_bytes: Annotated[
        int, _meta("latest output of each background program that is kept", ge=4096, le=1 << 26)
    ] = 1 << 20


class ToolsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tools]``: programs that call their caller's tools, and wait for them."""

    waiting: Annotated[int, _meta("such programs at once, each in a sandbox of its own", ge=1, le=4096)] = 64
    waiting_per_user: Annotated[int, _meta("of one user", ge=1, le=4096)] = 16
    held_bytes: Annotated[
        int, _meta("results of all of them that are held, in case one has to be run again", ge=1 << 20, le=1 << 40)
    ] = 256 << 20
    token_seconds: Annotated[float, _meta("how long a program waits for the results of its calls", gt=0, le=3600)] = (
        600.0
    )


class FilesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[files]``: what is kept of uploads and results."""

    retention_hours: Annotated[float, _meta("a session's files go so long after its last use", gt=0, le=24 * 366)] = (
        24.0
    )
    sweep_minutes: Annotated[float, _meta("how often expired sessions are looked for", gt=0, le=24 * 60)] = 5.0
    file_bytes: Annotated[int, _meta("largest upload or result file", ge=1, le=1 << 40)] = 150 << 20
    files_per_session: Annotated[int, _meta("most files that a session holds", ge=1, le=100_000)] = 1000
    session_bytes: Annotated[int, _meta("most bytes that a session holds", ge=1, le=1 << 42)] = 1 << 30
    user_bytes: Annotated[
        int, _meta("most bytes that all sessions of a user hold, with saved states and packages", ge=1, le=1 << 50)
    ] = 10 << 30
    user_sessions: Annotated[int, _meta("most sessions with files of a user", ge=1, le=1 << 40)] = 10_000
    tenant_bytes: Annotated[int, _meta("most bytes that a tenant's users hold together", ge=1, le=1 << 60)] = 200 << 30
    result_files: Annotated[int, _meta("most new files kept of one execution", ge=0, le=4096)] = 100
    packages_bytes: Annotated[
        int, _meta("most bytes of packages (.packages, node_modules) that a session keeps; 0: none", ge=0, le=1 << 40)
    ] = 192 << 20
    remove_orphans: Annotated[
        bool, _meta("bytes that nothing names any more are removed when sessions are looked for")
    ] = True
    reserve_bytes: Annotated[int, _meta("free disk space below which nothing at all is stored", ge=0, le=1 << 42)] = (
        256 << 20
    )


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[http]``: the HTTP door."""

    authentication: Annotated[bool, _meta("ask for a credential; false only with a loopback or unix bind")] = True
    body_bytes: Annotated[int, _meta("largest JSON body", ge=1024, le=1 << 30)] = 50 << 20
    code_characters: Annotated[int, _meta("longest program", ge=1, le=1 << 26)] = 1_000_000
    base64_bytes: Annotated[
        int, _meta("largest file that is given as base64 inside JSON; larger ones are downloaded", ge=1, le=1 << 30)
    ] = 25 << 20
    cors_origins: Annotated[
        str,
        _meta(
            "origins whose pages may call, separated by commas, as https://chat.example.org; empty: none",
            pattern=r"^$|^https?://[A-Za-z0-9.:\[\]-]+(,https?://[A-Za-z0-9.:\[\]-]+)*$",
        ),
    ] = ""
    documentation: Annotated[bool, _meta("serve /openapi.json and /docs, to anybody")] = True
    dashboard: Annotated[
        bool, _meta("serve the operators' page at /dashboard, to anybody; what it shows needs the master key")
    ] = True
    public_url: Annotated[
        str,
        _meta(
            "where people's browsers reach this server, for links to files; empty: as the caller does",
            pattern=r"^$|^https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/-]*)?$",
        ),
    ] = ""
    link_minutes: Annotated[float, _meta("how long a link to a file holds", gt=0, le=60 * 24 * 366)] = 60.0
    connections: Annotated[
        int, _meta("connections at once; when one more comes, the longest idle one is closed", ge=16, le=100_000)
    ] = 4096
    connections_per_address: Annotated[
        int,
        _meta("of one address, one IPv6 /64, or one user of a unix socket; a proxy is one address", ge=8, le=100_000),
    ] = 3072
    header_seconds: Annotated[float, _meta("longest time for the head of a request", gt=0, le=600)] = 20.0
    body_seconds: Annotated[
        float, _meta("longest wait for each 64 KiB of a body; the time we need ourselves is not counted", gt=0, le=3600)
    ] = 60.0
    send_seconds: Annotated[
        float, _meta("longest wait for a client to take each 64 KiB of an answer", gt=0, le=3600)
    ] = 60.0
    idle_seconds: Annotated[
        float, _meta("a connection on which nothing is asked is closed after it", gt=0, le=3600)
    ] = 75.0

    trusted_proxies: Annotated[
        str,
        _meta(
            "networks of proxies whose X-Forwarded headers are believed, separated by commas; unix: of a unix bind",
            pattern=r"^$|^(unix|[0-9A-Fa-f.:]+(/[0-9]{1,3})?)(,(unix|[0-9A-Fa-f.:]+(/[0-9]{1,3})?))*$",
        ),
    ] = ""
    forwarded_header: Annotated[
        Literal["x-forwarded", "forwarded"],
        _meta("what these proxies say it in: X-Forwarded-For, -Proto and -Host, or Forwarded; the other is not read"),
    ] = "x-forwarded"
    root_path: Annotated[
        str,
        _meta(
            "prefix under which a proxy shows this server, as /code, if it does not take it off",
            pattern=r"^$|^(/[A-Za-z0-9._~-]+)+$",
        ),
    ] = ""
    http2: Annotated[bool, _meta("speak HTTP/2 too, over TLS, with clients that ask for it")] = True
    failed_authentications: Annotated[
        str,
        _meta("credentials that do not hold, of one address (IPv6: /64), as N/SECONDS; then 429", pattern=_RATE_RULE),
    ] = "10/60"
    shut_out_seconds: Annotated[
        float, _meta("an address is shut out for 30 s, then twice as long, and no longer than this", ge=30, le=86_400)
    ] = 900.0


class TlsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tls]``: HTTPS instead of HTTP, when there is a certificate. Files that change are read again."""

    certificate: Annotated[
        str, _meta("file with the certificate and its chain, PEM; empty: plain HTTP", pattern=r"^$|^/")
    ] = ""
    key: Annotated[str, _meta("file with its private key, PEM, without a password", pattern=r"^$|^/")] = ""
    client_ca: Annotated[
        str, _meta("authorities (PEM) of clients: each client needs a certificate of one", pattern=r"^$|^/")
    ] = ""
    handshake_seconds: Annotated[float, _meta("longest time for a handshake", gt=0, le=120)] = 10.0
    handshakes: Annotated[
        int, _meta("handshakes at once; when one more comes, the longest under way is closed", ge=16, le=100_000)
    ] = 512


class McpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[mcp]``: the MCP door, at ``/mcp`` of the same address."""

    enabled: Annotated[bool, _meta("serve MCP")] = True
    allowed_hosts: Annotated[
        str,
        _meta(
            "names in the Host header beside loopback, bind, public_url and addresses, separated by commas; * is any",
            pattern=r"^(\*|[A-Za-z0-9.:_\[\]-]+(,[A-Za-z0-9.:_\[\]-]+)*|)$",
        ),
    ] = ""
    allowed_origins: Annotated[
        str,
        _meta(
            "origins of pages that may call, separated by commas, beside this server's own; empty: no other",
            pattern=r"^$|^https?://[A-Za-z0-9.:\[\]-]+(,https?://[A-Za-z0-9.:\[\]-]+)*$",
        ),
    ] = ""
    body_bytes: Annotated[int, _meta("largest request", ge=4096, le=1 << 28)] = 16 << 20
    sessions: Annotated[int, _meta("connections (MCP sessions) at once", ge=1, le=100_000)] = 2000
    sessions_per_user: Annotated[
        int, _meta("of one user; the oldest that is idle gives way to a new one", ge=1, le=100_000)
    ] = 64
    idle_minutes: Annotated[float, _meta("an unused connection is forgotten after it", gt=0, le=24 * 60)] = 30.0
    resume_seconds: Annotated[
        float, _meta("a lost stream may be taken up again for so long; then what it ran is ended", ge=0, le=600)
    ] = 15.0
    text_bytes: Annotated[int, _meta("of each of stdout and stderr that is put into a result", ge=256, le=1 << 20)] = (
        16 << 10
    )
    image_pixels: Annotated[
        int, _meta("longest edge of a picture in a result; larger ones are scaled", ge=64, le=8192)
    ] = 1568
    image_bytes: Annotated[int, _meta("largest picture in a result; larger ones are scaled", ge=4096, le=1 << 23)] = (
        750_000
    )
    inline_bytes: Annotated[
        int,
        _meta("all pictures of one result together; more are linked. LibreChat reads lines of 5 MiB", ge=0, le=1 << 24),
    ] = 3_000_000
    display_bytes: Annotated[int, _meta("what one execution may show beside its output", ge=0, le=1 << 26)] = 24 << 20
    recent_bytes: Annotated[
        int, _meta("recent output and what was shown, of everybody, kept in memory to be read", ge=0, le=1 << 40)
    ] = 128 << 20
    authorization_server: Annotated[
        str, _meta("issuer (URL) of OAuth tokens for this server; empty: none", pattern=r"^$|^https?://[^\s]{1,250}$")
    ] = ""
    oauth_jwks: Annotated[str, _meta("file with that issuer's JSON Web Key Set", pattern=r"^$|^/")] = ""
    oauth_audience: Annotated[str, _meta("audience of its tokens; empty: public_url and /mcp")] = ""
    oauth_tenant: Annotated[str, _meta("tenant of its users", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")] = (
        "default"
    )


class HostSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[host]``: below these, new executions and uploads are refused with 503 until there is a quarter more again.

    Below twice what is said of memory, interpreters that nobody uses and cells that wait are given back. 0: not
    watched.
    """

    free_memory_bytes: Annotated[
        int, _meta("free memory of the host, or room in a cgroup around the daemon", ge=0, le=1 << 50)
    ] = 256 << 20
    free_memory_percent: Annotated[float, _meta("the same, of all memory of the host", ge=0, le=100)] = 2.0
    memory_stall_percent: Annotated[
        float,
        _meta("of the time, everything waits for memory (PSI) while it is tight: refuse too; 100: never", gt=0, le=100),
    ] = 40.0
    free_disk_bytes: Annotated[
        int, _meta("free disk space at state_dir; files.reserve_bytes is for what already runs", ge=0, le=1 << 50)
    ] = 512 << 20
    free_disk_inodes: Annotated[int, _meta("files that can still be made at state_dir", ge=0, le=1 << 40)] = 10_000


class AdminSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[admin]``: what operators see and do."""

    followers: Annotated[int, _meta("who follow executions as they happen, at once", ge=1, le=1000)] = 32
    audit_bytes: Annotated[int, _meta("largest file of the record of what operators do", ge=4096, le=1 << 40)] = (
        16 << 20
    )
    audit_files: Annotated[int, _meta("files of it that are kept", ge=1, le=1000)] = 8


class UsageSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[usage]``: what each caller has used, day by day."""

    days: Annotated[int, _meta("it is kept so long", ge=1, le=3660)] = 366


class RatesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[rates]``: how often one user may call, as CALLS/SECONDS, or ``off``. The defaults are LibreChat's own."""

    exec: Annotated[str, _meta("executions", pattern=_RATE_RULE)] = "20/30"
    upload: Annotated[str, _meta("uploads", pattern=_RATE_RULE)] = "30/300"
    download: Annotated[str, _meta("downloads", pattern=_RATE_RULE)] = "60/60"
    listing: Annotated[str, _meta("listings and questions about files and sessions", pattern=_RATE_RULE)] = "120/60"
    shared_factor: Annotated[
        int, _meta("a caller who names no user speaks for many, and may call so many times as often", ge=1, le=10_000)
    ] = 20


class JwtSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[jwt]``: LibreChat's tokens. They are accepted when one of the three places of keys is set."""

    public_key: Annotated[str, _meta("file with LibreChat's public key, PEM", pattern=r"^$|^/")] = ""
    kid: Annotated[str, _meta("id of that key", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")] = "lc-codeapi-2026-05"
    public_keys_dir: Annotated[str, _meta("directory with files KID.pem", pattern=r"^$|^/")] = ""
    jwks: Annotated[str, _meta("file with a JSON Web Key Set", pattern=r"^$|^/")] = ""
    issuer: Annotated[str, _meta("who mints the tokens", pattern=r"^.{1,256}$")] = "librechat"
    audience: Annotated[str, _meta("for whom they are", pattern=r"^.{1,256}$")] = "codeapi"
    lifetime_seconds: Annotated[float, _meta("longest time from minting to expiry", gt=0, le=300)] = 300.0
    leeway_seconds: Annotated[float, _meta("how far the clocks may differ", ge=0, le=30)] = 30.0
    reuse_seconds: Annotated[
        float, _meta("a token may be used again so long after its first use; LibreChat keeps them 30 s", ge=0, le=300)
    ] = 30.0


class EgressSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[egress]``: the network of sandboxes whose policy has one; what it leads to are the rules of the policy."""

    connections: Annotated[int, _meta("of one sandbox at once; more wait", ge=1, le=4096)] = 64
    total_bytes: Annotated[int, _meta("both ways, of one sandbox in its life", ge=1, le=1 << 50)] = 4 << 30
    idle_seconds: Annotated[float, _meta("a connection on which nothing comes is cut after it", gt=0, le=86_400)] = (
        120.0
    )
    connection_seconds: Annotated[float, _meta("longest connection", gt=0, le=7 * 86_400)] = 3600.0
    connect_seconds: Annotated[float, _meta("longest time to reach a server", gt=0, le=120)] = 10.0
    queries_per_second: Annotated[float, _meta("names that one sandbox may ask for; more wait", gt=0, le=100_000)] = (
        50.0
    )
    records_per_second: Annotated[
        float, _meta("decisions of one sandbox, each way, that are written; more are counted", gt=0, le=100_000)
    ] = 20.0
    name_servers: Annotated[
        str, _meta("addresses of name servers, separated by commas; empty: the host's", pattern=r"^[0-9A-Fa-f.:,]*$")
    ] = ""
    credentials_dir: Annotated[
        str, _meta("directory with one file for each credential that rules name", pattern=r"^$|^/")
    ] = ""
    authorities: Annotated[
        str,
        _meta("certificate authorities (PEM) of servers behind intercepted TLS; empty: the host's", pattern=r"^$|^/"),
    ] = ""
    audit_bytes: Annotated[int, _meta("largest file of the audit", ge=4096, le=1 << 40)] = 16 << 20
    audit_files: Annotated[int, _meta("files of the audit that are kept", ge=1, le=1000)] = 8


_NAMES_RULE: Final = r"^$|^[A-Za-z0-9][A-Za-z0-9_.+#:-]{0,127}(,[A-Za-z0-9][A-Za-z0-9_.+#:-]{0,127})*$"


class MicrovmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[microvm]``: sandboxes with a kernel of their own, see docs/microvm.md.

    Whoever is named here, a policy of that tier and a key of it need ``enabled``; nothing falls back to a lower tier.
    """

    enabled: Annotated[bool, _meta("give sandboxes in virtual machines to those who ask; the host needs KVM")] = False
    languages: Annotated[
        str, _meta("languages whose every execution is in one, separated by commas; empty: none", pattern=_NAMES_RULE)
    ] = ""
    tenants: Annotated[
        str, _meta("tenants whose every execution is in one, separated by commas; empty: none", pattern=_NAMES_RULE)
    ] = ""
    memory_mib: Annotated[int, _meta("memory of a machine, of guest and sandbox together", ge=256, le=1 << 18)] = 1536
    vcpus: Annotated[int, _meta("processors that a machine sees; libkrunfw's kernel knows 8", ge=1, le=8)] = 2
    waiting: Annotated[int, _meta("booted machines that wait for a session, at least one", ge=1, le=256)] = 1
    max: Annotated[int, _meta("machines at once, waiting ones too; more are refused with 503", ge=1, le=4096)] = 8
    memory_budget_mib: Annotated[int, _meta("memory of all machines together", ge=256, le=1 << 26)] = 8192
    boot_seconds: Annotated[float, _meta("a machine that is not up after it is given up", gt=0, le=600)] = 20.0
    library: Annotated[str, _meta("libkrun.so, 1.17 or newer; empty: the runtime image's", pattern=r"^$|^/")] = ""
    kernel: Annotated[str, _meta("libkrunfw.so.5, the guest's kernel; empty: the image's", pattern=r"^$|^/")] = ""


class JailerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[jailer]``: users and sizes of the privileged part."""

    subordinate_uids: Annotated[
        str, _meta("FIRST:COUNT, uids that belong to nobody else", pattern=r"^[0-9]{4,9}:[0-9]{4,7}$")
    ] = "200000:65536"
    daemon_uid: Annotated[int, _meta("uid of the daemon, that of no person", ge=1, le=(1 << 32) - 2)] = 199_999
    builders: Annotated[int, _meta("jails that are built at once", ge=1, le=64)] = 3
    max_jails: Annotated[int, _meta("jails that exist at once", ge=1, le=4096)] = 1024
    policy_dir: Annotated[str, _meta("folder of policies; empty: the ones that come with Gaoler")] = ""
    init: Annotated[str, _meta("reaping init inside a jail, seen there under this path", pattern=r"^/usr/")] = (
        "/usr/bin/catatonit"
    )


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole tree."""

    bind: Annotated[str, _meta("HOST:PORT or unix:/path", pattern=r"^(unix:/.+|.+:[0-9]{1,5})$")] = "127.0.0.1:8000"
    state_dir: Annotated[str, _meta("directory of everything that is kept", pattern=r"^/")] = "/var/lib/gaoler"
    image_dir: Annotated[str, _meta("directory of the runtime images; empty: images in state_dir")] = ""
    api_key: Annotated[
        str, _meta("the key of the callers; empty: generated once and kept in state_dir", extra=SECRET)
    ] = ""
    api_keys: Annotated[
        str, _meta("more keys of callers, separated by commas; 'gaoler keys' makes named ones", extra=SECRET)
    ] = ""
    admin_key: Annotated[
        str,
        _meta("who shows it is the operator; empty: generated once and kept in state_dir", extra=SECRET),
    ] = ""
    aliases: Annotated[bool, _meta("read other servers' names of settings too, where nothing else says them")] = True
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


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting: its key as in the file (``files.retention_hours``), its annotated type and its default."""

    key: str
    type: Any
    default: Any

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return _variable(self.key)

    @property
    def description(self) -> str:
        """What it is, in a line."""
        return next(meta.description or "" for meta in self._metas())

    @property
    def secret(self) -> bool:
        """Its value is never printed."""
        return any(meta.extra == SECRET for meta in self._metas())

    @property
    def allowed(self) -> str:
        """Which values it takes, in words."""
        rules: list[str] = []
        base = get_args(self.type)[0]
        if get_origin(base) is Literal:
            return "one of " + ", ".join(get_args(base))
        rules.append({int: "a whole number", float: "a number", bool: "true or false", str: "text"}[base])
        for meta in self._metas():
            for name, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most")):
                if getattr(meta, name) is not None:
                    rules.append(f"{words} {getattr(meta, name)}")
        return ", ".join([*rules, self.description])

    def _metas(self) -> list[Meta]:
        return [each for each in get_args(self.type)[1:] if isinstance(each, Meta)]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective tree, and for each key where its value came from."""

    settings: Settings
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    notices: tuple[str, ...] = ()
    """What became of other servers' names, a line for each that was found."""


def leaves(kind: type[Struct] = Settings, prefix: str = "") -> Iterator[Leaf]:
    """Give every setting in the order of the tree."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        annotated = hints[field.name]
        if isinstance(annotated, type) and issubclass(annotated, Struct):
            yield from leaves(annotated, f"{prefix}{field.name}.")
        else:
            yield Leaf(prefix + field.name, annotated, field.default)


def load(
    *, file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any], serving: bool = False
) -> Loaded:
    """Read the settings. ``file``: ``None`` means the default file if it exists; a named one has to.

    ``flags`` are by key; those that are ``None`` were not given. ``serving``: read the aliases too that are only about
    how a daemon serves; ``PORT`` in the shell of somebody who looks for a daemon means something else.

    Raises:
        ConfigurationError: unknown key, bad value, unreadable file.
    """
    known = {leaf.key: leaf for leaf in leaves()}
    values = {key: leaf.default for key, leaf in known.items()}
    origins = dict.fromkeys(known, "default")
    for source, given, strict in (
        *_from_file(file),
        ("environment", _from_environment(environment, known), False),
        ("credential", read_credentials(environment, known), False),
        ("flag", {key: value for key, value in flags.items() if value is not None}, True),
    ):
        for key, value in given.items():
            if key not in known:
                raise ConfigurationError(f"{source}: unknown setting {key!r}{_suggest(key, known)}", field=key)
            values[key] = _convert(known[key], value, source, strict=strict)
            origins[key] = f"environment {known[key].variable}" if source == "environment" else source
    taken, unread = _take_aliases(environment, known, values, origins, serving=serving)
    refuse_strangers(environment, known, values.values())
    settings = msgspec.convert(_nest(values), Settings)
    try:
        _check(settings)
    except ConfigurationError as error:
        if error.field not in taken:
            raise
        raise ConfigurationError(f"{error.message} (from {origins[error.field]})", field=error.field) from None
    notices = (
        *(f"{name} is read as {key}; {_variable(key)} is its name here" for key, name in taken.items()),
        *(f"{name} is not read: {why}" for name, why in unread.items()),
    )
    return Loaded(settings, values, origins, notices)


def _take_aliases(
    environment: Mapping[str, str],
    known: Mapping[str, Leaf],
    values: dict[str, Any],
    origins: dict[str, str],
    *,
    serving: bool,
) -> tuple[dict[str, str], dict[str, str]]:
    """Put what other servers' names say where nothing else has said anything.

    Give the names that were read, by key, and why others were not. A key that two names say differently refuses.
    """
    taken: dict[str, str] = {}
    unread: dict[str, str] = {}
    if not values["aliases"]:
        return taken, unread
    for found in find_aliases(ROWS, environment, serving=serving):
        if not found.key:
            unread[found.name] = found.why
            continue
        if found.key not in taken and origins[found.key] != "default":
            unread[found.name] = f"{found.key} is said by {origins[found.key]}"
            continue
        source = f"{origin_of(found.name)} (read as {found.key})"
        value = _convert(known[found.key], found.value, source, strict=False)
        other = taken.setdefault(found.key, found.name)
        if other != found.name and value != values[found.key]:
            raise ConfigurationError(f"{other} and {found.name} say different things of {found.key}", field=found.key)
        values[found.key], origins[found.key] = value, origin_of(other)
    return taken, unread


def _variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.replace(".", "_").upper()


def _from_file(file: Path | None) -> list[tuple[str, Mapping[str, Any], bool]]:
    path = file or DEFAULT_FILE
    if file is None and not path.exists():
        return []
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return [(str(path), _flatten(tree), True)]


def _from_environment(environment: Mapping[str, str], known: Mapping[str, Leaf]) -> dict[str, str]:
    by_variable = {leaf.variable: key for key, leaf in known.items()}
    return {
        by_variable.get(name, name): value for name, value in environment.items() if name.startswith(ENVIRONMENT_PREFIX)
    }


def _convert(leaf: Leaf, value: Any, source: str, *, strict: bool) -> Any:
    try:
        if isinstance(value, str) and get_args(leaf.type)[0] is bool and not strict:
            value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
                value.lower(), value
            )
        return msgspec.convert(value, leaf.type, strict=strict)
    except msgspec.ValidationError:
        shown = "(hidden)" if leaf.secret else repr(value)
        raise ConfigurationError(
            f"{source}: {leaf.key} = {shown} is not allowed: {leaf.allowed}", field=leaf.key
        ) from None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        at = tree
        for parent in parents:
            at = at.setdefault(parent, {})
        at[name] = value
    return tree


def _suggest(key: str, known: Mapping[str, Leaf]) -> str:
    names = [*known, *(leaf.variable for leaf in known.values())]
    close = difflib.get_close_matches(key, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; 'gaoler settings' lists them all"


def is_private_bind(bind: str) -> bool:
    """Say whether only this host can reach the bind: a unix socket or a loopback address."""
    host = bind.rpartition(":")[0].strip("[]")
    return bind.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")


def _check(settings: Settings) -> None:
    """Rules between settings."""
    if not settings.http.authentication and not is_private_bind(settings.bind):
        raise ConfigurationError(
            f"http.authentication = false is allowed only with a loopback or unix bind, not with {settings.bind}",
            field="http.authentication",
        )
    if not settings.bind.startswith("unix:") and not 0 <= int(settings.bind.rpartition(":")[2]) <= 65_535:
        raise ConfigurationError(f"bind = {settings.bind!r}: the port is at most 65535", field="bind")
    first, count = settings.subordinate_range
    if count < 2048 or not 1000 <= first <= (1 << 32) - 2 - count:
        raise ConfigurationError(
            "jailer.subordinate_uids: at least 2048 uids, none of them below 1000", field="jailer.subordinate_uids"
        )
    if first <= settings.jailer.daemon_uid < first + count:
        raise ConfigurationError("jailer.daemon_uid may not lie in jailer.subordinate_uids", field="jailer.daemon_uid")
    if settings.mcp.authorization_server and not settings.mcp.oauth_jwks:
        raise ConfigurationError(
            "mcp.authorization_server needs mcp.oauth_jwks, a file with its keys", field="mcp.oauth_jwks"
        )
    if settings.mcp.authorization_server and not (settings.mcp.oauth_audience or settings.http.public_url):
        raise ConfigurationError(
            "mcp.authorization_server needs http.public_url, or mcp.oauth_audience", field="mcp.oauth_audience"
        )
    _check_proxies(settings.http)
    _check_tls(settings.tls)
    _check_microvm(settings.microvm)
    check_fleet(settings)
    _check_keys(settings)
    _refuse(settings.log.format == "journal" and settings.log.file, "log.file", "does not go with log.format = journal")


def _check_keys(settings: Settings) -> None:
    for key in ("api_key", "admin_key"):
        given = getattr(settings, key)
        _refuse(given and len(given) < SHORTEST_KEY, key, f"= (hidden) is not allowed: {_KEY_RULE}")
    more = settings.more_keys
    _refuse(any(len(each) < SHORTEST_KEY for each in more), "api_keys", f"= (hidden) is not allowed: {_KEY_RULE} each")
    callers = {settings.api_key, *more} - {""}
    # Whoever may call would else be the operator too.
    _refuse(settings.admin_key in callers, "admin_key", "has to be another than the callers' keys")


def _check_tls(tls: TlsSettings) -> None:
    _refuse(bool(tls.certificate) != bool(tls.key), "tls.key", "and tls.certificate go together")
    _refuse(tls.client_ca and not tls.certificate, "tls.client_ca", "goes with tls.certificate")


def _check_proxies(http: HttpSettings) -> None:
    for each in filter(None, http.trusted_proxies.split(",")):
        try:
            _ = each == "unix" or ipaddress.ip_network(each)
        except ValueError as error:
            raise ConfigurationError(f"http.trusted_proxies: {error}", field="http.trusted_proxies") from None


def on_this_host_alone(settings: Settings) -> Settings:
    """Give the same settings without Redis, S3, fleet and tracing: for what keeps nothing beyond its own end."""
    return msgspec.structs.replace(
        settings, redis=RedisSettings(), s3=S3Settings(), fleet=FleetSettings(), tracing=TracingSettings()
    )


def _check_microvm(microvm: MicrovmSettings) -> None:
    if microvm.waiting > microvm.max:
        raise ConfigurationError("microvm.waiting is at most microvm.max", field="microvm.waiting")
    if microvm.waiting * microvm.memory_mib > microvm.memory_budget_mib:
        raise ConfigurationError(
            "microvm.memory_budget_mib has to hold the machines that wait: microvm.waiting of microvm.memory_mib each",
            field="microvm.memory_budget_mib",
        )
    if not microvm.enabled and (microvm.languages or microvm.tenants):
        named = "languages" if microvm.languages else "tenants"
        raise ConfigurationError(
            f"microvm.{named} asks for tier microvm, which is not switched on: set microvm.enabled",
            field=f"microvm.{named}",
        )


def check_fleet(settings: Settings) -> None:
    """Rules of what is beyond one machine: nothing that a role needs is made up for it.

    Raises:
        ConfigurationError: something is missing or contradicts; ``field`` is the key.
    """
    redis, s3, fleet, role = settings.redis, settings.s3, settings.fleet, settings.fleet.role
    _refuse(bool(redis.url and redis.host), "redis.host", "stands beside redis.url: set one of them")
    _refuse(bool(redis.certificate) != bool(redis.certificate_key), "redis.certificate_key", "goes with a certificate")
    _refuse(bool(s3.url) and not (s3.access_key and s3.secret_key), "s3.access_key", "and s3.secret_key go with s3.url")
    _refuse(bool(s3.kms_key) and s3.encryption != "aws:kms", "s3.kms_key", "goes with s3.encryption = aws:kms")
    for key in ("secret", "service_token"):
        given = getattr(fleet, key)
        _refuse(bool(given) and len(given) < 32, f"fleet.{key}", "= (hidden) is not allowed: at least 32 characters")
    _refuse(fleet.heartbeat_seconds * 2 > fleet.lost_seconds, "fleet.lost_seconds", "is at least two heartbeats")
    _refuse(fleet.lost_seconds > fleet.lease_seconds, "fleet.lease_seconds", "is at least fleet.lost_seconds")
    if role == "all":
        return
    needs: list[tuple[str, object]] = [
        ("redis.url", redis.url or redis.host),
        ("s3.url", s3.url),
        ("fleet.secret", fleet.secret),
        ("fleet.service_token", fleet.service_token),
    ]
    if role == "gateway":
        # Two gateways that each make up a key of their own would refuse each other's callers.
        needs += [("fleet.signing_key", fleet.signing_key)]
        needs += [("api_key", settings.api_key)] if settings.http.authentication else []
    else:
        needs += [("fleet.trusted_keys", fleet.trusted_keys)]
    for key, value in needs:
        _refuse(not value, key, f"is needed by role {role}; docs/scale.md says how to make one")


def quieter(settings: Settings) -> Settings:
    """Give the same settings for a command that runs sandboxes of its own: it says little, and to standard error."""
    return msgspec.structs.replace(settings, log=LogSettings(level="WARNING"))


def _refuse(wrong: object, key: str, rule: str) -> None:
    if wrong:
        raise ConfigurationError(f"{key} {rule}", field=key)


def process_environment() -> Mapping[str, str]:
    """Give the environment of this process: the one place that looks at it."""
    return os.environ
