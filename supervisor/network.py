"""What a sandbox may reach, in words. Pure. Without a grant there is nothing but its own loopback."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from supervisor.errors import InvalidRequest
from supervisor.policy import Policy
from supervisor.views import NetworkAnswer

MAX_URL: Final = 2048
_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain"})


def explain(policy: Policy, url: str) -> NetworkAnswer:
    """Say whether a program under this policy could reach ``url``, and why not.

    Raises:
        InvalidRequest: it is no URL with a host.
    """
    host = _host(url)
    if host in _LOOPBACK_NAMES or _is_loopback(host):
        return NetworkAnswer(
            allowed=True,
            reason="this is the sandbox itself: what listens there was started in the same session",
            advice="start a server with start_process and reach it at 127.0.0.1 from execute_code or run_command",
        )
    assert policy.network == "none"
    return NetworkAnswer(
        allowed=False,
        reason=f"the policy {policy.name!r} gives sandboxes no network: every address but loopback is unreachable",
        advice="do not try again or look for another way; ask the user for the data, or to have the operator "
        f"allow {host}",
    )


def _host(url: str) -> str:
    if len(url) > MAX_URL:
        raise InvalidRequest(f"a URL has at most {MAX_URL} characters", field="url")
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host = (parts.hostname or "").rstrip(".").lower()
        _port = parts.port
    except ValueError:
        host = ""
    if not host or any(not each.isprintable() or each.isspace() for each in host):
        raise InvalidRequest("it is no URL with a host, as https://example.org/path", field="url")
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
