"""The command line, ``gaoler``: serve, run, mcp, doctor, attack and what manages them. Errors say what to do next."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import click
import msgspec

from supervisor import __version__
from supervisor.commands.attack import attack
from supervisor.commands.completion import completion
from supervisor.commands.console import url_option
from supervisor.commands.doctor import doctor
from supervisor.commands.egress import egress
from supervisor.commands.executions import executions
from supervisor.commands.fleet import fleet, workers
from supervisor.commands.groups import InOrder
from supervisor.commands.image import image
from supervisor.commands.install import install, reload_command, uninstall
from supervisor.commands.keys import keys
from supervisor.commands.languages import languages
from supervisor.commands.logs import logs
from supervisor.commands.options import (
    EXIT_CONFIGURATION,
    absolute,
    config_option,
    load_settings,
    plain_errors,
    state_dir_option,
)
from supervisor.commands.records import audit, usage
from supervisor.commands.run import run
from supervisor.commands.sessions import sessions
from supervisor.commands.shell import shell
from supervisor.commands.status import status
from supervisor.commands.top import top
from supervisor.errors import ConfigurationError, GaolerError
from supervisor.settings.fleet import Role
from supervisor.settings.tree import Settings

if TYPE_CHECKING:
    from supervisor.roles import Ready

log: Final = logging.getLogger("gaoler.serve")


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gaoler")
def main() -> None:
    """Run code nobody trusts, in sandboxes, for AI agents and chat users.

    Settings come from the settings file, then GAOLER_* variables, then flags; 'gaoler settings' shows the result.
    A first look: 'gaoler doctor', 'gaoler run', then 'gaoler serve' and 'gaoler status'. Each command has --help.
    """


@main.command()
@click.option("--bind", metavar="HOST:PORT", help="Where to listen (default: 127.0.0.1:8000); also unix:/path.")
@click.option(
    "--role",
    type=click.Choice(get_args(Role)),
    help="With a fleet: take requests (gateway), run them (worker), or both in one (all, the default).",
)
@click.option("--show-key", is_flag=True, help="Print how to connect, with the API key.")
@state_dir_option
@config_option
def serve(bind: str | None, role: Role | None, show_key: bool, state_dir: str | None, config: Path | None) -> None:
    """Run the daemon: the HTTP API and the sandboxes behind it. Starts as root, serves as nobody in particular."""
    import trio

    from supervisor.logs.opened import open_log
    from supervisor.roles import prepare_role
    from supervisor.service.given import take_service
    from supervisor.service.reload_request import note_start

    with plain_errors():
        flags = {"bind": bind, "fleet.role": role, "state_dir": absolute(state_dir)}
        loaded = load_settings(config, flags, serving=True)
        note_start(loaded)
        opened = open_log(loaded.settings)
        for notice in loaded.notices:
            log.info("%s", notice)
        with opened.taking_in():
            ready = prepare_role(loaded.settings, take_service(os.environ))
        opened.hide.add([ready.api_key, ready.admin_key])
        if show_key:
            _show_key(loaded.settings, ready)
        fault: BaseException | None = None
        try:
            trio.run(opened.serving(ready.serve))
        except* (GaolerError, OSError) as group:
            fault = group
        if fault is not None:
            while isinstance(fault, BaseExceptionGroup):
                fault = fault.exceptions[0]
            if opened.relay is not None:
                # Who reads the log does not see standard error.
                log.critical("ending: %s", fault)
            click.echo(f"gaoler: {fault}", err=True)
            # Some settings can be tried only now: whether there is such a bucket.
            sys.exit(EXIT_CONFIGURATION if isinstance(fault, ConfigurationError) else 1)


def _show_key(settings: Settings, ready: Ready) -> None:
    key = ready.api_key
    base = f"127.0.0.1:{settings.bind.rpartition(':')[2]}" if settings.bind.startswith("0.0.0.0:") else settings.bind
    scheme = "https" if settings.tls.certificate else "http"
    click.echo(
        f"""
  API key         {key}
  LibreChat .env  LIBRECHAT_CODE_BASEURL={scheme}://{key}@{base}/v1
  (up to v0.8.5)  LIBRECHAT_CODE_API_KEY={key}
  MCP             {scheme}://{base}/mcp  with the header  Authorization: Bearer {key}
  (on this host)  gaoler mcp
  Master key      {ready.admin_key}  for http://{base}/v1/admin/, /metrics: keep it to operators

  Try it:

    curl -s {scheme}://{base}/v1/exec -H 'X-API-Key: {key}' -H 'Content-Type: application/json' \\
      -d '{{"lang": "py", "code": "print(6 * 7)"}}'
"""
    )


@main.command()
@url_option
@click.option("--user", metavar="ID", help="Speak for this user: its sessions and files.")
@click.option("--embedded", is_flag=True, help="Do not look for a daemon; sessions then end with this process. Root.")
@state_dir_option
@config_option
def mcp(url: str | None, user: str | None, embedded: bool, state_dir: str | None, config: Path | None) -> None:
    """Serve MCP on standard input and output, for clients that start a program.

    Passes everything on to a running daemon, with its key from GAOLER_API_KEY or the state directory; without one it
    runs sandboxes of its own.
    """
    from supervisor.commands import mcp_stdio

    with plain_errors():
        loaded = load_settings(config, {"state_dir": absolute(state_dir)})
        mcp_stdio.run(loaded.settings, mcp_stdio.Wish(url, user, embedded))


@main.group()
def packages() -> None:
    """Packages that every sandbox finds, read-only. They are installed in a sandbox, through the policy's network."""


@packages.command("add")
@click.option("--python", multiple=True, metavar="NAME", help="As pip calls it, with or without a version.")
@click.option("--node", multiple=True, metavar="NAME", help="As npm calls it.")
@state_dir_option
@config_option
def packages_add(python: tuple[str, ...], node: tuple[str, ...], state_dir: str | None, config: Path | None) -> None:
    """Install packages for every sandbox. A running daemon sees them at its next start."""
    from supervisor.packages import shared

    with plain_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        shared.install(settings, shared.added(shared.read_wanted(settings), python, node))


@packages.command("remove")
@click.argument("names", nargs=-1, required=True)
@state_dir_option
@config_option
def packages_remove(names: tuple[str, ...], state_dir: str | None, config: Path | None) -> None:
    """Take packages away."""
    from supervisor.packages import shared

    with plain_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        shared.install(settings, shared.without(shared.read_wanted(settings), names))


@packages.command("list")
@state_dir_option
@config_option
def packages_list(state_dir: str | None, config: Path | None) -> None:
    """List what was added."""
    from supervisor.packages import shared

    with plain_errors():
        wanted = shared.read_wanted(load_settings(config, {"state_dir": absolute(state_dir)}).settings)
        for kind, found in (("python", wanted.python), ("node", wanted.node)):
            for name in found:
                click.echo(f"{kind:8}{name}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_option
def settings(as_json: bool, config: Path | None) -> None:
    """Print every setting, its value and where that came from. Secrets are hidden."""
    from rich.console import Console
    from rich.table import Table

    from supervisor.settings.loading import leaves

    with plain_errors():
        # As a daemon reads them, names of other servers too.
        loaded = load_settings(config, {}, serving=True)
        rows = [
            (
                leaf,
                "(hidden)" if leaf.secret and loaded.values[leaf.key] else loaded.values[leaf.key],
                loaded.origins[leaf.key],
            )
            for leaf in leaves()
        ]
        if as_json:
            tree = {
                leaf.key: {"value": value, "origin": origin, "variable": leaf.variable} for leaf, value, origin in rows
            }
            click.echo(msgspec.json.format(msgspec.json.encode(tree)).decode())
            return
        table = Table("setting", "value", "from", "what it is", box=None, pad_edge=False)
        for leaf, value, origin in rows:
            table.add_row(leaf.key, str(value), origin, leaf.description)
        Console().print(table)
        for notice in loaded.notices:
            click.echo(notice, err=True)


main.add_command(run)
main.add_command(shell)
main.add_command(languages)
main.add_command(attack)
main.add_command(egress)
main.add_command(doctor)
main.add_command(image)
main.add_command(fleet)
main.add_command(workers)
main.add_command(reload_command)
main.add_command(install)
main.add_command(uninstall)
main.add_command(keys)
main.add_command(completion)
main.add_command(status)
main.add_command(top)
main.add_command(logs)
main.add_command(usage)
main.add_command(audit)
main.add_command(executions)
main.add_command(sessions)
