"""The manual page has every command with all of its options, and none that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from supervisor.cli import main
from tests.daemon import ROOT

PAGE = (ROOT / "docs" / "gaoler.1.md").read_text(encoding="utf-8")


def synopsis() -> dict[str, str]:
    """What the synopsis says of each command, by its first word."""
    text = PAGE.split("## Synopsis")[1].split("\n## ")[0]
    found: dict[str, str] = {}
    for entry in re.split(r"^ {4}gaoler ", text, flags=re.MULTILINE)[1:]:
        name = entry.split()[0]
        found[name] = found.get(name, "") + " " + entry
    return found


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from leaves(each, (*path, name))
    else:
        yield path, command


def test_every_command_is_in_the_synopsis_with_its_options() -> None:
    said = synopsis()
    missing = []
    for path, command in leaves(main):
        if command.hidden:
            continue
        entry = said.get(path[0], "")
        words = set(re.findall(r"[a-z][a-z-]*", entry))
        options = {name for option in command.params if isinstance(option, click.Option) for name in option.opts}
        missing += [" ".join(path)] if set(path) - words else []
        missing += [
            f"{' '.join(path)} {name}" for name in sorted(options) if name.startswith("--") and name not in entry
        ]
    assert missing == []


def test_the_synopsis_has_nothing_that_does_not_exist() -> None:
    real: dict[str, set[str]] = {}
    for path, command in leaves(main):
        options = (option for option in command.params if isinstance(option, click.Option))
        real.setdefault(path[0], set()).update(
            name for option in options for name in (*option.opts, *option.secondary_opts)
        )
    said = synopsis()
    assert set(said) == set(real)
    for name, entry in said.items():
        assert set(re.findall(r"--[a-z][a-z-]*", entry)) <= real[name], name


def test_every_command_is_described() -> None:
    described = set(re.findall(r"\*\*([a-z-]+)(?: [a-z]+)?\*\*", PAGE))
    assert {path[0] for path, _ in leaves(main)} <= described
