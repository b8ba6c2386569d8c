"""Run cases one after the other and say what came of each. What is not held is never counted as held."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from supervisor.attack.case import GROUPS, Broken, Case, Place, Untried
from supervisor.attack.target import Target

CASE_SECONDS: Final = 300.0
FORGET_SECONDS: Final = 10.0
"""For an attack that is ended to forget what the case at hand has left."""
MAX_DETAIL: Final = 2000
Verdict = Literal["held", "broken", "untried"]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one case. ``detail``: what was seen, or why it was not tried."""

    case: Case
    verdict: Verdict
    detail: str
    seconds: float


@dataclass(slots=True)
class Run:
    """All results so far."""

    results: list[Result] = field(default_factory=list)

    def count(self, verdict: Verdict, group: str | None = None) -> int:
        """Count the results of a kind."""
        return sum(
            1 for each in self.results if each.verdict == verdict and (group is None or each.case.group == group)
        )

    def of(self, verdict: Verdict) -> list[Result]:
        """Give the results of a kind."""
        return [each for each in self.results if each.verdict == verdict]


Watcher = Callable[[Result], None]


async def attack_one(case: Case, target: Target) -> Result:
    """Try one case; whatever it raises is a verdict. Only a cancellation from outside ends the suite."""
    started = time.monotonic()
    verdict: Verdict
    try:
        with trio.move_on_after(CASE_SECONDS) as patience:
            seen = await case.attack(target)
        if patience.cancelled_caught:
            verdict, detail = "broken", f"it did not come to an end within {CASE_SECONDS:.0f} s"
        else:
            verdict, detail = "held", seen or ""
    except BaseException as error:  # noqa: BLE001 - sorted out below; what is neither verdict nor fault goes on
        verdict, detail = _verdict(error)
    return Result(case, verdict, _shown(detail), time.monotonic() - started)


def _shown(untrusted_detail: str) -> str:
    """Make fit for a terminal, and for any encoding, what sandboxes and servers have said: bounded, nothing hidden."""
    text = " ".join(untrusted_detail[:MAX_DETAIL].split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _verdict(error: BaseException) -> tuple[Verdict, str]:
    """Read a verdict out of what was raised, in a group perhaps: one that is broken outweighs the rest."""
    leaves = list(_leaves(error))
    for each in leaves:
        if not isinstance(each, Exception):
            raise error
    broken = [each for each in leaves if isinstance(each, Broken)]
    if broken:
        return "broken", str(broken[0])
    if leaves and all(isinstance(each, Untried) for each in leaves):
        return "untried", str(leaves[0])
    first = next(each for each in leaves if not isinstance(each, Untried))
    return "broken", f"the attack could not be brought to its end: {type(first).__name__}: {first}"


def _leaves(error: BaseException) -> Iterable[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def chosen(cases: Sequence[Case], wanted: Sequence[str]) -> list[Case]:
    """Give the cases of these groups or claims (``K``, ``R4``, ``FS-ROOT``); all if none is named.

    Raises:
        ValueError: there is nothing of that name; the message says what there is.
    """
    if not wanted:
        return list(cases)
    found: list[Case] = []
    for name in wanted:
        upper = name.upper()
        some = [case for case in cases if upper in (case.id, case.group)]
        if not some:
            groups = ", ".join(f"{letter} ({words})" for letter, words in GROUPS.items())
            raise ValueError(f"no attack is called {name!r}; there are the groups {groups}, and the ids of SECURITY.md")
        found += [case for case in some if case not in found]
    return found


async def attack_all(cases: Sequence[Case], target: Target, run: Run, watch: Watcher) -> None:
    """Try the cases in order, each as a user of its own, and forget afterwards what they have left with the daemon."""
    for case in cases:
        target.user = f"attack-{len(run.results)}"
        patience = FORGET_SECONDS
        try:
            result = await attack_one(case, target)
            run.results.append(result)
            watch(result)
            patience = CASE_SECONDS
        finally:
            with trio.move_on_after(patience, shield=patience < CASE_SECONDS):
                try:
                    await target.forget()
                except Broken:  # the next case will say so
                    target.sessions.clear()


def untried(cases: Sequence[Case], run: Run, watch: Watcher, why: str) -> None:
    """Note that none of these can be tried, and why."""
    for case in cases:
        run.results.append(Result(case, "untried", why, 0.0))
        watch(run.results[-1])


def at(place: Place, cases: Sequence[Case]) -> list[Case]:
    """Give the cases that are tried at ``place``."""
    return [case for case in cases if case.place == place]
