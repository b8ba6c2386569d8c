"""``gaoler image``: the commands; what they do is in :mod:`supervisor.image`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supervisor.cli_options import absolute, config_option, load_settings, plain_errors, state_dir_option

if TYPE_CHECKING:
    from supervisor.image.trial import Answer, Attempt

image_dir_option = click.option(
    "--image-dir", metavar="DIR", help="Where images are kept (default: images in the state directory)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def image() -> None:
    """Runtime images: what programs in a sandbox find below /usr/local, and perhaps /usr."""


@image.command("build")
@click.option("--languages", metavar="NAME,...|all", help="Languages to have, beside those of this host.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="A group of programs to have; repeatable.")
@click.option("--with-office", is_flag=True, help="The same as --group office.")
@click.option(
    "--packages",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with lists of packages: debian, python, npm.",
)
@click.option("--base", type=click.Choice(["host", "own"]), help="Whose /usr sandboxes see (default: as before; host).")
@click.option("--suite", metavar="NAME", help="Of Debian, for --base own (default: this host's).")
@click.option("--only", is_flag=True, help="Have what is given here and nothing that was asked for earlier.")
@click.option("--fresh", is_flag=True, help="Make every layer again.")
@click.option("--no-try", is_flag=True, help="Do not try the new image in sandboxes; versions are not known then.")
@image_dir_option
@state_dir_option
@config_option
def image_build(
    *,
    languages: str | None,
    groups: tuple[str, ...],
    with_office: bool,
    packages: Path | None,
    base: str | None,
    suite: str | None,
    only: bool,
    fresh: bool,
    no_try: bool,
    image_dir: str | None,
    state_dir: str | None,
    config: Path | None,
) -> None:
    """Prepare the image and make it the current one. Minutes the first time; can be interrupted, and goes on then.

    Without options it is as before, with what has changed meanwhile; options add to it.
    """
    from supervisor.image.build import build_image, usable_image
    from supervisor.image.plan import NOTHING, plan_of
    from supervisor.image.selection import asked_for
    from supervisor.progress import ConsoleProgress

    with plain_errors(), _image_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir), "image_dir": absolute(image_dir)}).settings
        current = usable_image(settings.image_path)
        selection = asked_for(
            NOTHING if current is None or only else current.manifest.selection,
            languages=[each.strip() for each in languages.split(",")] if languages else [],
            groups=[*groups, *(["office"] if with_office else [])],
            packages=packages,
            base=base,
            suite=suite,
        )

        def trial(directory: Path, attempts: Sequence[Attempt]) -> list[Answer]:
            # Imports all of the daemon; at most starts there is nothing to try.
            from supervisor.image.in_sandboxes import try_all

            return try_all(settings, directory, attempts)

        plan = plan_of(settings.image_path, selection, fresh=fresh)
        built = build_image(plan, ConsoleProgress(), trial=None if no_try else trial)
        known = ", ".join(f"{name} {each.version}".strip() for name, each in built.manifest.languages.items())
        click.echo(f"Image {built.path.name}: {known}.", err=True)


@contextmanager
def _image_errors() -> Iterator[None]:
    from supervisor.image import ImageError

    try:
        yield
    except ImageError as error:
        click.echo(f"gaoler: {error}", err=True)
        sys.exit(1)
    except PermissionError as error:
        click.echo(f"gaoler: {error}: images belong to root", err=True)
        sys.exit(1)
