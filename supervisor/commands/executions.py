"""``gaoler executions``: which run, how the latest ended, as they happen; and how one is ended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from supervisor.commands.completion import complete_executions
from supervisor.commands.console import (
    ask,
    duration,
    json_option,
    moment,
    no_color_option,
    operating_errors,
    print_json,
    print_line,
    print_table,
    run_trio,
    size,
    table,
    url_option,
    visible,
)
from supervisor.commands.groups import ListFirst
from supervisor.commands.options import absolute, config_option, load_settings, state_dir_option

if TYPE_CHECKING:
    from supervisor.settings.tree import Settings

MOST: Final = 1000


@click.group(cls=ListFirst)
def executions() -> None:
    """Executions of a running daemon: who, where, how they ended, what they cost. Never their code or output.

    Without a command it lists them.
    """


@executions.command("list")
@click.option("--state", type=click.Choice(["running", "recent", "all"]), default="all", show_default=True)
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="Of each, at most.")
@click.option(
    "--follow", is_flag=True, help="Go on as they begin and end, until Ctrl-C, beyond restarts; with --json one a line."
)
@json_option
@url_option
@no_color_option
@state_dir_option
@config_option
def list_executions(
    *, state: str, limit: int, follow: bool, as_json: bool, url: str | None, state_dir: str | None, config: Path | None
) -> None:
    """List what runs and what has ended lately; with --follow also what happens from now on."""
    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        if follow:
            _follow(settings, url, as_json=as_json)
            return
        found = ask(settings, url, "GET", f"executions?state={state}&limit={limit}")
        if as_json:
            print_json(found)
            return
        print_executions([*found["running"], *found["recent"]])


def print_executions(found: Iterable[Mapping[str, Any]]) -> None:
    """Print them as a table."""
    made = table("id", "state", "language", "who", "door", "tier", "took", "cpu", "memory", "began", "session")
    for each in found:
        made.add_row(*row(each))
    print_table(made)


def row(each: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the cells of one."""
    peak = each["memory_peak_bytes"]
    return (
        each["id"],
        ended(each),
        visible(each["language"]),
        who(each),
        each["door"],
        visible(each["tier"] or ""),
        duration(each["seconds"]),
        duration(each["cpu_seconds"]) if each["state"] == "ended" else "",
        size(peak) if peak else "",
        moment(each["began_at"]),
        visible(each["session"] or ""),
    )


def who(each: Mapping[str, Any]) -> str:
    """Give the caller: the user if one is named, of which tenant, by which credential."""
    name = each["user"] or each["credential"]
    return visible(name if each["tenant"] == "default" else f"{name} ({each['tenant']})")


def ended(each: Mapping[str, Any]) -> str:
    """Give the state, or how it ended."""
    if each["state"] != "ended":
        return str(each["state"])
    word = each["outcome"].replace("_", " ")
    return (
        f"{word} {visible(each['detail'])}".strip() if each["outcome"] in ("exited", "signalled", "refused") else word
    )


def _follow(settings: Settings, url: str | None, *, as_json: bool) -> None:
    """Print what happens until somebody ends us, also when the daemon is started anew meanwhile."""
    from supervisor.commands.api_follow import Listener, follow
    from supervisor.commands.running_daemon import Asked, operators_api

    api = operators_api(settings, Asked(url, os.geteuid()))
    told = _Told(api.place.shown, as_json=as_json)
    run_trio(partial(follow, api, "/v1/admin/executions/events", Listener(told.take, told.lost)))


class _Told:
    """Prints events; says once that the daemon has gone, and when it is there again."""

    def __init__(self, shown: str, *, as_json: bool) -> None:
        self._shown = shown
        self._as_json = as_json
        self._gone = False

    def lost(self, why: str, _seconds: float) -> None:
        """The stream is gone."""
        if not self._gone:
            click.echo(f"{why}; waiting for {self._shown} to come back; Ctrl-C ends it", err=True)
        self._gone = True

    def take(self, name: str, data: Mapping[str, Any]) -> None:
        """Print an event."""
        if name == "snapshot":
            end = "what happened meanwhile is not known" if self._gone else "Ctrl-C ends it"
            click.echo(f"following {self._shown}: {len(data['running'])} run; {end}", err=True)
            self._gone = False
        if name != "execution":
            return
        if self._as_json:
            print_line(data)
            return
        each = data["execution"]
        if data["missed"]:
            click.echo(f"({data['missed']} missed)")
        took = f"  {duration(each['seconds'])}" if data["kind"] == "ended" else ""
        word = ended(each) if data["kind"] == "ended" else data["kind"]
        click.echo(f"{each['id']}  {word:<16}{visible(each['language']):<12}{who(each)}{took}")


@executions.command("show")
@click.argument("execution", metavar="ID", shell_complete=complete_executions)
@json_option
@url_option
@no_color_option
@state_dir_option
@config_option
def show(execution: str, as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """Show one that runs or has ended lately, with where its time went."""
    from supervisor.errors import NotFound

    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        found = ask(settings, url, "GET", f"executions?limit={MOST}")
        one = next((each for each in (*found["running"], *found["recent"]) if each["id"] == execution), None)
        if one is None:
            raise NotFound(f"{execution} neither runs nor has ended lately: see 'gaoler executions'")
        if as_json:
            print_json(one)
            return
        spent = "  ".join(f"{step} {duration(seconds)}" for step, seconds in one["spent"].items())
        shown = {**one, "state": ended(one), "spent": spent, "began_at": moment(one["began_at"])}
        shown |= {"ended_at": moment(one["ended_at"]), "memory_peak_bytes": size(one["memory_peak_bytes"])}
        for name, value in shown.items():
            if value not in (None, "", "outcome", "detail"):
                click.echo(f"{name:<20}{visible(value)}")


@executions.command("cancel")
@click.argument("execution", metavar="ID", shell_complete=complete_executions)
@json_option
@url_option
@state_dir_option
@config_option
def cancel(execution: str, as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """End one: its processes are killed, its caller is told who has ended it."""
    from supervisor.commands.api_client import segment

    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        found = ask(settings, url, "POST", f"executions/{segment(execution)}/cancel")
        if as_json:
            print_json(found)
        else:
            click.echo(f"{visible(execution)} is being ended")
