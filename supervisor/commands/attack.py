"""``gaoler attack``: the command; what it does is in :mod:`supervisor.attack`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from supervisor.commands.options import (
    EXIT_CONFIGURATION,
    absolute,
    config_option,
    load_settings,
    plain_errors,
    state_dir_option,
)
from supervisor.errors import ConfigurationError
from supervisor.execution.values import Tier


@click.command()
@click.argument("only", metavar="[GROUP|CLAIM]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a report of one page.")
@click.option("--list", "listed", is_flag=True, help="Say what would be tried, and try nothing.")
@click.option("--twin", is_flag=True, help="Try nothing at the running daemon: all of it at a twin with its settings.")
@click.option(
    "--tier", type=click.Choice(["nsjail", "microvm"]), help="Run everything in this tier, not in the policy's."
)
@state_dir_option
@config_option
def attack(
    only: tuple[str, ...],
    as_json: bool,
    html: Path | None,
    listed: bool,
    twin: bool,
    tier: Tier | None,
    state_dir: str | None,
    config: Path | None,
) -> None:
    """Attack your own daemon: every promise of SECURITY.md, on your kernel, with your settings.

    Hostile programs run in its sandboxes, hostile clients call its doors. What kills or starves a daemon is tried at a
    twin of it, with the same settings and a state directory of its own. Everything that was made is removed. Some
    minutes; needs root.

    Exit status: 0 everything that was tried held, 1 something broke, 78 it could not be tried.
    """
    import trio
    from rich.console import Console

    from supervisor.attack import page, report, session
    from supervisor.attack.catalogue import all_cases
    from supervisor.attack.suite import chosen

    with plain_errors():
        try:
            cases = chosen(all_cases(), only)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if listed:
            for case in cases:
                click.echo(f"{case.id:18}{case.name:32}{case.promise}")
            return
        loaded = load_settings(config, {"state_dir": absolute(state_dir)})
        with report.Watch(len(cases) + 1, quiet=False) as watch:
            wish = session.Wish(cases, tier, twin)
            run, subject = trio.run(session.run_session, loaded, wish, watch.result, watch.tell)
        if as_json:
            click.echo(report.as_json(run, subject))
        else:
            report.as_table(run, subject, Console(soft_wrap=True))
        if html is not None:
            # Last: a page that cannot be written takes nothing else along.
            try:
                html.write_text(page.as_page(run, subject), encoding="utf-8")
            except OSError as error:
                raise ConfigurationError(f"the page cannot be written: {error}", field="html") from None
        sys.exit(1 if run.count("broken") else 0 if run.count("held") > 1 else EXIT_CONFIGURATION)
