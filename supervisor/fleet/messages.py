"""What gateways ask of workers, and what workers say: typed, and decoded strictly on both sides. Pure.

Each message is what a door's protocol has as a method; the values are those of the domain. A worker is as little
believed as anybody else: what it answers is decoded against these types, and what a program has written stays bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import TooLarge
from supervisor.execution.values import (
    CapturedOutput,
    ExecutionRequest,
    ExecutionResult,
    Outcome,
    OutputPiece,
    Phase,
    Principal,
    ResultFile,
    Runtime,
    SessionId,
    Shown,
    SkippedFile,
    StoredFile,
    Tier,
    Usage,
)
from supervisor.programmatic.tool_calls import Broken, CallsWanted, Leg, ProgramRequest, ToolResult
from supervisor.workspace.views import Picture, ProcessInfo, ProcessOutput, SearchResult

MAX_BYTES: Final = 192 << 20
"""Of one message: pictures that were shown come inside."""


class Message(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do"):
    """Something that a gateway asks."""


class Origin(Struct, frozen=True, forbid_unknown_fields=True):
    """Which request it is for, and where in a trace: for logs and traces only."""

    request_id: Annotated[str, Meta(max_length=128)] = ""
    traceparent: Annotated[str, Meta(max_length=256)] = ""
    tracestate: Annotated[str, Meta(max_length=512)] = ""


class Execute(Message, frozen=True, tag="execute"):
    """Run code. Answer: :class:`Finished`."""

    request: ExecutionRequest
    listens: bool
    """Somebody wants output as it is produced."""
    origin: Origin = Origin()


class StartProgram(Message, frozen=True, tag="start_program"):
    """Run a program with tools up to its first calls. Answer: a leg."""

    request: ProgramRequest
    origin: Origin = Origin()


class ResumeProgram(Message, frozen=True, tag="resume_program"):
    """Go on with results. Answer: a leg."""

    principal: Principal
    token: str
    results: tuple[ToolResult, ...]
    origin: Origin = Origin()


class CancelProgram(Message, frozen=True, tag="cancel_program"):
    """End what the caller has started under this name. Answer: whether there was any."""

    principal: Principal
    request_id: str


class StartProcess(Message, frozen=True, tag="start_process"):
    """Start a background program. Answer: what it is."""

    principal: Principal
    session_id: SessionId
    command: str
    tier: Tier | None


class ListProcesses(Message, frozen=True, tag="list_processes"):
    """List background programs."""

    principal: Principal
    session_id: SessionId


class ReadProcess(Message, frozen=True, tag="read_process"):
    """Read what one has written."""

    principal: Principal
    session_id: SessionId
    process_id: str
    position: int | None
    limit: int
    wait_seconds: float
    until: bytes | None


class WriteProcess(Message, frozen=True, tag="write_process"):
    """Write to its standard input. Answer: how many bytes it took."""

    principal: Principal
    session_id: SessionId
    process_id: str
    data: bytes
    close: bool


class SignalProcess(Message, frozen=True, tag="signal_process"):
    """Signal it, and wait so long for its end."""

    principal: Principal
    session_id: SessionId
    process_id: str
    number: int


class WaitProcess(Message, frozen=True, tag="wait_process"):
    """Wait for its end, for so long at most."""

    principal: Principal
    session_id: SessionId
    process_id: str
    seconds: float


class Synchronise(Message, frozen=True, tag="synchronise"):
    """Bring the workspace of a session and its kept files together."""

    session_id: SessionId


class Discard(Message, frozen=True, tag="discard"):
    """A session was deleted by its owner: end its sandbox."""

    session_id: SessionId


class CloseSession(Message, frozen=True, tag="close_session"):
    """End a session's sandbox without saving its variables."""

    principal: Principal
    session_id: SessionId


class Search(Message, frozen=True, tag="search"):
    """Find lines in the files of a session."""

    principal: Principal
    session_id: SessionId
    pattern: str
    glob: str
    regex: bool
    ignore_case: bool
    limit: int


class PictureGiven(Struct, frozen=True, forbid_unknown_fields=True):
    """A picture with its media type, as bytes or as a stored file."""

    media_type: str
    data: bytes = b""
    file: StoredFile | None = None


class Shrink(Message, frozen=True, tag="shrink"):
    """Make pictures small enough. Answer: one for each, or none."""

    principal: Principal
    pictures: tuple[PictureGiven, ...]
    pixels: int
    limit_bytes: int
    tier: Tier


Ask = (
    Execute
    | StartProgram
    | ResumeProgram
    | CancelProgram
    | StartProcess
    | ListProcesses
    | ReadProcess
    | WriteProcess
    | SignalProcess
    | WaitProcess
    | Synchronise
    | Discard
    | CloseSession
    | Search
    | Shrink
)


class Answer(Struct, frozen=True, forbid_unknown_fields=True, tag_field="is"):
    """Something that a worker says."""


class Admitted(Answer, frozen=True, tag="admitted"):
    """It has got its place."""


class Output(Answer, frozen=True, tag="output"):
    """A piece of output, as it was produced."""

    piece: OutputPiece
    before: Annotated[int, Meta(ge=0)] = 0
    """Bytes of its stream before it and what was cut before it, whether they were told or not."""


class Finished(Answer, frozen=True, tag="finished"):
    """An :class:`ExecutionResult`, field by field."""

    session_id: SessionId
    outcome: Outcome
    stdout: CapturedOutput
    stderr: CapturedOutput
    usage: Usage
    files: tuple[ResultFile, ...]
    deleted: tuple[str, ...]
    skipped: tuple[SkippedFile, ...]
    runtime: Runtime | None
    notes: tuple[str, ...]
    shown: tuple[Shown, ...]
    phase: Phase
    compiler: CapturedOutput
    tier: Tier | None
    spent: Mapping[str, float] = {}
    told: Mapping[str, Annotated[int, Meta(ge=0)]] = {}
    """Bytes of each stream that were told on the way, if somebody listened."""


class Wants(Answer, frozen=True, tag="wants"):
    """A program waits for tools."""

    calls: CallsWanted


class Broke(Answer, frozen=True, tag="broke"):
    """A program did what no program may."""

    broken: Broken


class Infos(Answer, frozen=True, tag="infos"):
    """Background programs."""

    infos: tuple[ProcessInfo, ...]


class Read(Answer, frozen=True, tag="read"):
    """What a background program has written."""

    output: ProcessOutput


class Found(Answer, frozen=True, tag="found"):
    """What a search has found."""

    result: SearchResult


class Pictures(Answer, frozen=True, tag="pictures"):
    """Pictures made small enough."""

    pictures: tuple[Picture | None, ...]


class Count(Answer, frozen=True, tag="count"):
    """A number: bytes written; whether there was any."""

    count: int


class Done(Answer, frozen=True, tag="done"):
    """It is done, and there is nothing to say."""


class Failed(Answer, frozen=True, tag="failed"):
    """One of our errors; ``kind`` is its class."""

    kind: str
    message: str
    field: str | None = None
    hint: str = ""
    retry_after_seconds: float = 1.0
    resource: str = ""
    code: str = ""
    details: Mapping[str, str] = {}


Reply = Admitted | Output | Finished | Wants | Broke | Infos | Read | Found | Pictures | Count | Done | Failed

_OF_RESULT: Final = tuple(each.name for each in fields(ExecutionResult))
_encoder: Final = msgspec.msgpack.Encoder()
_asks: Final[msgspec.msgpack.Decoder[Ask]] = msgspec.msgpack.Decoder(Ask)
_replies: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a manifest says of a message, beside its hash: for who looks at manifests and not at bodies."""

    kind: str
    principal: Principal
    session: str | None
    inputs: tuple[str, ...] = ()
    wall_seconds: float | None = None


NOBODY: Final = Principal("", "gaoler")
"""For whom a gateway asks what no caller has asked."""


def facts_of(ask: Ask) -> Facts:
    """Give them; gateway and worker work them out from the same body."""
    kind = str(type(ask).__struct_config__.tag)
    if isinstance(ask, Execute | StartProgram):
        request = ask.request if isinstance(ask, Execute) else ask.request.execution
        inputs = tuple(each.id for each in request.files)
        return Facts(kind, request.principal, request.session_id, inputs, request.wall_seconds)
    return Facts(kind, getattr(ask, "principal", NOBODY), getattr(ask, "session_id", None))


class Garbled(Exception):
    """Bytes that are none of these messages."""


def encode(message: Ask | Reply) -> bytes:
    """Write a message down.

    Raises:
        TooLarge: it is larger than :data:`MAX_BYTES`.
    """
    written = _encoder.encode(message)
    if len(written) > MAX_BYTES:
        raise TooLarge(f"what goes between gateway and worker has at most {MAX_BYTES} bytes")
    return written


def decode_ask(body: bytes) -> Ask:
    """Read what a gateway asks.

    Raises:
        Garbled: it is nothing of that.
    """
    try:
        return _asks.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(str(error)) from None


def decode_reply(payload: bytes) -> Reply:
    """Read what a worker says.

    Raises:
        Garbled: it is nothing of that.
    """
    try:
        return _replies.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(str(error)) from None


def of_result(result: ExecutionResult) -> Finished:
    """Put a result into a message."""
    return Finished(**{name: getattr(result, name) for name in _OF_RESULT})


def of_leg(leg: Leg) -> Finished | Wants | Broke:
    """Put a leg into a message."""
    if isinstance(leg, CallsWanted):
        return Wants(leg)
    return Broke(leg) if isinstance(leg, Broken) else of_result(leg)


def result_of(message: Finished) -> ExecutionResult:
    """Take a result out of its message."""
    return ExecutionResult(**{name: getattr(message, name) for name in _OF_RESULT})


def leg_of(message: Finished | Wants | Broke) -> Leg:
    """Take a leg out of its message."""
    if isinstance(message, Wants):
        return message.calls
    return message.broken if isinstance(message, Broke) else result_of(message)
