"""One execution as an operator may know it: who, where, how it ended, what it cost. Never its code, input or output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from supervisor.execution.values import (
    Cancelled,
    ExecutionResult,
    Exited,
    Outcome,
    OutOfMemory,
    OutputLimit,
    Signalled,
    TimedOut,
)

Door = Literal["http", "mcp", "worker"]
"""Where it came in; ``worker``: from a gateway."""
Kind = Literal["code", "program"]
"""``program``: one leg of a program that calls its caller's tools."""
State = Literal["waiting", "running", "ended"]

OUTCOMES: Final = (
    *("exited", "signalled", "out_of_memory", "timed_out", "output_limit", "cancelled"),
    *("waits_for_tools", "stopped", "refused", "failed"),
)
"""Those of the program; it waits for tools; an operator has ended it; it was refused; our own fault."""


class ExecutionRecord(Struct, frozen=True, kw_only=True):
    """An execution. Times are seconds since the epoch; ``spent``: seconds by step (:data:`timeline.STEPS`)."""

    id: str
    door: Door
    kind: Kind
    state: State
    tenant: str
    credential: str
    user: str | None
    language: str
    session: str | None = None
    tier: str | None = None
    request_id: str = ""
    traceparent: str = ""
    """The client's place in its own trace."""
    began_at: float
    ended_at: float | None = None
    seconds: float = 0.0
    """Until its end, or until now."""
    outcome: str = ""
    """One of :data:`OUTCOMES` when it has ended."""
    detail: str = ""
    """The exit code, the signal, the code of a refusal."""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    output_bytes: int = 0
    files: int = 0
    spent: Mapping[str, float] = {}


def outcome_words(outcome: Outcome) -> tuple[str, str]:
    """Give an outcome's word and its detail."""
    match outcome:
        case Exited(code):
            return "exited", str(code)
        case Signalled(signal):
            return "signalled", str(signal)
        case OutOfMemory(limit_bytes):
            return "out_of_memory", str(limit_bytes)
        case TimedOut(limit_seconds):
            return "timed_out", f"{limit_seconds:g}"
        case OutputLimit(stream, _):
            return "output_limit", stream
        case Cancelled():
            return "cancelled", ""


def output_bytes(result: ExecutionResult) -> int:
    """Count what the program has written, with what was not kept of it."""
    return sum(
        len(each.untrusted_head) + len(each.untrusted_tail) + each.omitted_bytes
        for each in (result.stdout, result.stderr)
    )
