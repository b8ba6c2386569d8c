"""The site can be built, needs nobody else's server, and shows each page as GitHub does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.daemon import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md"), *ROOT.glob("policies/*.md")]
)
_FENCE = re.compile(r"^ *```", re.MULTILINE)
_OUTSIDE = re.compile(r"(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` does it: a link or an anchor that leads nowhere fails here."""
    target = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    assert "WARNING" not in built.stderr, built.stderr[-3000:]
    return target


class Loaded(HTMLParser):
    """What a browser fetches by itself when it shows a page, and what it shows of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.blocks = 0
        self.diagrams = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.blocks += tag == "pre"
        self.diagrams += "mermaid" in given.get("class", "")
        if tag in ("script", "img", "iframe", "source", "video", "object", "embed"):
            self.fetched += [given[name] for name in ("src", "data") if name in given]
        if tag == "link" and given.get("rel") != "canonical":
            self.fetched.append(given.get("href", ""))


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = {path: Loaded(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 20
    outside = {str(path): [each for each in page.fetched if _OUTSIDE.match(each)] for path, page in pages.items()}
    assert {path: found for path, found in outside.items() if found} == {}
    # The theme has its library for diagrams from elsewhere.
    assert [str(path) for path, page in pages.items() if page.diagrams] == []
    styles = [
        path
        for path in site.rglob("*.css")
        if re.search(r"url\(['\"]?(?:https?:)?//", path.read_text(encoding="utf-8"))
    ]
    assert styles == []


def test_every_block_of_code_is_one_on_the_site_too(site: Path) -> None:
    for path in PAGES:
        where = site / path.relative_to(ROOT / "docs" if path.parent.name == "docs" else ROOT)
        where = where.with_name("index.html") if path.name == "README.md" else where.with_suffix(".html")
        if path == ROOT / "README.md":
            continue  # the site has a first page of its own
        text = path.read_text(encoding="utf-8")
        assert Loaded(where.read_text(encoding="utf-8")).blocks >= len(_FENCE.findall(text)) // 2, path
        assert "```" not in where.read_text(encoding="utf-8"), path


def test_links_to_elsewhere_have_the_form_of_addresses() -> None:
    for path in PAGES:
        text = re.sub(r"(?s)^ *```.*?^ *```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for link in re.findall(r"\]\(([a-z]+:[^)]*)\)", text):
            assert re.fullmatch(r"https://[a-z0-9.-]+\.[a-z]{2,}(?:/[^\s<>\"]*)?", link), (path.name, link)


def test_the_readme_names_only_what_exists() -> None:
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_no_page_names_the_machine_it_was_written_on() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert f"{ROOT}/" not in text, path
