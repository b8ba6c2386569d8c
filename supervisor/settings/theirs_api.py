"""Variables of the community's "Code Interpreter API", each with ours or the reason."""

from __future__ import annotations

from typing import Any, Final

from supervisor.settings.aliases import (
    Others,
    Theirs,
    Unread,
    a_port,
    as_it_is,
    beside,
    given,
    in_capitals,
    in_small_letters,
    only,
    switch,
    times,
    truth,
    unless,
    when,
    whole,
)

API: Final = "Code Interpreter API"
OTHER_STORES: Final = "MinIO, Garage"
_DEFAULT_HOST: Final = "127.0.0.1"
_DEFAULT_PORT: Final = "8000"
_OWN_WORD: Final = "nobody's other variable opens this server; http.authentication does, on a private bind"
_BESIDE_HTTPS: Final = "beside ENABLE_HTTPS=true alone"
_SELF: Final = "it goes by itself here: sandboxes are made and ended as they are needed"
_NO_CHOICE: Final = "what comes out of a sandbox is the policy's to say, and there is no policy without this"


def _bind(_value: str, others: Others) -> str:
    """Put host and port together; what is not said of the two is as by default, so that a port alone opens nothing."""
    host = given(others, "API_HOST") or _DEFAULT_HOST
    port = given(others, "PORT") or given(others, "API_PORT") or _DEFAULT_PORT
    if not a_port(port, others).isdigit():
        raise ValueError(f"{port!r} is not allowed: a port, 0 to 65535")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _https(value: str, others: Others) -> None:
    """What they call auto, HTTPS if there are files by chance, is not done: who asks for it names both."""
    if truth(value) and not given(others, "GAOLER_TLS_CERTIFICATE"):
        for name in ("SSL_CERT_FILE", "SSL_KEY_FILE"):
            if not given(others, name):
                raise ValueError(f"{value!r} is not allowed without {name}: no certificate is looked for")


def _file_of_https(value: str, others: Others) -> str:
    """Read it where HTTPS is wanted: OpenSSL has its authorities in a variable of the same name."""
    enabled = given(others, "ENABLE_HTTPS")
    if not enabled or not truth(enabled):
        raise Unread("it says something only beside ENABLE_HTTPS=true")
    return value


def _endpoint(value: str, others: Others) -> str:
    """Theirs has no scheme: ``S3_SECURE`` says it."""
    if "://" in value:
        return value
    secure = given(others, "S3_SECURE")
    return f"{'https' if secure and truth(secure) else 'http'}://{value}"


def origins(value: str, others: Others) -> str:
    """Give origins as ours are written."""
    enabled = given(others, "ENABLE_CORS")
    if enabled and not truth(enabled):
        raise Unread("ENABLE_CORS is false")
    return ",".join(each for each in (part.strip().rstrip("/") for part in value.split(",")) if each)


def _cors(value: str, others: Others) -> None:
    if truth(value) and not given(others, "CORS_ORIGINS"):
        raise ValueError(f"{value!r} is not allowed alone: name the origins in http.cors_origins")


def _floor(value: str, others: Others) -> Any:
    """Give how many interpreters wait; none where theirs would have none."""
    for name in ("SANDBOX_POOL_ENABLED", "REPL_ENABLED"):
        said = given(others, name)
        if said and not truth(said):
            raise Unread(f"{name} is false")
    return value


API_ROWS: Final[tuple[Theirs, ...]] = (
    Theirs(API, "PORT", "8000", "bind", _bind, "the port alone: who listens to others sets API_HOST too", serving=True),
    Theirs(API, "API_HOST", "0.0.0.0", "bind", _bind, "127.0.0.1 by default", serving=True),
    Theirs(API, "API_PORT", "8000", "bind", _bind, serving=True),
    Theirs(API, "API_DEBUG", "false", "", only(False, "a daemon that tells callers of its insides does not exist")),
    Theirs(API, "API_RELOAD", "false", why="it is for who changes the server's code while it runs"),
    Theirs(API, "ENABLE_HTTPS", "auto", "", _https, "true needs both files; there is no auto", serving=True),
    Theirs(API, "SSL_CERT_FILE", "/app/ssl/fullchain.pem", "tls.certificate", _file_of_https, _BESIDE_HTTPS),
    Theirs(API, "SSL_KEY_FILE", "/app/ssl/privkey.pem", "tls.key", _file_of_https, _BESIDE_HTTPS),
    Theirs(
        API,
        "SSL_CA_CERTS",
        "",
        "tls.client_ca",
        why="with ours each client needs a certificate of one of these authorities, which theirs does not ask for",
    ),
    Theirs(API, "SSL_CERTS_PATH", "./ssl", why="it is a mount of their Compose file"),
    Theirs(API, "API_KEY", "test-api-key", "api_key", as_it_is, "at least 16 characters; none by default"),
    Theirs(API, "API_KEYS", "", "api_keys", as_it_is, "at least 16 characters each"),
    Theirs(API, "MASTER_API_KEY", "", "admin_key", as_it_is, "at least 16 characters, and another than the callers'"),
    Theirs(API, "AUTH_ENABLED", "true", "", only(True, _OWN_WORD), "false is refused: `http.authentication` says it"),
    Theirs(API, "REDIS_URL", "", "redis.url", as_it_is, "without it and REDIS_HOST: SQLite, no Redis"),
    Theirs(API, "REDIS_HOST", "localhost", "redis.host", unless("REDIS_URL", as_it_is)),
    Theirs(API, "REDIS_PORT", "6379", "redis.port", beside("REDIS_HOST", a_port)),
    Theirs(API, "REDIS_PASSWORD", "", "redis.password", as_it_is),
    Theirs(API, "REDIS_DB", "0", "redis.db", as_it_is),
    Theirs(API, "REDIS_MAX_CONNECTIONS", "20", "redis.connections", as_it_is),
    Theirs(API, "REDIS_SOCKET_TIMEOUT", "5", "redis.socket_seconds", as_it_is),
    Theirs(API, "REDIS_SOCKET_CONNECT_TIMEOUT", "5", "redis.connect_seconds", as_it_is),
    Theirs(API, "S3_ENDPOINT", "localhost:3900", "s3.url", _endpoint, "without it: the state directory, no S3"),
    Theirs(API, "S3_SECURE", "false", why="it is read with S3_ENDPOINT: it says https", common=True),
    Theirs(API, "S3_ACCESS_KEY", "test-access-key", "s3.access_key", as_it_is),
    Theirs(API, "S3_SECRET_KEY", "test-secret-key", "s3.secret_key", as_it_is),
    Theirs(API, "S3_BUCKET", "code-interpreter-files", "s3.bucket", as_it_is),
    Theirs(API, "S3_REGION", "garage", "s3.region", as_it_is),
    Theirs(OTHER_STORES, "MINIO_*", "", why="they are those servers' own; how to reach them is in S3_*", common=True),
    Theirs(OTHER_STORES, "GARAGE_*", "", why="they are those servers' own; how to reach them is in S3_*", common=True),
    Theirs(API, "RATE_LIMIT_*", "", why="how often one may call is CALLS/SECONDS of [rates], by kind", common=True),
    Theirs(API, "EXECUTOR_PORT", "", why="there is no such port: sandboxes are reached by a unix socket"),
    Theirs(API, "NSJAIL_BINARY", "nsjail", why="it comes with Gaoler, in the version that was tested"),
    Theirs(
        API,
        "SANDBOX_BASE_DIR",
        "/var/lib/code-interpreter/sandboxes",
        "state_dir",
        why="sandboxes are in memory; what is kept is in state_dir",
    ),
    Theirs(API, "SANDBOX_TMPFS_SIZE_MB", "100", "limits.temporary_bytes", whole(1 << 20, "MB")),
    Theirs(API, "SANDBOX_TTL_MINUTES", "5", why="a sandbox ends with its execution; a lasting one: live.idle_minutes"),
    Theirs(API, "SANDBOX_CLEANUP_INTERVAL_MINUTES", "5", why=_SELF),
    Theirs(API, "SANDBOX_UID", "1001", "jailer.subordinate_uids", why="each sandbox has a uid of its own"),
    Theirs(API, "MAX_EXECUTION_TIME", "120", "limits.wall_seconds", as_it_is),
    Theirs(API, "MAX_MEMORY_MB", "512", "limits.memory_bytes", whole(1 << 20, "MB")),
    Theirs(API, "MAX_FILE_SIZE_MB", "100", "files.file_bytes", whole(1 << 20, "MB")),
    Theirs(API, "MAX_FILES_PER_SESSION", "300", "files.files_per_session", as_it_is),
    Theirs(API, "MAX_OUTPUT_FILES", "10", "files.result_files", as_it_is),
    Theirs(API, "MAX_FILENAME_LENGTH", "255", why="it is the file system's rule: 255 bytes for each part of a path"),
    Theirs(API, "SESSION_TTL_HOURS", "24", "files.retention_hours", as_it_is, "from the last use"),
    Theirs(API, "SESSION_CLEANUP_INTERVAL_MINUTES", "60", "files.sweep_minutes", as_it_is),
    Theirs(API, "ENABLE_ORPHAN_S3_CLEANUP", "true", "files.remove_orphans", switch, "in the state directory too"),
    Theirs(API, "SANDBOX_POOL_ENABLED", "true", "cells.floor", when(false=0), "false: 0; more wait when many come"),
    Theirs(API, "SANDBOX_POOL_PY", "2", "cells.floor", _floor),
    Theirs(API, "SANDBOX_POOL_WARMUP_ON_STARTUP", "true", why=_SELF + "; the first ones at start"),
    Theirs(API, "SANDBOX_POOL_PARALLEL_BATCH", "5", "jailer.builders", as_it_is, "while serving too"),
    Theirs(API, "SANDBOX_POOL_REPLENISH_INTERVAL", "2", why="each sandbox that is taken is replaced at once"),
    Theirs(API, "SANDBOX_POOL_EXHAUSTION_TRIGGER", "true", why="each sandbox that is taken is replaced at once"),
    Theirs(API, "REPL_ENABLED", "true", "cells.floor", when(false=0), "false: 0"),
    Theirs(
        API,
        "REPL_WARMUP_TIMEOUT_SECONDS",
        "15",
        why="an interpreter that is not ready is tried again, and who waits is answered within execution.queue_seconds",
    ),
    Theirs(
        API,
        "STATE_PERSISTENCE_ENABLED",
        "true",
        why='it is the policy\'s to say: state = "never", "asked" (the default) or "session"',
    ),
    Theirs(
        API, "STATE_TTL_SECONDS", "7200", "state.hot_seconds", as_it_is, "in Redis; without one: live.archive_hours"
    ),
    Theirs(
        API,
        "STATE_CAPTURE_ON_ERROR",
        "false",
        why="a lasting session goes on with what its code has left, error or not, as a notebook does",
    ),
    Theirs(API, "STATE_MAX_REDIS_SIZE_MB", "100", "state.hot_bytes", whole(1 << 20, "MB")),
    Theirs(API, "STATE_ARCHIVE_ENABLED", "true", "state.archive", switch),
    Theirs(API, "STATE_ARCHIVE_AFTER_SECONDS", "3600", "state.archive_after_seconds", as_it_is),
    Theirs(API, "STATE_ARCHIVE_TTL_DAYS", "1", "live.archive_hours", times(24, "days")),
    Theirs(API, "STATE_ARCHIVE_CHECK_INTERVAL_SECONDS", "300", "state.archive_check_seconds", as_it_is),
    Theirs(API, "ENABLE_NETWORK_ISOLATION", "true", "", only(True, f"sandboxes are isolated: {_NO_CHOICE}")),
    Theirs(API, "ENABLE_FILESYSTEM_ISOLATION", "true", "", only(True, f"sandboxes are isolated: {_NO_CHOICE}")),
    Theirs(
        API,
        "ENABLE_SANDBOX_NETWORK",
        "false",
        "execution.policy",
        when(true="packages", false="default"),
        "true: packages, whose rules lead to the same registries; false: default, no network",
    ),
    Theirs(API, "SANDBOX_EGRESS_PORT", "18443", why="there is no such port: the proxy has no address of the host's"),
    Theirs(
        API,
        "SANDBOX_EGRESS_ALLOWLIST",
        "",
        why="more hosts are rules, with ports and a reason: gaoler egress, docs/network.md",
    ),
    Theirs(
        API,
        "SKILL_DEPS_PATH",
        "/opt/skill-deps",
        "files.packages_bytes",
        why="what all sandboxes write to would lead from one user to another: packages stay with their session, and "
        "the operator's are added for everybody by gaoler packages",
    ),
    Theirs(API, "LOG_LEVEL", "INFO", "log.level", in_capitals, serving=True),
    Theirs(API, "LOG_FORMAT", "json", "log.format", in_small_letters, "text by default", serving=True),
    Theirs(API, "LOG_FILE", "", "log.file", as_it_is, "in a directory of the daemon's own", serving=True),
    Theirs(API, "LOG_MAX_SIZE_MB", "100", "log.file_bytes", whole(1 << 20, "MB"), serving=True),
    Theirs(API, "LOG_BACKUP_COUNT", "5", "log.files", as_it_is, serving=True),
    Theirs(API, "ENABLE_ACCESS_LOGS", "false", "log.access", switch, "true by default", serving=True),
    Theirs(API, "ENABLE_SECURITY_LOGS", "true", "log.security", switch, serving=True),
    Theirs(API, "ENABLE_CORS", "false", "", _cors, "false: CORS_ORIGINS is not read; true alone is refused"),
    Theirs(API, "ENABLE_DOCS", "true", "http.documentation", switch),
)
