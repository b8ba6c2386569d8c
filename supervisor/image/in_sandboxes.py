"""Trying an image in real sandboxes, with a jailer of its own that ends with the trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from supervisor import oneshot
from supervisor.image.trial import Answer, Attempt
from supervisor.settings.tree import Settings

_SHOWN: Final = 400
"""Characters of an output that a message has at most."""


def try_all(settings: Settings, directory: Path, attempts: Sequence[Attempt]) -> list[Answer]:
    """Try programs by these settings, one after the other, with the current image of ``directory``. Needs root.

    Raises:
        GaolerError: sandboxes cannot be made here.
    """
    cells = msgspec.structs.replace(settings.cells, floor=0, bare_floor=1)
    # An image is tried for what is in it, and a virtual machine has no more of that.
    microvm = msgspec.structs.replace(settings.microvm, languages="", tenants="")
    there = msgspec.structs.replace(settings, image_dir=str(directory), cells=cells, microvm=microvm)
    works = [oneshot.Work(each.language, each.code, (), (), None) for each in attempts]
    reports = oneshot.execute_all(there, works, keep=False)
    return [_answer(attempt, report) for attempt, report in zip(attempts, reports, strict=True)]


def _answer(attempt: Attempt, report: oneshot.Report) -> Answer:
    if report.status == 0 and attempt.expected in {None, report.stdout}:
        return Answer(report.stdout, "")
    told = f"printed {report.stdout[-_SHOWN:]!a}" if report.status == 0 else f"ended with status {report.status}"
    said = f"{report.note or ''} {report.stderr[-_SHOWN:]}".strip()
    return Answer(report.stdout, f"{told}: {said}" if said else told)
