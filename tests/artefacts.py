"""What a run of the gate leaves behind, to be kept by whoever ran it: reports, pictures, and a page that shows both."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from tests.daemon import ROOT

ARTEFACTS: Final = ROOT / "build" / "artefacts"
SCREENSHOTS: Final = Path(os.environ.get("GAOLER_TEST_SCREENSHOT_DIR", ARTEFACTS / "screenshots"))
"""Where tests put pictures of the dashboard."""

_STYLE: Final = """
:root { color-scheme: light dark } body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem }
table { border-collapse: collapse } th, td { padding: .2rem 1.2rem .2rem 0; text-align: start } td + td { text-align: end }
.failed { color: light-dark(#a8231c, #ff9a90); font-weight: 600 } ul { padding: 0; list-style: none; display: grid; gap: 1rem;
grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) } img { width: 100%; max-height: 20rem; object-fit: cover;
object-position: top; border: 1px solid light-dark(#ccc, #444) }
"""


@dataclass(frozen=True, slots=True)
class Report:
    """One pytest, as its JUnit file tells of it."""

    name: str
    tests: int
    failed: int
    skipped: int
    seconds: float
    faults: tuple[str, ...]
    """Names of tests that did not hold."""


def begin(directory: Path = ARTEFACTS) -> Path:
    """Take away what an earlier run has left, and give where reports go."""
    shutil.rmtree(directory, ignore_errors=True)
    reports = directory / "reports"
    reports.mkdir(parents=True)
    return reports


def read_report(path: Path) -> Report:
    """Read a JUnit file of pytest's.

    Raises:
        ET.ParseError: it is no XML, as of a pytest that was killed while it wrote.
    """
    suites = list(ET.parse(path).getroot().iter("testsuite"))
    count = {
        name: sum(int(each.get(name, 0)) for each in suites) for name in ("tests", "failures", "errors", "skipped")
    }
    faults = tuple(
        f"{case.get('classname')}.{case.get('name')}"
        for suite in suites
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    )
    seconds = sum(float(each.get("time", 0)) for each in suites)
    return Report(path.stem, count["tests"], count["failures"] + count["errors"], count["skipped"], seconds, faults)


def write_index(directory: Path = ARTEFACTS, screenshots: Path = SCREENSHOTS) -> Path:
    """Write the page that shows what is there, and give its path. It needs nobody's server."""
    reports = sorted((directory / "reports").glob("*.xml"))
    page = directory / "index.html"
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>The gate</title><style>{_STYLE}</style></head><body><h1>The gate</h1>",
        "<h2>Tests</h2><table><thead><tr><th>Part<th>Tests<th>Failed<th>Skipped<th>Seconds</tr></thead><tbody>",
        *(line for path in reports for line in _row(path, directory)),
        "</tbody></table><h2>Pictures</h2><ul>",
        *_figures(sorted(screenshots.glob("*.png")), directory),
        "</ul></body></html>",
    ]
    page.write_text("\n".join(lines) + "\n")
    return page


def _row(path: Path, directory: Path) -> Iterable[str]:
    link = f'<a href="{_address(path, directory)}">{html.escape(path.stem)}</a>'
    try:
        found = read_report(path)
    except ET.ParseError:
        yield f'<tr class="failed"><td>{link}<td colspan="4">its report is cut off</tr>'
        return
    kind = ' class="failed"' if found.failed else ""
    yield f"<tr{kind}><td>{link}<td>{found.tests}<td>{found.failed}<td>{found.skipped}<td>{found.seconds:.0f}</tr>"
    for fault in found.faults:
        yield f'<tr class="failed"><td colspan="5">{html.escape(fault)}</tr>'


def _figures(pictures: Iterable[Path], directory: Path) -> Iterable[str]:
    for path in pictures:
        address, name = _address(path, directory), html.escape(path.stem)
        yield f'<li><a href="{address}"><img src="{address}" alt="{name}" loading="lazy"></a><br>{name}</li>'


def _address(path: Path, directory: Path) -> str:
    return html.escape(os.path.relpath(path, directory), quote=True)
