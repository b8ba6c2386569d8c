"""Places in traces, as W3C's Trace Context says them. Pure but for the random ids."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_SAMPLED: Final = 1
_HALF: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Place:
    """A span of a trace; ids in hex. ``parent``: the span above, empty for a root. Not ``sampled``: nobody keeps it."""

    trace: str
    span: str
    sampled: bool
    parent: str = ""

    @property
    def traceparent(self) -> str:
        """Say it to whoever works for us."""
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


def read_traceparent(text: str) -> Place | None:
    """Read a client's place; ``None``: there is none, or it breaks a rule of the standard, and counts as none.

    A later version than 00 may say more behind what we know of.
    """
    found = _TRACEPARENT.fullmatch(text)
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["rest"] is not None):
        return None
    if not int(found["trace"], 16) or not int(found["span"], 16):
        return None
    return Place(found["trace"], found["span"], sampled=bool(int(found["flags"], 16) & _SAMPLED))


def place_below(traceparent: str, ratio: float) -> Place:
    """Make the place of a new span: below a client's, sampled if that is; or a root: ``ratio`` of these is."""
    above = read_traceparent(traceparent)
    span = secrets.token_hex(8)
    if above is not None:
        return Place(above.trace, span, above.sampled, above.span)
    trace = secrets.token_hex(16)
    # As OpenTelemetry decides by the id, so that everybody who looks at it decides the same.
    return Place(trace, span, sampled=int(trace[16:], 16) < ratio * _HALF)
