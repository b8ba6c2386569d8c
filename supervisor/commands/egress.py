"""``gaoler egress``: the commands; what they do is in :mod:`supervisor.commands.egress_reports`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from supervisor.commands.completion import complete_policies
from supervisor.commands.egress_rules import COMMANDS
from supervisor.commands.options import absolute, config_option, load_settings, plain_errors, state_dir_option


@click.group()
def egress() -> None:
    """The network of sandboxes: what it allows, what it refused, and what to add."""


@egress.command("presets")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def egress_presets(as_json: bool) -> None:
    """Show which hosts the presets of rules mean here, as the package managers of this host are configured."""
    from supervisor.commands import egress_reports as egress_commands

    egress_commands.presets(as_json=as_json)


@egress.command("explain")
@click.argument("url")
@click.option(
    "--policy",
    metavar="NAME",
    shell_complete=complete_policies,
    help="Of policies/sandbox (default: the policy in force).",
)
@click.option("--method", metavar="NAME", help="Of the HTTP request, as GET (default: whichever).")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@state_dir_option
@config_option
def egress_explain(
    *, url: str, policy: str | None, method: str | None, as_json: bool, state_dir: str | None, config: Path | None
) -> None:
    """Say whether a sandbox could reach URL, by which rule, or what no rule allows. Nothing is connected to.

    The path counts where a rule sees it: of http, and of https that it looks into.
    """
    from supervisor.commands import egress_reports as egress_commands

    with plain_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        wish = egress_commands.Explained(url, policy, method)
        sys.exit(0 if egress_commands.explain_url(settings, wish, as_json=as_json) else 1)


@egress.command("log")
@click.option("--session", metavar="ID", help="Only of this session.")
@click.option("--refused", is_flag=True, help="Only what was refused, or failed.")
@click.option("--follow", is_flag=True, help="Go on as it happens.")
@click.option("--json", "as_json", is_flag=True, help="The lines as they are kept.")
@state_dir_option
@config_option
def egress_log(
    session: str | None, refused: bool, follow: bool, as_json: bool, state_dir: str | None, config: Path | None
) -> None:
    """Show what sandboxes did on the network, from the audit."""
    from supervisor.commands import egress_reports as egress_commands

    with plain_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        wish = egress_commands.LogWish(session, refused_only=refused, follow=follow, as_json=as_json)
        egress_commands.show_log(settings, wish)


@egress.command("suggest")
@click.option("--session", metavar="ID", help="Only what this session was refused.")
@click.option("--hours", type=float, default=24.0, show_default=True, help="How far to look back.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@state_dir_option
@config_option
def egress_suggest(
    session: str | None, hours: float, as_json: bool, state_dir: str | None, config: Path | None
) -> None:
    """Print the rules that would have allowed what was refused. Read them before you take them."""
    from supervisor.commands import egress_reports as egress_commands

    with plain_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        egress_commands.suggest_rules(settings, session, hours, as_json=as_json)


for each in COMMANDS:
    egress.add_command(each)
