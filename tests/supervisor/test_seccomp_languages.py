"""Nothing that an ordinary program does would be killed, in any language that is installed here [K23].

Each runs in logging mode, in a real sandbox, under the profiles that it has in service; what is refused politely has to
be one of the few calls below, each with the reason why programs go on without it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from supervisor.image import current_image
from supervisor.preparation.prepare import find_languages
from supervisor.runtimes.catalogue import load_languages
from tests.supervisor.test_cli import gaoler

pytestmark = pytest.mark.root

PROGRAMS = {path.stem: path for path in (Path(__file__).parent / "programs").iterdir()}
LANGUAGES = {language.name: language for language in load_languages()}
REFUSED = {
    "clone3": "the C library falls back to clone, whose flags can be looked at",
    "mbind": "advice on memory banks; libnuma and OpenBLAS do without",
    "set_mempolicy": "the same",
    "inotify_init1": "watching files: programs look again instead",
    "socket": "netlink, for lists of network interfaces; those are then empty",
    "fanotify_init": "watching files, by a compiler that is not asked to watch any",
    "mmap": "just-in-time compilers that a compiled program starts; grep -P interprets instead",
}
OPTIONAL = {"fanotify_init": {"tsc"}, "mmap": {"grep"}, "socket": {"node", "python3"}}
"""Who alone is expected to ask."""


@cache
def installed(image_dir: Path) -> set[str]:
    image = current_image(image_dir)
    assert image is not None
    return {each.language.name for each in find_languages(image, {}).values()}


def examined(program: Path, language: str, image_dir: Path) -> dict[str, Any]:
    if language not in installed(image_dir):
        pytest.skip(f"{language} is not installed: {LANGUAGES[language].install_command}")
    done = gaoler(
        "doctor", "--seccomp", str(program), "--language", language, "--json", GAOLER_IMAGE_DIR=str(image_dir)
    )
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def nothing_is_missed(found: dict[str, Any]) -> None:
    assert found["killed"] == []
    assert found["left_out"] == 0
    for need in found["refused"]:
        assert need["call"] in REFUSED, need
        assert need["process"] in OPTIONAL.get(need["call"], {need["process"]}), need


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_smoke_program_of_a_language_needs_nothing_that_is_killed(
    name: str, image_dir: Path, tmp_path: Path
) -> None:
    language = LANGUAGES[name]
    program = tmp_path / language.source
    program.write_text(language.smoke.code)
    found = examined(program, name, image_dir)
    assert (found["status"], found["stdout"]) == (0, language.smoke.stdout), found
    nothing_is_missed(found)


@pytest.mark.parametrize("name", PROGRAMS)
def test_ordinary_work_in_a_language_needs_nothing_that_is_killed(name: str, image_dir: Path) -> None:
    found = examined(PROGRAMS[name], name, image_dir)
    assert (found["status"], found["stdout"]) == (0, "done\n"), found
    nothing_is_missed(found)


@pytest.mark.parametrize("name", PROGRAMS)
def test_ordinary_work_succeeds_under_the_filters_themselves(name: str, image_dir: Path) -> None:
    """What logging mode says, the kernel says too."""
    if name not in installed(image_dir):
        pytest.skip(f"{name} is not installed: {LANGUAGES[name].install_command}")
    done = gaoler("run", "--lang", name, str(PROGRAMS[name]), GAOLER_IMAGE_DIR=str(image_dir))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
