"""``gaoler egress presets | explain | log | suggest``."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from egress.names import BadName, canonical_host
from supervisor.errors import ConfigurationError
from supervisor.logs.turned_over import read_lines
from supervisor.network.audit import AUDIT_FILE
from supervisor.network.explain import explain
from supervisor.network.preparation import rule_source
from supervisor.network.presets import as_rows, read_presets
from supervisor.network.rule_files import read_rule_sets
from supervisor.policy import load_policies
from supervisor.preparation.prepare import policy_directory
from supervisor.settings.tree import Settings

ALL_LINES: Final = 10_000_000
"""More than are kept."""
_SIGNS: Final = {"allowed": "ok     ", "refused": "REFUSED", "failed": "failed "}
_SUGGESTED: Final = frozenset({"host", "port", "scheme", "address", "method", "path"})
"""Codes of refusals that a rule would mend; the others are tricks, or broken."""


def presets(*, as_json: bool) -> None:
    """Print what the presets mean."""
    found = read_presets(os.environ, Path.home())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    table = Table("preset", "host", "where that stands", box=None, pad_edge=False)
    for row in as_rows(found):
        table.add_row(*row)
    Console().print(table)


@dataclass(frozen=True, slots=True)
class Explained:
    """What to explain. ``policy``: by name (``None``: the one in force); ``method``: of a request (``None``: any)."""

    url: str
    policy: str | None = None
    method: str | None = None


def explain_url(settings: Settings, wish: Explained, *, as_json: bool = False) -> bool:
    """Print whether a sandbox could reach a URL; say so.

    Raises:
        ConfigurationError: there is no such policy, or a rule is wrong.
        InvalidRequest: it is no URL, or no method.
    """
    policies = load_policies(policy_directory(settings))
    policy = policies.get(wish.policy or settings.execution.policy)
    if policy is None:
        known = ", ".join(policies)
        raise ConfigurationError(f"there is no policy {wish.policy!r}; there are: {known}", field="policy")
    rules: tuple[Any, ...] = ()
    if policy.network == "egress":
        source = rule_source(settings, policy, read_presets(os.environ, Path.home()), {})
        sets = read_rule_sets(source.directory, source.given, source.presets, source.names)
        rules = tuple(rule for each in policy.egress for rule in sets[each].rules)
    answer = explain(policy, rules, wish.url, wish.method, to_operator=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return answer.allowed
    click.echo(f"{'allowed' if answer.allowed else 'refused'}: {answer.reason}")
    if answer.missing is None:
        click.echo(f"  -> {answer.advice}")
    else:
        click.echo(f"  missing: {answer.missing}")
        click.echo(f"  -> to allow it, write: {answer.write}")
    return answer.allowed


# -- the audit --


@dataclass(frozen=True, slots=True)
class LogWish:
    """What to show of the audit."""

    session: str | None
    refused_only: bool
    follow: bool
    as_json: bool


def show_log(settings: Settings, wish: LogWish) -> None:
    """Print lines of the audit, the oldest first; with ``follow`` until it is interrupted.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        for line in read_lines(_audit_path(settings), ALL_LINES, follow=wish.follow):
            entry = _decoded(line)
            if entry is None or (wish.session is not None and entry.get("session") != wish.session):
                continue
            if wish.refused_only and entry.get("verdict") == "allowed":
                continue
            click.echo(line if wish.as_json else _in_words(entry))
            sys.stdout.flush()
    except KeyboardInterrupt:
        return


def suggest_rules(settings: Settings, session: str | None, hours: float, *, as_json: bool = False) -> None:
    """Print rules for what was refused.

    Raises:
        ConfigurationError: there is no audit.
    """
    since = datetime.fromtimestamp(time.time() - hours * 3600, UTC).isoformat("T", "milliseconds")
    wanted: Counter[tuple[str, str, int]] = Counter()
    opened: dict[tuple[str, str, int], str] = {}
    for line in read_lines(_audit_path(settings), ALL_LINES, follow=False):
        entry = _decoded(line)
        if entry is None or entry.get("verdict") != "refused" or str(entry.get("time", "")) < since:
            continue
        if session is not None and entry.get("session") != session:
            continue
        _count(entry, wanted, opened)
    if as_json:
        rules = [
            {"hosts": [host], "schemes": [scheme], "ports": [port], "refused": count}
            | ({"address": opened[host, scheme, port]} if (host, scheme, port) in opened else {})
            for (host, scheme, port), count in wanted.most_common()
        ]
        click.echo(msgspec.json.format(msgspec.json.encode({"rules": rules})).decode())
        return
    if not wanted:
        click.echo("Nothing was refused that a rule would allow.", err=True)
        return
    click.echo("# Rules for what was refused. Take only what you know; then into a file of policies/egress.\n")
    for (host, scheme, port), count in wanted.most_common():
        click.echo(_as_rule(host, scheme, port, count, opened.get((host, scheme, port))))


def _count(
    entry: Mapping[str, Any], wanted: Counter[tuple[str, str, int]], opened: dict[tuple[str, str, int], str]
) -> None:
    """Count a refusal that a rule would mend. The audit repeats what sandboxes said, so names are checked again."""
    if entry.get("code") not in _SUGGESTED:
        return
    try:
        host = canonical_host(str(entry.get("host", ""))).text
    except BadName:
        return
    kind, port = entry.get("kind"), int(entry.get("port", 443))
    if kind == "dns":
        port = 443
    scheme = {"http": "http", "raw": "raw"}.get(str(kind), "https")
    wanted[host, scheme, port] += 1
    if entry.get("code") == "address" and isinstance(entry.get("reason"), str):
        opened[host, scheme, port] = str(entry["reason"])


def _as_rule(host: str, scheme: str, port: int, count: int, why: str | None) -> str:
    lines = [
        "[[rule]]",
        f'hosts = ["{host}"]',
        f'schemes = ["{scheme}"]',
        f"ports = [{port}]",
        f'reason = "refused {count} time(s)"',
    ]
    if why is not None:
        lines.append(f"# {''.join(each for each in why if each.isprintable())}: it would need addresses = [...] too")
    return "\n".join(lines) + "\n"


def _audit_path(settings: Settings) -> Path:
    path = settings.state_path / "data" / AUDIT_FILE
    try:
        if path.exists():
            return path
    except PermissionError:
        raise ConfigurationError("the audit belongs to the daemon: run it with sudo", field="state_dir") from None
    raise ConfigurationError(
        f"there is no network audit in {settings.state_dir}: the policy has no network, or nothing used it",
        field="state_dir",
    )


def _decoded(line: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return None


def _in_words(entry: Mapping[str, Any]) -> str:
    """Lay a line out for a person; what came from a sandbox is shown without control characters."""
    what = f"{entry.get('method', '')} {entry.get('host')}:{entry.get('port')}{entry.get('path', '')}".strip()
    parts = [
        str(entry.get("time", ""))[11:23],
        _SIGNS.get(str(entry.get("verdict")), "?"),
        str(entry.get("kind")),
        what,
    ]
    parts += _details(entry)
    return "".join(each if each.isprintable() else "?" for each in "  ".join(parts))


def _details(entry: Mapping[str, Any]) -> Iterable[str]:
    if entry.get("verdict") == "allowed":
        yield f"({entry.get('rule')}, {entry.get('address')}, {entry.get('sent')} up, {entry.get('received')} down"
        yield f"{entry.get('seconds')} s)"
    else:
        yield str(entry.get("reason"))
    yield f"[{entry.get('session')}]"
