"""Eleven tasks, each written in every language as people write it there: the same input gives the same output.

How each ``expected.txt`` was made, without any of the programs: ``rosetta/README.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.languages.cases import HERE, LANGUAGES, Case, Ran, suffix_of

pytestmark = pytest.mark.root

ROSETTA: Final = HERE / "rosetta"
TASKS: Final = sorted(path.name for path in ROSETTA.iterdir() if path.is_dir())
DATA: Final = {"expected.txt", "input.txt"}


def case(language: str, task: str) -> Case:
    given = ROSETTA / task / "input.txt"
    program = ROSETTA / task / f"{language}{suffix_of(language)}"
    return Case(language, program, stdin=given.read_text() if given.exists() else "")


CASES: Final = {f"{language}-{task}": case(language, task) for language in LANGUAGES for task in TASKS}


def test_every_task_is_written_in_every_language() -> None:
    assert len(TASKS) >= 10
    for task in TASKS:
        there = {path.name for path in (ROSETTA / task).iterdir()} - DATA
        assert there == {f"{language}{suffix_of(language)}" for language in LANGUAGES}, task


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_output_is_the_same_in_every_language(case: Case, ran: Callable[[Case], Ran]) -> None:
    result = ran(case)
    expected = (case.program.parent / "expected.txt").read_text()
    assert (result.stdout, result.stderr, result.code) == (expected, "", 0), result.stderr
