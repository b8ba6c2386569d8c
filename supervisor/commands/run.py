"""``gaoler run``: one program in a sandbox, without a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from supervisor.commands.completion import complete_language
from supervisor.commands.options import config_option, load_settings, plain_errors
from supervisor.errors import InvalidRequest
from supervisor.execution.tier import TIERS
from supervisor.execution.values import Tier

if TYPE_CHECKING:
    from supervisor.oneshot import Work

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("source", metavar="FILE|-", type=click.File("rb"))
@click.argument("arguments", metavar="[ARG]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--lang", shell_complete=complete_language, help="Language; default: by the file's extension, or Python.")
@click.option(
    "--file", "files", multiple=True, type=_FILE, help="Input file, placed into /mnt/data, and the program beside it."
)
@click.option("--source", "sources", multiple=True, type=_FILE, help="As --file, and compiled with the program.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Environment variable of the program.")
@click.option("--stdin", type=click.File("rb"), help="File that it reads as standard input; - for this one's own.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Directory for the files that the program makes."
)
@click.option("--tier", type=click.Choice(TIERS), help="Of the sandbox, if the settings do not ask for a higher one.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Kill it after so long; shortens the policy's limit.")
@click.option("--watch", is_flag=True, help="Run it again when it or one of its files changes, until Ctrl-C.")
@config_option
def run(
    *,
    source: BinaryIO,
    arguments: tuple[str, ...],
    lang: str | None,
    files: tuple[Path, ...],
    sources: tuple[Path, ...],
    variables: tuple[str, ...],
    stdin: BinaryIO | None,
    output: Path | None,
    tier: Tier | None,
    timeout: float | None,
    watch: bool,
    config: Path | None,
) -> None:
    """Run one program in a sandbox, without a server. The exit code is the program's."""
    from supervisor import oneshot
    from supervisor.execution.request_rules import check_arguments, check_environment
    from supervisor.runtimes.catalogue import language_of, load_languages

    if watch:
        _watch(source, (*files, *sources), stdin)
    with plain_errors(), _interruptible():
        loaded = load_settings(config, {})
        name = Path(source.name).name
        work = oneshot.Work(
            language=lang or language_of(Path(name), load_languages()),
            code="",
            arguments=check_arguments(arguments),
            inputs=[(path.name, path.read_bytes()) for path in (*files, *sources)],
            wall_seconds=timeout,
            environment=check_environment(_pairs(variables)),
            stdin=stdin.read() if stdin is not None else b"",
            sources=tuple(path.name for path in sources),
            tier=tier,
        )
        work = _with_program(work, name, source.read())
        sys.exit(oneshot.run(loaded.settings, work, output))


def _watch(source: BinaryIO, files: Sequence[Path], stdin: BinaryIO | None) -> None:
    """Run the same command without --watch, again and again; never returns."""
    import trio

    from supervisor.commands.run_again import run_again_and_again, watched

    opened = [source, *([] if stdin is None else [stdin])]
    if any(each.name == "<stdin>" for each in opened):
        raise click.UsageError("--watch wants files: a pipe can be read only once")
    # As it was typed: click has shown that it can be read.
    arguments = sys.argv[1:]
    arguments.remove("--watch")
    try:
        trio.run(run_again_and_again, arguments, watched([*(each.name for each in opened), *files]))
    except* KeyboardInterrupt:
        pass
    sys.exit(130)


@contextmanager
def _interruptible() -> Iterator[None]:
    """End quietly at Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)


def _with_program(work: Work, name: str, content: bytes) -> Work:
    """Give it the program: alone as code, else as the main one of the input files."""
    from dataclasses import replace

    if not work.inputs or name == "<stdin>":
        return replace(work, code=content.decode("utf-8", "strict"))
    others = [each for each in work.inputs if each[0] != name]
    return replace(work, inputs=[(name, content), *others], main=name)


def _pairs(variables: Sequence[str]) -> dict[str, str]:
    """Take ``NAME=VALUE`` apart.

    Raises:
        InvalidRequest: there is no ``=``.
    """
    pairs = [each.partition("=") for each in variables]
    for name, equals, _ in pairs:
        if not equals:
            raise InvalidRequest(f"--env wants NAME=VALUE, not {name!r}", field="env")
    return {name: value for name, _, value in pairs}
