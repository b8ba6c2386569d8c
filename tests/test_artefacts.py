"""What the gate leaves can be looked at: each report is counted, each picture is shown, no name does anything to the page."""

from __future__ import annotations

import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

from tests.artefacts import begin, read_report, write_index
from tests.daemon import ROOT

TESTS = """
import pytest
def test_well(): pass
@pytest.mark.parametrize("name", ["<script>alert(1)</script>"])
def test_wrong(name): assert name == ""
def test_left_out(): pytest.skip("for a reason")
"""


class Page(HTMLParser):
    """What a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses |= {value for name, value in attrs if name in ("href", "src") and value}


def test_the_page_shows_each_report_and_each_picture(tmp_path: Path) -> None:
    directory = tmp_path / "artefacts"
    reports = begin(directory)
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={reports / 'some.xml'}"]
    run = subprocess.run([*command, "test_some.py"], cwd=tmp_path, capture_output=True, check=False)
    assert run.returncode == 1, run.stdout
    found = read_report(reports / "some.xml")
    assert (found.tests, found.failed, found.skipped) == (3, 1, 1)
    assert [fault.partition("[")[0] for fault in found.faults] == ["test_some.test_wrong"]
    pictures = directory / "screenshots"
    pictures.mkdir()
    shutil.copy(ROOT / "docs" / "pictures" / "dashboard-overview.png", pictures / "overview & more.png")
    index = write_index(directory, pictures)
    text = index.read_text()
    page = Page(text)
    assert page.addresses == {"reports/some.xml", "screenshots/overview & more.png"}
    assert all((directory / address).is_file() for address in page.addresses)
    assert "script" not in page.tags
    assert "test_wrong[&lt;script&gt;" in text


def test_a_report_that_is_cut_off_is_told_of_and_hides_no_other(tmp_path: Path) -> None:
    reports = begin(tmp_path / "artefacts")
    (reports / "killed.xml").write_text("<testsuites><testsuite")
    (reports / "well.xml").write_text('<testsuites><testsuite tests="2" time="1.0"/></testsuites>')
    text = write_index(tmp_path / "artefacts", tmp_path / "none").read_text()
    assert "cut off" in text
    assert "<td>2<td>0<td>0<td>1" in text


def test_what_an_earlier_run_left_is_taken_away(tmp_path: Path) -> None:
    reports = begin(tmp_path)
    (reports / "old.xml").write_text("")
    assert list(begin(tmp_path).iterdir()) == []
