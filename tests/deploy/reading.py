"""Read deployment files as the programs do that they are for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import yaml  # type: ignore[import-untyped]

from supervisor.cli import main
from supervisor.settings.loading import leaves, load
from supervisor.settings.tree import Settings

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
VARIABLES: Final = frozenset(leaf.variable for leaf in leaves())
FILLED: Final = "GK0123456789abcdef0123456789abcdef0123456789abcdef"
"""Fit for every secret."""
_REFERENCE: Final = re.compile(r"\$\{([A-Z0-9_]+)(?::-([^}]*))?\}")


def parsed(path: Path) -> Any:
    """Give a YAML file of one document."""
    return yaml.safe_load(path.read_text())


def documents(path: Path) -> list[Any]:
    """Give those of a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def environment_file(path: Path) -> dict[str, str]:
    """Give the variables of a file for ``docker --env-file`` and the like."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def references(value: Any) -> set[str]:
    """Give the names of the variables that Compose would put in."""
    if isinstance(value, Mapping):
        return {name for each in value.values() for name in references(each)}
    if isinstance(value, list):
        return {name for each in value for name in references(each)}
    return {match[1] for match in _REFERENCE.finditer(value)} if isinstance(value, str) else set()


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """Put them in: ``${NAME}`` and ``${NAME:-default}``, the two forms that our file has."""
    if isinstance(value, Mapping):
        return {key: interpolated(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    text = _REFERENCE.sub(lambda match: variables.get(match[1]) or match[2] or "", value)
    assert "${" not in text, text
    return text


def settings_of(environment: Mapping[str, Any]) -> Settings:
    """Load the settings that a container with this environment has.

    Raises:
        ConfigurationError: it would refuse to start.
    """
    return load(file=None, environment={name: str(value) for name, value in environment.items()}, flags={}).settings


def parses(arguments: Sequence[str]) -> bool:
    """Say whether ``gaoler`` takes these arguments; nothing is run."""
    command: click.Command = main
    rest = list(arguments)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        if name not in command.commands:
            return False
        command = command.commands[name]
    try:
        command.make_context("gaoler", rest)
    except click.UsageError:
        return False
    return True


def seconds(text: str) -> int:
    """Read a duration of Compose, in whole seconds."""
    assert text.endswith("s")
    return int(text[:-1])
