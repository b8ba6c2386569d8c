"""Every shell block of the documentation that is marked as runnable does what its page shows."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.daemon import KEY, ROOT, Daemon, image_path
from tests.docs.blocks import Command, Written, agrees, run, steps

PAGES = {
    str(path.relative_to(ROOT)): found
    for path in sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")])
    if (found := steps(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))
}
MUST = ("docs/start.md", "docs/http-api.md", "docs/mcp.md", "docs/sessions.md", "docs/network.md", "docs/operating.md")


@pytest.mark.root
@pytest.mark.own_host
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_happens(page: str, daemon: Daemon, tmp_path: Path) -> None:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        # As on a terminal: line by line.
        "PYTHONUNBUFFERED": "1",
        "KEY": KEY,
        "GAOLER_API_KEY": KEY,
        "GAOLER_BIND": daemon.address,
        "GAOLER_STATE_DIR": str(daemon.state_dir),
        "GAOLER_IMAGE_DIR": str(image_path()),
    }
    # As if in a checkout, but to be written to.
    for name in ("policies", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    wrong = run(PAGES[page], tmp_path, daemon.address, environment)
    assert not wrong, "\n\n".join(wrong)


def test_the_pages_that_show_how_to_use_it_have_runnable_blocks() -> None:
    assert [page for page in MUST if page not in PAGES] == []


def test_a_block_is_read_as_it_looks() -> None:
    markdown = "<!-- file: a.py -->\n```python\nprint(1)\n```\n\n<!-- run: status 2 -->\n```console\n$ one \\\n  two\nout\n\n# three <<'END'\nbody\nEND\n```\n"
    assert steps("p", markdown) == [
        Written("a.py", "print(1)\n"),
        Command("p", 8, "one \\\n  two", ("out", "")),
        Command("p", 12, "three <<'END'\nbody\nEND", (), 2),
    ]


@pytest.mark.parametrize("markdown", ["<!-- run -->\ntext\n", "<!-- run -->\n```console\nno prompt\n```\n"])
def test_a_mark_that_marks_nothing_is_found(markdown: str) -> None:
    with pytest.raises(AssertionError):
        steps("p", markdown)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ((), "anything\n", True),
        (("42",), "42\n", True),
        (("42",), "43\n", False),
        (("42",), "42\nmore\n", False),
        (('{"id":"…","n":1}',), '{"id":"abc","n":1}\n', True),
        (('{"id":"…","n":1}',), '{"id":"abc","n":2}\n', False),
        (('{"id":"…","n":1}',), '  {"id":"abc","n":1}\n', True),
        (("42",), " 42\n", False),
        (("a…z",), "a\nz\n", False),
        (("a", "…", "z"), "a\nb\nc\nz\n", True),
        (("a", "…", "z"), "a\nz\n", True),
        (("a", "…"), "a\nb\n", True),
        (("a", "…"), "b\na\n", False),
    ],
)
def test_an_ellipsis_stands_for_what_varies_and_for_nothing_else(
    shown: tuple[str, ...], printed: str, same: bool
) -> None:
    assert agrees(shown, printed) is same


def test_the_runner_says_what_went_otherwise(tmp_path: Path) -> None:
    shown = steps("p", "<!-- run -->\n```console\n$ x=1\n$ echo $x\n1\n$ echo $x\n2\n$ false\n$ exit\n$ never\n```\n")
    # As if in a checkout, but to be written to.
    for name in ("policies", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    wrong = run(shown, tmp_path, "127.0.0.1:1", {"PATH": os.environ["PATH"]})
    assert [line.split(":")[1] for line in wrong] == ["6", "8", "9"]
