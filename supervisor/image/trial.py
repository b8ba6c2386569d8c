"""A new image is tried before it becomes the current one: smoke tests and versions, in real sandboxes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from supervisor.image.inside import Inside
from supervisor.runtimes.catalogue import Group, Language, installed_languages

_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A program that has to print ``expected``, or that tells a version."""

    name: str
    kind: Literal["language", "group", "version"]
    language: str
    code: str
    expected: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    stdout: str
    fault: str
    """Empty: it did what it should."""


Trial = Callable[[Path, Sequence[Attempt]], list[Answer]]
"""Tries programs, each in a sandbox of its own, with the current image of a directory of images."""


def attempts_for(languages: Sequence[Language], groups: Sequence[Group], trees: Inside) -> list[Attempt]:
    """Give what is to be tried of them."""
    found = installed_languages(languages, trees.find)
    attempts: list[Attempt] = []
    for language in languages:
        version = shlex.join(found[language.name].version_arguments())
        smoke = language.smoke
        attempts.append(Attempt(language.name, "language", language.name, smoke.code, smoke.stdout))
        attempts.append(Attempt(language.name, "version", "bash", f"{version} 2>&1", None))
    return attempts + [Attempt(each.name, "group", "bash", each.smoke.code, each.smoke.stdout) for each in groups]


def version_in(text: str) -> str:
    """Give the first thing with digits and a dot."""
    found = _VERSION.search(text)
    return found[0] if found is not None else ""
