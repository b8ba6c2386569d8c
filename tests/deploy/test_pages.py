"""docs/deploy.md and docs/scale.md name what exists."""

from __future__ import annotations

import re

import pytest

from supervisor.settings.loading import leaves
from tests.deploy.reading import DEPLOY, ROOT, VARIABLES

FIGURES_ARE_IN = True
"""Set when the bench has filled in what ``<!-- figure: NAME -->`` stands for; none may be left from then on."""
PAGES = ["deploy.md", "scale.md"]
SETTINGS = {leaf.key for leaf in leaves()}
SECTIONS = {key.partition(".")[0] for key in SETTINGS if "." in key}


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_is_missing(page: str) -> None:
    left = re.findall(r"<!-- figure: ([a-z0-9-]+) -->", (ROOT / "docs" / page).read_text())
    if not FIGURES_ARE_IN:
        pytest.skip(f"the figures are not in yet: {len(left)} in {page}")
    assert not left


@pytest.mark.parametrize("page", PAGES)
def test_variables_and_settings_on_the_page_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert set(re.findall(r"\bGAOLER_[A-Z0-9_]+", text)) <= VARIABLES
    named = {match[1] for match in re.finditer(r"`([a-z0-9]+\.[a-z_0-9]+)(?: = [^`]*)?`", text)}
    assert {name for name in named if name.partition(".")[0] in SECTIONS} <= SETTINGS


@pytest.mark.parametrize("page", PAGES)
def test_files_on_the_page_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / target).resolve().exists(), target
    for path in re.findall(r"(?<![\w.])(?:deploy|systemd|tests|policies)/[A-Za-z0-9_./-]*[A-Za-z0-9]", text):
        assert (ROOT / path).exists(), path


def test_rights_on_the_page_are_those_of_the_files() -> None:
    from tests.deploy.test_compose import CAPABILITIES

    table = (ROOT / "docs" / "deploy.md").read_text().split("| it gets | because |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    assert {name for row in rows for name in re.findall(r"`([A-Z_]{4,})`", row)} == CAPABILITIES


def test_every_file_of_deployment_is_spoken_of() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    for folder in ("compose", "kubernetes", "google-cloud", "container"):
        assert (DEPLOY / folder).is_dir()
        assert f"deploy/{folder}" in text
