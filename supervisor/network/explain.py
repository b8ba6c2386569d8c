"""What a sandbox may reach, in words. Pure. Without a network there is nothing but its own loopback."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from egress.addresses import fault
from egress.allowlist import Ask, Refusal, Rule, decide_request
from egress.names import canonical_host
from egress.targets import BadTarget, checked_method, checked_path, is_ambiguous
from supervisor.errors import InvalidRequest
from supervisor.policy import Policy
from supervisor.workspace.views import NetworkAnswer

MAX_URL: Final = 2048
SHOWN_NAMES: Final = 8
"""Paths or methods of a rule that an answer lists."""
_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain"})
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.ASCII | re.IGNORECASE)
_NOT_YET: Final = "do not try again or look for another way; ask the user for the data, or to have the operator"


def explain(
    policy: Policy, rules: Sequence[Rule], url: str, method: str | None = None, *, to_operator: bool = False
) -> NetworkAnswer:
    """Say whether a program under this policy could reach ``url``, and why not. Nothing is resolved or reached.

    ``rules`` are those of the policy that hold now; ``method``: of an HTTP request (``None``: whichever). The paths of
    rules are told only ``to_operator``: one that callers share may name another one's secret address.

    Raises:
        InvalidRequest: it is no URL with a host, or no method.
    """
    ask = asked(url, method)
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
            advice=f"{_NOT_YET} allow {host}",
            missing="network",
            write=f'in the policy {policy.name!r}: network = "egress" and egress = [...] with the names of rules',
        )
    found = decide_request(rules, ask, f"policy {policy.name!r}")
    if isinstance(found, Refusal):
        return _refused(found, ask, to_operator=to_operator)
    return _allowed(found, ask)


def _refused(found: Refusal, ask: Ask, *, to_operator: bool) -> NetworkAnswer:
    """Say what exactly no rule allows. What comes before it is allowed, by the rule that is named."""
    rule = found.rule
    write, why = found.ask_for, found.why
    if rule is not None and found.code == "path":
        write = f"this path in rule {rule.name}"
        if to_operator:
            path = (ask.path or "/").partition("?")[0]
            why = f"{why}, only {_listed(rule.paths)} and what lies below"
            write = f"paths = [{_quoted([*rule.paths, path])}] in rule {rule.name}"
        if is_ambiguous(ask.path or "/"):
            why += "; a path with dot segments, empty segments, or encoded slashes or dots lies below none"
            write = "no rule with paths can allow it: ask for the path in its plain form"
    elif rule is not None and found.code == "method":
        why = f"{why}, only {_listed(rule.methods)}"
        write = f"methods = [{_quoted([*rule.methods, ask.method or ''])}] in rule {rule.name}"
    elif rule is not None:
        write = f"{write}, in a rule of its own, or in rule {rule.name}"
    before = _ALLOWED_BEFORE.get(found.code)
    if before is not None:
        why = f"{why} ({before} it allows)"
    return NetworkAnswer(
        allowed=False,
        reason=f"{found.what}: {why}",
        advice=f"{_NOT_YET} allow it: {found.ask_for if rule is None else write}",
        rule=None if rule is None else rule.name,
        missing=found.code,
        write=write,
    )


_ALLOWED_BEFORE: Final = {
    "port": "the host",
    "scheme": "host and port",
    "method": "host, port and scheme",
    "path": "host, port, scheme and method",
}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def _quoted(names: Sequence[str]) -> str:
    """Write strings as TOML has them, which JSON's are too."""
    return ", ".join(msgspec.json.encode(name).decode() for name in names)


def _allowed(rule: Rule, ask: Ask) -> NetworkAnswer:
    """Say what a rule allows, and what it checks only when a connection is made."""
    if ask.host.address is not None:
        why = fault(ask.host.address, rule.reachable)
        if why is not None:
            reason = f"rule {rule.name} names it, but {ask.host.text} is {why}"
            write = f'addresses = ["{ask.host.text}"] in rule {rule.name}'
            return NetworkAnswer(
                allowed=False,
                reason=reason,
                advice=f"ask the operator for {write}",
                rule=rule.name,
                missing="address",
                write=write,
            )
    parts = [f"rule {rule.name} allows it"]
    if ask.scheme != "raw" and "raw" in rule.schemes:
        parts.append("nobody looks at what is spoken there")
    elif ask.scheme == "https" and not rule.intercept and (ask.method is not None or ask.path not in (None, "/")):
        parts.append("it does not look into TLS, so any method and path")
    elif rule.methods and ask.method is None:
        parts.append(f"methods: {', '.join(rule.methods)}")
    if rule.total_bytes is not None:
        parts.append(f"at most {rule.total_bytes} bytes of one sandbox")
    advice = "connect as usual; no proxy has to be set"
    if ask.host.address is None:
        advice += "; the address that the name leads to is checked then"
    return NetworkAnswer(allowed=True, reason="; ".join(parts), advice=advice, rule=rule.name)


def asked(url: str, method: str | None = None) -> Ask:
    """Read a URL as what a program would ask for, a request of this method if it is one of HTTP.

    Raises:
        InvalidRequest: it is no URL with a host, or no method.
    """
    if len(url) > MAX_URL:
        raise InvalidRequest(f"a URL has at most {MAX_URL} characters", field="url")
    text = url.strip()
    written = _SCHEME.match(text)
    # An address in the query is none of its own.
    scheme, rest = (written[1].lower(), text[written.end() :]) if written else ("https", text)
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = canonical_host(parts.hostname or ""), parts.port
    except ValueError:
        raise InvalidRequest("it is no URL with a host, as https://example.org/path", field="url") from None
    if scheme in ("http", "https"):
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        usual = 80 if scheme == "http" else 443
        return Ask(host, port or usual, "http" if scheme == "http" else "https", _method(method), _path(path))
    if port is None:
        raise InvalidRequest(f"a URL of the scheme {scheme[:20]!r} needs a port", field="url")
    return Ask(host, port, "raw")


def _path(text: str) -> str:
    try:
        return checked_path(text)
    except BadTarget:
        raise InvalidRequest(
            "its path holds what is sent only in percent-encoded form, as %20 for a space", field="url"
        ) from None


def _method(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return checked_method(text.upper())
    except BadTarget as error:
        raise InvalidRequest(f"{error}: one as GET or POST, and never TRACE", field="method") from None
