"""Variables of LibreChat, of its official server and of two small ones, each with ours or the reason."""

from __future__ import annotations

from typing import Final

from supervisor.settings.aliases import (
    Others,
    Theirs,
    Unread,
    as_it_is,
    given,
    times,
    when,
    whole,
)
from supervisor.settings.theirs_api import API_ROWS, origins

LIBRECHAT: Final = "LibreChat"
OFFICIAL: Final = "official server"
QWEN: Final = "qwen_code_api"
CODEEXEC: Final = "codeexec"
_NO_INTERFACE: Final = "it is LibreChat's own: it says there where this server is"
_TOKENS: Final = "it is LibreChat's own: it mints tokens with it"
_BUILD: Final = "it is of the shell script that deploys theirs; ours: docs/deploy.md"
_INSIDE: Final = "it is of the sandbox, not of the server: what programs get is in the language's catalogue"
_ALWAYS: Final = "what it hardens is always on here"


def _no_authentication(value: str, others: Others) -> bool:
    if value != "none":
        raise Unread("LibreChat's tokens hold when one of jwt.public_key, jwt.public_keys_dir and jwt.jwks is set")
    if given(others, "CODEAPI_ALLOW_AUTH_PROVIDER_NONE").lower() != "true":
        raise ValueError("none needs CODEAPI_ALLOW_AUTH_PROVIDER_NONE=true, as there")
    return False


def _storage(value: str, _others: Others) -> None:
    if value != "local":
        raise ValueError(f"{value!r} is not allowed: local, or S3 by [s3]; Google's storage speaks S3 with HMAC keys")


ROWS: Final[tuple[Theirs, ...]] = (
    Theirs(LIBRECHAT, "LIBRECHAT_CODE_API_KEY", "", "api_key", as_it_is, "the same in LibreChat's .env and here"),
    Theirs(LIBRECHAT, "LIBRECHAT_CODE_BASEURL", "", why=_NO_INTERFACE),
    Theirs(LIBRECHAT, "LIBRECHAT_CODE_BASEURL_STATEFUL", "", why=_NO_INTERFACE),
    Theirs(LIBRECHAT, "LIBRECHAT_CODE_API_URL", "", why=_NO_INTERFACE),
    Theirs(LIBRECHAT, "CODEAPI_JWT_ENABLED", "false", why=_TOKENS),
    Theirs(LIBRECHAT, "CODEAPI_JWT_PRIVATE_KEY", "", why="it is LibreChat's secret: it has no business on this host"),
    Theirs(LIBRECHAT, "CODEAPI_JWT_PRIVATE_JWK_JSON", "", why="it is LibreChat's secret: as above"),
    Theirs(LIBRECHAT, "CODEAPI_JWT_ALGORITHM", "EdDSA", why="it is said by the key: Ed25519 or RSA"),
    Theirs(LIBRECHAT, "CODEAPI_JWT_MINT_CACHE_SECONDS", "30", why=_TOKENS + "; see jwt.reuse_seconds"),
    Theirs(LIBRECHAT, "CODEAPI_JWT_SINGLE_TENANT_ID", "legacy", why=_TOKENS),
    Theirs(
        OFFICIAL, "CODEAPI_AUTH_PROVIDER", "librechat-jwt", "http.authentication", _no_authentication, "none: false"
    ),
    Theirs(
        OFFICIAL,
        "CODEAPI_ALLOW_AUTH_PROVIDER_NONE",
        "false",
        why="it is read with CODEAPI_AUTH_PROVIDER; here the bind has to be private",
        common=True,
    ),
    Theirs(OFFICIAL, "LOCAL_MODE", "false", "http.authentication", why="it is a name that is anybody's", common=True),
    Theirs(OFFICIAL, "CODEAPI_JWT_PUBLIC_KEY", "", "jwt.public_key", why="it holds the key; ours names a file with it"),
    Theirs(OFFICIAL, "CODEAPI_JWT_PUBLIC_KEYS_DIR", "", "jwt.public_keys_dir", as_it_is),
    Theirs(OFFICIAL, "CODEAPI_JWT_JWKS_JSON", "", "jwt.jwks", why="it holds the set; ours names a file with it"),
    Theirs(OFFICIAL, "CODEAPI_JWT_KID", "lc-codeapi-2026-05", "jwt.kid", as_it_is),
    Theirs(OFFICIAL, "CODEAPI_JWT_KEY_ID", "lc-codeapi-2026-05", "jwt.kid", as_it_is),
    Theirs(OFFICIAL, "CODEAPI_JWT_ISSUER", "librechat", "jwt.issuer", as_it_is),
    Theirs(OFFICIAL, "CODEAPI_JWT_AUDIENCE", "codeapi", "jwt.audience", as_it_is),
    Theirs(OFFICIAL, "CODEAPI_JWT_TTL_SECONDS", "300", "jwt.lifetime_seconds", as_it_is),
    Theirs(
        OFFICIAL,
        "CODEAPI_INTERNAL_SERVICE_TOKEN",
        "",
        "fleet.service_token",
        as_it_is,
        "at least 32 characters; without one nobody may, instead of everybody",
    ),
    Theirs(OFFICIAL, "kvmEnabled", "false", "microvm.enabled", why="it is a value of their Helm chart", common=True),
    Theirs(OFFICIAL, "hardenedSandboxMode", "true", why=f"it is a value of their Helm chart; {_ALWAYS}", common=True),
    Theirs(QWEN, "QWEN_CODE_WORK_DIR", "/tmp/qwen_code", "state_dir", as_it_is, "sandboxes themselves are in memory"),
    Theirs(QWEN, "CODE_EXEC_TIMEOUT", "120", "limits.wall_seconds", as_it_is),
    Theirs(
        QWEN,
        "SESSION_MAX_AGE_HOURS",
        "24",
        "files.retention_hours",
        as_it_is,
        "from the last use, not from the beginning",
    ),
    Theirs(QWEN, "CLEANUP_INTERVAL_MINUTES", "60", "files.sweep_minutes", as_it_is),
    Theirs(QWEN, "MAX_UPLOAD_SIZE", "52428800", "files.file_bytes", whole(1, "bytes"), "results too"),
    Theirs(QWEN, "MAX_BASE64_SIZE", "26214400", "http.base64_bytes", whole(1, "bytes")),
    Theirs(
        QWEN,
        "CORS_ORIGINS",
        "http://localhost:3080,http://localhost:3000",
        "http.cors_origins",
        origins,
        "nobody by default; not where ENABLE_CORS is false",
    ),
    Theirs(QWEN, "MPLCONFIGDIR", "/workspace", why=_INSIDE, common=True),
    Theirs(QWEN, "MPLBACKEND", "Agg", why=_INSIDE, common=True),
    Theirs(QWEN, "XDG_CACHE_HOME", "/workspace/.cache", why=_INSIDE, common=True),
    Theirs(QWEN, "OPENBLAS_NUM_THREADS", "1", why=_INSIDE, common=True),
    Theirs(QWEN, "OMP_NUM_THREADS", "1", why=_INSIDE, common=True),
    Theirs(QWEN, "PYTHONUNBUFFERED", "1", why=_INSIDE, common=True),
    Theirs(CODEEXEC, "CODEEXEC_API_KEY", "", "api_key", as_it_is),
    Theirs(CODEEXEC, "CODEEXEC_MAX_MEMORY_MB", "2048", "limits.memory_bytes", whole(1 << 20, "MB")),
    Theirs(CODEEXEC, "CODEEXEC_MAX_EXECUTION_SECONDS", "120", "limits.wall_seconds", times(1, "seconds")),
    Theirs(
        CODEEXEC,
        "CODEEXEC_MAX_CPU_SECS",
        "",
        why="it is no limit of ours: limits.wall_seconds bounds the time, limits.cpu_cores how much of it is computed",
    ),
    Theirs(
        CODEEXEC,
        "CODEEXEC_DISABLE_NETWORK",
        "",
        "execution.policy",
        when(true="default"),
        "true: default, which has none; false says nothing, for a network is a policy that grants one",
    ),
    Theirs(CODEEXEC, "CODEEXEC_STORAGE_BACKEND", "", "", _storage, "local is what is; gcs is refused: use `s3.url`"),
    Theirs(CODEEXEC, "CODEEXEC_GCS_BUCKET", "", "s3.bucket", why="it is of a storage that is reached here as S3"),
    Theirs(CODEEXEC, "CODEEXEC_*", "", why="they are not in their document; the ones above are", common=True),
    Theirs(CODEEXEC, "PROJECT_ID", "", why=_BUILD, common=True),
    Theirs(CODEEXEC, "REGION", "", why=_BUILD, common=True),
    Theirs(CODEEXEC, "SERVICE_NAME", "", why=_BUILD, common=True),
    Theirs(CODEEXEC, "REPO", "", why=_BUILD, common=True),
    *API_ROWS,
)
"""In the order of the table. Each either has a reading that works, or says why not: a test holds it to that."""
