"""LibreChat's execution profiles: ``default`` (nothing is kept) and ``stateful``, by header on request and answer."""

from __future__ import annotations

from typing import Final

from quart import Response, g, request

from http_api.services import Door
from supervisor.errors import Unsupported

EXPECTED: Final = "X-CodeAPI-Expected-Profile"
ACTUAL: Final = "X-CodeAPI-Execution-Profile"
PROFILES: Final = ("default", "stateful")


def check(door: Door) -> None:
    """Hold the caller's expectation against what there is here.

    Raises:
        Unsupported: another profile is expected than the policy has; the answer names both.
    """
    expected = request.headers.get(EXPECTED)
    if expected is None:
        return
    if expected not in PROFILES or (expected == "stateful" and not door.settings.stateful):
        raise Unsupported(
            f"this server runs the profile 'default', not {expected[:32]!a}",
            code="execution_profile_mismatch",
            field=EXPECTED,
            details={"expected_profile": expected[:32], "actual_profile": "default"},
        )
    g.profile = expected


def mark(response: Response) -> None:
    """Say in the answer which profile it was."""
    profile = g.get("profile")
    if profile is not None:
        response.headers[ACTUAL] = profile
