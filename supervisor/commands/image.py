"""``gaoler image``: the commands; what they do is in :mod:`supervisor.image`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supervisor.commands.options import absolute, config_option, load_settings, plain_errors, state_dir_option

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
@click.option("--microvm", is_flag=True, help="What virtual machines are made of: a guest and the hypervisor.")
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
    microvm: bool,
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
    from supervisor.image.progress import ConsoleProgress
    from supervisor.image.selection import asked_for

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
            microvm=microvm,
        )

        def trial(directory: Path, attempts: Sequence[Attempt]) -> list[Answer]:
            # Imports all of the daemon; at most starts there is nothing to try.
            from supervisor.image.in_sandboxes import try_all

            return try_all(settings, directory, attempts)

        plan = plan_of(settings.image_path, selection, fresh=fresh)
        built = build_image(plan, ConsoleProgress(), trial=None if no_try else trial)
        known = ", ".join(f"{name} {each.version}".strip() for name, each in built.manifest.languages.items())
        click.echo(f"Image {built.path.name}: {known}.", err=True)


@image.command("list")
@json_option
@image_dir_option
@state_dir_option
@config_option
def image_list(*, as_json: bool, image_dir: str | None, state_dir: str | None, config: Path | None) -> None:
    """List the images: which is current, which a daemon uses, what each has and costs."""
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from supervisor.image.manage import list_images

    with plain_errors(), _image_errors():
        found = list_images(_images(image_dir, state_dir, config))
        if as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
            return
        table = Table("image", "", "base", "MiB", "of its own", "languages and groups", box=None, pad_edge=False)
        for row in found.images:
            marks = [word for word, holds in (("current", row.current), ("in use", row.in_use)) if holds]
            has = [*(f"{name} {version}".strip() for name, version in row.languages.items()), *row.groups]
            has += ["microvm"] if row.microvm else []
            sizes = (f"{row.bytes >> 20}", f"{row.own_bytes >> 20}")
            table.add_row(row.id, ", ".join(marks), row.base or "other version", *sizes, ", ".join(has))
        Console().print(table)
        click.echo(f"{found.bytes >> 20} MiB together, with the layers of the next one.")


@image.command("verify")
@click.argument("name", metavar="[ID]", required=False)
@json_option
@image_dir_option
@state_dir_option
@config_option
def image_verify(
    *, name: str | None, as_json: bool, image_dir: str | None, state_dir: str | None, config: Path | None
) -> None:
    """Compare each file of an image (default: the current one) with what was built. Exit code 1 if one differs."""
    import msgspec

    from supervisor.image.manage import verify

    with plain_errors(), _image_errors():
        verdict = verify(_images(image_dir, state_dir, config), name)
        if as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(verdict)).decode())
        else:
            for kind, paths in (("wrong", verdict.wrong), ("missing", verdict.missing), ("extra", verdict.extra)):
                for path in paths:
                    click.echo(f"{kind:8}{path}")
            good, mend = "every file is as it was built", "run 'gaoler image build --fresh'"
            click.echo(f"{verdict.id}: {good if verdict.good else mend}")
        sys.exit(0 if verdict.good else 1)


@image.command("remove")
@click.argument("name", metavar="ID")
@json_option
@image_dir_option
@state_dir_option
@config_option
def image_remove(
    *, name: str, as_json: bool, image_dir: str | None, state_dir: str | None, config: Path | None
) -> None:
    """Remove an image that is neither current nor in use."""
    import msgspec

    from supervisor.image.manage import remove

    with plain_errors(), _image_errors():
        removed = remove(_images(image_dir, state_dir, config), name)
        click.echo(msgspec.json.encode({"removed": removed}).decode() if as_json else f"Removed {removed}.")


def _images(image_dir: str | None, state_dir: str | None, config: Path | None) -> Path:
    flags = {"state_dir": absolute(state_dir), "image_dir": absolute(image_dir)}
    return load_settings(config, flags).settings.image_path


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
