"""``gaoler egress rules | allow | remove | reset | refused``: the rules of a running daemon, and what they refused."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from supervisor.commands.completion import complete_rules
from supervisor.commands.console import (
    ask,
    json_option,
    moment,
    no_color_option,
    operating_errors,
    print_json,
    print_table,
    table,
    url_option,
    visible,
)
from supervisor.commands.options import absolute, config_option, load_settings, state_dir_option
from supervisor.errors import ConfigurationError

if TYPE_CHECKING:
    from supervisor.settings.tree import Settings

MOST: Final = 1000
USUAL_REASON: Final = "allowed by an operator"


def _operating(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that ask a running daemon."""
    options = (json_option, url_option, no_color_option, state_dir_option, config_option)
    return reduce(lambda made, option: option(made), reversed(options), command)


@click.command("rules")
@_operating
def egress_rules(*, as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """List the rules that hold in a running daemon, by the names that 'remove' takes."""
    with operating_errors():
        found = ask(load_settings(config, {"state_dir": absolute(state_dir)}).settings, url, "GET", "egress")
        if as_json:
            print_json(found)
            return
        if not found["enabled"]:
            click.echo("The policy in force gives sandboxes no network: no rule holds.", err=True)
        made = table("rule", "hosts", "schemes", "ports", "only", "reason", "from")
        for each in found["sets"]:
            for name, rule in _named(each):
                made.add_row(name, *map(visible, _cells(rule)), each["origin"])
        print_table(made)


def _named(each: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Give the rules of a set by name, else by number, as the audit names them."""
    rules = enumerate(each["written"], 1)
    return [(f"{each['name']}/{rule.get('name') or number}", rule) for number, rule in rules]


def _cells(rule: Mapping[str, Any]) -> tuple[str, ...]:
    hosts = rule.get("hosts") or [f"preset {rule.get('preset')}"]
    only = [*rule.get("methods", ()), *rule.get("paths", ())]
    schemes, ports = rule.get("schemes") or (), rule.get("ports") or ()
    return " ".join(hosts), " ".join(schemes), " ".join(map(str, ports)), " ".join(only), rule["reason"]


@click.command("allow")
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@click.option("--set", "name", metavar="SET", help="Set of rules; where the policy names only one, that one.")
@click.option("--rule", metavar="NAME", help="What the rule is called; else it has a number.")
@click.option("--scheme", "schemes", multiple=True, type=click.Choice(["https", "http", "raw"]), help="Default: https.")
@click.option("--port", "ports", multiple=True, type=click.IntRange(1, 65_535), help="Default: those of the schemes.")
@click.option("--method", "methods", multiple=True, metavar="NAME", help="Only this method, as GET.")
@click.option("--path", "paths", multiple=True, metavar="PATH", help="Only this path and what lies below.")
@click.option("--address", "addresses", multiple=True, metavar="RANGE", help="Open this range that is not public.")
@click.option("--intercept", is_flag=True, help="Look into TLS, so that methods and paths count there.")
@click.option("--reason", default=USUAL_REASON, show_default=True, help="Kept with the rule, for whoever asks later.")
@_operating
def egress_allow(
    *,
    hosts: tuple[str, ...],
    name: str | None,
    rule: str | None,
    schemes: tuple[str, ...],
    ports: tuple[int, ...],
    methods: tuple[str, ...],
    paths: tuple[str, ...],
    addresses: tuple[str, ...],
    intercept: bool,
    reason: str,
    as_json: bool,
    url: str | None,
    state_dir: str | None,
    config: Path | None,
) -> None:
    """Add a rule to a running daemon's: every sandbox of a policy that names the set may reach HOST from now on.

    HOST is a name, *.NAME, or an address. It is kept, and stands in for the file of the set until 'reset'.
    """
    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        parts = {
            "name": rule,
            "hosts": hosts,
            "schemes": schemes,
            "ports": ports,
            "methods": [each.upper() for each in methods],
            "paths": paths,
            "addresses": addresses,
            "intercept": intercept,
            "reason": reason,
        }
        body = {"set": name or _only_set(settings, url), "rule": {key: value for key, value in parts.items() if value}}
        found = ask(settings, url, "POST", "egress/allow", body)
        _say(found, f"{_named(found)[-1][0]} holds now", as_json=as_json)


@click.command("remove")
@click.argument("rule", metavar="SET/RULE", shell_complete=complete_rules)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_operating
def egress_remove(
    *, rule: str, yes: bool, as_json: bool, url: str | None, state_dir: str | None, config: Path | None
) -> None:
    """Take a rule of 'gaoler egress rules' from a running daemon; what only it allowed is cut. On a terminal it asks.

    That is kept, and stands in for the file of the set until 'reset'.
    """
    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        named = {key: (each["name"], found) for each in _sets(settings, url) for key, found in _named(each)}
        if rule not in named:
            known = ", ".join(named) or "none"
            raise ConfigurationError(f"there is no rule {rule!r}; there are: {known}", field="rule")
        name, written = named[rule]
        if not yes and sys.stdin.isatty():
            click.confirm(visible(f"Remove {rule} ({_cells(written)[0]}: {written['reason']})?"), abort=True, err=True)
        found = ask(settings, url, "POST", "egress/remove", {"set": name, "rule": written})
        _say(found, f"{rule} is removed", as_json=as_json)


@click.command("reset")
@click.argument("name", metavar="SET")
@_operating
def egress_reset(*, name: str, as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """Go back to the file of a set: what was allowed and removed since is forgotten."""
    from supervisor.commands.api_client import segment

    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        found = ask(settings, url, "DELETE", f"egress/{segment(name)}")
        _say(found, f"{name}: the rules of {found['origin']} hold again", as_json=as_json)


def _say(found: Mapping[str, Any], words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        click.echo(visible(words))
    if not found["applied"]:
        click.echo("gaoler: the proxy has not answered: it is told when it comes", err=True)


def _sets(settings: Settings, url: str | None) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = ask(settings, url, "GET", "egress")["sets"]
    return found


def _only_set(settings: Settings, url: str | None) -> str:
    names = [each["name"] for each in _sets(settings, url)]
    if not names:
        raise ConfigurationError(
            "the policy in force names no rules: choose one with a network (execution.policy)", field="set"
        )
    if len(names) > 1:
        raise ConfigurationError(f"--set says which: {', '.join(names)}", field="set")
    return str(names[0])


@click.command("refused")
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="At most.")
@_operating
def egress_refused(*, limit: int, as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """List what a running daemon's proxy refused lately, the latest first, and the command that would allow it."""
    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        found = ask(settings, url, "GET", f"egress/log?verdict=refused&limit={limit}")
        if as_json:
            print_json(found)
            return
        made = table("time", "who", "where to", "why", "session", "to allow it")
        for each in found["records"]:
            made.add_row(*map(visible, _refused_cells(each)))
        print_table(made)


def _refused_cells(each: Mapping[str, Any]) -> tuple[str, ...]:
    where = f"{each.get('method') or ''} {each.get('host')}:{each.get('port')}{each.get('path') or ''}".strip()
    user = each.get("user") or each.get("credential") or ""
    why = str(each.get("reason") or each.get("code") or "")
    return moment(each["time"]), str(user), where, why, str(each.get("session") or ""), command_for(each["suggestion"])


def command_for(suggestion: Mapping[str, Any] | None) -> str:
    """Write the command that allows what a record suggests; empty where no rule may. Pure."""
    if suggestion is None:
        return ""
    rule = suggestion["rule"]
    words = ["gaoler", "egress", "allow", *rule["hosts"], "--set", suggestion["set"]]
    words += [word for scheme in rule["schemes"] if rule["schemes"] != ["https"] for word in ("--scheme", scheme)]
    words += [word for port in rule["ports"] for word in ("--port", str(port))]
    return shlex.join(words)


COMMANDS: Final = (egress_rules, egress_allow, egress_remove, egress_reset, egress_refused)
"""Of the group ``gaoler egress``."""
