"""What all commands share: options, and errors as a line that says what to do next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from supervisor.errors import ConfigurationError, GaolerError
from supervisor.settings.loading import Loaded, load, process_environment

EXIT_CONFIGURATION = 78
_FLAGS: Final = "gaoler.flags"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show our own errors as a line, not as a traceback."""
    try:
        yield
    except ConfigurationError as error:
        click.echo(f"gaoler: {error.message}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    except GaolerError as error:
        click.echo(f"gaoler: {error.message}", err=True)
        sys.exit(1)


def load_settings(config: Path | None, flags: dict[str, Any], *, serving: bool = False) -> Loaded:
    """Read the settings of file, environment and flags; ``serving`` as in :func:`supervisor.settings.loading.load`.

    With what :func:`path_setting` has noted.
    """
    context = click.get_current_context(silent=True)
    noted = {} if context is None else context.meta.get(_FLAGS, {})
    return load(file=config, environment=process_environment(), flags={**noted, **flags}, serving=serving)


def path_setting(key: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    """Give the callback of an option that says where the file of a setting is, as seen from here."""

    def note(context: click.Context, _parameter: click.Parameter, path: str | None) -> None:
        if path is not None:
            context.meta.setdefault(_FLAGS, {})[key] = absolute(path)

    return note


config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings file (default: /etc/gaoler/gaoler.toml).",
)
state_dir_option = click.option(
    "--state-dir", metavar="DIR", help="Where everything is kept (default: /var/lib/gaoler)."
)


def absolute(path: str | None) -> str | None:
    """Give a path as seen from here, if there is one."""
    return None if path is None else str(Path(path).absolute())
