"""``gaoler sessions``: which there are, of all owners; their files; and how one is ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import click

from supervisor.commands.completion import complete_sessions
from supervisor.commands.console import (
    ask,
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
from supervisor.commands.groups import ListFirst
from supervisor.commands.options import absolute, config_option, load_settings, state_dir_option

MOST: Final = 1000


@click.group(cls=ListFirst)
def sessions() -> None:
    """Sessions of a running daemon that have files, of all owners. Without a command it lists them."""


@sessions.command("list")
@click.option("--tenant", metavar="TENANT", help="Only of this tenant.")
@click.option("--user", metavar="ID", help="Only of this user.")
@click.option("--limit", type=click.IntRange(1, MOST), default=100, show_default=True)
@click.option("--after", metavar="CURSOR", help="Go on where the last page ended: its 'next'.")
@json_option
@url_option
@no_color_option
@state_dir_option
@config_option
def list_sessions(
    *,
    tenant: str | None,
    user: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
    url: str | None,
    state_dir: str | None,
    config: Path | None,
) -> None:
    """List them, the newest first."""
    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        wanted = {"tenant": tenant, "user": user, "after": after}
        query = urlencode({"limit": limit} | {name: value for name, value in wanted.items() if value is not None})
        found = ask(settings, url, "GET", f"sessions?{query}")
        if as_json:
            print_json(found)
            return
        made = table("session", "owner", "tenant", "files", "size", "live", "processes", "made", "goes")
        for each in found["sessions"]:
            owner = f"{each['owner']['kind']} {each['owner']['id']}"
            live = "" if each["live"] is None else "live" if each["live"] else "-"
            words = (each["id"], visible(owner), visible(each["tenant"]), str(each["files"]), size(each["size_bytes"]))
            made.add_row(
                *words, live, str(each["processes"] or ""), moment(each["created_at"]), moment(each["expires_at"])
            )
        print_table(made)
        if found["next"]:
            click.echo(f"There are more: --after {visible(found['next'])}", err=True)


@sessions.command("show")
@click.argument("session", metavar="ID", shell_complete=complete_sessions)
@json_option
@url_option
@no_color_option
@state_dir_option
@config_option
def show(session: str, as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """Show one, with its files."""
    from supervisor.commands.api_client import segment

    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        found = ask(settings, url, "GET", f"sessions/{segment(session)}")
        if as_json:
            print_json(found)
            return
        owner = f"{found['owner']['kind']} {found['owner']['id']}, tenant {found['tenant']}"
        click.echo(f"{found['id']}  {visible(owner)}")
        click.echo(f"made {moment(found['created_at'])}, goes {moment(found['expires_at'])}")
        if found["live"]:
            click.echo(f"its interpreter is kept; {found['processes']} background processes")
        made = table("file", "size", "made", "id")
        for each in found["file_list"]:
            made.add_row(visible(each["name"]), size(each["size_bytes"]), moment(each["created_at"]), each["id"])
        print_table(made)


@sessions.command("delete")
@click.argument("session", metavar="ID", shell_complete=complete_sessions)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@url_option
@state_dir_option
@config_option
def delete(session: str, yes: bool, as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """Delete one with all its files; what runs in it is killed. On a terminal it asks first."""
    from supervisor.commands.api_client import segment

    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        if not yes and sys.stdin.isatty():
            found = ask(settings, url, "GET", f"sessions/{segment(session)}")
            question = f"Delete {found['id']} of {found['owner']['id']} with {found['files']} files?"
            click.confirm(visible(question), abort=True, err=True)
        found = ask(settings, url, "DELETE", f"sessions/{segment(session)}")
        if as_json:
            print_json(found)
        else:
            click.echo(f"{visible(session)} is deleted")
