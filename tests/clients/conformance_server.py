"""The fixtures that the protocol's conformance suite asks for, served by our own transport. Only for tests.

``python -m tests.clients.conformance_server`` prints where it listens.
"""

from __future__ import annotations

import base64
import json
import struct
import warnings
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    ContentBlock,
    EmbeddedResource,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    ImageContent,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    Tool,
    UnsubscribeRequestParams,
)

from mcp_server.services import DoorSettings
from mcp_server.transport import McpApp
from supervisor.identity.credentials import Credentials
from supervisor.serving.server import serve

Context = ServerRequestContext[Any, Any]


def png() -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    ).decode()


WAV = base64.b64encode(
    b"RIFF"
    + struct.pack("<I", 36)
    + b"WAVEfmt "
    + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    + b"data\0\0\0\0"
).decode()
IMAGE = ImageContent(type="image", data=png(), mime_type="image/png")


def said(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def embedded(uri: str, kind: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text))


Tooling = Callable[[Context, dict[str, Any]], Awaitable[list[ContentBlock]]]
TOOLS: dict[str, tuple[dict[str, Any], Tooling]] = {}


def tool(**properties: Any) -> Callable[[Tooling], Tooling]:
    def register(run: Tooling) -> Tooling:
        schema = {"type": "object", "properties": properties, "required": list(properties)}
        TOOLS[run.__name__] = (schema, run)
        return run

    return register


@tool()
async def test_simple_text(_context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    return [said("This is a simple text response for testing.")]


@tool()
async def test_image_content(_context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    return [IMAGE]


@tool()
async def test_audio_content(_context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


@tool()
async def test_embedded_resource(_context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@tool()
async def test_multiple_content_types(_context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    mixed = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return [said("Multiple content types test:"), IMAGE, mixed]


@tool()
async def test_tool_with_logging(context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.session.send_log_message("info", message, related_request_id=context.request_id)
        await trio.sleep(0.05)
    return [said("Done")]


@tool()
async def test_tool_with_progress(context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    for progress in (0, 50, 100):
        await context.session.report_progress(progress, 100, None)
        await trio.sleep(0.05)
    return [said("Done")]


@tool()
async def test_error_handling(_context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    raise ValueError("This tool intentionally returns an error for testing")


@tool(prompt={"type": "string"})
async def test_sampling(context: Context, given: dict[str, Any]) -> list[ContentBlock]:
    asked = SamplingMessage(role="user", content=said(given["prompt"]))
    answer = await context.session.create_message([asked], max_tokens=100, related_request_id=context.request_id)
    content: Any = answer.content
    return [said(f"LLM response: {content.text}")]


async def elicited(context: Context, message: str, properties: dict[str, Any], required: list[str]) -> str:
    schema = {"type": "object", "properties": properties, "required": required}
    answer = await context.session.elicit(message, schema, context.request_id)
    return f"action={answer.action}, content={json.dumps(answer.content)}"


@tool(message={"type": "string"})
async def test_elicitation(context: Context, given: dict[str, Any]) -> list[ContentBlock]:
    properties = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    return [said(f"User response: {await elicited(context, given['message'], properties, ['username', 'email'])}")]


@tool()
async def test_elicitation_sep1034_defaults(context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return [said(f"Elicitation completed: {await elicited(context, 'Defaults', properties, [])}")]


@tool()
async def test_elicitation_sep1330_enums(context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    def titled(first: str, word: str) -> list[dict[str, str]]:
        return [
            {"const": f"{first}{n}", "title": f"{name} {word}"}
            for n, name in enumerate(("First", "Second", "Third"), 1)
        ]

    properties = {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": titled("value", "Option")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("value", "Choice")}},
    }
    return [said(f"Elicitation completed: {await elicited(context, 'Enums', properties, [])}")]


@tool()
async def test_reconnection(context: Context, _given: dict[str, Any]) -> list[ContentBlock]:
    if context.close_sse_stream is not None:
        await context.close_sse_stream()
    await trio.sleep(0.1)
    return [said("Reconnected")]


SCHEMA_2020 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}


async def list_tools(_context: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
    listed = [
        Tool(name=name, description=f"Fixture {name}", input_schema=schema) for name, (schema, _) in TOOLS.items()
    ]
    strict = Tool(
        name="json_schema_2020_12_tool", description="Tool with JSON Schema 2020-12 features", input_schema=SCHEMA_2020
    )
    return ListToolsResult(tools=[*listed, strict])


async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            return CallToolResult(content=await TOOLS[params.name][1](context, params.arguments or {}))
    except ValueError as error:
        return CallToolResult(content=[said(str(error))], is_error=True)


async def list_resources(_context: Context, _params: PaginatedRequestParams | None) -> ListResourcesResult:
    return ListResourcesResult(
        resources=[
            Resource(uri="test://static-text", name="Static text", mime_type="text/plain"),
            Resource(uri="test://static-binary", name="Static binary", mime_type="image/png"),
            Resource(uri="test://watched-resource", name="Watched", mime_type="text/plain"),
        ]
    )


async def list_templates(_context: Context, _params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
    template = ResourceTemplate(uri_template="test://template/{id}/data", name="Template", mime_type="application/json")
    return ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(_context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    uri = str(params.uri)
    if uri == "test://static-binary":
        return ReadResourceResult(contents=[BlobResourceContents(uri=uri, mime_type="image/png", blob=png())])
    texts = {
        "test://static-text": ("text/plain", "This is the content of the static text resource."),
        "test://watched-resource": ("text/plain", "Watched"),
    }
    if uri.startswith("test://template/"):
        number = uri.split("/")[3]
        texts[uri] = (
            "application/json",
            json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"}),
        )
    if uri not in texts:
        raise MCPError(-32002, "Resource not found")
    kind, text = texts[uri]
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=kind, text=text)])


async def subscribe(_context: Context, _params: SubscribeRequestParams) -> EmptyResult:
    return EmptyResult()


async def unsubscribe(_context: Context, _params: UnsubscribeRequestParams) -> EmptyResult:
    return EmptyResult()


async def set_level(_context: Context, _params: SetLevelRequestParams) -> EmptyResult:
    return EmptyResult()


async def complete(_context: Context, _params: CompleteRequestParams) -> CompleteResult:
    return CompleteResult(completion=Completion(values=["paris", "park", "party"], total=3, has_more=False))


PROMPTS = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
}


async def list_prompts(_context: Context, _params: PaginatedRequestParams | None) -> ListPromptsResult:
    return ListPromptsResult(
        prompts=[
            Prompt(
                name=name, description=name, arguments=[PromptArgument(name=each, required=True) for each in arguments]
            )
            for name, arguments in PROMPTS.items()
        ]
    )


async def get_prompt(_context: Context, params: GetPromptRequestParams) -> GetPromptResult:
    given = params.arguments or {}
    contents: dict[str, list[ContentBlock]] = {
        "test_simple_prompt": [said("This is a simple prompt for testing.")],
        "test_prompt_with_arguments": [
            said(f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'")
        ],
        "test_prompt_with_embedded_resource": [
            embedded(given.get("resourceUri", ""), "text/plain", "Embedded resource content for testing."),
            said("Please process the embedded resource above."),
        ],
        "test_prompt_with_image": [IMAGE, said("Please analyze the image above.")],
    }
    return GetPromptResult(messages=[PromptMessage(role="user", content=each) for each in contents[params.name]])


class _Door:
    """So much of a door as the transport looks at."""

    credentials = Credentials(None, None)
    settings = DoorSettings(
        body_bytes=4 << 20,
        code_characters=1,
        base64_bytes=1,
        sessions=100,
        sessions_per_user=100,
        idle_seconds=600,
        resume_seconds=15,
        text_bytes=1,
        image_pixels=1,
        image_bytes=1,
        inline_bytes=1,
        display_bytes=1,
        recent_bytes=1,
        wall_seconds=1,
        queue_seconds=1,
        allowed_hosts=frozenset(),
        allowed_origins=frozenset(),
        public_url="",
        authorization_server="",
        stateful=True,
    )


async def main() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        server: Server[Any] = Server(
            "conformance",
            version="1",
            on_list_tools=list_tools,
            on_call_tool=call_tool,
            on_list_resources=list_resources,
            on_list_resource_templates=list_templates,
            on_read_resource=read_resource,
            on_subscribe_resource=subscribe,
            on_unsubscribe_resource=unsubscribe,
            on_list_prompts=list_prompts,
            on_get_prompt=get_prompt,
            on_completion=complete,
            on_set_logging_level=set_level,
        )
    app: Any = McpApp(server, _Door())  # type: ignore[arg-type]
    config = Config()
    config.bind = ["127.0.0.1:0"]
    async with app.run(), trio.open_nursery() as nursery:
        bound = await nursery.start(lambda task_status: serve(app, config, task_status=task_status))
        print(bound[0], flush=True)


if __name__ == "__main__":
    trio.run(main)
