"""A fleet as its operator's monitoring sees it: figures of every role, and one trace through gateway and worker."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor.metrics.catalogue import FAMILIES
from tests.fleet_world import Fleet, run_fleet
from tests.otlp_receiver import Receiver, facts, run_receiver
from tests.promtool import needs_promtool, promtool

pytestmark = pytest.mark.root
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as made:
        yield made


@pytest.fixture(scope="module")
def fleet(receiver: Receiver) -> Iterator[Fleet]:
    with run_fleet(settings={"GAOLER_TRACING_URL": receiver.url, "GAOLER_TRACING_SAMPLE": "0"}) as world:
        world.start("worker", "w1")
        (gateway,) = world.start("gateway", "g1")
        world.wait_workers(gateway, 1)
        yield world


def figures(fleet: Fleet, name: str) -> dict[tuple[str, ...], float]:
    answer = fleet.members[name].internal("metrics")
    assert answer.status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_the_workers_span_lies_below_the_gateways_and_that_below_the_clients(fleet: Fleet, receiver: Receiver) -> None:
    headers = {"Content-Type": "application/json", "traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "r-9"}
    headers["tracestate"] = "congo=t61rcWkgMzE,rojo=1"
    body = b'{"lang": "py", "code": "print(1)"}'
    assert fleet.front().request("POST", "/v1/exec", body, headers).status == 200
    spans = receiver.wait(TRACE, executions=2)
    assert {each.trace_state for each in spans} == {"congo=t61rcWkgMzE,rojo=1"}
    by_door = {facts(each)["gaoler.door"]: each for each in spans if each.name == "execution"}
    gateway, worker = by_door["http"], by_door["worker"]
    assert gateway.parent_span_id.hex() == SPAN
    assert worker.parent_span_id == gateway.span_id
    assert {facts(each)["gaoler.request_id"] for each in by_door.values()} == {"r-9"}
    below = {each.name for each in spans if each.parent_span_id == worker.span_id}
    assert below == {"inputs", "admission", "cell", "code", "export"}
    assert [each.name for each in spans if each.parent_span_id == gateway.span_id and each is not worker].count(
        "admission"
    ) == 1
    who = {
        told.value.string_value
        for request in receiver.requests
        for each in request.resource_spans
        for told in each.resource.attributes
        if told.key == "service.instance.id"
    }
    assert who == {"g1", "w1"}


def test_a_program_with_tools_stays_in_its_trace_from_leg_to_leg(fleet: Fleet, receiver: Receiver) -> None:
    trace = "3" * 32
    headers = {"Content-Type": "application/json", "traceparent": f"00-{trace}-{SPAN}-01"}
    front, path = fleet.front(), "/v1/exec/programmatic"
    tool = {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}
    began = front.request("POST", path, json.dumps({"code": "print(await look())", "tools": [tool]}).encode(), headers)
    assert (began.status, began.json["status"]) == (200, "tool_call_required"), began.body
    results = [{"call_id": each["id"], "result": 7, "is_error": False} for each in began.json["tool_calls"]]
    more = {"continuation_token": began.json["continuation_token"], "tool_results": results}
    ended = front.request("POST", path, json.dumps(more).encode(), headers)
    assert (ended.status, ended.json["stdout"]) == (200, "7\n"), ended.body
    spans = [each for each in receiver.wait(trace, executions=4) if each.name == "execution"]
    assert {facts(each)["gaoler.kind"] for each in spans} == {"program"}
    assert sorted(facts(each)["gaoler.outcome"] for each in spans) == ["exited"] * 2 + ["waits_for_tools"] * 2


def test_every_role_tells_figures_of_its_own(fleet: Fleet) -> None:
    fleet.front().execute("print(1)")
    gateway, worker = figures(fleet, "g1"), figures(fleet, "w1")
    assert gateway["gaoler_workers", "ready"] == 1
    assert gateway["gaoler_worker_places", "w1"] == worker["gaoler_places",]
    assert gateway["gaoler_executions_total", "http", "python", "exited"] >= 1
    assert worker["gaoler_executions_total", "worker", "python", "exited"] >= 1
    assert worker["gaoler_pool_claims_total", "default", "python"] >= 1
    for told in (gateway, worker):
        assert told["gaoler_redis_given_up_total",] == told["gaoler_s3_given_up_total",] == 0
        assert told["gaoler_tracing_spans_total", "lost"] == 0
        names = {key[0].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for key in told}
        assert names <= set(FAMILIES), names - set(FAMILIES)


@needs_promtool
def test_prometheus_own_linter_finds_nothing_in_a_gateway(fleet: Fleet) -> None:
    text = fleet.members["g1"].internal("metrics").body.decode()
    assert promtool("check", "metrics", given=text) == (0, "")
