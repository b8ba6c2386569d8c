"""From what a program did to what a model is given: text within a budget, pictures, links to the rest.

The first block is always ours: how it went, and where. What the program printed has blocks of its own after it, so
that nothing in it can pass for ours; names of files are quoted.
"""

from __future__ import annotations

import base64
import json
import logging
from typing import Any, Final

import msgspec
from mcp_types import Annotations, ContentBlock, ImageContent, ResourceLink

from mcp_server import uris
from mcp_server.recent import Entry
from mcp_server.registry import Call, Output, Reply, text
from supervisor.errors import GaolerError, NotFound
from supervisor.execution.values import (
    ExecutionResult,
    Exited,
    FileId,
    OutOfMemory,
    OutputLimit,
    SessionId,
    Signalled,
    StoredFile,
    Tier,
    TimedOut,
)
from supervisor.execution.wording import explanation, signal_name, skip_notes
from supervisor.programmatic.tool_calls import Broken, CallsWanted, Leg
from supervisor.workspace.views import Picture

log: Final = logging.getLogger("gaoler.mcp")

MAX_PICTURES: Final = 8
MAX_FILES_SHOWN: Final = 50
MAX_COMPILER_TEXT: Final = 2000
"""Of warnings; errors have the budget of stderr."""
_PICTURES: Final = ("image/png", "image/jpeg", "image/svg+xml", "image/gif", "image/webp")
"""The best first: a thing that was shown comes in several forms."""
_TEXT_FORMS: Final = ("text/html", "text/markdown", "text/latex", "application/vnd.plotly.v1+json", "application/json")


class FileLine(Output, frozen=True):
    """A file that an execution has written, or that is in a session."""

    path: str
    size: int
    type: str
    uri: str
    url: str | None = None
    """Opens in a browser without a credential, for a while."""


class ShownLine(Output, frozen=True):
    """Something that was shown: a figure, a table, a page. ``uris``: each of its forms by media type."""

    uris: dict[str, str]
    inlined: bool


class ToolCallLine(Output, frozen=True):
    """A call that the program waits for."""

    id: str
    name: str
    input: dict[str, Any]


class ExecutionOutput(Output, frozen=True):
    """What became of an execution.

    ``status``: ``ok``, ``error``, ``killed``, ``timeout``, ``cancelled`` or ``tool_calls``.
    """

    status: str
    session: str
    stdout: str
    stderr: str
    exit_code: int | None = None
    signal: str | None = None
    message: str | None = None
    phase: str = "run"
    """``compile``: the program was not run."""
    compiler_output: str = ""
    """Warnings of a compiler that accepted the program; what it says of one that it does not is in ``stderr``."""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    output_uri: str | None = None
    """The whole output, while it is kept."""
    files: list[FileLine] = msgspec.field(default_factory=list)
    deleted: list[str] = msgspec.field(default_factory=list)
    shown: list[ShownLine] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    variables_kept: bool = False
    """Variables, functions and imports are there for the next call."""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    tier: str | None = None
    """Of the sandbox that it ran in: ``nsjail``, or ``microvm``, which has a kernel of its own."""
    continuation_token: str | None = None
    tool_calls: list[ToolCallLine] = msgspec.field(default_factory=list)


async def of_execution(call: Call, result: ExecutionResult) -> Reply:
    """Shape the result of an execution."""
    entry = call.recent.add(result.session_id, result)
    files = await _files(call, result)
    pictures, inlined = await _pictures(call, result, files)
    output = _output(call, result, entry, files, inlined)
    return Reply(output, [*_blocks(result.session_id, output, entry), *pictures, *_links(result, entry, inlined)])


def _output(
    call: Call, result: ExecutionResult, entry: Entry, files: list[StoredFile], inlined: set[int]
) -> ExecutionOutput:
    code, signal, status = _status(result)
    budget = call.door.settings.text_bytes
    stdout, stderr = shortened(entry.stdout, budget), shortened(entry.stderr, budget)
    return ExecutionOutput(
        status=status,
        session=result.session_id,
        stdout=stdout,
        stderr=stderr,
        exit_code=code,
        signal=signal,
        message=explanation(result.outcome, result.phase),
        phase=result.phase,
        compiler_output=shortened(result.compiler.text(), MAX_COMPILER_TEXT),
        stdout_truncated=len(stdout) < len(entry.stdout) or bool(result.stdout.omitted_bytes),
        stderr_truncated=len(stderr) < len(entry.stderr) or bool(result.stderr.omitted_bytes),
        output_uri=uris.output(result.session_id, entry.number),
        files=[file_line(call, file) for file in files],
        deleted=list(result.deleted),
        shown=[
            ShownLine(
                {kind: uris.shown(result.session_id, entry.number, index, kind) for kind in each.untrusted_forms},
                index in inlined,
            )
            for index, each in enumerate(entry.shown)
        ],
        notes=[*result.notes, *skip_notes(result)],
        variables_kept=result.runtime is not None and result.runtime.state_lives,
        wall_seconds=round(result.usage.wall_seconds, 4),
        cpu_seconds=round(result.usage.cpu_seconds, 4),
        tier=result.tier,
        memory_bytes=result.usage.memory_peak_bytes,
    )


def _status(result: ExecutionResult) -> tuple[int | None, str | None, str]:
    match result.outcome:
        case Exited(code):
            return code, None, "ok" if code == 0 else "error"
        case Signalled(number):
            return None, signal_name(number), "killed"
        case OutOfMemory() | OutputLimit():
            return None, "SIGKILL", "killed"
        case TimedOut():
            return None, "SIGKILL", "timeout"
        case _:
            return None, None, "cancelled"


async def _files(call: Call, result: ExecutionResult) -> list[StoredFile]:
    """Look up what was written."""
    written = {file.id for file in result.files if not file.inherited}
    if not written:
        return []
    try:
        listed = await call.door.sessions.listing(call.principal, result.session_id)
    except NotFound:
        return []  # the session was closed meanwhile
    return [file for file in listed if file.id in written]


def file_line(call: Call, file: StoredFile) -> FileLine:
    """Describe a stored file, with a link for a person."""
    url = link_to(call, file.session_id, file.id, file.name)
    return FileLine(file.name, file.size_bytes, file.content_type, uris.file(file.session_id, file.name), url)


def link_to(call: Call, session_id: SessionId, file_id: FileId, name: str) -> str | None:
    """Make a link to a file that opens in a browser; ``None`` where nobody knows how a browser reaches us."""
    base = call.visit.base_url
    if base is None:
        return None
    token = call.door.links.make(call.principal, session_id, file_id)
    return f"{base.rstrip('/')}/v1/shared/{token}/{uris.quoted_name(name)}"


# -- text --


def _blocks(session_id: SessionId, output: ExecutionOutput, entry: Entry) -> list[ContentBlock]:
    head = [output.message or "ok", f"session {session_id}", f"{output.wall_seconds:.2f} s"]
    if output.variables_kept:
        head.append("variables kept")
    lines = ["[gaoler] " + " · ".join(head)]
    lines += [f"[gaoler] {note}" for note in output.notes]
    if output.files:
        lines.append("[gaoler] files written to /mnt/data:")
        lines += [_shown_file(line) for line in output.files[:MAX_FILES_SHOWN]]
        if len(output.files) > MAX_FILES_SHOWN:
            lines.append(f"  ... and {len(output.files) - MAX_FILES_SHOWN} more: list_files shows them")
    if output.deleted:
        lines.append("[gaoler] deleted: " + ", ".join(json.dumps(name) for name in output.deleted[:MAX_FILES_SHOWN]))
    blocks: list[ContentBlock] = [text("\n".join(lines))]
    if output.compiler_output:
        blocks.append(text(f"compiler warnings:\n{output.compiler_output}"))
    for name, shown, whole in (("stdout", output.stdout, entry.stdout), ("stderr", output.stderr, entry.stderr)):
        if shown:
            blocks.append(text(f"{name}:\n{shown}"))
        if len(shown) < len(whole):
            uri = f"{uris.output(session_id, entry.number)}/{name}"
            blocks.append(_resource(uri, f"{name} of this execution, whole", "text/plain", len(whole)))
    if not output.stdout and not output.stderr:
        blocks.append(text("(no output)"))
    return blocks


def _shown_file(line: FileLine) -> str:
    link_text = f" {line.url}" if line.url else ""
    return f"  {json.dumps(line.path, ensure_ascii=False)} ({line.size} bytes, {line.type}){link_text}"


def shortened(whole: str, budget: int) -> str:
    """Keep head and tail, and say how much is between them."""
    data = whole.encode()
    if len(data) <= budget:
        return whole
    half = budget // 2
    head, tail = data[:half].decode("utf-8", "ignore"), data[-half:].decode("utf-8", "ignore")
    return f"{head}\n[... {len(data) - 2 * half} bytes omitted; the whole is linked ...]\n{tail}"


# -- pictures and links --


async def _pictures(
    call: Call, result: ExecutionResult, files: list[StoredFile]
) -> tuple[list[ContentBlock], set[int]]:
    """Give pictures that fit: what was shown first, then picture files; also which of the shown things they are."""
    found: list[tuple[str, bytes | StoredFile, int | None]] = []
    for index, each in enumerate(result.shown):
        kind = next((kind for kind in _PICTURES if kind in each.untrusted_forms), None)
        if kind is not None:
            found.append((kind, each.untrusted_forms[kind], index))
    found += [(file.content_type, file, None) for file in files if file.content_type in _PICTURES]
    found = found[:MAX_PICTURES]
    if not found:
        return [], set()
    ready = await _ready_pictures(call, [(kind, content) for kind, content, _ in found], result.tier or "nsjail")
    blocks: list[ContentBlock] = []
    inlined: set[int] = set()
    room = call.door.settings.inline_bytes
    for (_kind, _content, of_shown), picture in zip(found, ready, strict=True):
        if picture is None or len(picture.untrusted_data) > room:
            continue
        room -= len(picture.untrusted_data)
        data = base64.b64encode(picture.untrusted_data).decode()
        both = Annotations(audience=["user", "assistant"])
        blocks.append(ImageContent(type="image", data=data, mime_type=picture.media_type, annotations=both))
        if of_shown is not None:
            inlined.add(of_shown)
    return blocks, inlined


async def _ready_pictures(call: Call, found: list[tuple[str, bytes | StoredFile]], tier: Tier) -> list[Picture | None]:
    """Have each small enough, by a sandbox if need be. What cannot be had is ``None``: the result is more than it."""
    ready: list[Picture | None] = [None] * len(found)
    settings = call.door.settings
    try:
        ready = [await _as_it_is(call, kind, content) for kind, content in found]
        missing = [index for index, picture in enumerate(ready) if picture is None]
        if missing:
            made = await call.door.assistants.shrink(
                call.principal,
                [found[index] for index in missing],
                pixels=settings.image_pixels,
                limit_bytes=settings.image_bytes,
                tier=tier,
            )
            for index, picture in zip(missing, made, strict=True):
                ready[index] = picture
    except GaolerError as error:
        log.warning("pictures not prepared reason=%s", ascii(error.message))
    return ready


async def _as_it_is(call: Call, kind: str, content: bytes | StoredFile) -> Picture | None:
    """Take a PNG or JPEG that is small enough; what it says of itself is believed only for that."""
    settings = call.door.settings
    if kind not in ("image/png", "image/jpeg"):
        return None
    if isinstance(content, StoredFile):
        if content.size_bytes > settings.image_bytes:
            return None
        async with call.door.sessions.open(call.principal, content.session_id, content.id) as (_file, chunks):
            content = b"".join([chunk async for chunk in chunks])
    picture = call.door.recognise_picture(content)
    if picture is None or len(content) > settings.image_bytes:
        return None
    return picture if max(picture.width, picture.height) <= settings.image_pixels else None


def _links(result: ExecutionResult, entry: Entry, inlined: set[int]) -> list[ContentBlock]:
    """Link what was shown and is no picture in the result."""
    links: list[ContentBlock] = []
    for index, each in enumerate(entry.shown):
        for kind in _TEXT_FORMS:
            if kind in each.untrusted_forms:
                uri = uris.shown(result.session_id, entry.number, index, kind)
                links.append(_resource(uri, f"shown #{index + 1}", kind, len(each.untrusted_forms[kind])))
        if index not in inlined:
            links += [
                _resource(
                    uris.shown(result.session_id, entry.number, index, kind), f"shown #{index + 1}", kind, len(data)
                )
                for kind, data in each.untrusted_forms.items()
                if kind in _PICTURES
            ]
    return links


def _resource(uri: str, name: str, kind: str, size: int) -> ResourceLink:
    return ResourceLink(type="resource_link", uri=uri, name=name, mime_type=kind, size=size)


# -- programs that call tools --


async def of_leg(call: Call, leg: Leg) -> Reply:
    """Shape a leg of a program: its calls, or its end."""
    match leg:
        case ExecutionResult():
            return await of_execution(call, leg)
        case Broken(message):
            output = ExecutionOutput(status="error", session="", stdout="", stderr="", message=message)
            return Reply(output, [text(f"[gaoler] {message}")], is_error=True)
        case CallsWanted():
            calls = [ToolCallLine(each.id, each.name, _input(each.untrusted_input)) for each in leg.calls]
            budget = call.door.settings.text_bytes
            output = ExecutionOutput(
                status="tool_calls",
                session=leg.session_id,
                stdout=shortened(leg.untrusted_stdout, budget),
                stderr=shortened(leg.untrusted_stderr, budget),
                continuation_token=leg.token,
                tool_calls=calls,
            )
            said = (
                f"[gaoler] the program waits for {len(calls)} tool call(s): run them, then call execute_code with "
                f"continuation_token and tool_results\ncontinuation_token: {leg.token}"
            )
            wanted = json.dumps([{"id": each.id, "name": each.name, "input": each.input} for each in calls])
            return Reply(output, [text(said), text(f"tool_calls:\n{wanted}")])


def _input(untrusted_json: bytes) -> dict[str, Any]:
    """Read what the program gives to a tool: an object, whatever is in it."""
    try:
        return msgspec.json.decode(untrusted_json, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}
