"""``gaoler install``, ``uninstall`` and ``reload``: Gaoler as a service of systemd."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import click

from supervisor.commands.options import absolute, config_option, load_settings, plain_errors, state_dir_option
from supervisor.errors import ConfigurationError
from supervisor.settings.fleet import Role

if TYPE_CHECKING:
    from supervisor.service.installing import Change

_RUNNING: Final = Path("/run/systemd/system")
_UNITS: Final = ("gaoler.socket", "gaoler.service", "gaoler-gateway.service", "gaoler-worker.service")

dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
prefix_option = click.option(
    "--prefix",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    show_default=True,
    help="Root of another system: files are put there, nothing is started.",
)


@click.command()
@prefix_option
@dry_run_option
@yes_option
def install(prefix: Path, dry_run: bool, yes: bool) -> None:
    """Put units, user and directories for systemd in place, for the environment that this runs from.

    Nothing is enabled or started. Run again after an upgrade: what is the same is left alone, state always is.
    """
    from supervisor.service.installing import PLACES, UNITS, install_plan, own_program

    with plain_errors():
        program = own_program(prefix)
        if not _carry_out(install_plan(prefix, program, [UNITS.parents[2]]), dry_run=dry_run, yes=yes):
            return
        if _is_this_host(prefix):
            _run("systemd-sysusers", f"/{PLACES['gaoler.sysusers']}")
            _run("systemd-tmpfiles", "--create", f"/{PLACES['gaoler.tmpfiles']}")
            _run("systemctl", "daemon-reload")
        click.echo(
            f"""
Next, as root:

  {program} image build                  # once; minutes
  systemctl enable --now gaoler.service        # and gaoler.socket, so that a restart loses no connection
  systemctl status gaoler.service

Settings: /etc/gaoler/gaoler.toml. Secrets: files gaoler.NAME in /etc/credstore, as gaoler.api_key.
After an upgrade: systemctl restart gaoler.service; sessions are saved, and go on."""
        )


@click.command()
@prefix_option
@dry_run_option
@yes_option
@click.option("--purge", is_flag=True, help="Remove settings and all state too: files, sessions, keys, images.")
def uninstall(prefix: Path, dry_run: bool, yes: bool, purge: bool) -> None:
    """Stop Gaoler's units and remove them. Settings and state stay, unless --purge is given."""
    from supervisor.service.installing import uninstall_plan

    with plain_errors():
        doomed = [prefix / "etc/gaoler", prefix / "var/lib/gaoler"] if purge else []
        doomed = [path for path in doomed if path.is_dir() and not path.is_symlink()]
        for path in doomed:
            click.echo(f"removes {path} and everything in it")
        if not _carry_out(
            uninstall_plan(prefix), dry_run=dry_run, yes=yes, also=bool(doomed), before=lambda: _stop(prefix)
        ):
            return
        if _is_this_host(prefix):
            _run("systemctl", "daemon-reload")
        if doomed:
            _purge(doomed, prefix)


@click.command("reload")
@click.option("--pid", type=click.IntRange(min=2), required=True, help="Of the daemon; in a unit: $MAINPID.")
@click.option("--role", type=click.Choice(get_args(Role)), help="Of the daemon (default: as the settings).")
@state_dir_option
@config_option
def reload_command(pid: int, role: Role | None, state_dir: str | None, config: Path | None) -> None:
    """Have a running daemon read keys and rules anew. Requests go on; with systemd: systemctl reload gaoler.

    It needs the daemon's own settings, environment and credentials, and prints what holds only after a restart.
    """
    from supervisor.service.reload_request import request_reload

    with plain_errors():
        loaded = load_settings(config, {"state_dir": absolute(state_dir), "fleet.role": role})
        for key in request_reload(loaded, pid):
            click.echo(f"holds only after a restart: {key}")


def _carry_out(
    plan: Sequence[Change], *, dry_run: bool, yes: bool, also: bool = False, before: Callable[[], None] | None = None
) -> bool:
    """Show a plan, ask, and do it; say whether it was done."""
    needed = [change for change in plan if change.needed]
    for change in needed:
        click.echo(change.diff(), nl=False)
    if not needed and not also:
        click.echo("nothing to change")
        return not dry_run
    if dry_run:
        return False
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("there is no terminal to ask on: look at it with --dry-run, then give --yes")
        click.confirm(f"Change {len(needed)} files?", abort=True)
    if before is not None:
        before()
    for change in needed:
        change.make()
    return True


def _is_this_host(prefix: Path) -> bool:
    """Say whether what is put in place is for the systemd that runs here."""
    return prefix.resolve() == Path("/") and _RUNNING.is_dir()


def _stop(prefix: Path) -> None:
    from supervisor.service.installing import PLACES

    # systemd refuses all of them for one that it does not know, as when it is done a second time.
    present = [unit for unit in _UNITS if (prefix / PLACES[unit]).exists()]
    if present and _is_this_host(prefix):
        _run("systemctl", "disable", "--now", *present)


def _purge(doomed: Sequence[Path], prefix: Path) -> None:
    from supervisor.jailer.cgroup_subtree import remove_subtree

    if _is_this_host(prefix):
        remove_subtree(prefix / "var/lib/gaoler")
    for path in doomed:
        shutil.rmtree(path)


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None:
        raise ConfigurationError(f"{command[0]} is not installed; the files are in place")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise ConfigurationError(f"{' '.join(command)} failed with status {done.returncode}; see above")
