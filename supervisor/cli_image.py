"""``gaoler image``: the commands; what they do is in :mod:`supervisor.image`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from supervisor.cli_options import absolute, config_option, load_settings, plain_errors, state_dir_option

image_dir_option = click.option(
    "--image-dir", metavar="DIR", help="Where images are kept (default: images in the state directory)."
)


@click.group()
def image() -> None:
    """The runtime image: what programs in a sandbox find below /usr/local."""


@image.command("build")
@image_dir_option
@state_dir_option
@config_option
def image_build(image_dir: str | None, state_dir: str | None, config: Path | None) -> None:
    """Prepare the image: Debian packages, Python packages, fonts. Minutes the first time; can be interrupted."""
    from supervisor.image import ImageError
    from supervisor.image.build import build_image
    from supervisor.image.plan import ImagePlan
    from supervisor.progress import ConsoleProgress

    with plain_errors():
        loaded = load_settings(config, {"state_dir": absolute(state_dir), "image_dir": absolute(image_dir)})
        try:
            built = build_image(ImagePlan(loaded.settings.image_path), ConsoleProgress())
        except ImageError as error:
            click.echo(f"gaoler: {error}", err=True)
            sys.exit(1)
        except PermissionError as error:
            click.echo(f"gaoler: {error}: building the image needs root", err=True)
            sys.exit(1)
        packages = len(built.manifest.languages["python"].packages)
        click.echo(f"Image {built.path.name}: Python {built.manifest.python}, {packages} packages.", err=True)
