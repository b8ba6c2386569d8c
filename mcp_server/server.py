"""The MCP server: the SDK's low-level one with our handlers. What a tool raises becomes a result a model can read."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    LoggingLevel,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    SetLevelRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from mcp_server.recent import Recent
from mcp_server.registry import Call, ToolEntry, result_of, text
from mcp_server.resources import Resources, Subscriptions
from mcp_server.services import Door
from mcp_server.tools import REGISTRY
from mcp_server.visit import SCOPE_KEY, Visit
from supervisor.errors import (
    Busy,
    ExecutionLost,
    GaolerError,
    InvalidRequest,
    NotFound,
    Overloaded,
    SandboxFailed,
    StoreUnavailable,
)
from supervisor.execution.request_context import begin_request
from supervisor.execution.values import SessionId

log: Final = logging.getLogger("gaoler.mcp")
access: Final = logging.getLogger("gaoler.access")

INSTRUCTIONS: Final = (Path(__file__).resolve().parent / "instructions.md").read_text(encoding="utf-8")
EXTRA_SECONDS: Final = 30.0
"""What a deadline of an execution has beside its queue and its program: files in and out."""
RESOURCE_NOT_FOUND: Final = -32002
_LEVELS: Final[tuple[LoggingLevel, ...]] = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)
_Context = ServerRequestContext[Any, Any]


def _trace_of(params: CallToolRequestParams, visit: Visit) -> tuple[str | None, str | None]:
    """Give the client's place in its own trace, and what that carries.

    If the call itself says its place, that is nearer than the request around it, whose state belongs to another place.
    """
    said = params.meta or {}
    place, state = (each if isinstance(each, str) else None for each in map(said.get, ("traceparent", "tracestate")))
    return (place, state) if place else (visit.traceparent, visit.tracestate)


class Handlers:
    """Everything that is asked of the server. ``local``: who calls where no transport says it (stdio)."""

    def __init__(self, door: Door, local: Visit | None = None) -> None:
        self._door = door
        self._local = local
        self._recent = Recent(door.settings.recent_bytes)
        self._resources = Resources(door, self._recent)
        self.subscriptions = Subscriptions(door, self._recent)
        self._listen = ListenHandler(self.subscriptions.bus)
        self._recent.on_added = self.subscriptions.note

    def note_change(self, session_id: SessionId) -> None:
        """Files of a session have changed, through whichever door."""
        self.subscriptions.note(session_id)

    # -- tools --

    async def list_tools(self, _context: _Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
        """List all of them: they fit into a page."""
        return ListToolsResult(tools=[entry.tool for entry in REGISTRY.entries.values()])

    async def call_tool(self, context: _Context, params: CallToolRequestParams) -> CallToolResult:
        """Call one. Cancelling, and a client that is gone for good, ends what it does."""
        entry = REGISTRY.entries.get(params.name)
        if entry is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name[:100]!r}: tools/list has them")
        visit = self._visit(context)
        begin_request(visit.request_id, *_trace_of(params, visit))
        call = Call(self._door, self._recent, visit, context)
        started = trio.current_time()
        result = await self._guarded(call, entry, params.arguments or {})
        seconds = trio.current_time() - started
        await self._tell(context, entry.tool.name, result, seconds)
        access.info(
            "tool name=%s error=%s ms=%.1f credential=%s",
            entry.tool.name,
            bool(result.is_error),
            seconds * 1000,
            call.principal.credential,
        )
        return result

    async def _guarded(self, call: Call, entry: ToolEntry[Any], arguments: dict[str, Any]) -> CallToolResult:
        """Do it within its time. Named boundary: whatever it raises becomes a result."""
        settings = self._door.settings
        limit = entry.deadline_seconds or settings.wall_seconds + settings.queue_seconds + EXTRA_SECONDS
        done: list[CallToolResult] = []
        over = trio.current_time() + limit
        try:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = over
                nursery.start_soon(_watch_client, call, settings.resume_seconds, nursery.cancel_scope)
                given = entry.decode(arguments)
                await self._door.admit(call.principal, entry.rate)
                done.append(result_of(await entry.run(call, given)))
                nursery.cancel_scope.cancel()
        except* GaolerError as group:
            done.append(_refusal(_first(group)))
        except* Exception as group:
            log.exception("tool failed name=%s", entry.tool.name, exc_info=group)
            done.append(
                _failure("[gaoler] the tool failed by a fault of this server; its operator finds it in the log")
            )
        if done:
            return done[0]
        why = f"it took more than {limit:g} s" if trio.current_time() >= over else "its client had gone"
        return _failure(f"[gaoler] ended: {why}")

    async def _tell(self, context: _Context, name: str, result: CallToolResult, seconds: float) -> None:
        """Log to the client, if it wants that."""
        level: LoggingLevel = "warning" if result.is_error else "info"
        wanted = _state(context).get("log_level")
        if wanted is None and not _log_asked(context):
            return
        if wanted is not None and _LEVELS.index(level) < _LEVELS.index(wanted):
            return
        said = {"tool": name, "seconds": round(seconds, 3), "is_error": bool(result.is_error)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            await context.session.send_log_message(level, said, "gaoler", related_request_id=context.request_id)

    async def set_level(self, context: _Context, params: SetLevelRequestParams) -> EmptyResult:
        """Note from which level on this connection wants to be told."""
        _state(context)["log_level"] = params.level
        return EmptyResult()

    # -- resources --

    async def list_resources(self, context: _Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        """List what the caller has."""
        visit = self._visit(context)
        with _typed_errors():
            await self._door.admit(visit.principal, "listing")
            return await self._resources.listed(visit, params.cursor if params else None)

    async def list_templates(
        self, _context: _Context, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """List the forms."""
        return self._resources.templates()

    async def read_resource(self, context: _Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """Read one."""
        visit = self._visit(context)
        with _typed_errors():
            await self._door.admit(visit.principal, "download")
            return await self._resources.read(visit, str(params.uri))

    async def subscribe(self, context: _Context, params: SubscribeRequestParams) -> EmptyResult:
        """Tell of changes from now on."""
        with _typed_errors():
            await self.subscriptions.subscribe(context.session, self._visit(context).principal, str(params.uri))
        return EmptyResult()

    async def unsubscribe(self, context: _Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Tell no more."""
        self.subscriptions.unsubscribe(context.session, str(params.uri))
        return EmptyResult()

    async def listen(self, context: _Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Serve a stream of changes (the newer era), of what the caller may see."""
        wanted = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))
        if len(wanted) > 100:
            raise MCPError(INVALID_PARAMS, "at most 100 subscriptions")
        principal = self._visit(context).principal
        with _typed_errors():
            await self.subscriptions.listen(principal, wanted)
        try:
            return await self._listen(context, params)
        finally:
            self.subscriptions.stop_listening(principal, wanted)

    def _visit(self, context: _Context) -> Visit:
        if context.request is not None:
            visit = context.request.scope[SCOPE_KEY]
            assert isinstance(visit, Visit)
            return visit
        if self._local is None:
            raise MCPError(INTERNAL_ERROR, "nobody knows who calls")
        return self._local


async def _watch_client(call: Call, resume_seconds: float, scope: trio.CancelScope) -> None:
    """When the request's stream is lost and nobody takes it up again in time, end what was asked for."""
    exchange = call.visit.exchange
    if exchange is None:
        return
    await exchange.gone.wait()
    events, stream = exchange.events, str(call.context.request_id)
    while events is not None:
        with trio.move_on_after(resume_seconds):
            await events.wait_followed(stream, wanted=True)
        if not events.followed(stream):
            break
        await events.wait_followed(stream, wanted=False)
    scope.cancel()


def _first(group: BaseExceptionGroup[GaolerError]) -> GaolerError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, GaolerError)
    return found


def _refusal(error: GaolerError) -> CallToolResult:
    """Say what was refused, why, and what to do."""
    said = f"[gaoler] {error.field}: {error.message}" if error.field else f"[gaoler] {error.message}"
    if isinstance(error, InvalidRequest) and error.hint:
        said += f"; {error.hint}"
    if isinstance(error, Busy | Overloaded | StoreUnavailable):
        said += f"; try again in {math.ceil(error.retry_after_seconds)} s"
    if isinstance(error, ExecutionLost):
        said += "; look at what it has left before you run it again"
    elif isinstance(error, SandboxFailed):
        said += "; the server's fault, not the program's: try again"
    return _failure(said)


def _failure(said: str) -> CallToolResult:
    return CallToolResult(content=[text(said)], is_error=True)


@dataclass(slots=True)
class _typed_errors:  # noqa: N801 - it reads as the statement that it is
    """Map our errors to the protocol's."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, GaolerError):
            code = RESOURCE_NOT_FOUND if isinstance(error, NotFound) else INVALID_PARAMS
            raise MCPError(code, f"{error.field}: {error.message}" if error.field else error.message) from None


def _state(context: _Context) -> dict[str, Any]:
    """What is kept of a connection."""
    return context.session._connection.state  # noqa: SLF001 - the SDK gives requests nothing else that lasts as long


def _log_asked(context: _Context) -> bool:
    meta = context.meta or {}
    return "io.modelcontextprotocol/logLevel" in meta


def build_server(door: Door, handlers: Handlers) -> Server[Any]:
    """Make the server."""
    with warnings.catch_warnings():
        # Clients of the handshake era set a level; the newer era asks in each request.
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        return Server(
            "gaoler",
            version=door.version,
            title="Gaoler",
            description="Runs code nobody trusts in sandboxes, with files, charts and background processes.",
            instructions=INSTRUCTIONS,
            get_tool_input_schema=_input_schema,
            on_list_tools=handlers.list_tools,
            on_call_tool=handlers.call_tool,
            on_list_resources=handlers.list_resources,
            on_list_resource_templates=handlers.list_templates,
            on_read_resource=handlers.read_resource,
            on_subscribe_resource=handlers.subscribe,
            on_unsubscribe_resource=handlers.unsubscribe,
            on_subscriptions_listen=handlers.listen,
            on_set_logging_level=handlers.set_level,
        )


def _input_schema(name: str) -> dict[str, Any] | None:
    entry = REGISTRY.entries.get(name)
    return None if entry is None else entry.tool.input_schema


@asynccontextmanager
async def open_server(
    door: Door, local: Visit | None = None
) -> AsyncIterator[tuple[Server[Any], Callable[[SessionId], None]]]:
    """Have a server for the block, and what is to be called when files of a session change."""
    handlers = Handlers(door, local)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handlers.subscriptions.run)
        yield build_server(door, handlers), handlers.note_change
        nursery.cancel_scope.cancel()
