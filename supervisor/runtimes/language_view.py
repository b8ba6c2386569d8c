"""Which languages there are, as everybody may know them: installed or not, with what, and what brings those missing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, Protocol, TypeVar

from supervisor.errors import InvalidRequest, Unsupported
from supervisor.execution.tier import TIERS, TITLES, TierRules, is_below
from supervisor.execution.values import Tier
from supervisor.policy import LimitTable, Policy
from supervisor.runtimes.catalogue import Group, InstalledLanguage, Language, effective_limits

NOT_INSTALLED: Final = "language_not_installed"
_Named = TypeVar("_Named", Language, Group)


@dataclass(frozen=True, slots=True)
class LanguageView:
    """A language of the catalogue. What is empty or ``False`` below ``installed`` is so too if it is not installed."""

    name: str
    title: str
    aliases: tuple[str, ...]
    extension: str
    """Of its main file, with the dot."""
    extensions: tuple[str, ...]
    """Of all files that are taken to be in it."""
    install_command: str
    """What an operator runs to have it."""
    limits: Mapping[str, float]
    """How long its programs, and its compiler, may take: the shorter of the policy's and its own, in seconds."""
    installed: bool = False
    version: str = ""
    """Empty: nobody has asked since its programs changed."""
    warm: bool = False
    """Its interpreter waits, and keeps variables for sessions that last."""
    compiled: bool = False
    tested: bool = False
    """Its smoke test ran in a sandbox when the image was built."""
    tier: Tier = "nsjail"
    """The least that its executions have."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """What its programs can import without installing it: versions by name."""


@dataclass(frozen=True, slots=True)
class GroupView:
    """Programs beside the languages, which an image has if it was asked for."""

    name: str
    title: str
    programs: tuple[str, ...]
    install_command: str
    installed: bool = False


@dataclass(frozen=True, slots=True)
class TierView:
    """A tier of sandboxes. ``reason``: why it is not to be had; empty: it is."""

    name: Tier
    title: str
    reason: str = ""


class Languages(Protocol):
    """All languages and groups, as they are now: a :class:`LanguageTable`, or what follows a fleet's."""

    @property
    def languages(self) -> tuple[LanguageView, ...]:
        """By name."""

    @property
    def groups(self) -> tuple[GroupView, ...]:
        """By name."""

    @property
    def limits(self) -> Mapping[str, float]:
        """What holds for a program of any language."""

    @property
    def tiers(self) -> tuple[TierView, ...]:
        """The lowest first."""

    def find(self, name: str) -> LanguageView | None:
        """Give the language of this name or alias."""

    def of_file(self, name: str) -> str:
        """Name the language that a file's extension tells."""

    def refusal(self, name: str) -> InvalidRequest | Unsupported:
        """Say why a program in this language cannot be run."""


def counted_name(languages: Languages, name: str) -> str:
    """Give the name under which executions of a language are counted: its own, or ``other``."""
    found = languages.find(name) if name else None
    return "other" if found is None else found.name


@dataclass(frozen=True, slots=True)
class LanguageTable:
    """All languages and groups, by name. ``limits``: what holds for a program of any of them."""

    languages: tuple[LanguageView, ...]
    groups: tuple[GroupView, ...]
    limits: Mapping[str, float]
    tiers: tuple[TierView, ...]

    def find(self, name: str) -> LanguageView | None:
        """Give the language of this name or alias."""
        wanted = name.lower()
        return next((each for each in self.languages if wanted in (each.name, *each.aliases)), None)

    def of_file(self, name: str) -> str:
        """Name the language that a file's extension tells.

        Raises:
            InvalidRequest: it tells none.
        """
        extension = PurePosixPath(name).suffix
        found = [
            # As it is written first. Two may share one: the installed one, and of those the one whose own it is.
            (wanted != extension, not each.installed, wanted not in each.extensions, each.name)
            for wanted in (extension, extension.lower())
            for each in self.languages
            if wanted and wanted in (each.extension, *each.extensions)
        ]
        if found:
            return min(found)[-1]
        raise InvalidRequest(f"the name of the file tells no language ({extension or 'no extension'})", field="lang")

    def refusal(self, name: str) -> InvalidRequest | Unsupported:
        """Say why a program in this language cannot be run: there is none of this name, or it is not installed."""
        found = self.find(name)
        if found is None:
            # LibreChat's contract has these words; the hint comes beside them.
            return InvalidRequest(f"Unsupported language: {name}", field="lang", hint=self._hint(name))
        return Unsupported(
            f"{found.title} is not installed on this server. Its operator can install it: {found.install_command}. "
            f"Installed are {self._names()}.",
            code=NOT_INSTALLED,
            field="lang",
        )

    def _hint(self, name: str) -> str:
        known = [alias for each in self.languages if each.installed for alias in (each.name, *each.aliases)]
        near = difflib.get_close_matches(name.lower()[:64], known, n=1)
        return (f"did you mean {near[0]!r}? " if near else "") + f"installed are {self._names()}"

    def _names(self) -> str:
        return ", ".join(each.name for each in self.languages if each.installed)


@dataclass(frozen=True, slots=True)
class Stock:
    """What is there beside the languages' own tools."""

    groups: Collection[str] = ()
    """Of the image."""
    tested: Collection[str] = ()
    """Languages that were tried when the image was built."""
    added: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What the operator has installed for every sandbox: versions by name, by kind as in ``Packages.usable``."""


def language_table(
    languages: Sequence[Language],
    groups: Sequence[Group],
    installed: Mapping[str, InstalledLanguage],
    stock: Stock,
    policy: Policy,
    rules: TierRules,
) -> LanguageTable:
    """Put the table together."""
    limits = policy.limits
    return LanguageTable(
        tuple(_language(each, installed.get(each.name), stock, limits, rules) for each in _sorted(languages)),
        tuple(
            GroupView(
                each.name,
                each.title,
                tuple(each.programs),
                f"gaoler image build --group {each.name}",
                each.name in stock.groups,
            )
            for each in _sorted(groups)
        ),
        {
            "wall_seconds": limits.wall_seconds,
            "cpu_cores": limits.cpu_cores,
            "memory_bytes": limits.memory_bytes,
            "processes": limits.processes,
            "workspace_bytes": limits.workspace_bytes,
            "output_bytes": limits.output_bytes,
        },
        tuple(TierView(each, TITLES[each], rules.unavailable if is_below(rules.best, each) else "") for each in TIERS),
    )


def _sorted(named: Sequence[_Named]) -> list[_Named]:
    return sorted(named, key=lambda each: each.name)


def _language(
    language: Language, installed: InstalledLanguage | None, stock: Stock, limits: LimitTable, rules: TierRules
) -> LanguageView:
    added = stock.added.get(language.packages.usable or "", {})
    return LanguageView(
        name=language.name,
        title=language.title,
        aliases=tuple(language.aliases),
        extension=PurePosixPath(language.source).suffix,
        extensions=tuple(language.extensions),
        install_command=language.install_command,
        limits=effective_limits(language, limits),
        compiled=language.compile is not None,
        tested=installed is not None and language.name in stock.tested,
        installed=installed is not None,
        version=installed.version if installed else "",
        warm=installed is not None and installed.profile is not None,
        tier=rules.of_language(language.name),
        packages=dict(sorted({**installed.packages, **added}.items())) if installed else {},
    )


def described_language(view: LanguageView) -> dict[str, Any]:
    """Give a language as plain data, the same at every door."""
    return {
        "name": view.name,
        "title": view.title,
        "aliases": list(view.aliases),
        "extension": view.extension,
        "extensions": list(view.extensions),
        "installed": view.installed,
        "version": view.version or None,
        "warm": view.warm,
        "compiled": view.compiled,
        "tested": view.tested,
        "tier": view.tier,
        "limits": dict(view.limits),
        "packages": dict(view.packages),
        "install_command": None if view.installed else view.install_command,
    }


def time_in_words(limits: Mapping[str, float]) -> str:
    """Say how long a language's programs may take."""
    compiling = limits.get("compile_seconds")
    return f"at most {limits['wall_seconds']:g} s" + (f", and {compiling:g} s to compile" if compiling else "")


def described(table: Languages) -> dict[str, Any]:
    """Give everything as plain data, the same at every door."""
    groups = [
        {
            "name": each.name,
            "title": each.title,
            "programs": list(each.programs),
            "installed": each.installed,
            "install_command": None if each.installed else each.install_command,
        }
        for each in table.groups
    ]
    languages = [described_language(each) for each in table.languages]
    tiers = [
        {"name": each.name, "title": each.title, "available": not each.reason, "reason": each.reason or None}
        for each in table.tiers
    ]
    return {"languages": languages, "groups": groups, "limits": dict(table.limits), "tiers": tiers}


def tier_in_words(view: TierView) -> str:
    """Say what a tier is, and whether it is to be had."""
    return f"tier {view.name}: {view.title}" + (f"; not to be had here: {view.reason}" if view.reason else "")
