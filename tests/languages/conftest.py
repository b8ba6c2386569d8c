"""What the tests of languages share: which are installed, a daemon with small limits, results made ahead."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.image import current_image
from supervisor.policy import PACKAGED_POLICIES
from supervisor.preparation.prepare import find_languages
from tests.daemon import Daemon, daemon_with
from tests.languages.cases import LANGUAGES, Ahead, Case, Ran, run

SMALL = {
    "memory_bytes = 1073741824 ": "memory_bytes = 805306368 ",
    "output_kill_bytes = 67108864 ": "output_kill_bytes = 1048576 ",
}
"""Limits that are met within seconds; compilers have room."""


@pytest.fixture(scope="session")
def installed(image_dir: Path) -> frozenset[str]:
    """What the image says that it has, and what is found in it: all of that has to work.

    The set-up of ``make test`` builds it with all languages, so there nothing is skipped; another image may have fewer.
    """
    image = current_image(image_dir)
    assert image is not None
    found = {each.language.name for each in find_languages(image, {}).values()}
    return frozenset(found | image.manifest.languages.keys())


@pytest.fixture(scope="session")
def small_daemon(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for programs that meet a limit."""
    policies = tmp_path_factory.mktemp("small") / "policies"
    shutil.copytree(PACKAGED_POLICIES, policies)
    default = policies / "sandbox" / "default.toml"
    text = default.read_text()
    for old, new in SMALL.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    default.write_text(text)
    with daemon_with(image_dir, {"GAOLER_JAILER_POLICY_DIR": str(policies)}) as running:
        yield running


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest, daemon: Daemon, installed: frozenset[str]) -> Iterator[Callable[[Case], Ran]]:
    """Give what becomes of a case; those of all chosen tests of the module run ahead, a few at once."""
    chosen: list[Any] = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and "case" in item.fixturenames
    ]
    cases = [case for case in dict.fromkeys(chosen) if case.language in installed]
    small = request.getfixturevalue("small_daemon") if any(case.small for case in cases) else daemon
    ahead = Ahead(lambda case: run(small if case.small else daemon, case), cases)

    def result(case: Case) -> Ran:
        if case.language not in installed:
            pytest.skip(f"{case.language} is not in the image: {LANGUAGES[case.language].install_command}")
        return ahead(case)

    yield result
    ahead.close()
