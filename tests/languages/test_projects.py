"""Programs of several files: ``projects/<language>``. The main one is sent as the code, the others are input files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.daemon import Daemon
from tests.languages.cases import HERE, LANGUAGES, Case, run

pytestmark = pytest.mark.root

PROJECTS: Final = HERE / "projects"
EXPECTED: Final = "square: 9.00\ncircle: 12.57\n"


def main_of(language: str) -> Path:
    return PROJECTS / language / LANGUAGES[language].source


def others(language: str) -> tuple[tuple[str, bytes], ...]:
    root = PROJECTS / language
    paths = sorted(path for path in root.rglob("*.*") if path != main_of(language))
    return tuple((path.relative_to(root).as_posix(), path.read_bytes()) for path in paths)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_code_finds_its_siblings_among_the_input_files(
    language: str, daemon: Daemon, installed: frozenset[str]
) -> None:
    if language not in installed:
        pytest.skip(f"{language} is not in the image: {LANGUAGES[language].install_command}")
    result = run(daemon, Case(language, main_of(language), files=others(language)))
    assert (result.stdout, result.stderr, result.code) == (EXPECTED, "", 0)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_main_file_is_chosen_and_finds_what_lies_beside_it(
    language: str, daemon: Daemon, installed: frozenset[str]
) -> None:
    """In a directory of its own, so that it is not the working directory that helps."""
    if language not in installed:
        pytest.skip(f"{language} is not in the image: {LANGUAGES[language].install_command}")
    main = main_of(language)
    files = tuple((f"app/{name}", content) for name, content in ((main.name, main.read_bytes()), *others(language)))
    units = [name for name, _ in files[1:] if name.endswith(main.suffix)] if language in UNITS else None
    result = run(daemon, Case(language, main, files=files, more={"main": f"app/{main.name}", "sources": units}))
    assert (result.stdout, result.stderr, result.code) == (EXPECTED, "", 0)
