"""``gaoler languages``: which languages a daemon with these settings would run, with what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from supervisor.commands.completion import complete_language
from supervisor.commands.options import absolute, config_option, load_settings, plain_errors, state_dir_option
from supervisor.errors import NotFound

if TYPE_CHECKING:
    from supervisor.runtimes.language_view import LanguageTable, LanguageView


@click.command()
@click.argument("name", metavar="[LANGUAGE]", required=False, shell_complete=complete_language)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@state_dir_option
@config_option
def languages(name: str | None, as_json: bool, state_dir: str | None, config: Path | None) -> None:
    """List the languages: which are installed, in which version, and what installs the others.

    With LANGUAGE, or an alias of it: that one with all the packages that its programs can import.
    """
    from supervisor.runtimes.language_view import described, described_language

    with plain_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        from supervisor.preparation.prepare import read_languages

        table = read_languages(settings)
        found = table.find(name) if name is not None else None
        if name is not None and found is None:
            known = ", ".join(each.name for each in table.languages)
            raise NotFound(f"there is no language {name!r}; there are {known}")
        if as_json:
            plain = described(table) if found is None else described_language(found)
            click.echo(msgspec.json.format(msgspec.json.encode(plain)).decode())
        elif found is not None:
            _print_one(found)
        else:
            _print_all(table)


def _print_all(table: LanguageTable) -> None:
    from rich.console import Console
    from rich.table import Table

    from supervisor.runtimes.language_view import tier_in_words

    shown = Table("language", "version", "also", "file", "packages", "", box=None, pad_edge=False)
    for each in table.languages:
        shown.add_row(
            each.name,
            (each.version or "?") if each.installed else "-",
            " ".join(each.aliases),
            each.extension,
            str(len(each.packages) or ""),
            "warm" if each.warm else "" if each.installed else "not installed",
        )
    groups = Table("programs", "", "", box=None, pad_edge=False)
    groups.columns[1].no_wrap = True
    for group in table.groups:
        groups.add_row(group.name, "" if group.installed else "not installed", group.title)
    console = Console()
    console.print(shown)
    if table.groups:
        console.print()
        console.print(groups)
    click.echo()
    for tier in table.tiers:
        click.echo(tier_in_words(tier))
    missing = ",".join(each.name for each in table.languages if not each.installed)
    if missing:
        click.echo(f"\nTo install languages: gaoler image build --languages {missing}")
    if not all(each.installed for each in table.groups):
        click.echo("To install programs:  gaoler image build --group NAME")


def _print_one(view: LanguageView) -> None:
    from supervisor.runtimes.language_view import time_in_words

    click.echo(f"{view.title} {view.version}".rstrip())
    click.echo(f"names      {', '.join((view.name, *view.aliases))}")
    click.echo(f"main file  *{view.extension}")
    click.echo(f"time       {time_in_words(view.limits)}")
    click.echo(f"tier       {view.tier} at least")
    if not view.installed:
        click.echo(f"not installed: {view.install_command}")
    for name, version in view.packages.items():
        click.echo(f"  {name} {version}")
