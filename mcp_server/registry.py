"""How a tool is described and called: its input and output are types, its schemas and errors follow from them."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

import msgspec
from mcp.server.context import ServerRequestContext
from mcp_types import CallToolResult, ContentBlock, TextContent, Tool, ToolAnnotations
from msgspec import Struct

from mcp_server.recent import Recent
from mcp_server.services import Door
from mcp_server.visit import Visit, checked_session, no_session
from supervisor.errors import InvalidRequest
from supervisor.execution.values import Principal, SessionId
from supervisor.identity.access import owner_of

_In = TypeVar("_In", bound=Struct)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `([^`]*)`")
_MISSING: Final = re.compile(r"Object missing required field `([^`]*)`")


class Input(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all inputs."""


class Output(Struct, frozen=True):
    """Base of all outputs: what is in ``structuredContent``."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a tool gives back: data, and the same for a reader; ``is_error``: what was asked for did not come about."""

    output: Output
    content: list[ContentBlock]
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool, with what it works with."""

    door: Door
    recent: Recent
    visit: Visit
    context: ServerRequestContext[Any, Any]

    @property
    def principal(self) -> Principal:
        """Who calls."""
        return self.visit.principal

    async def session(self, named: str | None) -> SessionId:
        """Give the session that was named, or that of the conversation, which has to exist.

        Raises:
            InvalidRequest, NotFound: it cannot be one, or is not the caller's.
        """
        if named is not None:
            session_id = checked_session(named)
            await self.door.sessions.session(self.principal, session_id)
            return session_id
        default = self.visit.default_session(self.door.ids)
        if default is None:
            raise no_session()
        await self.door.sessions.create_session(owner_of(self.principal), default)
        return default

    async def session_or_new(self, named: str | None) -> SessionId:
        """As :meth:`session`; where nothing holds the calls together, a new one."""
        if named is None and self.visit.default_session(self.door.ids) is None:
            return await self.door.sessions.create_session(owner_of(self.principal))
        return await self.session(named)


Handler = Callable[[Call, _In], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class ToolEntry(Generic[_In]):
    """One tool: how it is described, and what does it."""

    tool: Tool
    input: type[_In]
    run: Handler[_In]
    rate: str
    deadline_seconds: float | None
    """``None``: that of executions."""

    def decode(self, arguments: Mapping[str, Any]) -> _In:
        """Read the arguments.

        Raises:
            InvalidRequest: they are not what the schema says; the message names the field and the rule.
        """
        try:
            return msgspec.convert(arguments, self.input)
        except msgspec.ValidationError as error:
            raise _explained(error, self.input) from None


@dataclass(slots=True)
class Registry:
    """The tools by name."""

    entries: dict[str, ToolEntry[Any]] = field(default_factory=dict)

    def tool(
        self,
        input_type: type[_In],
        output_type: type[Output],
        *,
        title: str,
        rate: str,
        read_only: bool = False,
        destructive: bool = False,
        idempotent: bool = False,
        open_world: bool = False,
        deadline_seconds: float | None = 60.0,
    ) -> Callable[[Handler[_In]], Handler[_In]]:
        """Register the function; its name is the tool's, its docstring what a model reads."""

        def register(run: Handler[_In]) -> Handler[_In]:
            name = cast("Any", run).__name__
            described = Tool(
                name=name,
                title=title,
                description=inspect.cleandoc(run.__doc__ or ""),
                input_schema=schema_of(input_type),
                output_schema=schema_of(output_type, nulls=True),
                annotations=ToolAnnotations(
                    title=title,
                    read_only_hint=read_only,
                    destructive_hint=destructive,
                    idempotent_hint=idempotent,
                    open_world_hint=open_world,
                ),
            )
            self.entries[name] = ToolEntry(described, input_type, run, rate, deadline_seconds)
            return run

        return register


def text(content: str) -> TextContent:
    """Make a block of text."""
    return TextContent(type="text", text=content)


def result_of(reply: Reply) -> CallToolResult:
    """Put a reply into the protocol's words."""
    return CallToolResult(
        content=reply.content, structured_content=msgspec.to_builtins(reply.output), is_error=reply.is_error
    )


# -- schemas --


def schema_of(kind: type[Struct], *, nulls: bool = False) -> dict[str, Any]:
    """Give the JSON Schema of a type, without references: not every client follows them.

    Without ``nulls`` what may be left out is not said to be possibly null too (which it may): schemas that say so are
    refused by some models' interfaces.
    """
    schema = msgspec.json.schema(kind)
    definitions = schema.pop("$defs", {})
    plain = cast("dict[str, Any]", _plain(schema, definitions, nulls=nulls))
    plain.pop("description", None)
    return plain


def _plain(node: Any, definitions: Mapping[str, Any], *, nulls: bool) -> Any:
    if isinstance(node, list):
        return [_plain(each, definitions, nulls=nulls) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        named = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        return _plain(named, definitions, nulls=nulls)
    found = {key: _plain(value, definitions, nulls=nulls) for key, value in node.items()}
    choices = found.get("anyOf")
    if isinstance(choices, list) and not nulls:
        real = [each for each in choices if each != {"type": "null"}]
        if len(real) == 1 and len(choices) == 2:
            del found["anyOf"]
            found = {**real[0], **found}
    if not nulls and found.get("default", 0) is None:
        del found["default"]
    if found.get("type") == "object":
        found.pop("title", None)
    return found


def _explained(error: msgspec.ValidationError, kind: type[Struct]) -> InvalidRequest:
    message = str(error)
    where = message.partition(" - at `$")[2].rstrip("`").lstrip(".")
    said = message.partition(" - at `")[0]
    fields = [each.encode_name for each in msgspec.structs.fields(kind)]
    unknown = _UNKNOWN.search(message)
    if unknown and not where:
        name = unknown[1]
        close = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return InvalidRequest(f"there is no such argument; {hint}there are {', '.join(fields)}", field=name[:100])
    missing = _MISSING.search(message)
    if missing and not where:
        return InvalidRequest("this argument is required", field=missing[1])
    return InvalidRequest(said.lower().replace("`", ""), field=where or "arguments")
