"""Each thing that the doctor can find is explained, and the page is made of the doctor's own words."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from supervisor.doctor.host import Finding, examine
from supervisor.settings.loading import load
from tests.daemon import ROOT


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "findings.py"))


def test_every_finding_is_explained_and_nothing_else(generator: dict[str, Any]) -> None:
    found, explained = set(generator["findings"]()), set(generator["explained"]())
    assert found - explained == set(), "explain them in docs/findings.toml, then run: python docs/findings.py"
    assert explained - found == set(), "the doctor does not find these any more: take them out of docs/findings.toml"


def test_the_page_is_current(generator: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert generator["page"]() == page, "run: python docs/findings.py"


@pytest.mark.root
def test_what_the_doctor_finds_on_this_host_was_read_from_its_code(generator: dict[str, Any], tmp_path: Path) -> None:
    names = [name for _module, name in generator["findings"]()]
    ends = [name.removesuffix("…") for name in names if name.endswith(" …")]

    def known(finding: Finding) -> bool:
        return finding.name in names or any(finding.name.startswith(end) for end in ends)

    found = examine(load(file=None, environment={}, flags={"state_dir": str(tmp_path)}).settings)
    assert len(found) > 10
    assert [finding.name for finding in found if not known(finding)] == []
