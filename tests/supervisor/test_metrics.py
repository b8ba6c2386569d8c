"""What a monitoring system is told: the format, the names, and that the figures are true."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from supervisor.activity.activity import Activity
from supervisor.activity.totals import BOUNDS
from supervisor.admission.rates import Rate, RateLimiter
from supervisor.errors import Busy
from supervisor.execution.values import ExecutionRequest, Principal
from supervisor.metrics.catalogue import FAMILIES
from supervisor.metrics.counts import LAG_BOUNDS, CountedRates, Counts
from supervisor.metrics.sources import of_process, of_totals
from supervisor.metrics.text import Buckets, Point, as_text
from supervisor.runtimes.language_view import counted_name
from tests.daemon import Daemon, daemon_with, eventually
from tests.promtool import needs_promtool, promtool

Figures = Mapping[tuple[str, ...], float]
ANN = Principal("acme", "key", "ann")


def parsed(text: str) -> Figures:
    """Every sample by its name and the values of its labels, as Prometheus' own parser reads them."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in found, key
            found[key] = sample.value
    return found


def families(text: str) -> set[str]:
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}


def test_names_follow_the_conventions_and_no_label_tells_of_anybody() -> None:
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"(gaoler|process)_[a-z0-9_]+", name)
        assert (family.kind == "counter") == name.endswith("_total"), name
        assert not name.endswith(("_ms", "_milliseconds", "_mb", "_percent", "_count", "_sum", "_bucket")), name
        assert re.fullmatch(r"[^\n]+\.", family.help), name
        assert not {"user", "tenant", "session", "key", "credential", "file", "id", "le"} & set(family.labels), name


def test_every_number_comes_back_as_it_was_and_histograms_are_summed_up() -> None:
    text = as_text(
        [
            Point("gaoler_egress_bytes_total", 12_345_678_901_234, ("sent",)),
            Point("gaoler_execution_cpu_seconds_total", 0.1 + 0.2),
            Point("gaoler_egress_bytes_total", 0, ("received",)),
            Point("gaoler_execution_step_seconds", Buckets((0.5, 1.0), (3, 0, 2), 7.25), ("code",)),
            Point("gaoler_build_info", 1, ("0.1", 'a"b\\c\nd', "")),
        ]
    )
    found = parsed(text)
    assert found["gaoler_egress_bytes_total", "sent"] == 12_345_678_901_234
    assert found["gaoler_execution_cpu_seconds_total",] == 0.1 + 0.2
    assert found["gaoler_build_info", "0.1", 'a"b\\c\nd', ""] == 1
    name = "gaoler_execution_step_seconds"
    buckets = [found[f"{name}_bucket", "code", bound] for bound in ("0.5", "1", "+Inf")]
    assert (buckets, found[f"{name}_count", "code"], found[f"{name}_sum", "code"]) == ([3, 3, 5], 5, 7.25)
    assert text.count("# TYPE gaoler_egress_bytes_total counter") == 1
    assert text.endswith("\n")


def test_what_is_not_in_the_catalogue_cannot_be_told() -> None:
    with pytest.raises(KeyError):
        as_text([Point("gaoler_secret_total", 1)])
    with pytest.raises(ValueError, match="zip"):
        as_text([Point("gaoler_limit_hits_total", 1)])


async def test_a_language_that_nobody_knows_makes_no_new_figure() -> None:
    class Table:
        def find(self, name: str) -> None:
            return None

    activity = Activity(lambda name: counted_name(Table(), name))  # type: ignore[arg-type]
    for number in range(50):
        with pytest.raises(Busy), activity.watch(ExecutionRequest(ANN, f"made-up-{number}", "1"), "http"):
            raise Busy("no", retry_after_seconds=1.0)
    found = parsed(as_text(of_totals(activity.totals)))
    assert found["gaoler_executions_total", "http", "other", "refused"] == 50
    assert found["gaoler_execution_seconds_count",] == 0


async def test_refused_calls_are_counted_by_kind() -> None:
    counts = Counts()
    rates = CountedRates(RateLimiter({"exec": Rate(1, 60.0)}), counts)
    await rates.check(ANN, "exec")
    for _ in range(2):
        with pytest.raises(Busy):
            await rates.check(ANN, "exec")
    assert counts.rate_refusals == {"exec": 2}


async def test_a_loop_that_was_held_up_is_seen(autojump_clock: trio.testing.MockClock) -> None:
    counts = Counts()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counts.watch_loop)
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.jump(0.25 + 0.4)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    lag = counts.lag
    assert lag.counts[LAG_BOUNDS.index(0.5)] == 1
    assert lag.total == pytest.approx(0.4)


def test_the_process_is_seen_as_the_kernel_sees_it() -> None:
    found = parsed(as_text(of_process()))
    assert found["process_open_fds",] >= 3
    assert found["process_threads",] >= 1
    assert found["process_resident_memory_bytes",] > 1 << 20


STARTED = """
from supervisor.metrics.sources import of_process
print(next(each.value for each in of_process() if each.name == "process_start_time_seconds"))
"""


def test_a_process_says_when_it_began() -> None:
    before = time.time()
    done = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True, timeout=60)
    # The kernel tells of its own beginning in whole seconds.
    assert before - 2 < float(done.stdout) < time.time() + 2


# ---- a real daemon ----


@pytest.fixture(scope="module")
def watched(image_dir: Path) -> Iterator[tuple[Daemon, str]]:
    with daemon_with(image_dir, {"GAOLER_RATES_LISTING": "2/600", "GAOLER_RATES_SHARED_FACTOR": "1"}) as daemon:
        environment = {"PATH": os.environ["PATH"], "GAOLER_STATE_DIR": str(daemon.state_dir)}
        command = [sys.executable, "-m", "supervisor", "keys", "add", "operator", "--admin"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        yield daemon, done.stdout.strip()


def scrape(watched: tuple[Daemon, str]) -> str:
    daemon, admin = watched
    answer = daemon.request("GET", "/metrics", key=admin)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.body.decode()


@pytest.mark.root
def test_executions_are_told_by_door_language_and_outcome(watched: tuple[Daemon, str]) -> None:
    daemon, _ = watched
    before = parsed(scrape(watched))
    daemon.execute("print(1)")
    daemon.execute("raise SystemExit(3)")
    daemon.execute("echo hi", "bash")
    daemon.execute("while True: pass", timeout=1000)
    assert daemon.try_execute("1", "no-such-language").status == 400
    after = parsed(scrape(watched))

    def grown(*key: str) -> float:
        return after[key] - before.get(key, 0.0)

    assert grown("gaoler_executions_total", "http", "python", "exited") == 2
    assert grown("gaoler_executions_total", "http", "bash", "exited") == 1
    assert grown("gaoler_executions_total", "http", "other", "refused") == 1
    assert grown("gaoler_refusals_total", "refused", "InvalidRequest") == 1
    assert grown("gaoler_limit_hits_total", "time") == 1
    assert grown("gaoler_execution_seconds_count") == 4
    for step in ("inputs", "admission", "cell", "code", "export"):
        assert grown("gaoler_execution_step_seconds_count", step) == 4, step
    assert grown("gaoler_execution_step_seconds_sum", "code") >= 1.0
    assert grown("gaoler_execution_seconds_bucket", str(BOUNDS[-1]).removesuffix(".0")) == 4
    assert grown("gaoler_execution_output_bytes_total") >= 5
    assert sum(value for key, value in after.items() if key[0] == "gaoler_pool_claims_total") >= 4
    assert after["gaoler_pool_floor", "default", "python"] == 8
    assert after["gaoler_jailer_connected",] == 1


@pytest.mark.root
def test_all_that_is_told_is_in_the_catalogue_and_good_for_prometheus(watched: tuple[Daemon, str]) -> None:
    text = scrape(watched)
    told = families(text)
    assert told <= set(FAMILIES)
    assert {"gaoler_build_info", "gaoler_places", "gaoler_pool_cells", "process_open_fds"} <= told
    assert parsed(text)["gaoler_places",] == 8


@pytest.mark.root
@needs_promtool
def test_prometheus_own_linter_finds_nothing(watched: tuple[Daemon, str]) -> None:
    assert promtool("check", "metrics", given=scrape(watched)) == (0, "")


@pytest.mark.root
def test_strangers_and_callers_who_come_too_often_are_counted(watched: tuple[Daemon, str]) -> None:
    daemon, _ = watched
    before = parsed(scrape(watched))
    assert daemon.request("GET", "/v1/files/x", key="wrong-key-0123456789").status == 401
    statuses = [daemon.request("GET", f"/v1/files/{'x' * 21}").status for _ in range(4)]
    assert statuses.count(429) == 2
    after = parsed(scrape(watched))
    failures = "gaoler_authentication_failures_total"
    assert after[failures,] - before[failures,] == 1
    assert (
        after["gaoler_rate_refusals_total", "listing"] - before.get(("gaoler_rate_refusals_total", "listing"), 0) == 2
    )


@pytest.mark.root
def test_what_a_killed_jailer_leaves_is_counted_when_it_is_removed(watched: tuple[Daemon, str]) -> None:
    daemon, _ = watched
    # Nothing is left of cells that were not there yet.
    eventually(lambda: parsed(scrape(watched)).get(("gaoler_pool_cells", "default", "python"), 0) > 0)
    assert parsed(scrape(watched))["gaoler_reconciled_total", "cgroup"] == 0
    os.kill(daemon.named("gaoler-jailer"), signal.SIGKILL)
    eventually(lambda: parsed(scrape(watched))["gaoler_reconciled_total", "cgroup"] > 0)
    daemon.execute("print(1)")
