"""What every step of a build shares: how programs are run, and what their failure looks like."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

Runner = Callable[[Sequence[str], Callable[[str], None]], None]
"""Runs a program and gives every line of its output to the second argument."""

_KEPT_LINES: Final = 15


class ImageError(Exception):
    """The image cannot be built; the message says why and what to do next."""


def run_program(arguments: Sequence[str], on_line: Callable[[str], None]) -> None:
    """Run a step; its output goes line by line to ``on_line``.

    Raises:
        ImageError: it failed; with the end of its output.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    lines: list[str] = []
    try:
        with subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                lines = [*lines[1 - _KEPT_LINES :], line.rstrip()]
                on_line(line)
    except FileNotFoundError:
        raise ImageError(f"{arguments[0]} is not installed") from None
    if process.returncode:
        tail = "\n    ".join(lines)
        raise ImageError(
            f"{' '.join(arguments[:4])} ... failed with status {process.returncode}:\n    {tail}\n"
            "Run the build again: it resumes."
        )


def advance_on(word: str, advance: Callable[[str], None]) -> Callable[[str], None]:
    """Give what sees lines of a program, and advances with each that begins with ``word``."""

    def see(line: str) -> None:
        if line.startswith(word):
            advance(line.removeprefix(word).strip().partition("==")[0])

    return see


def ignore(_line: str) -> None:
    """See a line, and do nothing."""
