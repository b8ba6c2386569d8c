"""Packages of npm, as layers: each folder of ``runtimes/npm`` is one, with the versions of its lock file.

No script of a package is run: what packages bring is complete, or comes as a package for this processor, and a script
that downloads is what a lock file cannot hold. ``programs.toml`` beside ``package.json`` says which of its files are
programs in ``/usr/local/bin``; of several that it gives the first that is there.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError
from supervisor.image import debian
from supervisor.image.layers import LayerPlan, key_of
from supervisor.image.progress import BuildProgress
from supervisor.image.steps import ImageError, Runner
from supervisor.packages.names import bare_node_name

LIBRARIES: Final = "javascript"
"""The folder that takes in what an operator adds: one tree, so that packages find each other."""
CACHE: Final = "npm-cache"
_FILES: Final = ("package.json", "package-lock.json")
_PROGRAMS: Final = "programs.toml"
_VERSION: Final = 1
"""Changes when this module makes something else of the same inputs."""
_SHOWN_FAULTS: Final = 8
_FAULTS: Final = ("npm error", "npm ERR!")
"""How npm's own complaints begin, since version 10 and before."""
_OPTIONS: Final = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--loglevel=http")


class Programs(Struct, frozen=True, forbid_unknown_fields=True):
    """``programs.toml``."""

    programs: dict[Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]*\Z")], Annotated[list[str], Meta(min_length=1)]]
    """For each name the files that will do, below ``node_modules``."""


class _Package(Struct):
    version: str = ""
    dependencies: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class NpmFolder:
    """One folder: what it is made from, and what is added to it."""

    name: str
    source: Path
    programs: dict[str, list[str]]
    extra: Sequence[str] = ()

    @property
    def key(self) -> str:
        """Of its layer."""
        texts = [(self.source / name).read_text(encoding="utf-8") for name in _FILES]
        return key_of(_VERSION, os.uname().machine, texts, self.programs, sorted(self.extra))


def read_folder(name: str, directory: Path, extra: Sequence[str] = ()) -> NpmFolder:
    """Read a folder.

    Raises:
        ConfigurationError: it does not exist, or breaks a rule.
    """
    source = directory / name
    missing = [each for each in _FILES if not (source / each).is_file()]
    if missing:
        raise ConfigurationError(f"npm/{name}: {' and '.join(missing)} missing")
    programs = source / _PROGRAMS
    try:
        read = tomllib.loads(programs.read_text(encoding="utf-8")) if programs.exists() else {"programs": {}}
        return NpmFolder(name, source, msgspec.convert(read, Programs).programs, tuple(extra))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"npm/{name}/{_PROGRAMS}: {error}") from None


def npm_layer(folder: NpmFolder, images: Path, progress: BuildProgress, run: Runner) -> LayerPlan:
    """Plan the layer of a folder."""

    def fill(building: Path) -> None:
        local = building / "local"
        install_folder(folder, local / "lib" / "npm" / folder.name, images, progress, run)
        _link_programs(folder, local)

    return LayerPlan(f"npm-{folder.name}", folder.key, fill)


def install_folder(folder: NpmFolder, target: Path, images: Path, progress: BuildProgress, run: Runner) -> None:
    """Install the packages of a folder into ``target``, which it makes; ``images`` has the downloads.

    Raises:
        ImageError: npm cannot; with what it says first.
    """
    target.mkdir(mode=0o755, parents=True)
    for name in _FILES:
        shutil.copyfile(folder.source / name, target / name)
    npm = _npm(progress, run)
    options = [*_OPTIONS, "--cache", str(images / CACHE), "--prefix", str(target)]
    faults: list[str] = []
    with progress.step(f"Installing packages of npm: {folder.name}", _size(target)) as step:

        def see(line: str) -> None:
            if line.startswith("npm http"):
                step.advance(line.rpartition("/")[2])
            elif line.startswith(_FAULTS):
                faults.append(line.removeprefix("npm error").removeprefix("npm ERR!").strip())

        try:
            run([npm, "ci", *options], see)
            if folder.extra:
                run([npm, "install", "--no-save", *options, *folder.extra], see)
        except ImageError as error:
            # What is wrong it says first, and then pages about its options.
            first = "\n    ".join(filter(None, faults[:_SHOWN_FAULTS]))
            raise ImageError(f"npm/{folder.name}: {first or error}\nRun the build again: it resumes.") from None


def packages_of(folder: NpmFolder, local: Path) -> dict[str, str]:
    """Give the versions of the packages that were asked for: those below them are nobody's business."""
    target = local / "lib" / "npm" / folder.name
    wanted = [*_read(folder.source / "package.json").dependencies, *map(bare_node_name, folder.extra)]
    found = {name: _read(target / "node_modules" / name / "package.json").version for name in sorted(wanted)}
    return {name: version for name, version in found.items() if version}


def _npm(progress: BuildProgress, run: Runner) -> str:
    """Find npm, which only a build needs; where there is none it comes from Debian."""
    if shutil.which("npm") is None:
        debian.install(["npm"], progress, run)
    return shutil.which("npm") or "npm"


def _link_programs(folder: NpmFolder, local: Path) -> None:
    for name, candidates in folder.programs.items():
        inside = [f"lib/npm/{folder.name}/node_modules/{candidate}" for candidate in candidates]
        found = next((path for path in inside if (local / path).is_file()), None)
        if found is None:
            raise ImageError(f"npm/{folder.name}: there is none of {', '.join(candidates)} for this machine")
        (local / "bin").mkdir(mode=0o755, exist_ok=True)
        (local / "bin" / name).symlink_to(f"../{found}")


def _size(target: Path) -> int | None:
    """Count what the lock file names: more than is installed, for some of it is for other machines."""
    lock = msgspec.json.decode((target / _FILES[1]).read_bytes())
    return sum(1 for each in lock["packages"].values() if not each.get("optional"))


def _read(path: Path) -> _Package:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Package)
    except (OSError, msgspec.DecodeError):
        return _Package()
