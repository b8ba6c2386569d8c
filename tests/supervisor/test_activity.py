"""The table of executions: what an operator sees of them, how one is ended, what is never in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio
import trio.testing

from supervisor.activity.activity import FOLLOWED, Activity
from supervisor.activity.timeline import steps
from supervisor.activity.totals import BOUNDS, Totals
from supervisor.activity.watched import WatchedExecutor
from supervisor.errors import Busy, SandboxFailed
from supervisor.execution.request_context import begin_request, current_request
from supervisor.execution.values import (
    Cancelled,
    CapturedOutput,
    ExecutionRequest,
    ExecutionResult,
    Exited,
    Listener,
    Outcome,
    Principal,
    SessionId,
    TimedOut,
    Usage,
    new_id,
)

CODE = "print('a secret that nobody logs')"
REQUEST = ExecutionRequest(Principal("acme", "key", "ann"), "python", CODE)


DONE = Exited(0)


def result(outcome: Outcome = DONE, output: bytes = b"") -> ExecutionResult:
    usage = Usage(0.5, 0.25, 1 << 20)
    return ExecutionResult(SessionId(new_id()), outcome, CapturedOutput(output), CapturedOutput(), usage)


class Inner:
    """Does what it was told for one execution after the other."""

    def __init__(self, work: Callable[[], Awaitable[ExecutionResult]]) -> None:
        self.work = work

    async def execute(
        self,
        request: ExecutionRequest,
        listener: Listener | None = None,
        on_admitted: Callable[[], None] | None = None,
    ) -> ExecutionResult:
        if on_admitted is not None:
            on_admitted()
        return await self.work()


def watched(activity: Activity, work: Callable[[], Awaitable[ExecutionResult]]) -> WatchedExecutor:
    return WatchedExecutor(Inner(work), activity, "http")


async def test_an_execution_is_in_the_table_while_it_runs_and_in_the_history_afterwards(
    autojump_clock: trio.testing.MockClock,
) -> None:
    activity, seen = Activity(), []

    async def work() -> ExecutionResult:
        await trio.sleep(2)
        steps().passed("cell")
        await trio.sleep(3)
        steps().passed("code")
        (running,) = activity.running()
        seen.append((running.state, running.seconds, running.language, running.user))
        return result(TimedOut(3.0), b"12345")

    begin_request("client-7")
    await watched(activity, work).execute(REQUEST)
    assert seen == [("running", 5.0, "python", "ann")]
    assert activity.running() == []
    (record,) = activity.recent()
    assert (record.outcome, record.detail, record.seconds, record.state) == ("timed_out", "3", 5.0, "ended")
    assert record.spent == {"cell": 2.0, "code": 3.0}
    assert (record.output_bytes, record.cpu_seconds, record.memory_peak_bytes) == (5, 0.25, 1 << 20)
    assert (record.request_id, record.tenant, record.credential, record.door) == ("client-7", "acme", "key", "http")
    assert b"secret" not in msgspec.json.encode(record)


async def test_what_was_refused_and_what_failed_are_told_apart_and_raised() -> None:
    activity = Activity()

    async def refuse() -> ExecutionResult:
        raise Busy("no place", retry_after_seconds=1.0)

    async def fail() -> ExecutionResult:
        raise SandboxFailed("gone")

    async def fault() -> ExecutionResult:
        raise RuntimeError

    for work, error in ((refuse, Busy), (fail, SandboxFailed), (fault, RuntimeError)):
        with pytest.raises(error):
            await watched(activity, work).execute(REQUEST)
    ended = [(each.outcome, each.detail) for each in activity.recent()]
    assert ended == [("failed", ""), ("failed", "SandboxFailed"), ("refused", "Busy")]
    # What was refused took no time of anything.
    assert activity.totals.steps["whole"].latest.maxlen
    assert len(activity.totals.steps["whole"].latest) == 2


async def test_an_operator_ends_one_execution_and_its_caller_is_told_in_words() -> None:
    activity, answers, cleaned = Activity(), [], []

    async def work() -> ExecutionResult:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(True)
        raise AssertionError

    async def call() -> None:
        answers.append(await watched(activity, work).execute(REQUEST))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        (running,) = activity.running()
        assert not activity.stop(new_id(), "root")
        assert activity.stop(running.id, "root")
    assert cleaned == [True]
    assert answers[0].outcome == Cancelled()
    assert "operator" in answers[0].notes[0]
    assert [(each.outcome, each.detail) for each in activity.recent()] == [("stopped", "root")]
    assert not activity.stop(running.id, "root")


async def test_a_caller_that_goes_away_is_none_that_was_stopped() -> None:
    activity = Activity()
    with trio.CancelScope() as scope:

        async def work() -> ExecutionResult:
            scope.cancel()
            await trio.sleep_forever()
            raise AssertionError

        await watched(activity, work).execute(REQUEST)
    assert [each.outcome for each in activity.recent()] == ["cancelled"]


async def test_who_follows_slowly_misses_events_and_is_told_how_many() -> None:
    activity = Activity()

    async def work() -> ExecutionResult:
        return result()

    with activity.follow() as slow:
        for _ in range(FOLLOWED):
            await watched(activity, work).execute(REQUEST)
        events = [slow.receive_nowait() for _ in range(FOLLOWED)]
        assert [each.kind for each in events[:3]] == ["began", "runs", "ended"]
        await watched(activity, work).execute(REQUEST)
        assert slow.receive_nowait().missed == 2 * FOLLOWED
    await watched(activity, work).execute(REQUEST)


async def test_a_request_is_named_by_its_caller_if_the_name_can_be_one() -> None:
    assert begin_request("abc.DEF-1_2", "00-trace").request_id == "abc.DEF-1_2"
    for wrong in (None, "", "a b", "x" * 129, "a\nb", "ä"):
        made = begin_request(wrong)
        assert made.request_id != wrong
        assert len(made.request_id) == 21
        assert current_request() == made


def test_the_histograms_count_each_duration_once_and_percentiles_are_exact() -> None:
    totals = Totals()
    durations = [*BOUNDS, 1000.0]
    for seconds in durations:
        totals.steps["code"].add(seconds)
    assert totals.steps["code"].counts == [1] * (len(BOUNDS) + 1)
    latency = totals.latencies()["code"]
    assert (latency.count, latency.p50) == (len(durations), sorted(durations)[8])
    assert "cell" not in totals.latencies()
