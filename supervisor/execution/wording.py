"""What became of a program, in words for a model. Pure; both doors and the command line say the same."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import assert_never

from supervisor.execution.values import (
    Cancelled,
    ExecutionResult,
    Exited,
    Outcome,
    OutOfMemory,
    OutputLimit,
    Phase,
    Signalled,
    TimedOut,
)
from supervisor.policy import Policy
from supervisor.runtimes.language_view import TierView, tier_in_words


def policy_in_words(policy: Policy, tiers: Sequence[TierView]) -> str:
    """Say what a policy lets a sandbox do, and which tiers there are."""
    tier_lines = "\n".join(f"* {tier_in_words(each)}" for each in tiers)
    limits = policy.limits
    kept = {
        "never": "Nothing is kept between executions but files.",
        "asked": "Python's variables are kept between executions for those who ask for it.",
        "session": "Python's variables are kept between the executions of a session.",
    }[policy.state]
    network = "There is no network: no address but the sandbox's own loopback can be reached."
    if policy.network == "egress":
        network = (
            "There is a network, through a proxy that lets pass what the operator's rules allow; explain_network says "
            "what that is. A refusal says so in stderr: do not work around it."
        )
    return f"""What a sandbox may do here (policy {policy.name!r}, tier {policy.tier}):

* One execution takes at most {limits.wall_seconds:g} s, before that {limits.compile_seconds:g} s in a compiler if its
  language has one, {limits.cpu_cores:g} CPU cores, {limits.memory_bytes >> 20} MiB of memory, and {limits.processes}
  processes and threads.
* /mnt/data holds {limits.workspace_bytes >> 20} MiB in {limits.workspace_inodes} files; a file has at most
  {limits.file_bytes >> 20} MiB. /tmp holds {limits.temporary_bytes >> 20} MiB, and is not kept.
* {limits.output_bytes >> 10} KiB of each of stdout and stderr are kept, head and tail; a program that writes more than
  {limits.output_kill_bytes >> 20} MiB is killed.
* {network}
* {kept}
* Programs run without privileges, see nothing of the host, and are killed with all that they have started.
{tier_lines}
"""


def explanation(outcome: Outcome, phase: Phase = "run") -> str | None:  # noqa: PLR0911 - one for each outcome
    """Say in words for a model why the program did not simply succeed."""
    who = "the compiler" if phase == "compile" else "the program"
    match outcome:
        case Exited(0):
            return None
        case Exited(code) if phase == "compile":
            return f"the program was not run: {who} exited with code {code}"
        case Exited(code):
            return f"{who} exited with code {code}"
        case Signalled(number) if number == signal.SIGSYS:
            return f"{who} was killed: it made a system call that the sandbox forbids (SIGSYS)"
        case Signalled(number):
            return f"{who} was killed by signal {signal_name(number)}"
        case OutOfMemory(limit_bytes):
            return f"{who} was killed: out of memory (the limit is {limit_bytes >> 20} MiB)"
        case TimedOut(limit_seconds):
            return f"{who} timed out after {limit_seconds:g} s"
        case OutputLimit(stream, limit_bytes):
            return f"{who} was killed: it wrote more than {limit_bytes >> 20} MiB to {stream}"
        case Cancelled():
            return "the execution was cancelled"
        case _:
            assert_never(outcome)


def signal_name(number: int) -> str:
    """Give the name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def skip_notes(result: ExecutionResult) -> list[str]:
    """Say what was not kept, and why; a long list is cut."""
    shown = [f"not kept: {skip.untrusted_name or 'files'} ({skip.reason})" for skip in result.skipped[:20]]
    more = len(result.skipped) - len(shown)
    return [*shown, f"not kept: {more} more"] if more else shown
