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
FROM_THE_WORKING_DIRECTORY: Final = ("bash", "java", "php", "python", "r")
"""Their programs find what lies in the working directory, wherever they lie themselves."""
UNITS: Final = ("c", "cpp", "d", "fortran", "go")
"""Of these, each file is compiled by itself and named; the others find what they need."""
ONLY_FROM_THERE: Final = ("bash", "r")
"""What a program of these sources is looked for in the working directory, not where the program lies."""


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


@pytest.mark.parametrize("case", [as_main(each) for each in LANGUAGES], ids=LANGUAGES)
def test_a_main_file_is_chosen_and_finds_what_lies_beside_it(case: Case, ran: Callable[[Case], Ran]) -> None:
    result = ran(case)
    assert (result.stdout, result.stderr, result.code) == (EXPECTED, "", 0), result.stderr


def java(main: str, files: dict[str, str], sources: tuple[str, ...] = ()) -> Case:
    sent = tuple((name, text.encode()) for name, text in files.items())
    return Case("java", PROJECTS, arguments=("one", "@two"), files=sent, main=main, sources=sources)


def printing(what: str) -> str:
    return f"public static void main(String[] arguments) {{ System.out.println({what}); }}"


GREETING: Final = 'public class Greeting { public static final String TEXT = new String("hello"); }'
JAVA: Final = {
    "a package and one below it": java(
        "src/app/Main.java",
        {
            "src/app/Main.java": f"package app; class Main {{ {printing('Near.TEXT + app.far.Greeting.TEXT')} }}",
            "src/app/Near.java": "package app; interface Near { String TEXT = String.valueOf(1); }",
            "src/app/far/Greeting.java": f"package app.far; {GREETING}",
            "Near.java": "this is no program and not asked for",
        },
    ),
    "a package that has no folder": java(
        "Main.java",
        {
            "Main.java": f"package one; import lib.Greeting; class Main {{ {printing('1 + Greeting.TEXT')} }}",
            "lib/Greeting.java": f"package lib; {GREETING}",
        },
    ),
    "sources that are named": java(
        "a/Start.java",
        {
            "a/Start.java": f"public class Begin {{ {printing('1 + Greeting.TEXT')} }}",
            "b/other name.java": GREETING,
        },
        ("b/other name.java",),
    ),
    "the first class that can be run": java(
        "x.java",
        {
            "x.java": f"interface Part {{ }} record Start(int n) {{ {printing('1 + Greeting.TEXT')} }} "
            f"class Later {{ {printing('2')} }}",
            "Greeting.java": GREETING,
        },
    ),
    "arguments are the program's": java("x.java", {"x.java": f"class X {{ {printing('arguments[1]')} }}"}),
}
JAVA_EXPECTED: Final = {"arguments are the program's": "@two\n"}


@pytest.mark.parametrize(("name", "case"), JAVA.items(), ids=JAVA)
def test_java_looks_where_the_package_begins(name: str, case: Case, ran: Callable[[Case], Ran]) -> None:
    result = ran(case)
    assert (result.stdout, result.stderr, result.code) == (JAVA_EXPECTED.get(name, "1hello\n"), "", 0), result.stderr


WRONG: Final = {
    "beside": (
        java(
            "Main.java", {"Main.java": f"class Main {{ {printing('Other.N')} }}", "Other.java": "class Other { int N }"}
        ),
        "/mnt/data/Other.java:1: error: ';' expected",
    ),
    "missing": (
        java("Main.java", {"Main.java": f"class Main {{ {printing('Other.N')} }}"}),
        "symbol:   variable Other",
    ),
    "empty": (java("Main.java", {"Main.java": "package app;"}), "error: no class declared in /mnt/data/Main.java"),
}


@pytest.mark.parametrize(("case", "said"), WRONG.values(), ids=WRONG)
def test_java_that_does_not_compile_is_not_run(case: Case, said: str, ran: Callable[[Case], Ran]) -> None:
    result = ran(case)
    assert (result.phase, result.stdout, result.code) == ("compile", "", 1)
    assert said in result.stderr
