"""``gaoler usage``, ``gaoler audit``: what callers have used, what operators did, as a running daemon knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import click

from supervisor.commands.console import (
    ask,
    duration,
    json_option,
    moment,
    no_color_option,
    operating_errors,
    print_json,
    print_table,
    size,
    table,
    url_option,
    visible,
)
from supervisor.commands.options import absolute, config_option, load_settings, state_dir_option

MOST: Final = 1000


@click.command()
@click.option("--from", "first", metavar="DAY", help="As 2026-01-31, in UTC (default: 30 days ago).")
@click.option("--to", "last", metavar="DAY", help="The last day (default: today).")
@click.option("--tenant", metavar="TENANT", help="Only of this tenant.")
@click.option("--limit", type=click.IntRange(1, MOST), default=MOST, show_default=True, help="At most so many lines.")
@json_option
@url_option
@no_color_option
@state_dir_option
@config_option
def usage(
    *,
    first: str | None,
    last: str | None,
    tenant: str | None,
    limit: int,
    as_json: bool,
    url: str | None,
    state_dir: str | None,
    config: Path | None,
) -> None:
    """Show what each caller of a running daemon has used, day by day, the latest day first.

    The last line adds up. 'failed' are failures of ours; what programs do wrong is no failure.
    """
    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        wanted = {"from": first, "to": last, "tenant": tenant}
        query = urlencode({"limit": limit} | {name: value for name, value in wanted.items() if value is not None})
        found = ask(settings, url, "GET", f"usage?{query}")
        if as_json:
            print_json(found)
            return
        days = found["days"]
        made = table("day", "tenant", "key", "user", "executions", "failed", "wall", "cpu", "output", "files")
        for each in days:
            who = (each["day"], visible(each["tenant"]), visible(each["credential"]), visible(each["user"]))
            made.add_row(*who, *_counts([each]))
        if len(days) > 1:
            made.add_row("together", "", "", "", *_counts(days), style="bold")
        print_table(made)
        if len(days) == limit:
            click.echo("There may be more: ask for fewer days, with --from and --to", err=True)


def _counts(days: list[dict[str, float]]) -> tuple[str, ...]:
    total = {name: sum(each[name] for each in days) for name in _COUNTS}
    return (
        f"{total['executions']:.0f}",
        f"{total['failed']:.0f}",
        duration(total["wall_seconds"]),
        duration(total["cpu_seconds"]),
        size(total["output_bytes"]),
        f"{total['files']:.0f}",
    )


_COUNTS: Final = ("executions", "failed", "wall_seconds", "cpu_seconds", "output_bytes", "files")


@click.command()
@click.option(
    "--kind", type=click.Choice(["all", "acts", "refused"]), default="all", show_default=True, help="Which entries."
)
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="The latest so many.")
@json_option
@url_option
@no_color_option
@state_dir_option
@config_option
def audit(*, kind: str, limit: int, as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """Show what operators did to a running daemon, and who was refused, the latest first.

    'gaoler logs --audit' reads the same record where it lies, also while no daemon runs.
    """
    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        found = ask(settings, url, "GET", f"audit?kind={kind}&limit={limit}")
        if as_json:
            print_json(found)
            return
        made = table("time", "who", "from", "act", "about", "outcome", "detail")
        for each in found["entries"]:
            words = (each["who"], each["address"], each["act"], each["target"], each["outcome"], each["detail"])
            made.add_row(moment(each["time"]), *map(visible, words))
        print_table(made)
