"""Programs of several files: ``projects/<language>``. Each prints the same, with code and data from all of its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.languages.cases import HERE, LANGUAGES, Case, Ran

pytestmark = pytest.mark.root

PROJECTS: Final = HERE / "projects"
EXPECTED: Final = "square: 9.00\ncircle: 12.57\n"
FROM_THE_WORKING_DIRECTORY: Final = ("bash", "php", "python", "r")
"""Their programs find what lies in the working directory, wherever they lie themselves."""
UNITS: Final = ("c", "cpp", "d", "fortran", "go")
"""Of these, each file is compiled by itself and named; the others find what they need."""
ONLY_FROM_THERE: Final = ("bash", "r")
"""What a program of these sources is looked for in the working directory, not where the program lies."""
GAPS: Final = {
    "java": "Java 17 starts one file from its source and sees no class beside it",
    "typescript": "an import without an extension is not found by what runs the compiled program",
}
"""What does not work yet. Whoever mends it has to take it away here."""


def project(language: str, directory: str) -> tuple[Path, tuple[tuple[str, bytes], ...]]:
    """Give the main file, and all files with their names as in ``directory``: the main one first."""
    root = PROJECTS / language
    main = root / LANGUAGES[language].source
    paths = sorted(root.rglob("*.*"), key=lambda path: (path != main, path))
    return main, tuple((directory + path.relative_to(root).as_posix(), path.read_bytes()) for path in paths)


def as_code(language: str) -> Case:
    main, files = project(language, "")
    return Case(language, main, files=files[1:])


def as_main(language: str) -> Case:
    """In a directory of its own where that can be, so that it is not the working directory that helps."""
    main, files = project(language, "" if language in ONLY_FROM_THERE else "app/")
    names = [name for name, _ in files]
    units = tuple(name for name in names[1:] if name.endswith(main.suffix)) if language in UNITS else ()
    return Case(language, main, files=files, main=names[0], sources=units)


def test_every_language_has_a_project() -> None:
    assert {path.name for path in PROJECTS.iterdir()} == set(LANGUAGES)
    for language in LANGUAGES:
        main, files = project(language, "")
        assert main.exists()
        assert len(files) > 1


@pytest.mark.parametrize("case", [as_code(each) for each in FROM_THE_WORKING_DIRECTORY], ids=FROM_THE_WORKING_DIRECTORY)
def test_code_finds_its_other_files_in_the_working_directory(case: Case, ran: Callable[[Case], Ran]) -> None:
    result = ran(case)
    assert (result.stdout, result.stderr, result.code) == (EXPECTED, "", 0), result.stderr


def known_gap(language: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(reason=GAPS[language], strict=True)] if language in GAPS else []


@pytest.mark.parametrize("case", [pytest.param(as_main(each), marks=known_gap(each), id=each) for each in LANGUAGES])
def test_a_main_file_is_chosen_and_finds_what_lies_beside_it(case: Case, ran: Callable[[Case], Ran]) -> None:
    result = ran(case)
    assert (result.stdout, result.stderr, result.code) == (EXPECTED, "", 0), result.stderr
