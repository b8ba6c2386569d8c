"""A second try for a few tests that failed while the machine was full: alone, told of loudly, and never for a promise.

Tests of what a person sees wait for processes that share two processors with all other tests. One that fails there and
holds alone is named as UNSTABLE, with its first failure above it; it is somebody's next work, and no reason to throw
everybody's away. What proves that nothing gets out of a sandbox, that nothing is lost or that nothing runs twice gets
no second try: there once is once too often.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

PROMISES: Final = frozenset(
    {"alone", "containment", "contracts", "crash", "egress", "fleet", "fuzz", "microvm", "systemd"}
)
"""Folders whose tests hold each time or not at all; ``alone``: what looks at the whole host for what was left."""
PROMISING: Final = ("attack", "hostile", "leak", "privilege")
"""So files elsewhere are called that prove the same."""
MOST: Final = 3
"""With more than so many it is not the machine."""
FAILED: Final = 1
"""The status of a pytest in which tests failed, and nothing else happened."""


def forget(cache: Path) -> None:
    """Before a run: forget which tests failed in an earlier one."""
    _last_failed(cache).unlink(missing_ok=True)


def failed_tests(cache: Path) -> list[str]:
    """Name the tests that failed in the run which had this cache."""
    try:
        return sorted(json.loads(_last_failed(cache).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []


def may_try_again(codes: Mapping[str, int], failed: Mapping[str, Iterable[str]]) -> list[str]:
    """Say which tests get a second try: all that failed, or none.

    ``codes``: how the pytest of each part ended, of those that did not end well; ``failed``: what failed in each.
    """
    tests = [test for name in sorted(codes) for test in failed.get(name, ())]
    if any(code != FAILED for code in codes.values()) or PROMISES & codes.keys():
        return []
    if any(word in test.partition("::")[0] for test in tests for word in PROMISING):
        return []
    # A part that failed and does not say in what is no matter of single tests.
    if any(not failed.get(name) for name in codes) or len(tests) > MOST:
        return []
    # A file that cannot even be collected has no tests to be named.
    return tests if all("::" in test for test in tests) else []


def _last_failed(cache: Path) -> Path:
    return cache / "v" / "cache" / "lastfailed"
