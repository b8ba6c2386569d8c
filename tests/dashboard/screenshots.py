"""Which pictures tests draw, by the test that draws them. A name that is not here is refused, one that is not drawn is missed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Final

PARTS: Final = ("Overview", "Executions", "Sessions", "Network", "Keys", "Usage", "Workers", "Audit", "Health")
COLOURS: Final = ("light", "dark")
_PART_NAMES: Final = tuple(part.lower() for part in PARTS)
_DIALOGS: Final = ("keys-dialog", "network-dialog", "executions-dialog")
_PNG: Final = b"\x89PNG\r\n\x1a\n"


def _each(*words: Iterable[str]) -> tuple[str, ...]:
    return tuple("-".join(name) for name in product(*words))


NAMED: Final = {
    "test_the_rules_of_accessibility_find_nothing_serious": _each(("sign-in", *_PART_NAMES, *_DIALOGS), COLOURS),
    "test_nothing_sticks_out_of_any_screen": _each(_PART_NAMES, ("narrow", "huge")),
    "test_an_execution_appears_as_it_happens_and_not_what_it_says": ("cancel", "details"),
    "test_rules_are_edited_as_text_and_what_is_wrong_is_shown_where_it_stands": ("rules",),
    "test_what_was_refused_can_be_allowed_from_where_it_is_shown": ("allow",),
    "test_hostile_names_are_shown_and_do_nothing": _each(("hostile",), _PART_NAMES[1:]),
    "test_a_page_that_is_cut_off_says_so_and_comes_back_even_if_it_is_served_no_more": ("disconnected",),
    "test_every_part_opens_at_a_gateway": _each(("gateway",), _PART_NAMES, COLOURS),
    "test_at_twice_the_size_nothing_sticks_out_or_lies_over_another": _each(
        ("enlarged",), _PART_NAMES, ("640", "390", "320")
    ),
}
ALL: Final = frozenset(name for names in NAMED.values() for name in names)


def wanted(tests: Iterable[str]) -> set[str]:
    """Give what these tests, named with their parameters, have to draw: of two colours those that are tried."""
    found: set[str] = set()
    for test in tests:
        function, _, parameter = test.partition("[")
        names = NAMED.get(function, ())
        ends = tuple(f"-{word}" for word in re.findall(r"[a-z]+", parameter))
        found |= {name for name in names if not ends or name.endswith(ends)}
    return found


def missing(names: Iterable[str], directory: Path, since: float) -> list[str]:
    """Give those of which there is no picture in a directory, or only one from before ``since`` (seconds of the epoch)."""
    return sorted(name for name in names if not _drawn(directory / f"{name}.png", since))


def _drawn(path: Path, since: float) -> bool:
    if not path.is_file() or path.stat().st_mtime < since:
        return False
    with path.open("rb") as file:
        return file.read(len(_PNG)) == _PNG
