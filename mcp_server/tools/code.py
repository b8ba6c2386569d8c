"""Running code and commands."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from mcp_server import results
from mcp_server.progress import telling
from mcp_server.registry import Call, Input, Reply
from mcp_server.tools.common import REGISTRY, Path, Session, TierWish, check_text, content_of
from supervisor.errors import InvalidRequest, Unsupported
from supervisor.execution.request_rules import (
    MAX_VARIABLES,
    check_arguments,
    check_environment,
    check_program,
    check_sources,
)
from supervisor.execution.values import ExecutionRequest, SessionId
from supervisor.identity.access import owner_of
from supervisor.programmatic.tool_calls import ProgramRequest, Tool, ToolName, ToolResult

_DIALECTS: Final = {"python": "python", "py": "python", "bash": "bash", "sh": "bash"}
MAX_COMMAND: Final = 100_000
DEFAULT_LANGUAGE: Final = "python"

Egress = Annotated[
    list[Annotated[str, Meta(max_length=260)]],
    Meta(description="Only these hosts may be reached, of those that the operator allows; empty: none.", max_length=64),
]
Environment = Annotated[
    dict[str, str], Meta(description="Environment variables, for this call only.", max_length=MAX_VARIABLES)
]
Timeout = Annotated[
    float, Meta(description="Seconds until it is ended; the server's limit is the default.", gt=0, le=86_400)
]


class InputFile(Input, frozen=True):
    """A file to be put into the workspace first: text, base64, or one of another session of yours."""

    path: Path
    text: str | None = None
    base64: str | None = None
    from_session: Annotated[str, Meta(description="Copy the file of this path from this session.")] | None = None


class ToolSpec(Input, frozen=True):
    """A tool of yours that the code may call as a function."""

    name: ToolName
    description: Annotated[str, Meta(max_length=10_000)] = ""
    parameters: Annotated[dict[str, Any], Meta(description="JSON Schema of its input.")] | None = None


class ToolOutcome(Input, frozen=True):
    """What became of a tool call."""

    call_id: Annotated[str, Meta(min_length=1, max_length=128)]
    result: Any = None
    error: Annotated[str, Meta(description="Set if the tool failed.", max_length=100_000)] | None = None


class ExecuteCode(Input, frozen=True):
    """Arguments of ``execute_code``."""

    code: Annotated[str, Meta(description="The program.")] | None = None
    main: (
        Annotated[
            str,
            Meta(
                description="Instead of code: run this file of the workspace, as src/app.py. What lies beside it "
                "can be imported. It is a program of its own, without the variables of earlier calls.",
                min_length=1,
                max_length=512,
            ),
        ]
        | None
    ) = None
    sources: Annotated[
        list[Path],
        Meta(description="With main, in C, C++, D, Fortran, Go: more files to compile with it.", max_length=50),
    ] = msgspec.field(default_factory=list)
    language: (
        Annotated[
            str,
            Meta(description="python (default), bash, javascript, ...: list_languages. main tells it.", max_length=64),
        ]
        | None
    ) = None
    args: Annotated[list[str], Meta(description="Arguments of the program.", max_length=200)] = msgspec.field(
        default_factory=list
    )
    env: Annotated[dict[str, str], Meta(description="Environment variables, for this call only.", max_length=64)] = (
        msgspec.field(default_factory=dict)
    )
    session: Session | None = None
    files: Annotated[list[InputFile], Meta(description="Files to write first.", max_length=50)] = msgspec.field(
        default_factory=list
    )
    stdin: Annotated[str, Meta(description="Standard input.", max_length=65_536)] = ""
    timeout: Timeout | None = None
    egress: Egress | None = None
    tier: TierWish | None = None
    stateful: Annotated[
        bool,
        Meta(description="Keep variables for the next call (default). false: a fresh sandbox with the same files."),
    ] = True
    tools: Annotated[
        list[ToolSpec],
        Meta(description="Tools of yours that the code may call; the result then has tool_calls.", max_length=100),
    ] = msgspec.field(default_factory=list)
    continuation_token: (
        Annotated[str, Meta(description="Go on with a program that waits for tool_calls.", max_length=4096)] | None
    ) = None
    tool_results: Annotated[
        list[ToolOutcome], Meta(description="With continuation_token: one for each call.", max_length=200)
    ] = msgspec.field(default_factory=list)


class RunCommand(Input, frozen=True):
    """Arguments of ``run_command``."""

    command: Annotated[str, Meta(description="A Bash script, of one or many lines.", min_length=1)]
    session: Session | None = None
    stdin: Annotated[str, Meta(description="Standard input.", max_length=65_536)] = ""
    env: Environment = msgspec.field(default_factory=dict)
    timeout: Timeout | None = None
    egress: Egress | None = None
    tier: TierWish | None = None


@REGISTRY.tool(
    ExecuteCode,
    results.ExecutionOutput,
    title="Run code",
    rate="exec",
    destructive=True,
    deadline_seconds=None,
)
async def execute_code(call: Call, given: ExecuteCode) -> Reply:
    r"""Run code in an isolated Linux sandbox and get its output, charts and files.

    Use it for calculations, data analysis, charts, file conversion, and to test code. Python has numpy, pandas,
    matplotlib, scipy, scikit-learn, sympy, pillow, openpyxl, python-docx, pypdf, plotly and more.

    What survives between calls: files below /mnt/data (the working directory), and in Python also variables, functions
    and imports. Everything else is gone. There is no network unless explain_network says so; where it allows a
    package index, pip and npm install into the session.

    The last expression is shown as in a notebook. Charts (plt.show(), or a figure as last expression), PIL images and
    plotly figures come back as images or links; display(x) shows anything. Write what the user should keep to a file.

    Long work: give timeout, or use start_process. A project of many files: write them, then name its main file.

    Example: {"code": "import pandas as pd\npd.read_csv('a.csv').head()"}
    """
    if given.continuation_token is not None:
        outcomes = [ToolResult(each.call_id, each.result, each.error) for each in given.tool_results]
        return await results.of_leg(
            call, await call.door.programs.resume(call.principal, given.continuation_token, outcomes)
        )
    code, main = check_program(given.code, given.main, given.sources)
    check_text(code, "code", call.door.settings.code_characters)
    arguments, environment = check_arguments(given.args), check_environment(given.env)
    sources = check_sources(given.sources)
    session_id = await _session(call, given.session)
    await _write_files(call, session_id, given.files)
    request = ExecutionRequest(
        call.principal,
        language=given.language or ("" if main else DEFAULT_LANGUAGE),
        code=code,
        arguments=arguments,
        session_id=session_id,
        wall_seconds=given.timeout,
        stdin=given.stdin.encode("utf-8", "replace"),
        stateful=given.stateful and call.door.settings.stateful,
        egress=None if given.egress is None else tuple(given.egress),
        environment=environment,
        main=main,
        sources=sources,
        display_bytes=call.door.settings.display_bytes,
        tier=given.tier,
    )
    if given.tools:
        return await _with_tools(call, given, request)
    return await _run(call, request)


async def _with_tools(call: Call, given: ExecuteCode, request: ExecutionRequest) -> Reply:
    dialect = _DIALECTS.get(request.language.lower())
    if request.main is not None:
        raise InvalidRequest("a program that calls tools is given as code", field="main")
    if dialect is None:
        raise Unsupported("only python and bash can call tools", code="unsupported_language", field="language")
    tools = tuple(Tool(each.name, each.description, each.parameters) for each in given.tools)
    program = ProgramRequest(
        execution=request, caller=call.principal, dialect="bash" if dialect == "bash" else "python", tools=tools
    )
    return await results.of_leg(call, await call.door.programs.start(program))


@REGISTRY.tool(
    RunCommand,
    results.ExecutionOutput,
    title="Run a shell command",
    rate="exec",
    destructive=True,
    deadline_seconds=None,
)
async def run_command(call: Call, given: RunCommand) -> Reply:
    """Run a Bash command or script in the session's sandbox and wait for its end.

    The working directory is /mnt/data at each call; environment variables and cd do not survive, files below /mnt/data
    do. It sees what start_process has started, on 127.0.0.1. For Python code use execute_code.

    Example: {"command": "ls -la && wc -l *.csv"}
    """
    session_id = await _session(call, given.session)
    request = ExecutionRequest(
        call.principal,
        language="bash",
        code=check_text(given.command, "command", MAX_COMMAND),
        session_id=session_id,
        wall_seconds=given.timeout,
        stdin=given.stdin.encode("utf-8", "replace"),
        stateful=call.door.settings.stateful,
        egress=None if given.egress is None else tuple(given.egress),
        environment=check_environment(given.env),
        tier=given.tier,
    )
    return await _run(call, request)


async def _session(call: Call, named: str | None) -> SessionId:
    """Give the session to run in. That of the conversation is made by the execution itself."""
    default = call.visit.default_session(call.door.ids)
    return default if named is None and default is not None else await call.session_or_new(named)


async def _write_files(call: Call, session_id: SessionId, files: list[InputFile]) -> None:
    if not files:
        return
    await call.door.sessions.create_session(owner_of(call.principal), session_id)
    for index, file in enumerate(files):
        try:
            if file.from_session is None:
                data = content_of(file.text, file.base64, call.door.settings.base64_bytes)
            else:
                data = await _copied(call, file)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, field=f"files[{index}].{error.field}") from None
        await call.door.files.write(call.principal, session_id, file.path, data)


async def _copied(call: Call, file: InputFile) -> bytes:
    if file.text is not None or file.base64 is not None:
        raise InvalidRequest("give exactly one of text, base64 and from_session", field="from_session")
    source = await call.session(file.from_session)
    limit = call.door.settings.base64_bytes
    part = await call.door.files.read_bytes(call.principal, source, file.path, offset=0, length=limit + 1)
    if len(part.untrusted_data) > limit:
        raise InvalidRequest(f"a file of more than {limit} bytes cannot be copied", field="from_session")
    return part.untrusted_data


async def _run(call: Call, request: ExecutionRequest) -> Reply:
    async with telling(call.context) as listener:
        result = await call.door.executor.execute(request, listener)
    return await results.of_execution(call, result)
