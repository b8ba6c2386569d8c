"""Pictures that are kept: each that is named was drawn, by this very run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.artefacts import SCREENSHOTS
from tests.daemon import ROOT
from tests.dashboard.conftest import BEGAN
from tests.dashboard.screenshots import NAMED, missing, wanted

pytestmark = pytest.mark.root
PICTURE = ROOT / "docs" / "pictures" / "dashboard-overview.png"


def test_each_picture_that_is_named_was_drawn(request: pytest.FixtureRequest) -> None:
    """It comes after all others of this folder, and is about those that were chosen."""
    names = wanted(item.name for item in request.session.items)
    if not names:
        pytest.skip("no test that draws a picture was chosen")
    assert missing(names, SCREENSHOTS, BEGAN) == []


def test_each_test_that_draws_is_there(request: pytest.FixtureRequest) -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in NAMED if f"def {name}(" not in text] == []


def test_a_picture_that_was_not_written_is_missed(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    shutil.copy(PICTURE, tmp_path / "here.png")
    since = (tmp_path / "here.png").stat().st_mtime
    assert missing({"here", "empty", "never"}, tmp_path, since) == ["empty", "never"]
    assert missing({"here"}, tmp_path, since + 1) == ["here"]


def test_only_what_chosen_tests_draw_is_wanted() -> None:
    both = wanted(
        [
            "test_every_part_opens_at_a_gateway[light]",
            "test_rules_are_edited_as_text_and_what_is_wrong_is_shown_where_it_stands",
        ]
    )
    assert "rules" in both
    assert {"gateway-keys-light", "gateway-keys-dark"} & both == {"gateway-keys-light"}
    assert wanted(["test_something_else"]) == set()
