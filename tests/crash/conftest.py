"""Prints what was killed where."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.crash.world")

from tests.crash.world import COUNTS  # noqa: E402 - after the line above


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for count in COUNTS:
        terminalreporter.write_line(count.line())
