"""``gaoler logs``: the daemon's log where the settings have it go, and the record of what operators did."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from supervisor.commands.console import console, json_option, moment, no_color_option, operating_errors, visible
from supervisor.commands.options import absolute, config_option, load_settings, state_dir_option
from supervisor.errors import ConfigurationError

if TYPE_CHECKING:
    from supervisor.logs.turned_over import Picks
    from supervisor.settings.tree import Settings

_STYLES: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_BEGINS: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
_HEAD: Final = ("time", "level", "logger", "event")


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on as lines come, until Ctrl-C.")
@click.option(
    "--lines", "-n", type=click.IntRange(0, 1_000_000), default=50, show_default=True, help="The latest so many."
)
@click.option("--audit", is_flag=True, help="What operators did, instead: who, from where, what, with what outcome.")
@click.option(
    "--unit", default="gaoler.service", show_default=True, help="Of systemd, where the log goes to its journal."
)
@click.option("--request", metavar="ID", help="Only what was written for this request (X-Request-Id of its answer).")
@click.option("--session", metavar="ID", help="Only what was written for this session.")
@json_option
@no_color_option
@state_dir_option
@config_option
def logs(
    *,
    follow: bool,
    lines: int,
    audit: bool,
    unit: str,
    request: str | None,
    session: str | None,
    as_json: bool,
    state_dir: str | None,
    config: Path | None,
) -> None:
    """Show the daemon's log: the file of the settings (log.file), else systemd's journal.

    With --json one object a line; of a log of plain text {"line": ...}. No daemon has to run.
    """
    with operating_errors():
        ids = {key: value for key, value in (("request_id", request), ("session_id", session)) if value is not None}
        for key, value in ids.items():
            if not _ID.fullmatch(value):
                raise click.UsageError(f"--{key.removesuffix('_id')}: an id has 1 to 128 characters of A-Za-z0-9._-")
        if audit and ids:
            raise click.UsageError("--audit takes none of --request and --session: acts are of operators")
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        if audit:
            from supervisor.administration.audit import ACTS_FILE

            path = settings.state_path / "data" / ACTS_FILE
            _print_all(path, lines, follow=follow, form=_as_kept if as_json else _act_in_words)
        elif settings.log.file:
            form = _of_log(settings, as_json=as_json)
            pick = partial(_picked_of_json if settings.log.format == "json" else _picked_of_text, ids)
            _print_all(Path(settings.log.file), lines, follow=follow, form=form, pick=pick if ids else None)
        else:
            matches = _matches(ids, fields=settings.log.format == "journal")
            _become_journalctl(unit, lines, matches, follow=follow, as_json=as_json)


def _print_all(path: Path, most: int, *, follow: bool, form: Callable[[str], str], pick: Picks | None = None) -> None:
    from supervisor.logs.turned_over import read_lines

    out = console()
    given = read_lines(path, most, follow=follow) if pick is None else read_lines(path, most, follow=follow, picks=pick)
    for line in given:
        text = form(line)
        if out.is_terminal and form is not _as_kept:
            level = next((each for each in _STYLES if f" {each} " in text[:48]), "")
            out.print(text, style=_STYLES.get(level, ""), soft_wrap=True)
        else:
            click.echo(text)
            sys.stdout.flush()


def _of_log(settings: Settings, *, as_json: bool) -> Callable[[str], str]:
    is_json = settings.log.format == "json"
    if as_json:
        return _as_kept if is_json else _as_object
    return _record_in_words if is_json else visible


def _picked_of_json(ids: Mapping[str, str]) -> Callable[[str], bool]:
    def wanted(line: str) -> bool:
        # Most lines are somebody else's, and need not be read.
        if any(each not in line for each in ids.values()):
            return False
        record = _decoded(line)
        return all(record.get(key) == value for key, value in ids.items())

    return wanted


def _picked_of_text(ids: Mapping[str, str]) -> Callable[[str], bool]:
    """What does not begin with a time goes on with the record before it: a traceback."""
    patterns = [
        re.compile(rf" {key.removesuffix('_id')}(?:_id)?={re.escape(value)}(?= |$)") for key, value in ids.items()
    ]
    good = False

    def wanted(line: str) -> bool:
        nonlocal good
        if _BEGINS.match(line):
            good = all(each.search(line) for each in patterns)
        return good

    return wanted


def _matches(ids: Mapping[str, str], *, fields: bool) -> list[str]:
    """Give what journalctl(1) takes: fields, or a pattern for what a service wrote to its standard error."""
    if not ids:
        return []
    if fields:
        return [f"{key.upper()}={value}" for key, value in ids.items()]
    alone = (rf"(?=.*(?<![\w.-]){value.replace('.', '[.]')}(?![\w.-]))" for value in ids.values())
    return [f"--grep=^{''.join(alone)}", "--case-sensitive=yes"]


def _as_kept(line: str) -> str:
    """Give an object as it is, but for what a terminal would obey, which JSON can say in another way."""
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)


def _as_object(line: str) -> str:
    import msgspec

    return _as_kept(msgspec.json.encode({"line": line}).decode())


def _decoded(line: str) -> Mapping[str, Any]:
    import msgspec

    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}


def _record_in_words(line: str) -> str:
    """Give a record of the JSON form as the form for people has it."""
    record = _decoded(line)
    if not record:
        return visible(line)
    rest = (f"{name}={value}" for name, value in record.items() if name not in (*_HEAD, "exception"))
    text = " ".join([*(str(record.get(name, "")) for name in _HEAD), *rest])
    exception = "".join(f"\n{visible(each)}" for each in str(record.get("exception", "")).splitlines())
    return visible(text) + exception


def _act_in_words(line: str) -> str:
    entry = _decoded(line)
    if not entry:
        return visible(line)
    return visible("  ".join(_act_parts(entry)))


def _act_parts(entry: Mapping[str, Any]) -> Iterator[str]:
    when = entry.get("time")
    yield moment(when) if isinstance(when, int | float) else ""
    yield f"{entry.get('who', '')} ({entry.get('address', '')})"
    for name in ("act", "target", "outcome", "detail"):
        if entry.get(name):
            yield str(entry[name])


def _become_journalctl(unit: str, most: int, matches: list[str], *, follow: bool, as_json: bool) -> NoReturn:
    """Have journalctl(1) show it, in our place.

    Raises:
        ConfigurationError: there is none.
    """
    program = shutil.which("journalctl")
    if program is None:
        raise ConfigurationError(
            "the log goes to the standard error of whoever started the daemon, and there is no journal here: "
            "set log.file to have it in a file",
            field="log.file",
        )
    arguments = [program, f"--unit={unit}", f"--lines={most}", f"--output={'json' if as_json else 'short-iso'}"]
    sys.stdout.flush()
    os.execv(program, [*arguments, *(["--follow"] if follow else ["--no-pager"]), *matches])
