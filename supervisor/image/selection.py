"""What an operator asks for: flags and a file become a selection, and a selection becomes languages and groups."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from supervisor.errors import ConfigurationError
from supervisor.image.manifest import Selection
from supervisor.packages.names import NodeRequirement, PythonRequirement
from supervisor.runtimes.catalogue import DebianName, Group, Language

ALL = "all"


class PackagesFile(Struct, frozen=True, forbid_unknown_fields=True):
    """``gaoler image build --packages FILE``: a TOML file with these keys."""

    debian: list[DebianName] = []
    python: list[PythonRequirement] = []
    npm: list[NodeRequirement] = []


def read_packages(path: Path) -> PackagesFile:
    """Read the file.

    Raises:
        ConfigurationError: it breaks a rule; the message names the key.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), PackagesFile)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}", field="packages") from None


def added(before: Selection, asked: Selection) -> Selection:
    """Give the selection that has what both have. The base is the one that is asked for."""
    return Selection(
        languages=_union(before.languages, asked.languages),
        groups=_union(before.groups, asked.groups),
        debian=_union(before.debian, asked.debian),
        python=_union(before.python, asked.python),
        npm=_union(before.npm, asked.npm),
        base=asked.base,
        suite=asked.suite,
        microvm=before.microvm or asked.microvm,
    )


def asked_for(
    before: Selection,
    *,
    languages: Sequence[str],
    groups: Sequence[str],
    packages: Path | None,
    base: str | None,
    suite: str | None,
    microvm: bool = False,
) -> Selection:
    """Add to a selection what a command line asks for.

    Raises:
        ConfigurationError: the file of packages, or the base, breaks a rule.
    """
    extra = PackagesFile() if packages is None else read_packages(packages)
    given = {
        "languages": languages,
        "groups": groups,
        "debian": extra.debian,
        "python": extra.python,
        "npm": extra.npm,
        "base": base or before.base,
        "suite": before.suite if suite is None else suite,
        "microvm": microvm,
    }
    asked = msgspec.convert(given, Selection)
    if asked.suite and asked.base == "host":
        raise ConfigurationError("a suite is for a root of its own: give --base own too", field="suite")
    return added(before, asked)


def chosen_languages(names: Sequence[str], languages: Sequence[Language]) -> list[Language]:
    """Give the languages of these names; aliases will do.

    Raises:
        ConfigurationError: one is not known; the message lists those that are.
    """
    if ALL in names:
        return list(languages)
    known = {alias: language for language in languages for alias in (language.name, *language.aliases)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(
            f"no language is called {', '.join(unknown)}: there are {_names(languages)}, and {ALL}", field="languages"
        )
    wanted = {known[name].name for name in names}
    return [language for language in languages if language.name in wanted]


def chosen_groups(names: Sequence[str], groups: Sequence[Group]) -> list[Group]:
    """Give the groups of these names.

    Raises:
        ConfigurationError: one is not known; the message lists those that are.
    """
    if ALL in names:
        return list(groups)
    known = {group.name for group in groups}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(
            f"no group is called {', '.join(unknown)}: there are {_names(groups) or 'none'}", field="group"
        )
    return [group for group in groups if group.name in names]


def _names(known: Iterable[Language | Group]) -> str:
    return ", ".join(each.name for each in known)


def _union(before: Sequence[str], asked: Sequence[str]) -> list[str]:
    """The latest version that was asked for of a package stands in for an earlier one."""
    both = {_bare(each): each for each in (*before, *asked)}
    return [ALL] if ALL in both else sorted(both.values())


def _bare(name: str) -> str:
    return name[0] + name[1:].partition("@")[0].partition("=")[0]
