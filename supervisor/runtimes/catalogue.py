"""Languages as data: one TOML file each in ``languages/``, and the pure code that makes command lines of them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError
from supervisor.policy import AbsolutePath, LimitTable, PlainName, Seconds

LANGUAGES: Final = Path(__file__).resolve().parent / "languages"
GROUPS: Final = Path(__file__).resolve().parent / "groups"
NPM_PROJECTS: Final = Path(__file__).resolve().parent / "npm"
BUILD_DIRECTORY: Final = "/tmp"
SOURCE_DIRECTORY: Final = "/code"
WORKSPACE: Final = "/mnt/data"
HEAP_SHARE: Final = 0.75
"""Of a sandbox's memory, for the heap of a runtime that collects garbage; the rest is its own, and that of /tmp."""

COMMON_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/mnt/data",
    "USER": "sandbox",
    "LANG": "C.UTF-8",
    # What programs cache is no result of theirs.
    "XDG_CACHE_HOME": "/tmp/.cache",
    "XDG_CONFIG_HOME": "/tmp/.config",
    "XDG_DATA_HOME": "/tmp/.local/share",
    "TMPDIR": "/tmp",
    "TERM": "dumb",
    # What the operator has installed for every sandbox; Python looks there by itself.
    "NODE_PATH": "/mnt/data/node_modules:/opt/packages/node_modules:/usr/local/lib/npm/javascript/node_modules",
}

DebianName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9+.-]{0,79}[a-z0-9+.]\Z")]
"""To apt a dash at the end means: remove it."""
Alias = Annotated[str, Meta(pattern=r"^[a-z0-9+#_.-]{1,24}$")]
Extension = Annotated[str, Meta(pattern=r"^\.[A-Za-z0-9+]{1,8}$")]


class Smoke(Struct, frozen=True, forbid_unknown_fields=True):
    """A program that shows that the language works, and what it prints."""

    code: str
    stdout: str


class Packages(Struct, frozen=True, forbid_unknown_fields=True):
    """What an image needs to have for it."""

    debian: list[DebianName] = []
    """The first brings the tools: it is not installed where all of them are, whoever brought them. The others are
    libraries, and always needed."""
    npm: list[PlainName] = []
    """Folders of ``npm/``: each a ``package.json`` with its lock file."""
    usable: Literal["python", "npm", "r"] | None = None
    """Whose packages its programs can import: these are listed beside the language."""


class Group(Struct, frozen=True, forbid_unknown_fields=True):
    """Programs and files beside the languages, which an image has if it was asked for: ``groups/*.toml``."""

    name: Alias
    title: str
    packages: Packages
    smoke: Smoke
    """A Bash program."""
    programs: list[str] = []
    """The commands that it brings."""
    prepare: str = ""
    """As a language's."""


class OwnLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]`` of a language: only ever less than the policy's; where it says more, the policy's holds."""

    wall_seconds: Seconds | None = None
    """Of one run of a program: a script, a cell of a lasting session, a compiled program."""
    compile_seconds: Seconds | None = None


class Language(Struct, frozen=True, forbid_unknown_fields=True):
    """One language.

    In ``compile`` and ``run`` ``{name}`` is the path of tool ``name``; ``{source}`` the program's file, ``{stem}`` its
    name without directory and extension, ``{directory}`` where it lies; ``{build}`` where to put what is made of it.
    ``{heap_mib}`` is how large a heap may grow. ``{sources}``, alone, stands for all further files that are compiled
    with it: none, one or many.
    """

    name: Alias
    title: str
    aliases: list[Alias]
    source: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.]+$")]
    tools: Annotated[dict[str, list[str]], Meta(min_length=1)]
    """For each tool the program names that will do, the best first. All tools are needed."""
    run: Annotated[list[str], Meta(min_length=1)]
    smoke: Smoke
    packages: Packages
    """What ``gaoler image build --languages`` installs for it; what the host has already is left alone."""
    version: Annotated[list[str], Meta(min_length=1)]
    """A command that tells the version: the first thing with a digit and a dot in its output."""
    seccomp: PlainName
    """The profile (``policies/seccomp/languages``) that its programs run under, beside the policy's."""
    seccomp_compile: PlainName | None = None
    """The profile of ``compile``, where there is one."""
    compile: list[str] | None = None
    limits: OwnLimits = OwnLimits()
    extensions: list[Extension] = []
    """Of files in it; one belongs to one language at most."""
    source_directory: AbsolutePath = SOURCE_DIRECTORY
    """Where its programs see themselves: ``/code``, or another mount of it."""
    environment: dict[str, str] = {}
    prepare: str = ""
    """What the image's build runs once for it (``sh -eu``): it may write below ``/usr/local``; caches, for example."""
    needs: list[AbsolutePath] = []
    """What ``prepare`` makes that is no cache: without these files the language is not installed, tools or not."""

    @property
    def install_command(self) -> str:
        """What an operator runs to have it."""
        return f"gaoler image build --languages {self.name}"


@dataclass(frozen=True, slots=True)
class InstalledLanguage:
    """A language whose tools were found; ``tools`` are absolute paths inside a sandbox."""

    language: Language
    tools: Mapping[str, str]
    profile: str | None = None
    """The runtime profile whose interpreters wait for its code, if it has one."""
    more: Mapping[str, str] = field(default_factory=dict)
    """What is added to its environment: of a network, say."""
    version: str = ""
    """As found when the image was built; empty: its tools have changed since, or do not tell."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """What its programs can import without installing it: versions by name."""
    memory_bytes: int = 1 << 30
    """Of its sandboxes."""

    @property
    def source_name(self) -> bytes:
        """Name of the program's file below ``/code``."""
        return self.language.source.encode()

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of its programs; nothing of ours is in it."""
        return {**COMMON_ENVIRONMENT, **self.language.environment, **self.more}

    @property
    def takes_sources(self) -> bool:
        """Further files can be compiled with the program's."""
        return "{sources}" in (self.language.compile or ())

    def compile_arguments(self, main: str | None = None, sources: Sequence[str] = ()) -> list[str] | None:
        """Give the command line that builds the program, if there is one; ``main`` and ``sources`` as of a request."""
        return None if self.language.compile is None else self._fill(self.language.compile, main, sources)

    def run_arguments(self, arguments: Sequence[str], main: str | None = None) -> list[str]:
        """Give the command line that runs it with the caller's arguments."""
        return [*self._fill(self.language.run, main), *arguments]

    def source_path(self, main: str | None = None) -> str:
        """Where the program's file lies in a sandbox; ``main`` names one of the workspace."""
        return f"{self.language.source_directory}/{self.language.source}" if main is None else f"{WORKSPACE}/{main}"

    def wall_seconds(self, asked: float | None) -> float | None:
        """Give how long a run may take that was ``asked`` to take so long; ``None``: as long as the policy lets it."""
        return min(filter(None, (asked, self.language.limits.wall_seconds)), default=None)

    def version_arguments(self) -> list[str]:
        """Give the command line that tells its version."""
        return self._fill(self.language.version)

    def _fill(self, template: Sequence[str], main: str | None = None, sources: Sequence[str] = ()) -> list[str]:
        source = self.source_path(main)
        directory, _, name = source.rpartition("/")
        places = {
            **self.tools,
            "source": source,
            "directory": directory,
            "stem": name.rpartition(".")[0] or name,
            "build": BUILD_DIRECTORY,
            "heap_mib": int(self.memory_bytes * HEAP_SHARE) >> 20,
        }
        filled: list[str] = []
        for part in template:
            more = [self.source_path(each) for each in sources]
            filled += more if part == "{sources}" else [part.format_map(places)]
        return filled


def load_languages(directory: Path = LANGUAGES) -> tuple[Language, ...]:
    """Read the catalogue.

    Raises:
        ConfigurationError: a file breaks a rule, or two claim one alias; the message names file and key.
    """
    languages: list[Language] = []
    claimed: dict[str, str] = {}
    for path in sorted(directory.glob("*.toml")):
        try:
            language = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Language)
            installed = InstalledLanguage(language, dict.fromkeys(language.tools, "/x"))
            installed.compile_arguments()
            installed.run_arguments(())
            installed.version_arguments()
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise ConfigurationError(f"languages/{path.name}: {error}") from None
        except KeyError as error:
            raise ConfigurationError(f"languages/{path.name}: run: nothing is called {error}") from None
        if (language.compile is None) != (language.seccomp_compile is None):
            raise ConfigurationError(
                f"languages/{path.name}: seccomp_compile belongs to compile, and each needs the other"
            )
        if language.compile is None and language.limits.compile_seconds is not None:
            raise ConfigurationError(f"languages/{path.name}: limits.compile_seconds: there is no compile")
        for name in (language.name, *language.aliases, *language.extensions):
            if name in claimed:
                raise ConfigurationError(f"languages/{path.name}: {name!r} belongs to {claimed[name]} already")
            claimed[name] = path.name
        languages.append(language)
    return tuple(languages)


def load_groups(directory: Path = GROUPS) -> tuple[Group, ...]:
    """Read what an image may have beside the languages.

    Raises:
        ConfigurationError: a file breaks a rule; the message names file and key.
    """
    groups: list[Group] = []
    for path in sorted(directory.glob("*.toml")):
        try:
            groups.append(msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Group))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise ConfigurationError(f"groups/{path.name}: {error}") from None
    return tuple(groups)


def language_of(file: Path, languages: Sequence[Language]) -> str:
    """Name the language that a file's extension tells; Python, if it tells none."""
    by_extension = {extension: language.name for language in languages for extension in language.extensions}
    return by_extension.get(file.suffix) or by_extension.get(file.suffix.lower(), "python")


def effective_limits(language: Language, policy: LimitTable) -> dict[str, float]:
    """Give the limits of time that hold for its programs under a policy, in seconds by name."""
    own = language.limits
    found = {"wall_seconds": min(policy.wall_seconds, own.wall_seconds or policy.wall_seconds)}
    if language.compile is not None:
        found["compile_seconds"] = min(policy.compile_seconds, own.compile_seconds or policy.compile_seconds)
    return found


def profiles_wanted(languages: Sequence[Language]) -> dict[str, str]:
    """Give every seccomp profile that languages name, each with the file and key that name it first."""
    wanted: dict[str, str] = {}
    for language in languages:
        for key, name in (("seccomp", language.seccomp), ("seccomp_compile", language.seccomp_compile)):
            if name is not None:
                wanted.setdefault(name, f"language {language.name}: {key} = {name!r}")
    return wanted


def sized(languages: Mapping[str, InstalledLanguage], memory_bytes: int) -> dict[str, InstalledLanguage]:
    """Tell the languages how much memory their sandboxes have."""
    return {name: replace(each, memory_bytes=memory_bytes) for name, each in languages.items()}


def installed_languages(
    languages: Sequence[Language],
    find: Callable[[Sequence[str]], str | None],
    profiles: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
) -> dict[str, InstalledLanguage]:
    """Find the tools; give the installed languages by every name and alias.

    ``find`` gives the path inside a sandbox of the first of these programs (or files, by path) that is there.
    ``profiles``: the runtime profile for each language that has one. ``more``: is added to everybody's environment.
    """
    found: dict[str, InstalledLanguage] = {}
    for language in languages:
        tools = {tool: find(names) for tool, names in language.tools.items()}
        complete = {tool: path for tool, path in tools.items() if path is not None}
        if len(complete) == len(tools) and all(find([path]) for path in language.needs):
            installed = InstalledLanguage(language, complete, (profiles or {}).get(language.name), more or {})
            found.update(dict.fromkeys((language.name, *language.aliases), installed))
    return found
