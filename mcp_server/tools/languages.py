"""Which languages can be run, and what their programs can import."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from mcp_server import uris
from mcp_server.registry import Call, Input, Output, Reply, text
from mcp_server.tools.common import REGISTRY
from supervisor.errors import NotFound
from supervisor.runtimes.language_view import LanguageView, tier_in_words, time_in_words

WELL_KNOWN: Final = (
    *("numpy", "pandas", "matplotlib", "scipy", "scikit-learn", "sympy", "pillow", "plotly", "openpyxl", "python-docx"),
    *("python-pptx", "pypdf", "reportlab", "requests", "lodash", "exceljs", "xlsx", "docx", "pptxgenjs", "pdf-lib"),
    *("sharp", "ggplot2", "dplyr", "data.table", "tidyr", "jsonlite"),
)
"""Of many packages these are named; the others are there for who asks for a language by name."""
FEW: Final = 12
"""So many are all named."""


class ListLanguages(Input, frozen=True):
    """Arguments of ``list_languages``."""

    language: (
        Annotated[str, Meta(description="Only this one, with all its packages and their versions.", max_length=24)]
        | None
    ) = None


class LanguageLine(Output, frozen=True):
    """A language. ``packages``: what can be imported, of many only some; ``package_count``: how many there are."""

    name: str
    title: str
    aliases: list[str]
    installed: bool
    version: str | None
    keeps_variables: bool
    extension: str
    package_count: int
    packages: dict[str, str]
    limits: dict[str, float]
    """``wall_seconds`` of one run and, with a compiler, ``compile_seconds`` of that."""
    tier: str = "nsjail"
    """The least that its executions have."""
    install_command: str | None = None
    """What the operator of the server runs to have it, if it is not installed."""


class GroupLine(Output, frozen=True):
    """Programs beside the languages, for Bash and for who starts programs."""

    name: str
    title: str
    programs: list[str]


class TierLine(Output, frozen=True):
    """A tier of sandboxes. ``reason``: why it is not to be had."""

    name: str
    title: str
    available: bool
    reason: str | None


class LanguageList(Output, frozen=True):
    """The languages, groups of programs that are installed beside them, and tiers of sandboxes."""

    languages: list[LanguageLine]
    programs: list[GroupLine]
    tiers: list[TierLine]


@REGISTRY.tool(ListLanguages, LanguageList, title="List languages", rate="listing", read_only=True, idempotent=True)
async def list_languages(call: Call, given: ListLanguages) -> Reply:
    """List the programming languages that execute_code can run here, with versions and well-known packages.

    With language: that one with everything its programs can import.

    Example: {"language": "python"}
    """
    table = call.door.languages
    chosen = list(table.languages)
    if given.language is not None:
        found = table.find(given.language)
        if found is None:
            names = ", ".join(each.name for each in table.languages)
            raise NotFound(f"there is no such language; there are {names}", field="language")
        chosen = [found]
    lines = [_line(each, everything=given.language is not None) for each in chosen]
    groups = [GroupLine(each.name, each.title, list(each.programs)) for each in table.groups if each.installed]
    said = [_in_words(line) for line in lines if line.installed]
    said += [f"{group.title}: {', '.join(group.programs)}" for group in groups if given.language is None]
    said += [
        f"{line.name}: not installed; the operator of this server runs: {line.install_command}"
        for line in lines
        if not line.installed
    ]
    if given.language is None:
        said += [tier_in_words(each) for each in table.tiers]
        said.append(f"(all packages with versions: list_languages with language, or the resource {uris.LANGUAGES})")
    tiers = [TierLine(each.name, each.title, not each.reason, each.reason or None) for each in table.tiers]
    return Reply(LanguageList(lines, [] if given.language else groups, tiers), [text("\n".join(said))])


def _line(view: LanguageView, *, everything: bool) -> LanguageLine:
    shown = dict(view.packages)
    if not everything and len(shown) > FEW:
        shown = {name: shown[name] for name in WELL_KNOWN if name in shown}
    return LanguageLine(
        name=view.name,
        title=view.title,
        aliases=list(view.aliases),
        installed=view.installed,
        version=view.version or None,
        keeps_variables=view.warm,
        extension=view.extension,
        package_count=len(view.packages),
        packages=shown,
        tier=view.tier,
        limits=dict(view.limits),
        install_command=None if view.installed else view.install_command,
    )


def _in_words(line: LanguageLine) -> str:
    parts = [line.title + (f" {line.version}" if line.version else "")]
    if line.aliases:
        parts.append(f"also {', '.join(line.aliases)}")
    parts.append(time_in_words(line.limits))
    if line.keeps_variables:
        parts.append("keeps variables")
    if line.tier != "nsjail":
        parts.append(f"tier {line.tier}")
    if line.package_count:
        whole = len(line.packages) == line.package_count
        names = ", ".join(f"{name} {version}".strip() if whole else name for name, version in line.packages.items())
        parts.append(f"{line.package_count} packages" + (f": {names}" if names else "") + ("" if whole else ", ..."))
    return f"{line.name}: " + " · ".join(parts)
