"""How settings are read: once at start, from file, environment, credentials and flags, in that order.

What other servers call the same (:mod:`supervisor.settings.aliases`) is read too, and counts less than all of these.

An unknown key or a bad value refuses to start and names the key, where it came from, the value and what is allowed.
Nothing reads the environment later. ``docs/configuration.md`` is generated from this module.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError
from supervisor.service.credentials import read_credentials, refuse_strangers
from supervisor.settings.aliases import find_aliases, origin_of
from supervisor.settings.meta import SECRET
from supervisor.settings.rules import check
from supervisor.settings.theirs import ROWS
from supervisor.settings.tree import Settings

DEFAULT_FILE: Final = Path("/etc/gaoler/gaoler.toml")
ENVIRONMENT_PREFIX: Final = "GAOLER_"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting: its key as in the file (``files.retention_hours``), its annotated type and its default."""

    key: str
    type: Any
    default: Any

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return _variable(self.key)

    @property
    def description(self) -> str:
        """What it is, in a line."""
        return next(meta.description or "" for meta in self._metas())

    @property
    def secret(self) -> bool:
        """Its value is never printed."""
        return any(meta.extra == SECRET for meta in self._metas())

    @property
    def allowed(self) -> str:
        """Which values it takes, in words."""
        rules: list[str] = []
        base = get_args(self.type)[0]
        if get_origin(base) is Literal:
            return "one of " + ", ".join(get_args(base))
        rules.append({int: "a whole number", float: "a number", bool: "true or false", str: "text"}[base])
        for meta in self._metas():
            for name, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most")):
                if getattr(meta, name) is not None:
                    rules.append(f"{words} {getattr(meta, name)}")
        return ", ".join([*rules, self.description])

    def _metas(self) -> list[Meta]:
        return [each for each in get_args(self.type)[1:] if isinstance(each, Meta)]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective tree, and for each key where its value came from."""

    settings: Settings
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    notices: tuple[str, ...] = ()
    """What became of other servers' names, a line for each that was found."""


def leaves(kind: type[Struct] = Settings, prefix: str = "") -> Iterator[Leaf]:
    """Give every setting in the order of the tree."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        annotated = hints[field.name]
        if isinstance(annotated, type) and issubclass(annotated, Struct):
            yield from leaves(annotated, f"{prefix}{field.name}.")
        else:
            yield Leaf(prefix + field.name, annotated, field.default)


def load(
    *, file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any], serving: bool = False
) -> Loaded:
    """Read the settings. ``file``: ``None`` means the default file if it exists; a named one has to.

    ``flags`` are by key; those that are ``None`` were not given. ``serving``: read the aliases too that are only about
    how a daemon serves; ``PORT`` in the shell of somebody who looks for a daemon means something else.

    Raises:
        ConfigurationError: unknown key, bad value, unreadable file.
    """
    known = {leaf.key: leaf for leaf in leaves()}
    values = {key: leaf.default for key, leaf in known.items()}
    origins = dict.fromkeys(known, "default")
    for source, given, strict in (
        *_from_file(file),
        ("environment", _from_environment(environment, known), False),
        ("credential", read_credentials(environment, known), False),
        ("flag", {key: value for key, value in flags.items() if value is not None}, True),
    ):
        for key, value in given.items():
            if key not in known:
                raise ConfigurationError(f"{source}: unknown setting {key!r}{_suggest(key, known)}", field=key)
            values[key] = _convert(known[key], value, source, strict=strict)
            origins[key] = f"environment {known[key].variable}" if source == "environment" else source
    taken, unread = _take_aliases(environment, known, values, origins, serving=serving)
    refuse_strangers(environment, known, values.values())
    settings = msgspec.convert(_nest(values), Settings)
    try:
        check(settings)
    except ConfigurationError as error:
        if error.field not in taken:
            raise
        raise ConfigurationError(f"{error.message} (from {origins[error.field]})", field=error.field) from None
    notices = (
        *(f"{name} is read as {key}; {_variable(key)} is its name here" for key, name in taken.items()),
        *(f"{name} is not read: {why}" for name, why in unread.items()),
    )
    return Loaded(settings, values, origins, notices)


def _take_aliases(
    environment: Mapping[str, str],
    known: Mapping[str, Leaf],
    values: dict[str, Any],
    origins: dict[str, str],
    *,
    serving: bool,
) -> tuple[dict[str, str], dict[str, str]]:
    """Put what other servers' names say where nothing else has said anything.

    Give the names that were read, by key, and why others were not. A key that two names say differently refuses.
    """
    taken: dict[str, str] = {}
    unread: dict[str, str] = {}
    if not values["aliases"]:
        return taken, unread
    for found in find_aliases(ROWS, environment, serving=serving):
        if not found.key:
            unread[found.name] = found.why
            continue
        if found.key not in taken and origins[found.key] != "default":
            unread[found.name] = f"{found.key} is said by {origins[found.key]}"
            continue
        source = f"{origin_of(found.name)} (read as {found.key})"
        value = _convert(known[found.key], found.value, source, strict=False)
        other = taken.setdefault(found.key, found.name)
        if other != found.name and value != values[found.key]:
            raise ConfigurationError(f"{other} and {found.name} say different things of {found.key}", field=found.key)
        values[found.key], origins[found.key] = value, origin_of(other)
    return taken, unread


def _variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.replace(".", "_").upper()


def _from_file(file: Path | None) -> list[tuple[str, Mapping[str, Any], bool]]:
    path = file or DEFAULT_FILE
    if file is None and not path.exists():
        return []
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return [(str(path), _flatten(tree), True)]


def _from_environment(environment: Mapping[str, str], known: Mapping[str, Leaf]) -> dict[str, str]:
    by_variable = {leaf.variable: key for key, leaf in known.items()}
    return {
        by_variable.get(name, name): value for name, value in environment.items() if name.startswith(ENVIRONMENT_PREFIX)
    }


def _convert(leaf: Leaf, value: Any, source: str, *, strict: bool) -> Any:
    try:
        if isinstance(value, str) and get_args(leaf.type)[0] is bool and not strict:
            value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
                value.lower(), value
            )
        return msgspec.convert(value, leaf.type, strict=strict)
    except msgspec.ValidationError:
        shown = "(hidden)" if leaf.secret else repr(value)
        raise ConfigurationError(
            f"{source}: {leaf.key} = {shown} is not allowed: {leaf.allowed}", field=leaf.key
        ) from None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        at = tree
        for parent in parents:
            at = at.setdefault(parent, {})
        at[name] = value
    return tree


def _suggest(key: str, known: Mapping[str, Leaf]) -> str:
    names = [*known, *(leaf.variable for leaf in known.values())]
    close = difflib.get_close_matches(key, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; 'gaoler settings' lists them all"


def process_environment() -> Mapping[str, str]:
    """Give the environment of this process: the one place that looks at it."""
    return os.environ
