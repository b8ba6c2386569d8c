"""Programs in the background."""

from __future__ import annotations

import signal
from typing import Annotated, Final, Literal

from msgspec import Meta

from mcp_server.registry import Call, Input, Output, Reply, text
from mcp_server.tools.common import REGISTRY, Session, TierWish, check_text
from supervisor.errors import InvalidRequest, Unsupported
from supervisor.execution.values import SessionId
from supervisor.execution.wording import signal_name
from supervisor.workspace.views import ProcessInfo, ProcessOutput

MAX_COMMAND: Final = 100_000
MAX_WAIT: Final = 50.0
FIRST_LOOK_SECONDS: Final = 0.3
_PROCESS_FORM: Final = "a process id is p1, p2, ... as start_process gives it"

ProcessId = Annotated[str, Meta(description="As start_process gives it: p1, p2, ...", min_length=1, max_length=16)]
Wait = Annotated[float, Meta(description="Wait up to so many seconds for output.", ge=0, le=MAX_WAIT)]


class StartProcess(Input, frozen=True):
    """Arguments of ``start_process``."""

    command: Annotated[str, Meta(description="A Bash command, as 'python -m http.server 8000'.", min_length=1)]
    session: Session | None = None
    tier: TierWish | None = None


class ReadProcess(Input, frozen=True):
    """Arguments of ``read_process``."""

    process: ProcessId
    session: Session | None = None
    wait: Wait = 0.0
    until: (
        Annotated[str, Meta(description="With wait: until this text is in the output.", min_length=1, max_length=1000)]
        | None
    ) = None
    position: Annotated[int, Meta(description="From here on; default: where the last read ended.", ge=0)] | None = None


class WriteStdin(Input, frozen=True):
    """Arguments of ``write_stdin``."""

    process: ProcessId
    text: Annotated[str, Meta(description="What it reads; end a line with \\n.", max_length=65_536)] = ""
    close: Annotated[bool, Meta(description="Then close its standard input (end of file).")] = False
    session: Session | None = None


class SignalProcess(Input, frozen=True):
    """Arguments of ``signal_process``."""

    process: ProcessId
    signal: Annotated[
        Literal["TERM", "KILL", "INT", "HUP", "USR1", "USR2", "QUIT"], Meta(description="Default: TERM.")
    ] = "TERM"
    session: Session | None = None


class ListProcesses(Input, frozen=True):
    """Arguments of ``list_processes``."""

    session: Session | None = None


class ProcessLine(Output, frozen=True):
    """A background process. ``killed``: its time was over; ``lost``: its sandbox is gone."""

    process: str
    command: str
    status: str
    exit_code: int | None
    signal: str | None
    seconds: float
    output_bytes: int


class ProcessReply(Output, frozen=True):
    """A process and what it has written: standard output and error as they came."""

    session: str
    process: ProcessLine
    output: str
    position: int
    next_position: int
    omitted_bytes: int


class StdinReply(Output, frozen=True):
    """How much of the text the process has taken."""

    process: str
    written_bytes: int
    complete: bool


class ProcessList(Output, frozen=True):
    """The processes of a session."""

    session: str
    processes: list[ProcessLine]


@REGISTRY.tool(StartProcess, ProcessReply, title="Start a background process", rate="exec", destructive=True)
async def start_process(call: Call, given: StartProcess) -> Reply:
    """Start a command that goes on in the background: a server, a long computation, a watcher.

    It runs in the session's sandbox beside execute_code and run_command, which reach it on 127.0.0.1 and share
    /mnt/data with it. Returns at once with its id and first output; then read_process, write_stdin, signal_process.
    It ends with the session's sandbox (close_session, long idleness, a restart of the server).

    Example: {"command": "python -u train.py --epochs 10"}
    """
    if not call.door.settings.stateful:
        raise Unsupported("this server keeps nothing running between calls", code="stateful_workspace_unsupported")
    command = check_text(given.command, "command", MAX_COMMAND)
    if len(command.encode()) > MAX_COMMAND:
        # It is one argument of a program; the kernel takes 128 KiB.
        raise InvalidRequest(f"at most {MAX_COMMAND} bytes of UTF-8: write a script with write_file", field="command")
    default = call.visit.default_session(call.door.ids)
    session_id = default if given.session is None and default else await call.session_or_new(given.session)
    info = await call.door.processes.start(call.principal, session_id, command, given.tier)
    process = await call.door.processes.get(call.principal, session_id, info.id)
    output = await process.read(position=0, limit=call.door.settings.text_bytes, wait_seconds=FIRST_LOOK_SECONDS)
    return _reply(session_id, output)


@REGISTRY.tool(ReadProcess, ProcessReply, title="Read a process's output", rate="listing")
async def read_process(call: Call, given: ReadProcess) -> Reply:
    """Read what a background process has written since the last read, and whether it still runs.

    With wait it returns as soon as there is something new (with until: as soon as that text has come), or the process
    has ended, or the time is over. The latest part of the output is kept; what was lost is counted.

    Example: {"process": "p1", "wait": 20, "until": "Serving HTTP"}
    """
    session_id, process_id = await _where(call, given.session, given.process)
    process = await call.door.processes.get(call.principal, session_id, process_id)
    output = await process.read(
        position=given.position,
        limit=call.door.settings.text_bytes,
        wait_seconds=given.wait,
        until=None if given.until is None else given.until.encode("utf-8", "replace"),
    )
    return _reply(session_id, output)


@REGISTRY.tool(WriteStdin, StdinReply, title="Write to a process", rate="listing", destructive=True)
async def write_stdin(call: Call, given: WriteStdin) -> Reply:
    r"""Write text to a background process's standard input, or close it.

    Waits some seconds if the process does not read; written_bytes says how much it took.

    Example: {"process": "p1", "text": "y\n"}
    """
    session_id, process_id = await _where(call, given.session, given.process)
    process = await call.door.processes.get(call.principal, session_id, process_id)
    data = given.text.encode("utf-8", "replace")
    written = await process.write(data, close=given.close)
    complete = written == len(data)
    said = f"[gaoler] {written} of {len(data)} bytes written" + ("" if complete else ": the process does not read")
    return Reply(StdinReply(process_id, written, complete), [text(said)])


@REGISTRY.tool(SignalProcess, ProcessReply, title="Signal a process", rate="listing", destructive=True)
async def signal_process(call: Call, given: SignalProcess) -> Reply:
    """Send a signal to a background process and what it has started: TERM asks it to end, KILL ends it.

    Example: {"process": "p1", "signal": "KILL"}
    """
    session_id, process_id = await _where(call, given.session, given.process)
    process = await call.door.processes.get(call.principal, session_id, process_id)
    await process.signal(int(signal.Signals[f"SIG{given.signal}"]))
    await process.wait_ended(1.0)
    output = await process.read(position=None, limit=call.door.settings.text_bytes, wait_seconds=0)
    return _reply(session_id, output)


@REGISTRY.tool(ListProcesses, ProcessList, title="List processes", rate="listing", read_only=True, idempotent=True)
async def list_processes(call: Call, given: ListProcesses) -> Reply:
    """List the background processes of a session: running ones, and those that have ended lately."""
    session_id = await call.session(given.session)
    lines = [_line(info) for info in await call.door.processes.list(call.principal, session_id)]
    said = "\n".join(_in_words(line) for line in lines) or "no background processes"
    return Reply(ProcessList(session_id, lines), [text(said)])


async def _where(call: Call, session: str | None, process: str) -> tuple[SessionId, str]:
    if not (process.startswith("p") and process[1:].isdecimal()):
        raise InvalidRequest(_PROCESS_FORM, field="process")
    return await call.session(session), process


def _line(info: ProcessInfo) -> ProcessLine:
    return ProcessLine(
        info.id,
        info.command[:1000],
        info.status,
        info.exit_code,
        None if info.signal is None else signal_name(info.signal),
        round(info.seconds, 2),
        info.output_bytes,
    )


def _in_words(line: ProcessLine) -> str:
    how = {
        "running": f"running for {line.seconds:.1f} s",
        "exited": f"exited with code {line.exit_code} after {line.seconds:.1f} s",
        "signalled": f"killed by {line.signal} after {line.seconds:.1f} s",
        "killed": f"ended after {line.seconds:.1f} s: its time was over",
        "lost": "lost with its sandbox",
    }[line.status]
    return f"[gaoler] {line.process} {how}: {line.command.splitlines()[0][:200]}"


def _reply(session_id: SessionId, output: ProcessOutput) -> Reply:
    line = _line(output.info)
    written = output.untrusted_data.decode("utf-8", "replace")
    head = _in_words(line) + f" · session {session_id}"
    if output.omitted_bytes:
        head += f" · {output.omitted_bytes} bytes were lost before this"
    reply = ProcessReply(session_id, line, written, output.position, output.next_position, output.omitted_bytes)
    return Reply(reply, [text(head), *([text(written)] if written else [])])
