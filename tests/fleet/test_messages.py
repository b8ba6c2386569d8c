"""What gateways and workers say to each other comes out as it went in, and what is not that is refused."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import errors
from supervisor.execution.values import (
    Cancelled,
    CapturedOutput,
    ExecutionRequest,
    ExecutionResult,
    Exited,
    FileId,
    FileReference,
    Outcome,
    OutOfMemory,
    OutputLimit,
    Principal,
    ResultFile,
    Runtime,
    SessionId,
    Shown,
    Signalled,
    SkippedFile,
    TimedOut,
    Usage,
)
from supervisor.fleet.messages import (
    Ask,
    Execute,
    Failed,
    Garbled,
    Reply,
    ResumeProgram,
    StartProgram,
    decode_ask,
    decode_reply,
    encode,
    leg_of,
    of_leg,
    of_result,
    result_of,
)
from supervisor.fleet.told_errors import error_of, of_error
from supervisor.programmatic.tool_calls import Broken, CallsWanted, ProgramRequest, Tool, ToolCall, ToolResult

S = SessionId("s" * 21)
RESULT = ExecutionResult(
    S,
    Exited(0),
    CapturedOutput(b"head\xff", b"tail", 12),
    CapturedOutput(),
    Usage(1.5, 0.5, 1 << 20),
    files=(ResultFile(FileId("f"), S, "a/b", 3, modified_from=FileReference(FileId("g"), S, "b", version=2)),),
    deleted=("gone",),
    skipped=(SkippedFile("\udcff", "a name"),),
    runtime=Runtime(S, "restored", state_lives=True),
    notes=("a note",),
    shown=(Shown({"image/png": b"\x89"}),),
    phase="compile",
    tier="microvm",
)


def through(message: Reply) -> Reply:
    return decode_reply(encode(message))


@pytest.mark.parametrize(
    "outcome",
    [Exited(3), Signalled(9), OutOfMemory(1 << 28), TimedOut(1.5), OutputLimit("stdout", 10), Cancelled()],
    ids=lambda outcome: type(outcome).__name__,
)
def test_a_result_arrives_as_it_was(outcome: Outcome) -> None:
    result = replace(RESULT, outcome=outcome, skipped=())
    answer = through(of_result(result))
    assert not isinstance(answer, Failed)
    assert leg_of(answer) == result  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "leg",
    [CallsWanted(S, "token", (ToolCall("call_001", "add", b'{"a": 1}'),), "out", "err"), Broken("no")],
    ids=["calls", "broken"],
)
def test_a_leg_arrives_as_it_was(leg: CallsWanted | Broken) -> None:
    assert leg_of(through(of_leg(leg))) == leg  # type: ignore[arg-type]


def test_what_is_asked_arrives_as_it_was_with_the_tier_of_its_key() -> None:
    caller = Principal("t", "k", "ann", tier="microvm")
    request = ExecutionRequest(caller, "py", "print(1)", environment={"A": "b"}, stdin=b"\x00\xff", egress=("a",))
    asks: list[Ask] = [
        Execute(request, listens=True),
        StartProgram(ProgramRequest(request, caller, "bash", (Tool("x", "", {"properties": {"a": {}}}),), "id")),
        ResumeProgram(caller, "token", (ToolResult("call_001", {"deep": [1, None, 2.5]}), ToolResult("c", error="e"))),
    ]
    for ask in asks:
        assert decode_ask(encode(ask)) == ask
    executed = decode_ask(encode(asks[0]))
    assert isinstance(executed, Execute)
    assert executed.request.principal.tier == "microvm"


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("rule", field="lang", hint="try"),
        errors.NotFound("no", field="session_id"),
        errors.Busy("later", retry_after_seconds=3.5),
        errors.Overloaded("short", resource="disk", retry_after_seconds=2.0),
        errors.Unsupported("not here", code="tier_unavailable", field="tier", details={"a": "b"}),
        errors.ExecutionLost("gone"),
        errors.StoreUnavailable("no answer", retry_after_seconds=4.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_it_was(error: errors.GaolerError) -> None:
    answer = through(of_error(error))
    assert isinstance(answer, Failed)
    arrived = error_of(answer)
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)


def test_an_error_that_no_door_tells_is_our_own_fault_and_tells_nothing() -> None:
    arrived = error_of(of_error(errors.ConfigurationError("a path")))
    assert type(arrived) is errors.SandboxFailed
    assert "path" not in arrived.message


@given(st.binary(max_size=300))
def test_other_bytes_are_refused(garbage: bytes) -> None:
    for decode in (decode_ask, decode_reply):
        with pytest.raises(Garbled):
            decode(garbage)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_an_altered_message_is_refused_or_has_the_right_types(at: int, other: bytes) -> None:
    written = encode(of_result(replace(RESULT, skipped=())))
    at %= len(written)
    try:
        answer = decode_reply(written[:at] + other + written[at + len(other) :])
    except Garbled:
        return
    assert encode(answer)


def test_a_field_that_is_not_ours_is_refused() -> None:
    message = msgspec.msgpack.decode(encode(of_result(replace(RESULT, skipped=()))))
    with pytest.raises(Garbled):
        decode_reply(msgspec.msgpack.encode({**message, "more": 1}))


def test_result_of_is_the_inverse_of_of_result() -> None:
    assert result_of(of_result(RESULT)) == RESULT
