"""What is wrong with a process, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, to_builtins


class Check(Struct, frozen=True):
    """One thing that was looked at. ``vital``: without it nothing can be run."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    """What an operator does about it, where it is not ok."""
    vital: bool = False


def summary(checks: Iterable[Check]) -> dict[str, Any]:
    """Give the answer: ``ok``, ``degraded``, or ``unavailable`` when something vital is not ok."""
    found = list(checks)
    wrong = [each for each in found if not each.ok]
    status = "unavailable" if any(each.vital for each in wrong) else "degraded" if wrong else "ok"
    rows = [{name: value for name, value in to_builtins(each).items() if name != "vital"} for each in found]
    return {"status": status, "checks": rows}


def all_well(name: str, detail: str) -> Check:
    """Give what was found well."""
    return Check(name, True, detail)
