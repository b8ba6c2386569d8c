"""Tools that a program may call: their names as functions, and the lines that go to and fro. Pure.

What comes out of a sandbox is decoded strictly and bounded here before anybody acts on it.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import InvalidRequest
from supervisor.execution.values import ExecutionRequest, ExecutionResult, Principal, SessionId

MAX_TOOLS: Final = 100
MAX_CALLS: Final = 200
"""In one execution, all its round trips together."""
MAX_DEPTH: Final = 50
"""Of a call's input: not every client reads what is nested deeper."""
MAX_RESULT_BYTES: Final = 5 << 20
MAX_HISTORY_BYTES: Final = 40 << 20

Dialect = Literal["python", "bash"]
ToolName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_ .:/-]{1,128}$")]
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_BASH_WORDS: Final = frozenset(
    {"if", "then", "else", "elif", "fi", "case", "esac", "for", "select", "while", "until", "do", "done", "in"}
    | {"function", "time", "coproc"}
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as its caller describes it. ``parameters``: JSON schema of its input, of which only names are used."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call. Its input stays the JSON text of an object, as the sandbox wrote it: what waits must not grow."""

    id: str
    name: str
    untrusted_input: bytes


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What became of a call: any JSON, or an error in words."""

    call_id: str
    result: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """A program and its tools; ``request_id`` is the caller's name for it, to cancel it by."""

    execution: ExecutionRequest
    caller: Principal
    """Who may go on with it: as the credential and the headers say. A user who is named only in the body of the first
    request, as LibreChat does it, is not named in the others."""
    dialect: Dialect
    tools: tuple[Tool, ...]
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class CallsWanted:
    """The program waits for these tools."""

    session_id: SessionId
    token: str
    calls: tuple[ToolCall, ...]
    untrusted_stdout: str
    untrusted_stderr: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The program did what no program may; the message is for the caller."""

    message: str


Leg = CallsWanted | ExecutionResult | Broken
"""How a request about a program ends."""


class SandboxBabbles(Exception):
    """The program sent something that its library never sends. The message is for the caller."""


def function_name(name: str, dialect: Dialect) -> str:
    """Give the name under which a tool is called, by the rules that LibreChat tells the model."""
    found = re.sub(r"[-\s]", "_", name) if dialect == "python" else re.sub(r"[-\s.]", "_", name)
    found = re.sub(r"[^A-Za-z0-9_]", "", found)
    if not found or found[0].isdigit():
        found = "_" + found
    reserved = keyword.iskeyword(found) if dialect == "python" else found in _BASH_WORDS
    return found + "_tool" if reserved else found


def specification(tools: Sequence[Tool], dialect: Dialect) -> bytes:
    """Write down what the sandbox's library needs to know of the tools.

    Raises:
        InvalidRequest: none or too many, or two that would have one name.
    """
    if not 1 <= len(tools) <= MAX_TOOLS:
        raise InvalidRequest(f"1 to {MAX_TOOLS} tools are needed", field="tools")
    rows: list[dict[str, Any]] = []
    seen: dict[str, str] = {}
    for index, tool in enumerate(tools):
        function = function_name(tool.name, dialect)
        if function in seen:
            raise InvalidRequest(
                f"{tool.name!r} and {seen[function]!r} would both be called {function}", field=f"tools[{index}].name"
            )
        seen[function] = tool.name
        row = {
            "name": tool.name,
            "function": function,
            "description": tool.description[:4096],
            "parameters": _parameters(tool),
        }
        rows.append(row)
    return msgspec.json.encode(rows)


def _parameters(tool: Tool) -> list[tuple[str, bool]]:
    """Give the names that can be those of Python's parameters, and whether each is required."""
    schema = tool.parameters or {}
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, Mapping):
        return []
    needed = required if isinstance(required, list) else []
    return [
        (name, name in needed)
        for name in list(properties)[:100]
        if isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
    ]


class _Call(Struct, frozen=True, forbid_unknown_fields=True):
    name: ToolName
    input: msgspec.Raw


class _Calls(Struct, frozen=True, forbid_unknown_fields=True):
    calls: Annotated[list[_Call], Meta(min_length=1, max_length=MAX_CALLS)]


_decoder: Final = msgspec.json.Decoder(_Calls)


def decode_calls(untrusted_line: bytes, tools: frozenset[str], made: int) -> tuple[ToolCall, ...]:
    """Read a line of the sandbox; ``made``: calls of this execution so far.

    Raises:
        SandboxBabbles: it is not one of the library's, names a tool that is not there, or there are too many calls.
    """
    try:
        calls = _decoder.decode(untrusted_line).calls
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise SandboxBabbles("Sandbox sent a malformed tool call") from None
    if made + len(calls) > MAX_CALLS:
        raise SandboxBabbles(f"the program makes more than {MAX_CALLS} tool calls")
    for call in calls:
        if not bytes(call.input).startswith(b"{"):
            raise SandboxBabbles("Sandbox sent a malformed tool call")
        if _depth(bytes(call.input)) > MAX_DEPTH:
            raise SandboxBabbles(f"the input of a tool call is nested more than {MAX_DEPTH} deep")
        if call.name not in tools:
            raise SandboxBabbles(f"Sandbox requested an unregistered tool: {call.name}")
    return tuple(
        ToolCall(f"call_{made + index:03d}", call.name, bytes(call.input)) for index, call in enumerate(calls, 1)
    )


def _depth(json_text: bytes) -> int:
    """Say how deep valid JSON is nested."""
    brackets = _STRINGS.sub(b"", json_text).translate(None, _NO_BRACKETS)
    return max(accumulate(1 if bracket in b"{[" else -1 for bracket in brackets), default=0)


def encode_results(results: Sequence[ToolResult]) -> bytes:
    """Write results down in the order of their calls."""
    rows = [{"result": each.result} if each.error is None else {"error": each.error} for each in results]
    return msgspec.json.encode({"results": rows}) + b"\n"


def in_order(calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> tuple[ToolResult, ...]:
    """Bring a client's results into the order of the calls; what it has no result for is an error.

    Raises:
        InvalidRequest: a result is for no call, or twice for one, or too large.
    """
    by_id: dict[str, ToolResult] = {}
    known = {call.id for call in calls}
    for index, result in enumerate(results):
        if result.call_id not in known or result.call_id in by_id:
            raise InvalidRequest("it answers no call that waits", field=f"tool_results[{index}].call_id")
        if len(msgspec.json.encode(result.result)) > MAX_RESULT_BYTES:
            raise InvalidRequest(
                f"a result has at most {MAX_RESULT_BYTES} bytes", field=f"tool_results[{index}].result"
            )
        by_id[result.call_id] = result
    return tuple(by_id.get(call.id, ToolResult(call.id, error="the caller gave no result")) for call in calls)
