"""What an image has, for its manifest: versions, packages and the identities of tools."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from supervisor.image.blueprint import Blueprint
from supervisor.image.inside import Inside
from supervisor.image.manifest import GroupRecord, LanguageRecord
from supervisor.image.npm import packages_of
from supervisor.image.python_layer import distributions
from supervisor.image.trial import Answer, Attempt, version_in
from supervisor.runtimes.catalogue import Language, installed_languages

_R_LIBRARIES: Final = ("lib/R/library", "lib/R/site-library", "share/R/library")


def language_records(blueprint: Blueprint, trees: Inside) -> dict[str, LanguageRecord]:
    """Record the languages that the image has, as far as its files tell."""
    found = installed_languages(blueprint.present, trees.find)
    return {
        each.name: LanguageRecord(
            packages=_packages(each, blueprint, trees),
            tools={path: trees.identity(path) for path in found[each.name].tools.values()},
        )
        for each in blueprint.present
        if each.name in found  # what the build prepares for a language of the host's may fail
    }


def with_answers(records: Mapping[str, LanguageRecord], answers: Mapping[Attempt, Answer]) -> dict[str, LanguageRecord]:
    """Add what was found out in sandboxes."""
    versions = {each.name: version_in(answer.stdout) for each, answer in answers.items() if each.kind == "version"}
    good = {each.name for each, answer in answers.items() if each.kind == "language" and not answer.fault}
    return {
        name: msgspec.structs.replace(record, version=versions.get(name, ""), tried=name in good)
        for name, record in records.items()
    }


def group_records(blueprint: Blueprint) -> dict[str, GroupRecord]:
    """Record the groups."""
    return {each.name: GroupRecord(each.title, each.programs) for each in blueprint.wanted.groups}


def _packages(language: Language, blueprint: Blueprint, trees: Inside) -> dict[str, str]:
    match language.packages.usable:
        case "python":
            return distributions(sorted((trees.local / "lib").glob("python3*/*-packages")))
        case "npm":
            folders = blueprint.wanted.folders
            named = [folders[name] for name in language.packages.npm if name in folders]
            return {name: version for folder in named for name, version in packages_of(folder, trees.local).items()}
        case "r":
            return r_packages([trees.usr / path for path in _R_LIBRARIES])
        case None:
            return {}


def r_packages(libraries: Sequence[Path]) -> dict[str, str]:
    """Read what is installed in R's libraries."""
    found: dict[str, str] = {}
    for library in libraries:
        for description in sorted(library.glob("*/DESCRIPTION")):
            text = description.read_text(encoding="utf-8", errors="replace")
            fields = dict(re.findall(r"^(Package|Version): *(.*)$", text, re.MULTILINE))
            if {"Package", "Version"} <= fields.keys():
                found[fields["Package"]] = fields["Version"].strip()
    return dict(sorted(found.items()))
