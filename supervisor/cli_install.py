"""``gaoler reload``: the running daemon's own unit is asked by systemd; this is what the unit runs."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from supervisor.cli_options import absolute, config_option, load_settings, plain_errors, state_dir_option
from supervisor.settings_fleet import Role


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
