"""The log stays usable whatever is provoked."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import pytest

from supervisor.logs.limit import MESSAGE_CHARACTERS, TRACEBACK_CHARACTERS, TROUBLE, LogLimit
from tests.daemon import Daemon


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said(clock: Clock) -> Iterator[tuple[logging.Logger, Callable[[], list[str]]]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(LogLimit(clock))
    logger = logging.Logger("gaoler.test")  # noqa: LOG001 - not in the tree, so no other handler hears it
    logger.addHandler(handler)
    yield logger, lambda: stream.getvalue().splitlines()
    handler.close()


Said = tuple[logging.Logger, Callable[[], list[str]]]


def test_a_flood_of_one_kind_is_cut_and_counted_and_others_pass(said: Said, clock: Clock) -> None:
    log, lines = said
    for number in range(1000):
        log.error("jail lost number=%d", number)
    log.warning("something else")
    burst = int(TROUBLE.burst)
    assert lines() == [*(f"jail lost number={number}" for number in range(burst)), "something else"]
    for _ in range(3):
        clock.now += 1000 / TROUBLE.per_second
        for number in range(2):
            log.error("later number=%d", number)
    assert lines()[burst + 1 :] == ["later number=0", "later number=1"] * 3


def test_what_was_left_out_is_told_with_the_next_of_its_kind(said: Said, clock: Clock) -> None:
    log, lines = said

    def tell(number: int) -> None:
        log.error("number=%d 100%%", number)

    for number in range(int(TROUBLE.burst) + 7):
        tell(number)
    clock.now += 1
    tell(0)
    assert lines()[-1] == "number=0 100% [7 more of this kind were left out]"


def test_a_line_is_one_line_of_bounded_length_without_controls(said: Said) -> None:
    log, lines = said
    log.warning("reason=%s", "a\nERROR forged\x1b[2J\u202e")
    log.warning("reason=%s", "x" * 100_000)
    assert lines()[0] == "reason=a\\nERROR forged\\x1b[2J\\u202e"
    assert len(lines()[1]) <= MESSAGE_CHARACTERS + 10
    assert len(lines()) == 2


def test_a_traceback_is_bounded(said: Said) -> None:
    log, lines = said
    try:
        raise ExceptionGroup("many", [ValueError("y" * 1000) for _ in range(100)])
    except ExceptionGroup:
        log.exception("failed")
    assert sum(map(len, lines())) < TRACEBACK_CHARACTERS + 1000


@pytest.mark.root
def test_a_client_that_provokes_lines_by_the_thousand_does_not_fill_the_log(daemon: Daemon) -> None:
    """The method is the client's own text, and stands in the line of each request."""
    before = len(daemon.lines())
    connection = daemon.connection()
    for _ in range(3):
        connection.putrequest("X" * 20_000, "/v1/health", skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        response.read()
        connection.close()
    fresh = daemon.lines()[before:]
    assert fresh
    assert max(map(len, fresh)) < MESSAGE_CHARACTERS + 200
