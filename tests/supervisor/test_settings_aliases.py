"""Other servers' names of settings: each is read as ours, or has a reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.errors import ConfigurationError
from supervisor.policy import load_policies
from supervisor.settings.aliases import Theirs
from supervisor.settings.loading import Loaded, leaves, load
from supervisor.settings.theirs import ROWS

KEY = "a-key-of-sixteen-and-more"
SAMPLES = {
    "CODEAPI_AUTH_PROVIDER": "none",
    "CODEAPI_INTERNAL_SERVICE_TOKEN": "t" * 32,
    "CODEAPI_JWT_PUBLIC_KEYS_DIR": "/etc/keys",
    "CODEEXEC_DISABLE_NETWORK": "true",
    "CODEEXEC_STORAGE_BACKEND": "local",
    "CODEEXEC_API_KEY": KEY,
    "CORS_ORIGINS": "https://a.example, https://b.example",
    "ENABLE_CORS": "false",
    "LIBRECHAT_CODE_API_KEY": KEY,
    "LOG_FILE": "/var/log/gaoler/gaoler.log",
    "API_KEY": KEY,
    "API_KEYS": f"{KEY}-1,{KEY}-2",
    "MASTER_API_KEY": KEY,
    "REDIS_URL": "redis://127.0.0.1",
    "REDIS_PASSWORD": "hush",
    "REPL_ENABLED": "false",
    "SANDBOX_POOL_ENABLED": "false",
    "API_HOST": "127.0.0.2",
    "ENABLE_HTTPS": "false",
}
"""Where their default says nothing or is not allowed here; they are checked like any value."""
BESIDE = {
    "CODEAPI_AUTH_PROVIDER": {"CODEAPI_ALLOW_AUTH_PROVIDER_NONE": "true"},
    "REDIS_PORT": {"REDIS_HOST": "127.0.0.1"},
    "S3_ENDPOINT": {"S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"},
    "SSL_CERT_FILE": {"ENABLE_HTTPS": "true", "SSL_KEY_FILE": "/k.pem"},
    "SSL_KEY_FILE": {"ENABLE_HTTPS": "true", "SSL_CERT_FILE": "/c.pem"},
}


def aliases(environment: Mapping[str, str], *, serving: bool = True, file: Path | None = None) -> Loaded:
    return load(file=file, environment=environment, flags={}, serving=serving)


def refusal(**environment: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        aliases(environment)
    return caught.value.message


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_of_their_names_is_read_or_has_a_reason(row: Theirs) -> None:
    known = {leaf.key for leaf in leaves()}
    assert row.key in known | {""}
    if row.reading is None:
        assert len(row.why) > 10
        return
    value = SAMPLES.get(row.name, row.default)
    loaded = aliases({row.name: value, **BESIDE.get(row.name, {})})
    if row.key:
        assert loaded.origins[row.key] == f"environment {row.name}"
        assert [each for each in loaded.notices if each.startswith(f"{row.name} is read as {row.key}; GAOLER_")]
    else:
        assert loaded.notices == ()


def test_each_of_their_names_has_one_row() -> None:
    names = [row.name for row in ROWS]
    assert sorted(set(names)) == sorted(names)
    assert not [name for name in names if name.startswith("GAOLER_")]


def test_units_are_converted() -> None:
    found = aliases(
        {
            "MAX_MEMORY_MB": "512",
            "MAX_EXECUTION_TIME": "120",
            "MAX_FILE_SIZE_MB": "1.5",
            "STATE_ARCHIVE_TTL_DAYS": "2",
            "SESSION_TTL_HOURS": "48",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "JSON",
        }
    ).settings
    assert (found.limits.memory_bytes, found.limits.wall_seconds) == (512 << 20, 120.0)
    assert (found.files.file_bytes, found.files.retention_hours, found.live.archive_hours) == (3 << 19, 48.0, 48.0)
    assert (found.log.level, found.log.format) == ("DEBUG", "json")


def test_names_that_say_something_together_are_read_together() -> None:
    assert aliases({"PORT": "9000"}).settings.bind == "127.0.0.1:9000"
    assert aliases({"PORT": "9000", "API_HOST": "0.0.0.0"}).settings.bind == "0.0.0.0:9000"
    assert aliases({"API_HOST": "::1"}).settings.bind == "[::1]:8000"
    keys = {"S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"}
    assert aliases({"S3_ENDPOINT": "s3.example:3900", **keys}).settings.s3.url == "http://s3.example:3900"
    secure = {"S3_ENDPOINT": "s3.example", "S3_SECURE": "true", **keys}
    assert aliases(secure).settings.s3.url == "https://s3.example"
    assert aliases({"CORS_ORIGINS": "https://a.example, https://b.example/"}).settings.http.cors_origins == (
        "https://a.example,https://b.example"
    )
    assert aliases({"CORS_ORIGINS": "https://a.example", "ENABLE_CORS": "false"}).settings.http.cors_origins == ""
    assert aliases({"SANDBOX_POOL_PY": "7", "SANDBOX_POOL_ENABLED": "false"}).settings.cells.floor == 0
    both = {"REDIS_URL": "redis://127.0.0.1", "REDIS_HOST": "elsewhere", "REDIS_PORT": "tcp://10.0.0.1:6379"}
    assert aliases(both).settings.redis.host == ""


def test_https_is_what_somebody_asked_for_with_both_files_and_no_other_programs_variable() -> None:
    files = {"SSL_CERT_FILE": "/c.pem", "SSL_KEY_FILE": "/k.pem"}
    assert aliases(files).settings.tls.certificate == ""
    assert aliases({**files, "ENABLE_HTTPS": "false"}).settings.tls.certificate == ""
    wanted = aliases({**files, "ENABLE_HTTPS": "true"}).settings.tls
    assert (wanted.certificate, wanted.key) == ("/c.pem", "/k.pem")


def test_links_of_kubernetes_to_services_are_no_settings() -> None:
    loaded = aliases({"REDIS_PORT": "tcp://10.0.0.1:6379", "API_PORT": "tcp://10.0.0.2:80"})
    assert (loaded.settings.bind, loaded.settings.redis.port) == ("127.0.0.1:8000", 6379)
    assert len(loaded.notices) == 2


def test_whatever_is_said_in_our_words_wins_and_that_is_told(tmp_path: Path) -> None:
    file = tmp_path / "g.toml"
    file.write_text("[files]\nretention_hours = 5\n")
    loaded = aliases({"SESSION_TTL_HOURS": "48", "API_KEY": KEY, "GAOLER_API_KEY": KEY + "-ours"}, file=file)
    assert loaded.settings.files.retention_hours == 5.0
    assert loaded.settings.api_key == KEY + "-ours"
    assert list(loaded.notices) == [
        "API_KEY is not read: api_key is said by environment GAOLER_API_KEY",
        f"SESSION_TTL_HOURS is not read: files.retention_hours is said by {file}",
    ]


def test_what_is_only_about_serving_means_nothing_to_other_commands() -> None:
    loaded = aliases({"PORT": "3000", "LOG_LEVEL": "trace", "API_KEY": KEY}, serving=False)
    assert loaded.settings.bind == "127.0.0.1:8000"
    assert loaded.settings.api_key == KEY


def test_all_of_it_can_be_switched_off_and_empty_is_not_set() -> None:
    assert aliases({"PORT": "nonsense", "GAOLER_ALIASES": "false"}).notices == ()
    assert aliases({"PORT": "", "API_KEY": " ", "REDIS_URL": ""}).notices == ()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MAX_MEMORY_MB": "lots"}, ["MAX_MEMORY_MB", "a number of MB"]),
        ({"SESSION_TTL_HOURS": "0"}, ["SESSION_TTL_HOURS", "files.retention_hours", "more than 0"]),
        ({"PORT": "http"}, ["PORT", "65535"]),
        ({"PORT": "99999"}, ["PORT", "65535"]),
        ({"API_DEBUG": "true"}, ["API_DEBUG", "does not exist"]),
        ({"AUTH_ENABLED": "false"}, ["AUTH_ENABLED", "http.authentication"]),
        ({"ENABLE_NETWORK_ISOLATION": "no"}, ["ENABLE_NETWORK_ISOLATION"]),
        ({"ENABLE_CORS": "true"}, ["ENABLE_CORS", "http.cors_origins"]),
        ({"ENABLE_HTTPS": "true"}, ["ENABLE_HTTPS", "SSL_CERT_FILE"]),
        ({"CODEEXEC_STORAGE_BACKEND": "gcs"}, ["CODEEXEC_STORAGE_BACKEND", "S3"]),
        ({"CODEAPI_AUTH_PROVIDER": "none"}, ["CODEAPI_ALLOW_AUTH_PROVIDER_NONE"]),
        ({"API_KEY": "test-api-key"}, ["environment API_KEY", "at least 16"]),
        ({"API_KEYS": f"{KEY},short"}, ["environment API_KEYS", "at least 16"]),
        ({"API_KEY": KEY, "MASTER_API_KEY": KEY}, ["environment MASTER_API_KEY", "another"]),
        ({"S3_ENDPOINT": "localhost:3900"}, ["s3.access_key"]),
        ({"API_KEY": KEY, "LIBRECHAT_CODE_API_KEY": KEY + "2"}, ["LIBRECHAT_CODE_API_KEY", "API_KEY", "different"]),
        ({"ENABLE_SANDBOX_NETWORK": "true", "CODEEXEC_DISABLE_NETWORK": "true"}, ["different", "execution.policy"]),
    ],
)
def test_a_value_that_cannot_hold_refuses_and_names_the_variable(
    environment: Mapping[str, str], words: list[str]
) -> None:
    message = refusal(**environment)
    assert [word for word in words if word not in message] == []
    assert KEY not in message


def test_a_secret_in_another_servers_words_is_in_no_notice() -> None:
    loaded = aliases({"API_KEY": KEY, "REDIS_PASSWORD": "hush", "NSJAIL_BINARY": "/x"})
    assert not re.search(rf"{KEY}|hush", "".join(loaded.notices))
    assert any("NSJAIL_BINARY is not read: it comes with Gaoler" in each for each in loaded.notices)


def test_the_limits_of_the_policy_in_force_can_be_set_and_nothing_else_of_it() -> None:
    from supervisor.preparation.prepare import read_policy

    before = load_policies()
    policies, policy = read_policy(aliases({"MAX_MEMORY_MB": "256", "MAX_EXECUTION_TIME": "10"}).settings)
    assert (policy.limits.memory_bytes, policy.limits.wall_seconds) == (256 << 20, 10.0)
    # Of what is not set only what would no longer fit gives way.
    assert policy.limits.temporary_bytes == 128 << 20
    assert policies["default"] is policy
    assert policies["packages"] == before["packages"]
    assert policy.seccomp_source == before["default"].seccomp_source
    assert read_policy(aliases({}).settings)[1] == before["default"]


@pytest.mark.parametrize(
    ("environment", "field"),
    [
        ({"MAX_MEMORY_MB": "4"}, "limits.memory_bytes"),
        ({"GAOLER_LIMITS_PROCESSES": "2"}, "limits.processes"),
        ({"GAOLER_LIMITS_MEMORY_BYTES": str(64 << 20), "SANDBOX_TMPFS_SIZE_MB": "64"}, "limits.temporary_bytes"),
    ],
)
def test_a_limit_that_no_policy_could_have_is_refused(environment: Mapping[str, str], field: str) -> None:
    from supervisor.preparation.prepare import read_policy

    with pytest.raises(ConfigurationError, match=field):
        read_policy(aliases(environment).settings)
