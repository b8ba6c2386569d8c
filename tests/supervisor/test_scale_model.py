"""The simulation of a fleet agrees with what queueing theory knows, loses no job, and names the right bottleneck."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.scale_engine import (
    ENDLESS,
    Leave,
    Load,
    Stations,
    Step,
    Take,
    Use,
    exponential,
    fixed,
    sampled,
    simulate,
)
from benchmarks.scale_model import Measured, UnlikelyMeasurement, fleet, main, measured_points, read_measured

MEASURED = {
    "executions_per_second": {"1": 72.0, "2": 74.0},
    "gateway_cpu_ms": 4.0,
    "worker_cpu_ms": 22.0,
    "redis_ops": 10.0,
    "redis_cpu_us_per_op": 12.0,
    "latency_ms_p50": 12.0,
    "cores": 2,
}


def erlang_c(servers: int, load: float) -> float:
    """Give the probability that who comes has to wait: M/M/c, ``load`` in servers."""
    terms = [load**n / math.factorial(n) for n in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_server_with_services_by_chance_is_as_slow_as_the_formula_says(load: float) -> None:
    outcome = simulate(Stations({"one": 1}), [Use("one", exponential(1.0))], Load(jobs=120_000, rate=load), seed=1)
    assert outcome.mean_latency == pytest.approx(1 / (1 - load), rel=0.06)
    assert outcome.busy["one"] == pytest.approx(load, rel=0.03)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_server_with_equal_services_is_as_slow_as_the_formula_says(load: float) -> None:
    outcome = simulate(Stations({"one": 1}), [Use("one", fixed(1.0))], Load(jobs=120_000, rate=load), seed=2)
    assert outcome.mean_latency == pytest.approx(1 + load / (2 * (1 - load)), rel=0.04)


@pytest.mark.parametrize(("servers", "load"), [(2, 1.4), (5, 4.0), (16, 13.0)])
def test_several_servers_are_as_slow_as_the_formula_says(servers: int, load: float) -> None:
    outcome = simulate(
        Stations({"some": servers}), [Use("some", exponential(1.0))], Load(jobs=120_000, rate=load), seed=3
    )
    assert outcome.mean_latency == pytest.approx(1 + erlang_c(servers, load) / (servers - load), rel=0.05)
    assert outcome.busy["some"] == pytest.approx(load / servers, rel=0.03)


def test_taking_turns_makes_latency_depend_on_the_mean_alone() -> None:
    # M/G/1 with processor sharing: 1 / (1 - load) whatever the distribution, here a skewed one.
    skewed = sampled([0.1] * 9 + [5.0], 1.0)
    stations = Stations({"one": 1}, quantum=0.05)
    outcome = simulate(stations, [Use("one", skewed)], Load(jobs=40_000, rate=0.5), seed=4)
    assert outcome.mean_latency == pytest.approx(2.0, rel=0.08)


def test_clients_that_wait_for_answers_keep_exactly_so_many_jobs_under_way() -> None:
    # Little's law: number = rate x time.
    stations = Stations({"one": 1, "delay": ENDLESS})
    way = [Use("delay", exponential(3.0)), Use("one", exponential(1.0))]
    outcome = simulate(stations, way, Load(jobs=60_000, clients=7), seed=5)
    assert outcome.rate * outcome.mean_latency == pytest.approx(7, rel=0.02)


def test_places_bound_what_is_under_way() -> None:
    stations = Stations({"delay": ENDLESS}, places=[1, 2])
    way: list[Step] = [Take(), Use("delay", fixed(1.0)), Leave()]
    outcome = simulate(stations, way, Load(jobs=3000, clients=50), seed=6)
    assert outcome.rate == pytest.approx(3.0, rel=0.01)
    assert outcome.places_busy == pytest.approx(1.0, abs=0.01)


def test_every_job_that_goes_in_comes_out() -> None:
    stations = Stations({"gate": 2, "cpu0": 1, "cpu1": 3, "delay": ENDLESS}, places=[2, 5], quantum=0.01)
    way: list[Step] = [
        Use("gate", exponential(0.01)),
        Take(),
        Use("cpu{host}", exponential(0.05)),
        Use("delay", fixed(0.02)),
        Leave(),
        Use("gate", exponential(0.01)),
    ]
    for load in (Load(jobs=5000, rate=40), Load(jobs=5000, rate=4000), Load(jobs=5000, clients=33)):
        outcome = simulate(stations, way, load, seed=7)
        assert (outcome.started, outcome.finished) == (5000, 5000)
        assert len(outcome.latencies) == 4000


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> object:
        return simulate(Stations({"one": 1}), [Use("one", exponential(1.0))], Load(jobs=500, rate=0.7), seed=seed)

    assert run(8) == run(8)
    assert run(8) != run(9)


def measured(**changes: object) -> Measured:
    return read_measured(json.dumps(MEASURED | changes).encode())


def test_points_that_were_measured_come_out_again() -> None:
    points = measured_points(measured(), seed=1)
    assert [point.workers for point in points] == [1, 2]
    assert all(0.75 <= point.ratio <= 1.25 for point in points), points


def test_a_measurement_that_its_own_costs_contradict_is_told_apart() -> None:
    points = measured_points(measured(executions_per_second={"1": 500.0}), seed=1)
    assert points[0].ratio < 0.75


@pytest.mark.parametrize(
    ("changes", "hosts", "bottleneck"),
    [
        ({}, 10, "workers"),
        ({"redis_cpu_us_per_op": 900.0}, 40, "redis"),
        ({"redis_bytes": 60_000_000.0}, 20, "network of redis"),
        ({"latency_ms_p50": 4000.0}, 5, "places"),
    ],
)
def test_the_bottleneck_is_named(changes: dict[str, object], hosts: int, bottleneck: str) -> None:
    assert fleet(measured(**changes), hosts, seed=1, jobs_per_place=12).bottleneck == bottleneck


def test_capacity_is_what_the_slowest_station_can_do() -> None:
    found = fleet(measured(), 10, seed=1, jobs_per_place=30)
    assert found.rate == pytest.approx(10 * 2 / 0.022, rel=0.06)
    assert found.rate <= found.bound * 1.03


def test_what_was_measured_is_read_strictly() -> None:
    with pytest.raises(UnlikelyMeasurement, match="redis_opps"):
        read_measured(json.dumps(MEASURED | {"redis_opps": 1}).encode())
    with pytest.raises(UnlikelyMeasurement, match="worker_cpu_ms"):
        read_measured(json.dumps(MEASURED | {"worker_cpu_ms": 0}).encode())
    with pytest.raises(UnlikelyMeasurement, match="executions_per_second"):
        read_measured(json.dumps(MEASURED | {"executions_per_second": {}}).encode())


def test_the_command_prints_the_tables_and_says_whether_the_points_agree(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(MEASURED))
    arguments = [str(file), "--hosts", "2,4", "--jobs-per-place", "5"]
    good = CliRunner().invoke(main, arguments)
    assert good.exit_code == 0, good.output
    assert "| 4 | 8 |" in good.output
    assert "workers" in good.output
    file.write_text(json.dumps(MEASURED | {"executions_per_second": {"1": 500}}))
    bad = CliRunner().invoke(main, arguments)
    assert bad.exit_code == 1
    assert "within 25 %" in bad.output
