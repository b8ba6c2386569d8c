"""Where Debian packages come from, as this host's apt has it: no host name is ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.image.steps import ImageError, Runner

Stanza = Mapping[str, str]
"""One entry of apt's sources, in the words of sources.list(5), the field names in lower case."""

_ONE_LINE: Final = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)")
_LONG_NAMES: Final = {"arch": "architectures", "lang": "languages", "target": "targets"}
_OPTION: Final = re.compile(r'[A-Za-z][\w:./+-]* ".*";')
_NOT_FOR_BUILDS: Final = ("Acquire::IndexTargets", "Acquire::Changelogs", "Acquire::CompressionTypes")
"""Options that say how apt presents things to people: long, and apt's own on every host."""
_FOUND: Final = "gaoler-source"


@dataclass(frozen=True, slots=True)
class Known:
    """What apt has read of a source at its last update."""

    codename: str
    origin: str


@dataclass(frozen=True, slots=True)
class AptSources:
    """What another apt needs to install from the same places."""

    sources: str
    """Entries in the deb822 style."""
    options: str
    """Lines of apt.conf(5): proxies, credentials' files and the like."""


def read_apt(suite: str, host: Mapping[str, str], run: Runner) -> AptSources:
    """Read this host's configuration of apt, for ``suite`` of its distribution; ``host`` is its os-release.

    Raises:
        ImageError: there is no apt, or nothing in its sources is the distribution's.
    """
    places = _directories(run)
    stanzas = [stanza for path in _files(places) for stanza in parse(path.suffix, _text(path))]
    codename = host.get("VERSION_CODENAME", "")
    distributions = [host.get("ID", ""), *host.get("ID_LIKE", "").split()]
    chosen = choose(stanzas, codename, suite, _known(run), distributions)
    if not chosen:
        raise ImageError(f"apt's sources on this host name nothing of {codename or 'its distribution'} for {suite}")
    return AptSources("\n".join(map(as_text, chosen)), _options(places, run))


def parse(suffix: str, text: str) -> list[Stanza]:
    """Read a file of sources: ``.sources`` is in the deb822 style, all others have an entry on each line."""
    found = _deb822(text) if suffix == ".sources" else _one_line(text)
    return [each for each in found if "deb" in each.get("types", "").split() and each.get("enabled", "yes") != "no"]


def _deb822(text: str) -> Iterator[Stanza]:
    for paragraph in re.split(r"\n\s*\n", re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)):
        # A line that begins with a blank goes on with the field above: a key may stand there.
        fields = re.findall(r"^([A-Za-z0-9-]+):[ \t]*(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
        if fields:
            yield {name.lower(): value.rstrip() for name, value in fields}


def _one_line(text: str) -> Iterator[Stanza]:
    for line in text.splitlines():
        if entry := _ONE_LINE.fullmatch(line.partition("#")[0].strip()):
            options = (option.partition("=") for option in (entry["options"] or "").split())
            yield {
                "types": "deb",
                "uris": entry["uri"],
                "suites": entry["suite"],
                "components": entry["components"].strip(),
                **{_LONG_NAMES.get(name, name): value.replace(",", " ") for name, _, value in options},
            }


def choose(
    stanzas: Sequence[Stanza],
    codename: str,
    suite: str,
    known: Mapping[tuple[str, str], Known],
    distributions: Sequence[str],
) -> list[Stanza]:
    """Give the distribution's own entries, for another ``suite`` of it if need be; those of third parties stay behind.

    A source is the distribution's if its name begins with the host's ``codename``, or apt has read that it does, and
    apt has not read that somebody else made it.
    """
    found: list[Stanza] = []
    for stanza in stanzas:
        for uri in stanza.get("uris", "").split():
            if uri.startswith("cdrom:"):
                continue
            suites: list[str] = []
            for name in stanza.get("suites", "").split():
                about = known.get((uri.rstrip("/"), name), Known("", ""))
                # "stable" means a codename too, and would mean another one tomorrow.
                full = name if _of(codename, name) else about.codename
                foreign = about.origin and about.origin.casefold() not in (each.casefold() for each in distributions)
                if _of(codename, full) and not foreign:
                    suites.append(suite + full.removeprefix(codename))
            if suites:
                found.append({**stanza, "types": "deb", "uris": uri, "suites": " ".join(suites)})
    return found


def _of(codename: str, suite: str) -> bool:
    """Say whether a suite is the release itself, its updates or its security."""
    return bool(codename) and (suite == codename or suite.startswith((f"{codename}-", f"{codename}/")))


def as_text(stanza: Stanza) -> str:
    """Write an entry in the deb822 style."""
    names = {name: "URIs" if name == "uris" else name.title() for name in stanza if name != "enabled"}
    return "".join(f"{shown}: {stanza[name]}\n" for name, shown in names.items())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _files(places: Mapping[str, str]) -> list[Path]:
    folder = Path(places["PARTS"])
    parts = [path for path in sorted(folder.glob("*")) if path.suffix in (".list", ".sources")]
    return [Path(places["LIST"]), *parts]


def _directories(run: Runner) -> dict[str, str]:
    names = {
        "LIST": "Dir::Etc::sourcelist/f",
        "PARTS": "Dir::Etc::sourceparts/d",
        "NETRC": "Dir::Etc::netrc/f",
        "NETRCPARTS": "Dir::Etc::netrcparts/d",
    }
    found = dict.fromkeys(names, "/nonexistent")

    def see(line: str) -> None:
        if entry := re.fullmatch(r"(\w+)='([^']*)'", line.strip()):
            found[entry[1]] = entry[2]

    run(["apt-config", "shell", *(each for pair in names.items() for each in pair)], see)
    return found


def _known(run: Runner) -> dict[tuple[str, str], Known]:
    found: dict[tuple[str, str], Known] = {}

    def see(line: str) -> None:
        fields = line.strip().split("|")
        if fields[0] == _FOUND and len(fields) == 5:
            # What apt has not read yet it leaves as it was asked.
            uri, release, codename, origin = ("" if field.startswith("$(") else field for field in fields[1:])
            found[uri.rstrip("/"), release] = Known(codename, origin)

    asked = f"{_FOUND}|$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(ORIGIN)"
    run(["apt-get", "indextargets", "--format", asked, "Created-By: Packages"], see)
    return found


def _options(places: Mapping[str, str], run: Runner) -> str:
    lines: list[str] = []

    def see(line: str) -> None:
        if _OPTION.fullmatch(line.strip()) and not line.startswith(_NOT_FOR_BUILDS):
            lines.append(line.strip())

    run(["apt-config", "dump", "--no-empty", "Acquire"], see)
    lines += [f'Dir::Etc::netrc "{places["NETRC"]}";', f'Dir::Etc::netrcparts "{places["NETRCPARTS"]}";']
    return "".join(f"{line}\n" for line in lines)
