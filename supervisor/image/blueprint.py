"""From a selection to layers: which languages and groups, what of Debian is missing, and what each layer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.image.ground import Ground
from supervisor.image.guest_layer import guest_layer
from supervisor.image.layers import LayerPlan, key_of
from supervisor.image.machine_layer import machine_layer
from supervisor.image.manifest import FORMAT
from supervisor.image.npm import LIBRARIES, NpmFolder, npm_layer, read_folder
from supervisor.image.own_root import build_root, identity
from supervisor.image.plan import ALWAYS, HOST_PACKAGES, ImagePlan
from supervisor.image.prepared import prepared_layer
from supervisor.image.progress import BuildProgress
from supervisor.image.python_layer import extra_layer, fonts_layer, python_layer
from supervisor.image.selection import chosen_groups, chosen_languages
from supervisor.image.steps import ImageError, Runner
from supervisor.runtimes.catalogue import Group, Language, Packages

DEBS: Final = "debs"
"""Where downloads for an own root are kept."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a selection means."""

    languages: Sequence[Language]
    """Those that were chosen, and those that every image has."""
    groups: Sequence[Group]
    folders: Mapping[str, NpmFolder]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What the image will be."""

    inputs: str
    layers: Sequence[LayerPlan]
    present: Sequence[Language]
    """The languages that sandboxes will have: also those of the host's that nobody has chosen."""
    wanted: Wanted


def wanted_of(plan: ImagePlan) -> Wanted:
    """Look up what the selection names.

    Raises:
        ConfigurationError: something of that name does not exist.
    """
    languages = chosen_languages([*ALWAYS, *plan.selection.languages], plan.languages) if plan.languages else []
    groups = chosen_groups(plan.selection.groups, plan.groups)
    names = {name for each in [*_packages(languages), *_packages(groups)] for name in each.npm}
    extra = plan.selection.npm
    folders = {
        name: read_folder(name, plan.npm, extra if name == LIBRARIES else ())
        for name in sorted(names | ({LIBRARIES} if extra else set()))
    }
    return Wanted(languages, groups, folders)


def debian_packages(plan: ImagePlan, wanted: Wanted) -> list[str]:
    """Give all of Debian that the image is to have."""
    of_all = [*plan.debian_packages, *plan.selection.debian]
    return list(dict.fromkeys([*of_all, *(name for each in _all(wanted) for name in each.debian)]))


def missing_packages(plan: ImagePlan, wanted: Wanted, ground: Ground) -> list[str]:
    """Give what is to be installed on the host, if the image stands on it."""
    replaced = {
        each.packages.debian[0]
        for each in wanted.languages
        if each.packages.debian and not _tools_missing(each, wanted, ground)
    }
    return [name for name in debian_packages(plan, wanted) if name not in ground.packages and name not in replaced]


def root_layer(plan: ImagePlan, wanted: Wanted, progress: BuildProgress, run: Runner) -> LayerPlan:
    """Plan the root of an image that does not stand on the host."""
    names = [name for name in debian_packages(plan, wanted) if name not in HOST_PACKAGES]
    names.append("python3")
    suite = plan.selection.suite

    def fill(building: Path) -> None:
        build_root(building / "root", names, progress, run, suite=suite, debs=plan.directory / DEBS)

    return LayerPlan("root", key_of(*identity(names, suite)), fill)


def draw(plan: ImagePlan, wanted: Wanted, ground: Ground, progress: BuildProgress, run: Runner) -> Blueprint:
    """Plan the layers, in the order in which they are made. Reads, and changes nothing.

    Raises:
        ImageError: a language that was chosen has no tools, though its packages are there; virtual machines were asked
            for, and there are none for this processor.
    """
    for language in wanted.languages:
        if missing := _tools_missing(language, wanted, ground):
            raise ImageError(f"{language.title}: there is no {' and no '.join(missing)} in /usr/bin")
    present = [each for each in plan.languages if not _tools_missing(each, wanted, ground)]
    python = python_layer(plan, ground, progress, run)
    npm = {name: npm_layer(folder, plan.directory, progress, run) for name, folder in wanted.folders.items()}
    layers = [python, fonts_layer(plan, ground, python, progress, run), *npm.values()]
    if plan.selection.python:
        layers.append(extra_layer(plan, ground, python, progress, run))
    if plan.selection.microvm:
        layers += [guest_layer(plan, ground, progress, run), machine_layer(plan, progress, run)]
    preparing: list[Language | Group] = [*present, *wanted.groups]
    for each in preparing:
        chosen = each in wanted.languages or each in wanted.groups
        # Languages of the host's that nobody has chosen stay as they are but for caches; libraries are not fetched.
        if each.prepare.strip() and (chosen or not each.packages.npm):
            below = [npm[name] for name in each.packages.npm]
            layers.append(prepared_layer(plan, ground, each, below, progress, run, optional=not chosen))
    seen = [(each, ground.identities(each.tools)) for each in present]
    versions = [(name, ground.packages.get(name)) for name in debian_packages(plan, wanted)]
    keys = [layer.key for layer in layers]
    inputs = key_of(FORMAT, plan.selection, ground.key, keys, seen, list(wanted.groups), versions)
    return Blueprint(inputs, layers, present, wanted)


def _tools_missing(language: Language, wanted: Wanted, ground: Ground) -> list[str]:
    """Name the tools that come neither with the ground nor with a folder of npm."""
    programs = {name for folder in wanted.folders.values() for name in folder.programs}
    return [tool for tool, names in language.tools.items() if programs.isdisjoint(names) and ground.find(names) is None]


def _all(wanted: Wanted) -> list[Packages]:
    return [*_packages(wanted.languages), *_packages(wanted.groups)]


def _packages(wanted: Sequence[Language] | Sequence[Group]) -> list[Packages]:
    return [each.packages for each in wanted]
