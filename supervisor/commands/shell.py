"""``gaoler shell``: the command; what it does is in :mod:`supervisor.shell`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supervisor.commands.completion import complete_language, complete_sessions
from supervisor.commands.console import operating_errors, run_trio, url_option, visible
from supervisor.commands.options import absolute, config_option, load_settings, state_dir_option
from supervisor.execution.tier import TIERS
from supervisor.execution.values import Tier

if TYPE_CHECKING:
    from supervisor.commands.api_client import Api
    from supervisor.settings.tree import Settings
    from supervisor.shell.session import Session


@click.command()
@click.option(
    "--language",
    "--lang",
    default="python",
    show_default=True,
    shell_complete=complete_language,
    help="Of the entries; :language changes it.",
)
@click.option("--session", metavar="ID", shell_complete=complete_sessions, help="Go on in this one; it is kept then.")
@click.option(
    "--keep", is_flag=True, help="Keep the session and its files at the end, for as long as sessions are kept."
)
@click.option("--user", metavar="ID", help="Speak for this user: its sessions and files.")
@click.option("--tier", type=click.Choice(TIERS), help="Of the sandbox, if the settings do not ask for a higher one.")
@click.option("--timeout", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Of each entry, at most.")
@click.option("--no-history", is_flag=True, help="Keep nothing of what is typed.")
@click.option("--embedded", is_flag=True, help="Do not look for a daemon; the session then ends with the shell. Root.")
@url_option
@state_dir_option
@config_option
def shell(
    *,
    language: str,
    session: str | None,
    keep: bool,
    user: str | None,
    tier: Tier | None,
    timeout: float | None,
    no_history: bool,
    embedded: bool,
    url: str | None,
    state_dir: str | None,
    config: Path | None,
) -> None:
    """Type into a sandbox: a lasting session, whose variables and files are there for the next line.

    In a sandbox of the running daemon, as a caller with GAOLER_API_KEY or the key of the state directory; without one,
    as root, in one of its own. Lines may also come from a pipe. The exit status is that of the last entry.
    """
    if embedded and (url or session or keep or user):
        raise click.UsageError("--embedded takes none of --url, --session, --keep and --user")
    with operating_errors():
        from supervisor.shell import entry
        from supervisor.shell.history import kept_history
        from supervisor.shell.loop import Loop, complete_with, greet
        from supervisor.shell.session import Session

        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        began = time.monotonic()
        with _api(settings, url, user, embedded=embedded) as api:
            one = Session(api, entry.named(language), session or "", timeout, tier)
            run_trio(one.begin)
            loop = Loop(one, sys.stdin.isatty() and sys.stdout.isatty())
            try:
                if not loop.interactive:
                    loop.run()
                elif no_history:
                    greet(one, time.monotonic() - began)
                    complete_with(one)
                    loop.run()
                else:
                    with kept_history():
                        greet(one, time.monotonic() - began)
                        complete_with(one)
                        loop.run()
            finally:
                _leave(one, keep=keep or session is not None)
        sys.exit(loop.status)


@contextmanager
def _api(settings: Settings, url: str | None, user: str | None, *, embedded: bool) -> Iterator[Api]:
    """Give a client of the daemon that runs, else of one of our own."""
    from supervisor.commands.api_client import NotRunning
    from supervisor.commands.running_daemon import Asked, NoKey, callers_api

    found: Api | None = None
    if not embedded:
        try:
            asked = callers_api(settings, Asked(url, os.geteuid()), user)
            run_trio(partial(asked.ask, "GET", "/v1/health"))
            found = asked
        except (NotRunning, NoKey):
            if url is not None or user is not None or os.geteuid() != 0:
                raise
    if found is not None:
        yield found
        return
    from supervisor.shell.own_daemon import open_own_daemon

    with open_own_daemon(settings) as own:
        yield own


def _leave(session: Session, *, keep: bool) -> None:
    """Say what becomes of the session, and have that happen."""
    from supervisor.errors import GaolerError

    if keep:
        click.echo(f"gaoler: kept; go on with: gaoler shell --session {session.id}", err=True)
        return
    made = ", ".join(map(visible, sorted(session.made)))
    if made:
        click.echo(f"gaoler: not kept, with the session: {made} (:get fetches one, --keep keeps all)", err=True)
    try:
        run_trio(session.drop)
    except GaolerError as error:
        click.echo(f"gaoler: the session is left to its end: {visible(error.message)}", err=True)
