"""What images are made from is pinned, and the lists are in order."""

from __future__ import annotations

import json
import re

import pytest

from supervisor.runtimes.catalogue import GROUPS, NPM_PROJECTS, load_groups, load_languages

FOLDERS = sorted(path.name for path in NPM_PROJECTS.iterdir())
NAMES = {language.name for language in load_languages()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_packages_of_npm_are_pinned_by_hash_and_name_no_registry(folder: str) -> None:
    wanted = json.loads((NPM_PROJECTS / folder / "package.json").read_text())["dependencies"]
    lock = json.loads((NPM_PROJECTS / folder / "package-lock.json").read_text())["packages"]
    assert all(re.fullmatch(r"(npm:@?[a-z/-]+@)?[0-9]+\.[0-9]+\.[0-9]+", version) for version in wanted.values())
    assert lock[""]["dependencies"] == wanted
    del lock[""]
    for name, package in lock.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


@pytest.mark.parametrize("group", load_groups(), ids=lambda group: group.name)
def test_a_group_shows_that_it_works(group: object) -> None:
    assert isinstance(group, type(load_groups()[0]))
    assert (GROUPS / f"{group.name}.toml").exists()
    assert group.name not in NAMES
    assert group.packages.debian
    assert group.smoke.stdout.strip()
