"""What a sandbox may reach, in words. Pure. Without a network there is nothing but its own loopback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from egress.addresses import fault
from egress.allowlist import Ask, Refusal, Rule, decide
from egress.names import canonical_host
from supervisor.errors import InvalidRequest
from supervisor.policy import Policy
from supervisor.views import NetworkAnswer

MAX_URL: Final = 2048
_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain"})


def explain(policy: Policy, rules: Sequence[Rule], url: str) -> NetworkAnswer:
    """Say whether a program under this policy could reach ``url``, and why not. Nothing is resolved or reached.

    ``rules`` are those of the policy that hold now.

    Raises:
        InvalidRequest: it is no URL with a host.
    """
    ask = asked(url)
    host = ask.host.text
    if host in _LOOPBACK_NAMES or (ask.host.address is not None and ask.host.address.is_loopback):
        return NetworkAnswer(
            allowed=True,
            reason="this is the sandbox itself: what listens there was started in the same session",
            advice="start a server with start_process and reach it at 127.0.0.1 from execute_code or run_command",
        )
    if policy.network == "none":
        return NetworkAnswer(
            allowed=False,
            reason=f"the policy {policy.name!r} gives sandboxes no network: every address but loopback is unreachable",
            advice="do not try again or look for another way; ask the user for the data, or to have the operator "
            f"allow {host}",
        )
    found = decide(rules, ask, f"policy {policy.name!r}")
    if isinstance(found, Refusal):
        return NetworkAnswer(
            allowed=False,
            reason=f"{found.what}: {found.why}",
            advice="do not try again or look for another way; ask the user for the data, or to have the operator "
            f"allow it: {found.ask_for}",
        )
    return _allowed(found, ask)


def _allowed(rule: Rule, ask: Ask) -> NetworkAnswer:
    """Say what a rule allows, and what it checks only when a connection is made."""
    if ask.host.address is not None:
        why = fault(ask.host.address, rule.reachable)
        if why is not None:
            reason = f"rule {rule.name} names it, but {ask.host.text} is {why}"
            advice = f'ask the operator for addresses = ["{ask.host.text}"] in rule {rule.name}'
            return NetworkAnswer(allowed=False, reason=reason, advice=advice)
    parts = [f"rule {rule.name} allows it"]
    if rule.methods:
        parts.append(f"methods: {', '.join(rule.methods)}")
    if rule.total_bytes is not None:
        parts.append(f"at most {rule.total_bytes} bytes of one sandbox")
    advice = "connect as usual; no proxy has to be set"
    if ask.host.address is None:
        advice += "; the address that the name leads to is checked then"
    return NetworkAnswer(allowed=True, reason="; ".join(parts), advice=advice)


def asked(url: str) -> Ask:
    """Read a URL as what a program would ask for.

    Raises:
        InvalidRequest: it is no URL with a host.
    """
    if len(url) > MAX_URL:
        raise InvalidRequest(f"a URL has at most {MAX_URL} characters", field="url")
    text = url.strip()
    scheme, _, rest = text.rpartition("://")
    scheme = scheme.lower() or "https"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = canonical_host(parts.hostname or ""), parts.port
    except ValueError:
        raise InvalidRequest("it is no URL with a host, as https://example.org/path", field="url") from None
    if scheme == "http":
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return Ask(host, port or 80, "http", None, path or "/")
    if scheme == "https":
        return Ask(host, port or 443, "https")
    if port is None:
        raise InvalidRequest(f"a URL of the scheme {scheme[:20]!r} needs a port", field="url")
    return Ask(host, port, "raw")
