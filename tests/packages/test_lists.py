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


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_lock_file_has_the_packages_for_every_kind_of_machine(folder: str) -> None:
    """npm leaves out what a registry does not have (yet), and then refuses to install from what it has written."""
    lock = json.loads((NPM_PROJECTS / folder / "package-lock.json").read_text())["packages"]
    locked = {name.rpartition("node_modules/")[2]: package for name, package in lock.items() if name}
    for package in list(locked.values()):
        for name, version in package.get("optionalDependencies", {}).items():
            assert name in locked, name
            assert not re.fullmatch(r"[0-9.]+", version) or locked[name]["version"] == version


@pytest.mark.parametrize("group", load_groups(), ids=lambda group: group.name)
def test_a_group_shows_that_it_works(group: object) -> None:
    assert isinstance(group, type(load_groups()[0]))
    assert (GROUPS / f"{group.name}.toml").exists()
    assert group.name not in NAMES
    assert group.packages.debian
    assert group.smoke.stdout.strip()
