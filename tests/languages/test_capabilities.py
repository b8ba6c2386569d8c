"""Each language does what a user expects of it, through the daemon. The programs: ``programs/<language>/``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.languages.cases import HERE, LANGUAGES, Case, Ran, suffix_of

pytestmark = pytest.mark.root

PROGRAMS: Final = HERE / "programs"
NAMES: Final = (
    "broken", "crash", "echo", "exit", "files", "flood", "forever", "greedy", "hello", "threads", "unicode"
)  # fmt: skip
Results = Callable[[Case], Ran]

ARGUMENTS: Final = (
    "plain",
    "two words",
    'it\'s "quoted"',
    "$HOME `x` \\n %s *",
    "--version",
    "-e",
    "Grüße 世界 🌍",
    "",
)
LINES: Final = ("first", "", "  indented", 'it\'s "quoted" $HOME \\n %s', "Grüße 世界 🌍", "no newline at the end")
CRASHES: Final[dict[str, tuple[int | None, str | None]]] = {
    "c": (None, "SIGABRT"),
    "cpp": (None, "SIGABRT"),
    "go": (2, None),
    "php": (255, None),
    "rust": (101, None),
}
"""Exit code and signal of an uncaught error; elsewhere 1 and none."""
OUT_OF_MEMORY: Final = re.compile(
    "out of memory|MemoryError|OutOfMemory|heap limit|cannot allocate|memory allocation|Allowed memory size|bad_alloc",
    re.IGNORECASE,
)
"""What languages themselves say, and what Gaoler says when the kernel was quicker."""


def program(language: str, name: str, **given: Any) -> Case:
    return Case(language, PROGRAMS / language / f"{name}{suffix_of(language)}", **given)


def every_language(name: str, **given: Any) -> pytest.MarkDecorator:
    cases = [program(language, name, **given) for language in LANGUAGES]
    return pytest.mark.parametrize("case", cases, ids=[case.language for case in cases])


def test_every_language_has_every_program() -> None:
    expected = {PROGRAMS / language / f"{name}{suffix_of(language)}" for language in LANGUAGES for name in NAMES}
    assert set(PROGRAMS.glob("*/*")) == expected


@every_language("hello")
def test_hello(case: Case, ran: Results) -> None:
    result = ran(case)
    assert (result.stdout, result.stderr, result.code) == ("Hello, world!\n", "", 0), result.stderr


@every_language("echo", arguments=ARGUMENTS, stdin="\n".join(LINES))
def test_arguments_and_standard_input_arrive_as_they_were_sent(case: Case, ran: Results) -> None:
    result = ran(case)
    expected = [f"argument {number}: [{argument}]" for number, argument in enumerate(ARGUMENTS, start=1)]
    expected += [f"line {number}: [{line}]" for number, line in enumerate(LINES, start=1)]
    assert (result.stdout.splitlines(), result.stderr, result.code) == (expected, "", 0)


@every_language("files", files=(("input.txt", b"one\ntwo\nthree\n"),), wanted=("output.txt",))
def test_an_input_file_is_read_and_an_output_file_comes_back(case: Case, ran: Results) -> None:
    result = ran(case)
    assert (result.stdout, result.stderr, result.code) == ("3 lines\n", "", 0), result.stderr
    assert result.made == {"output.txt": b"1: one\n2: two\n3: three\n"}


@every_language("unicode", wanted=("grüße 世界.txt",))
def test_unicode_in_source_output_and_file_names(case: Case, ran: Results) -> None:
    result = ran(case)
    assert (result.stdout, result.stderr, result.code) == ("Grüße, 世界 🌍\n11 code points\n", "", 0), result.stderr
    assert result.made == {"grüße 世界.txt": "Grüße, 世界 🌍\n".encode()}


@every_language("broken")
def test_a_program_that_is_not_valid_does_not_begin_and_the_line_is_named(case: Case, ran: Results) -> None:
    """R says what stands there instead of where."""
    result = ran(case)
    lines = case.program.read_text().splitlines()
    number = next(number for number, line in enumerate(lines, start=1) if "broken here" in line)
    text = lines[number - 1].strip().partition("  ")[0].partition(" #")[0].rpartition(" ")[0]
    assert result.stdout == ""
    assert result.code not in (0, None), result
    assert result.phase == ("run" if LANGUAGES[case.language].compile is None else "compile")
    assert re.search(rf"(?<!\d){number}(?!\d)", result.stderr) or text in result.stderr, result.stderr


@every_language("crash")
def test_an_error_that_nobody_catches_has_its_exit_code_and_its_message(case: Case, ran: Results) -> None:
    result = ran(case)
    assert result.stdout == "before\n"
    assert (result.code, result.signal) == CRASHES.get(case.language, (1, None)), result.stderr
    assert "boom" in result.stderr


@every_language("exit")
def test_a_program_chooses_its_exit_code(case: Case, ran: Results) -> None:
    result = ran(case)
    assert (result.stdout, result.code, result.signal) == ("leaving\n", 7, None), result.stderr
    assert result.stderr == "so long\n[gaoler] the program exited with code 7\n"


@every_language("forever", timeout_milliseconds=8000)
def test_a_program_that_does_not_end_is_killed_and_keeps_what_it_said(case: Case, ran: Results) -> None:
    result = ran(case)
    assert (result.stdout, result.status, result.code) == ("started\n", "TO", None), result.stderr
    assert "timed out" in result.stderr


@every_language("greedy", small=True)
def test_memory_has_an_end_and_the_caller_is_told(case: Case, ran: Results) -> None:
    result = ran(case)
    assert result.code != 0
    assert result.status != "TO", "it did not reach the limit"
    assert OUT_OF_MEMORY.search(result.stderr), result.stderr


@every_language("threads")
def test_four_workers_share_the_work(case: Case, ran: Results) -> None:
    """Threads, goroutines, workers or processes: whatever the language has."""
    result = ran(case)
    assert (result.stdout, result.stderr, result.code) == ("4 workers, total 333338333350000\n", "", 0), result.stderr


@every_language("flood", small=True)
def test_a_flood_of_output_is_stopped_and_its_head_and_tail_are_kept(case: Case, ran: Results) -> None:
    result = ran(case)
    assert (result.status, result.code) == ("OL", None), result.stderr
    head, cut, tail = re.split(r"\n\[\.\.\. (\d+) bytes omitted \.\.\.\]\n", result.stdout)
    assert head.startswith("line 1\nline 2\n")
    assert int(cut) > len(head) + len(tail)
    last = re.findall(r"line (\d+)\n", tail)
    assert last == [str(number) for number in range(int(last[0]), int(last[-1]) + 1)]
    assert int(last[0]) > 1000


NAMES_OF_LIBRECHAT: Final = {
    "py": "python",
    "js": "javascript",
    "ts": "typescript",
    "go": "go",
    "java": "java",
    "c": "c",
    "cpp": "cpp",
    "php": "php",
    "rs": "rust",
    "r": "r",
    "f90": "fortran",
    "d": "d",
    "bash": "bash",
}
OTHER_NAMES: Final = {
    "python": "python",
    "python3": "python",
    "javascript": "javascript",
    "node": "javascript",
    "typescript": "typescript",
    "bun": "bun",
    "golang": "go",
    "c++": "cpp",
    "rust": "rust",
    "fortran": "fortran",
    "dlang": "d",
    "sh": "bash",
    "Python": "python",
    "TypeScript": "typescript",
    "C++": "cpp",
    "R": "r",
}


SPELLINGS: Final = [
    program(language, "hello", sent_as=spelling)
    for name, language in (NAMES_OF_LIBRECHAT | OTHER_NAMES).items()
    for spelling in dict.fromkeys((name, name.upper()))
]


@pytest.mark.parametrize("case", SPELLINGS, ids=[case.sent_as for case in SPELLINGS])
def test_a_language_has_its_codes_and_its_long_names_in_whatever_case(case: Case, ran: Results) -> None:
    result = ran(case)
    assert (result.stdout, result.code) == ("Hello, world!\n", 0), result
