"""Traces: what is told of an execution, below whose span, and what becomes of it when nobody takes it."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import cast

import msgspec
import pytest
import trio
import trustme
from hypothesis import example, given
from hypothesis import strategies as st
from mcp_types import RequestParamsMeta
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from supervisor.activity.activity import Activity
from supervisor.activity.timeline import STEPS, steps
from supervisor.activity.watched import WatchedExecutor
from supervisor.connector.dialling import dial_directly
from supervisor.connector.named_places import named_places
from supervisor.errors import Busy, ConfigurationError, SandboxFailed
from supervisor.execution.request_context import begin_request, current_request, trace_headers
from supervisor.execution.values import (
    CapturedOutput,
    ExecutionRequest,
    ExecutionResult,
    Exited,
    Listener,
    Principal,
    SessionId,
    Usage,
)
from supervisor.fleet.messages import Origin
from supervisor.settings.fleet import RedisSettings, S3Settings
from supervisor.settings.loading import load
from supervisor.settings.tracing import TracingSettings
from supervisor.tracing import exporter
from supervisor.tracing.exporter import open_tracing
from supervisor.tracing.trace_context import MAX_MEMBERS, MAX_STATE, place_below, read_traceparent, read_tracestate
from supervisor.tracing.tracer import QUEUE, Tracer
from tests.daemon import Daemon, daemon_with, eventually
from tests.mcp import connected
from tests.otlp_receiver import Receiver, facts, run_receiver, say, whole

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
SESSION = SessionId("s" * 21)
REQUEST = ExecutionRequest(Principal("acme", "key-of-acme", "ann@example.org"), "python", "print('only for ann')")


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (PARENT, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
    ],
)
def test_a_place_of_the_standard_is_read(text: str, sampled: bool) -> None:
    place = read_traceparent(text)
    assert place is not None
    assert (place.trace, place.span, place.sampled) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.",
        f" {PARENT}",
        f"{PARENT}\n",
        "00-" + "g" * 32 + f"-{SPAN}-01",
    ],
)
def test_what_breaks_the_standard_counts_as_none_and_a_trace_of_our_own_begins(text: str) -> None:
    assert read_traceparent(text) is None
    root = place_below(text, 1.0)
    assert (root.parent, root.sampled) == ("", True)
    assert re.fullmatch(r"[0-9a-f]{32}", root.trace)


def test_the_ratio_is_for_roots_and_a_client_decides_for_its_own() -> None:
    assert not any(place_below("", 0.0).sampled for _ in range(100))
    assert all(place_below("", 1.0).sampled for _ in range(100))
    assert 300 < sum(place_below("", 0.5).sampled for _ in range(1000)) < 700
    below = place_below(PARENT, 0.0)
    assert (below.trace, below.parent, below.sampled) == (TRACE, SPAN, True)
    assert below.traceparent == f"00-{TRACE}-{below.span}-01"
    assert place_below(f"00-{TRACE}-{SPAN}-00", 1.0).traceparent.endswith("-00")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", ""),
        (STATE, STATE),
        ("a=b , \tc=d", "a=b,c=d"),
        ("a=b,,c=d,", "a=b,c=d"),
        ("fw529a3039@dt=FfD_,0t@a=x y-z", "fw529a3039@dt=FfD_,0t@a=x y-z"),
        ("a= b", "a= b"),
        (f"{'k' * 256}={'v' * 255}", f"{'k' * 256}={'v' * 255}"),
        (f"a={'v' * 256}", f"a={'v' * 256}"),
        (",".join(f"k{n}=v" for n in range(MAX_MEMBERS)), ",".join(f"k{n}=v" for n in range(MAX_MEMBERS))),
    ],
)
def test_what_a_trace_carries_is_read(text: str, read: str) -> None:
    assert read_tracestate(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a=",
        "=b",
        "a=b\x00",
        "A=b",
        "1=b",
        "a =b",
        "a=b\r\nX-Evil: 1",
        "a=\x1b[31m",
        "a=b,\ud800=c",
        "a=é",
        "a=b,a=c",
        "a@b@c=d",
        f"{'k' * 257}=v",
        f"a={'v' * 257}",
        f"a@{'s' * 15}=v",
        f"{'t' * 242}@s=v",
        ",".join(f"k{n}=v" for n in range(MAX_MEMBERS + 1)),
        "," * MAX_MEMBERS,
        f"{STATE},{'x' * MAX_STATE}=1",
        "a=b" + " " * MAX_STATE,
        STATE + "\xa0",
    ],
)
def test_what_breaks_the_grammar_is_dropped_whole(text: str) -> None:
    assert read_tracestate(text) == ""
    assert read_tracestate(f"good=1,{text}") == ""


KEYS = st.one_of(
    st.from_regex(r"\A[a-z][a-z0-9_*/-]{0,20}\Z"),
    st.from_regex(r"\A[a-z0-9][a-z0-9_*/-]{0,9}@[a-z][a-z0-9_*/-]{0,13}\Z"),
)
VALUES = st.text([chr(each) for each in range(0x20, 0x7F) if chr(each) not in ",="], max_size=8).map(lambda v: f"{v}!")


@given(st.dictionaries(KEYS, VALUES, max_size=MAX_MEMBERS), st.sampled_from(["", " ", "\t ", " ,"]))
def test_what_the_grammar_makes_is_passed_on_in_its_order_or_is_too_long(members: dict[str, str], gap: str) -> None:
    said = f"{gap},{gap}".join(f"{key}={value}" for key, value in members.items())
    fits = len(said) <= MAX_STATE and said.count(",") < MAX_MEMBERS
    assert read_tracestate(said) == (",".join(f"{key}={value}" for key, value in members.items()) if fits else "")


@given(st.one_of(st.text(max_size=600), st.text(["a", "1", "@", "=", ",", " ", "\t", "\n", "\x7f", "é"], max_size=40)))
@example("a=b\n")
@example("a=b,\n")
def test_whatever_comes_nothing_leaves_that_the_grammar_does_not_make(text: str) -> None:
    read = read_tracestate(text)
    assert len(read) <= MAX_STATE
    assert read == read_tracestate(read)
    members = read.split(",") if read else []
    assert len(members) <= MAX_MEMBERS
    keys = [each.partition("=")[0] for each in members]
    assert len(keys) == len(set(keys))
    for member in members:
        key, equals, value = member.partition("=")
        assert equals
        assert value
        assert all(" " <= each <= "~" for each in value)
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-*/@")
        assert key.count("@") <= 1
    # It goes to workers in a message, whose limits it has to keep.
    assert begin_request("r", PARENT, text).tracestate == Origin("r", PARENT, read).tracestate


@given(st.text(st.characters(), max_size=300))
@example("\ud800")
@example(f"cc-{TRACE}-{SPAN}-01-\x1b[31m")
def test_a_place_is_in_records_and_messages_and_can_always_be_written_there(text: str) -> None:
    place = begin_request("r", text, text).traceparent
    assert msgspec.json.decode(msgspec.json.encode(Origin("r", place)), type=Origin) == Origin("r", place)
    assert place.isprintable()


def test_what_a_trace_carries_goes_with_its_place_and_never_without() -> None:
    assert place_below(PARENT, 0.0, STATE).state == STATE
    assert place_below("nonsense", 1.0, STATE).state == ""


def test_a_receiver_is_dialled_where_the_settings_say_and_nowhere_else() -> None:
    allowed = named_places(RedisSettings(), S3Settings(), "https://Spans.example.org/otlp")
    assert allowed.places == {("spans.example.org", 443)}
    assert named_places(RedisSettings(), S3Settings(), "http://[::1]:4318").places == {("::1", 4318)}
    with pytest.raises(ConfigurationError, match="port") as refused:
        named_places(RedisSettings(), S3Settings(), "http://spans:99999")
    assert refused.value.field == "tracing.url"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", "spans:4318"),
        ("url", "https://user:password@spans"),
        ("url", "https://spans/?token=1"),
        ("sample", 1.5),
        ("headers", "no value"),
        ("headers", "a=b\r\nHost: c"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_no_secret_is_repeated(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(file=None, environment={}, flags={f"tracing.{key}": value})
    assert refused.value.field == f"tracing.{key}"
    assert key != "headers" or str(value) not in refused.value.message


# ---- executions and a real receiver ----


class Inner:
    """Takes two steps, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[str] = []
        self.states: list[str] = []

    async def execute(
        self, request: ExecutionRequest, listener: Listener | None = None, on_admitted: object = None
    ) -> ExecutionResult:
        context = current_request()
        self.seen.append("" if context is None else context.traceparent)
        self.states.append("" if context is None else context.tracestate)
        steps().passed("admission")
        await trio.lowlevel.checkpoint()
        steps().passed("code")
        if self.error is not None:
            raise self.error
        usage = Usage(0.5, 0.25, 1 << 20)
        return ExecutionResult(SESSION, Exited(3), CapturedOutput(b"12345"), CapturedOutput(), usage, tier="nsjail")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # How much goes in the time at the end says something about who else works on the machine.
    monkeypatch.setattr(exporter, "LAST_SECONDS", 60.0)
    monkeypatch.setattr(exporter, "LINGER_SECONDS", 0.01)
    monkeypatch.setattr(exporter, "PAUSES", (0.01, 0.01, 0.01))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as made:
        yield made


@asynccontextmanager
async def tracing(url: str, **settings: object) -> AsyncIterator[Tracer]:
    given = TracingSettings(url=url, **settings)  # type: ignore[arg-type]
    async with open_tracing(given, dial_directly, name="host-1", role="all") as tracer:
        yield tracer


async def settled(condition: Callable[[], bool]) -> None:
    """Wait for what the exporter's thread will have done."""
    await trio.to_thread.run_sync(eventually, condition)


async def judged(tracer: Tracer, spans: int) -> None:
    """Wait until so many were taken or refused: who is cut off while they are on their way sends them a second time."""
    await settled(lambda: tracer.spans["sent"] + tracer.spans["lost"] >= spans)


async def execute(tracer: Tracer, inner: Inner, traceparent: str = PARENT, tracestate: str = STATE) -> None:
    begin_request("client-7", traceparent, tracestate)
    await WatchedExecutor(inner, Activity(tracer=tracer), "http").execute(REQUEST)


async def test_an_execution_is_told_with_its_steps_below_its_clients_span(quick: None, receiver: Receiver) -> None:
    inner = Inner()
    async with tracing(receiver.url, headers="Authorization=Bearer abc,x-scope=1") as tracer:
        began = time.monotonic_ns()
        await execute(tracer, inner)
        took = time.monotonic_ns() - began
        await judged(tracer, 3)
    span = whole(receiver.spans)
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.kind) == (TRACE, SPAN, Span.SPAN_KIND_SERVER)
    assert inner.seen == [f"00-{TRACE}-{span.span_id.hex()}-01"]
    assert inner.states == [STATE]
    assert {each.trace_state for each in receiver.spans} == {STATE}
    assert facts(span) == {
        "gaoler.door": "http",
        "gaoler.kind": "code",
        "gaoler.language": "python",
        "gaoler.outcome": "exited",
        "gaoler.detail": "3",
        "gaoler.request_id": "client-7",
        "gaoler.session_hash": facts(span)["gaoler.session_hash"],
        "gaoler.tier": "nsjail",
        "gaoler.cpu_seconds": 0.25,
        "gaoler.memory_peak_bytes": 1 << 20,
        "gaoler.output_bytes": 5,
        "gaoler.files": 0,
    }
    below = [each for each in receiver.spans if each is not span and each.name != "execution"]
    assert [each.name for each in below] == ["admission", "code"]
    assert {each.parent_span_id for each in below} == {span.span_id}
    assert len({each.span_id for each in receiver.spans}) == 3
    times = [span.start_time_unix_nano, below[0].start_time_unix_nano, below[0].end_time_unix_nano]
    times += [below[1].start_time_unix_nano, below[1].end_time_unix_nano, span.end_time_unix_nano]
    # The clock of the day and that of the steps are two, and between looks at them goes some of the time that it took.
    assert all(later - earlier > -max(5_000_000, took) for earlier, later in pairwise(times)), times
    resource = receiver.requests[0].resource_spans[0].resource
    told = {each.key: each.value.string_value for each in resource.attributes}
    assert told["service.name"] == "gaoler"
    assert (told["service.instance.id"], told["gaoler.role"]) == ("host-1", "all")
    head = receiver.heads[0]
    assert (head["authorization"], head["x-scope"]) == ("Bearer abc", "1")
    assert head["content-type"] == "application/x-protobuf"
    assert tracer.spans["sent"] == 3


async def test_nothing_is_told_of_who_it_was_and_what_ran(quick: None, receiver: Receiver) -> None:
    async with tracing(receiver.url) as tracer:
        await execute(tracer, Inner())
        await judged(tracer, 3)
    for secret in (b"only for ann", b"ann@", b"key-of-acme", b"acme", SESSION.encode(), b"12345"):
        assert secret not in receiver.bodies[0], secret


async def test_what_a_broken_place_carries_is_told_to_nobody(quick: None, receiver: Receiver) -> None:
    inner = Inner()
    async with tracing(receiver.url) as tracer:
        await execute(tracer, inner, "nonsense")
        await execute(tracer, inner, PARENT, f"{STATE},\x1b]0;title\x07=1")
        await judged(tracer, 6)
    assert inner.states == ["", ""]
    assert {each.trace_state for each in receiver.spans} == {""}


async def test_what_a_client_does_not_keep_is_not_told_but_its_place_is_passed_on(receiver: Receiver) -> None:
    inner = Inner()
    async with tracing(receiver.url) as tracer:
        await execute(tracer, inner, f"00-{TRACE}-{SPAN}-00")
    assert receiver.bodies == []
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-00", inner.seen[0])


async def test_the_place_holds_for_one_execution_and_not_for_what_comes_after(receiver: Receiver) -> None:
    inner = Inner()
    async with tracing(receiver.url) as tracer:
        await execute(tracer, inner)
        context = current_request()
        assert context is not None
        assert context.traceparent == PARENT
    async with tracing(receiver.url, sample=0.0):
        await WatchedExecutor(inner, Activity(), "http").execute(REQUEST)
    assert inner.seen[1] == PARENT


async def test_our_own_fault_is_an_error_and_a_refusal_is_none(quick: None, receiver: Receiver) -> None:
    async with tracing(receiver.url) as tracer:
        for error in (SandboxFailed("it broke"), Busy("full", retry_after_seconds=1.0)):
            with pytest.raises(type(error)):
                await execute(tracer, Inner(error))
        await judged(tracer, 6)
    failed, refused = [each for each in receiver.spans if each.name == "execution"]
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "SandboxFailed")
    assert (refused.status.code, facts(refused)["gaoler.outcome"]) == (Status.STATUS_CODE_UNSET, "refused")


# ---- receivers that do not take it ----


async def test_one_that_cannot_now_is_asked_again_and_sees_the_same_spans(quick: None, receiver: Receiver) -> None:
    receiver.answers = [lambda handler: say(handler, 503, Retry_After="0"), lambda handler: say(handler, 429)]
    async with tracing(receiver.url) as tracer:
        await execute(tracer, Inner())
        await settled(lambda: bool(tracer.exports["taken"]))
    assert (dict(tracer.exports), dict(tracer.spans)) == (
        {"taken": 1, "refused": 0, "failed": 2},
        {"sent": 3, "dropped": 0, "lost": 0},
    )
    assert len(receiver.bodies) == 3
    assert len({each.span_id for each in receiver.spans}) == 3


async def test_one_that_refuses_is_not_asked_again_and_a_redirection_is_not_followed(
    quick: None, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with run_receiver() as elsewhere:
        receiver.answers = [
            lambda handler: say(handler, 500),
            lambda handler: say(handler, 307, Location=elsewhere.url),
        ]
        async with tracing(receiver.url, headers="Authorization=Bearer abc") as tracer:
            for number in (1, 2):
                await execute(tracer, Inner())
                await settled(lambda number=number: tracer.exports["refused"] >= number)  # type: ignore[misc]
        assert elsewhere.bodies == []
    assert (len(receiver.bodies), tracer.spans["lost"]) == (2, 6)
    told = [each.message for each in caplog.records if "spans are not taken" in each.message]
    assert len(told) == 1
    assert "abc" not in caplog.text


async def test_one_that_takes_a_part_is_believed(quick: None, receiver: Receiver) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
    answer = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    receiver.answers = [lambda handler: say(handler, 200, answer)]
    async with tracing(receiver.url) as tracer:
        await execute(tracer, Inner())
        await judged(tracer, 3)
    assert (tracer.spans["sent"], tracer.spans["lost"]) == (1, 2)


def never_ending(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(64):
        handler.wfile.write(b"x" * 16_384)


def no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-nothing of that\r\n\r\n")


def drop_by_drop(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    over = threading.Event()
    for _ in range(400):
        handler.wfile.write(b"x")
        if over.wait(0.02):
            break


@pytest.mark.parametrize("answer", [never_ending, no_http, drop_by_drop])
async def test_one_that_answers_nonsense_has_its_time_and_no_more(
    quick: None, receiver: Receiver, answer: object
) -> None:
    receiver.answers = [answer] * 4  # type: ignore[list-item]
    async with tracing(receiver.url, seconds=0.3) as tracer:
        await execute(tracer, Inner())
        await settled(lambda: bool(tracer.spans["lost"]))
    assert dict(tracer.exports) == {"taken": 0, "refused": 0, "failed": 4}


async def test_a_dead_one_costs_the_spans_and_nothing_else(quick: None) -> None:
    # Held, and not listened at: nobody else can get the port meanwhile.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with tracing(f"http://127.0.0.1:{nobody.getsockname()[1]}") as tracer:
            await execute(tracer, Inner())
            await settled(lambda: bool(tracer.spans["lost"]))
    assert (tracer.spans["lost"], tracer.exports["failed"]) == (3, 4)


async def test_nobody_waits_for_a_slow_one_and_what_is_too_much_is_dropped_and_counted(
    quick: None, receiver: Receiver
) -> None:
    go = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        go.wait(30)
        say(handler, 200)

    receiver.answers = [slow]
    try:
        async with tracing(receiver.url, seconds=60.0) as tracer:
            await execute(tracer, Inner())
            await settled(lambda: bool(receiver.bodies))
            for _ in range(QUEUE + 10):
                await execute(tracer, Inner())
            assert (tracer.waiting, tracer.spans["dropped"]) == (QUEUE, 30)
            go.set()
    finally:
        go.set()
    assert tracer.spans["sent"] == 3 * (QUEUE + 1)
    assert tracer.spans["lost"] == 0


async def test_a_server_that_nobody_vouches_for_gets_nothing(quick: None, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    trusted = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(trusted)
    with run_receiver(context) as receiver:
        async with tracing(receiver.url, ca=str(trusted)) as tracer:
            await execute(tracer, Inner())
            await settled(lambda: bool(tracer.spans["lost"]))
        assert receiver.bodies == []


# ---- a real daemon, whose only way out is the connector ----


@pytest.fixture(scope="module")
def traced(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Receiver]]:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    with run_receiver(context) as receiver:
        settings = {
            "GAOLER_TRACING_URL": receiver.url,
            "GAOLER_TRACING_CA": str(trusted),
            "GAOLER_TRACING_HEADERS": "Authorization=Bearer a-token-for-the-receiver",
            "GAOLER_TRACING_SAMPLE": "0",
        }
        with daemon_with(image_dir, settings) as daemon:
            yield daemon, receiver


@pytest.mark.root
def test_a_daemon_tells_of_an_execution_over_tls_by_its_connector(traced: tuple[Daemon, Receiver]) -> None:
    daemon, receiver = traced
    headers = {"Content-Type": "application/json", "traceparent": PARENT, "X-Request-Id": "r-1", "tracestate": STATE}
    body = b'{"lang": "py", "code": "print(1)"}'
    assert daemon.request("POST", "/v1/exec", body, headers).status == 200
    daemon.execute("print('below the ratio, which is none')")
    found = receiver.wait(TRACE)
    span = whole(found)
    assert span.parent_span_id.hex() == SPAN
    assert (facts(span)["gaoler.language"], facts(span)["gaoler.request_id"]) == ("python", "r-1")
    assert {each.name for each in found} == {"execution", *STEPS}
    assert {each.trace_state for each in found} == {STATE}
    assert receiver.heads[0]["authorization"] == "Bearer a-token-for-the-receiver"
    assert {each.trace_id.hex() for each in receiver.spans} == {TRACE}
    assert "a-token-for-the-receiver" not in daemon.log_path.read_text()


@pytest.mark.root
def test_several_headers_of_state_are_one_and_a_hostile_one_costs_only_itself(
    traced: tuple[Daemon, Receiver],
) -> None:
    daemon, receiver = traced
    body = b'{"lang": "py", "code": "print(1)"}'
    for trace, states in (("4" * 32, ["a=1", "b=2"]), ("5" * 32, ["a=1", "B=2"]), ("6" * 32, ["a=1,a=1"])):
        client = http.client.HTTPConnection(daemon.address, timeout=60)
        client.putrequest("POST", "/v1/exec")
        given = {"Content-Type": "application/json", "X-API-Key": daemon.api_key, "Content-Length": str(len(body))}
        for name, value in (given | {"traceparent": f"00-{trace}-{SPAN}-01"}).items():
            client.putheader(name, value)
        for state in states:
            client.putheader("tracestate", state)
        client.endheaders(body)
        assert client.getresponse().status == 200
        client.close()
        assert {each.trace_state for each in receiver.wait(trace)} == {"a=1,b=2" if trace[0] == "4" else ""}


def placed(traceparent: str, **more: str) -> RequestParamsMeta:
    return cast("RequestParamsMeta", {"traceparent": traceparent, **more})


@pytest.mark.root
async def test_a_call_of_a_tool_says_its_place_in_meta_or_by_its_header(traced: tuple[Daemon, Receiver]) -> None:
    daemon, receiver = traced
    in_meta, in_header = "1" * 32, "2" * 32
    headers = {"traceparent": f"00-{in_header}-{SPAN}-01", "tracestate": "of=header"}
    async with connected(daemon, headers=headers) as agent:
        arguments = {"code": "print(1)", "language": "python"}
        await agent.client.call_tool(
            "execute_code", arguments, meta=placed(f"00-{in_meta}-{SPAN}-01", tracestate=STATE)
        )
        await agent.client.call_tool("execute_code", arguments, meta=placed("nonsense"))
        await agent.client.call_tool("execute_code", arguments)
    for trace, state in ((in_meta, STATE), (in_header, "of=header")):
        span = whole(await trio.to_thread.run_sync(receiver.wait, trace))
        assert (facts(span)["gaoler.door"], span.parent_span_id.hex()) == ("mcp", SPAN)
        assert span.trace_state == state


@pytest.mark.parametrize("values", [[], [PARENT], [PARENT, PARENT]], ids=["none", "one", "several"])
def test_several_places_in_a_trace_are_none(values: list[str]) -> None:
    """Which of them counts is nobody's guess; notes of a trace are a list, which may come in pieces."""
    headers = {"traceparent": values, "tracestate": ["a=1", "b=2"]}
    place, state = trace_headers(headers.__getitem__)
    assert place == (PARENT if len(values) == 1 else None)
    assert state == "a=1,b=2"
