"""Who gets a second try, tried with pytest itself: few, by their names, and nothing that promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.second_try import MOST, PROMISES, failed_tests, forget, may_try_again

TESTS = """
import pathlib, pytest
@pytest.mark.parametrize("name", ["a b", "c::d"])
def test_unstable(name):
    seen = pathlib.Path("seen-" + name.replace(":", "-"))
    first = not seen.exists()
    seen.touch()
    assert not first
def test_well(): pass
"""


def pytest_with(cache: Path, *targets: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={cache}", *targets]
    return subprocess.run(command, cwd=cache.parent, capture_output=True, check=False).returncode


def test_what_failed_is_named_and_run_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    cache = tmp_path / "cache"
    assert failed_tests(cache) == []
    assert pytest_with(cache) == 1
    failed = failed_tests(cache)
    assert failed == ["test_some.py::test_unstable[a b]", "test_some.py::test_unstable[c::d]"]
    again = may_try_again({"http_api": 1}, {"http_api": failed})
    assert again == failed
    forget(cache)
    assert failed_tests(cache) == []
    assert pytest_with(cache, *again) == 0


@pytest.mark.parametrize("code", [2, 3, 4, -9])
def test_a_pytest_that_broke_off_is_not_tried_again(code: int) -> None:
    assert may_try_again({"http_api": code}, {"http_api": ["a.py::test"]}) == []


@pytest.mark.parametrize("promise", sorted(PROMISES))
def test_what_promises_gets_no_second_try_nor_does_anything_beside_it(promise: str) -> None:
    failed = {promise: ["a.py::test"], "http_api": ["b.py::test"]}
    assert may_try_again({promise: 1}, failed) == []
    assert may_try_again({promise: 1, "http_api": 1}, failed) == []


@pytest.mark.parametrize(
    "file",
    [
        "tests/admin/test_hostile.py",
        "tests/mcp_server/test_attacks.py",
        "tests/supervisor/test_leaks.py",
        "tests/supervisor/test_privileges.py",
    ],
)
def test_a_file_that_promises_gets_none_wherever_it_lies(file: str) -> None:
    root = Path(__file__).resolve().parent.parent
    assert (root / file).is_file()
    part = file.split("/")[1]
    assert may_try_again({part: 1}, {part: [f"{file}::test_one", f"tests/{part}/test_other.py::test"]}) == []


def test_every_promise_is_a_folder_of_tests() -> None:
    folders = {each.name for each in Path(__file__).parent.iterdir() if each.is_dir()}
    assert folders >= PROMISES - {"alone"}


def test_many_failures_are_no_matter_of_the_machine() -> None:
    few = [f"a.py::test_{number}" for number in range(MOST)]
    assert may_try_again({"http_api": 1}, {"http_api": few}) == few
    assert may_try_again({"http_api": 1, "clients": 1}, {"http_api": few, "clients": ["c.py::test"]}) == []


@pytest.mark.parametrize("failed", [{}, {"http_api": []}, {"http_api": ["tests/http_api/test_broken.py"]}])
def test_a_part_that_does_not_name_its_tests_is_not_tried_again(failed: dict[str, list[str]]) -> None:
    assert may_try_again({"http_api": 1}, failed) == []
