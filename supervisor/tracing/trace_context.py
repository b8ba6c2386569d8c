"""Places in traces, as W3C's Trace Context says them. Pure but for the random ids."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
MAX_STATE: Final = 512
"""Characters of a ``tracestate``, all of its headers together: what the standard has everybody pass on."""
MAX_MEMBERS: Final = 32
_MEMBER: Final = re.compile(
    r"(?P<key>[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_SAMPLED: Final = 1
_HALF: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Place:
    """A span of a trace; ids in hex. ``parent``: the span above, empty for a root. Not ``sampled``: nobody keeps it.

    ``state``: what others noted of the trace (``tracestate``), for those who come after us; we add nothing.
    """

    trace: str
    span: str
    sampled: bool
    parent: str = ""
    state: str = ""

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


def read_tracestate(text: str) -> str:
    """Read what a client's trace carries, to pass it on; empty: nothing, or it breaks a rule, and is dropped whole.

    A part of it would be a lie about who noted what, and in which order. Source: W3C Trace Context, 3.3, and of keys
    the form that its first level has, which every receiver takes. Members that say nothing are left out.
    """
    if len(text) > MAX_STATE:
        return ""
    given = [each.strip(" \t") for each in text.split(",")]
    found = [_MEMBER.fullmatch(each) for each in given if each]
    keys = {each["key"] for each in found if each is not None}
    # A member that is none has no key, so this finds one that is said twice and one that breaks the grammar.
    if len(given) > MAX_MEMBERS or len(keys) < len(found):
        return ""
    return ",".join(each for each in given if each)


def place_below(traceparent: str, ratio: float, tracestate: str = "") -> Place:
    """Make the place of a new span: below a client's, sampled if that is; or a root: ``ratio`` of these is.

    ``tracestate``: as :func:`read_tracestate` gives it. It belongs to the client's place, and goes with it.
    """
    above = read_traceparent(traceparent)
    span = secrets.token_hex(8)
    if above is not None:
        return Place(above.trace, span, above.sampled, above.span, tracestate)
    trace = secrets.token_hex(16)
    # As OpenTelemetry decides by the id, so that everybody who looks at it decides the same.
    return Place(trace, span, sampled=int(trace[16:], 16) < ratio * _HALF)
