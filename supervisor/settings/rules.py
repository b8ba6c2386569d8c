"""Rules between settings: what one of them needs of another. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

from supervisor.errors import ConfigurationError
from supervisor.settings.doors import HttpSettings, TlsSettings
from supervisor.settings.sandboxes import MicrovmSettings
from supervisor.settings.tree import Settings

SHORTEST_KEY: Final = 16
_KEY_RULE: Final = f"at least {SHORTEST_KEY} characters"


def is_private_bind(bind: str) -> bool:
    """Say whether only this host can reach the bind: a unix socket or a loopback address."""
    host = bind.rpartition(":")[0].strip("[]")
    return bind.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")


def check(settings: Settings) -> None:
    """Hold the settings against each other.

    Raises:
        ConfigurationError: two of them contradict; ``field`` is the key.
    """
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
    _refuse(tls.client_key and not tls.client_certificate, "tls.client_key", "goes with tls.client_certificate")


def _check_proxies(http: HttpSettings) -> None:
    for each in filter(None, http.trusted_proxies.split(",")):
        try:
            _ = each == "unix" or ipaddress.ip_network(each)
        except ValueError as error:
            raise ConfigurationError(f"http.trusted_proxies: {error}", field="http.trusted_proxies") from None


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


def _refuse(wrong: object, key: str, rule: str) -> None:
    if wrong:
        raise ConfigurationError(f"{key} {rule}", field=key)
