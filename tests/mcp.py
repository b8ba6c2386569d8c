"""Talk to a daemon's MCP door: with the official client, and with bare HTTP where clients are too polite."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ImageContent, ResourceLink, TextContent

from tests.daemon import KEY, Answer, Daemon

ERAS = ("legacy", "2026-07-28")


@dataclass
class Result:
    """A result of a tool, easy to look at."""

    raw: CallToolResult

    @property
    def data(self) -> dict[str, Any]:
        assert not self.raw.is_error, self.text
        return cast("dict[str, Any]", self.raw.structured_content)

    @property
    def texts(self) -> list[str]:
        return [block.text for block in self.raw.content if isinstance(block, TextContent)]

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    @property
    def images(self) -> list[ImageContent]:
        return [block for block in self.raw.content if isinstance(block, ImageContent)]

    @property
    def links(self) -> list[ResourceLink]:
        return [block for block in self.raw.content if isinstance(block, ResourceLink)]

    @property
    def refusal(self) -> str:
        assert self.raw.is_error, self.text
        return self.text


@dataclass
class Agent:
    """A client with its connection."""

    client: Client

    async def call(self, tool: str, **arguments: Any) -> Result:
        return Result(await self.client.call_tool(tool, arguments))


@asynccontextmanager
async def connected(
    daemon: Daemon,
    *,
    user: str | None = "ann",
    conversation: str | None = "",
    mode: str = "2026-07-28",
    key: str = KEY,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Agent]:
    """Connect as LibreChat does: a user, a conversation (a new one unless it is named, none for ``None``)."""
    sent = {"Authorization": f"Bearer {key}", **(headers or {})}
    if user is not None:
        sent["X-User-Id"] = user
    if conversation is not None:
        sent["X-Conversation-Id"] = conversation or secrets.token_hex(8)
    socket = daemon.address.removeprefix("unix:") if daemon.address.startswith("unix:") else None
    wire = httpx2.AsyncHTTPTransport(uds=socket)
    async with httpx2.AsyncClient(headers=sent, timeout=daemon.patience, transport=wire) as http:
        base = daemon.base_url if socket is None else "http://localhost"
        transport = streamable_http_client(f"{base}/mcp", http_client=http)
        async with Client(transport, mode=mode, cache=None, **options) as client:
            yield Agent(client)


def post(
    daemon: Daemon,
    message: object,
    *,
    headers: Mapping[str, str] | None = None,
    key: str | None = KEY,
    session: str | None = None,
) -> Answer:
    """Send one JSON-RPC message as bare HTTP of the handshake era."""
    sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"} | dict(headers or {})
    if session is not None:
        sent["Mcp-Session-Id"] = session
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return daemon.request("POST", "/mcp", body, sent, key=key)


def initialize(daemon: Daemon, **options: Any) -> str:
    """Open an MCP session by hand; give its id."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    answer = post(daemon, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, **options)
    assert answer.status == 200, answer.body
    session = str(answer.headers["mcp-session-id"])
    done = post(daemon, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session=session, **options)
    assert done.status == 202
    return session


def events(body: bytes) -> list[tuple[str, Any]]:
    """Read server-sent events: (id, JSON), without those that have no data."""
    found = []
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if fields.get("data"):
            found.append((fields.get("id", ""), json.loads(fields["data"])))
    return found


def png_size(image: ImageContent) -> tuple[int, int]:
    data = base64.b64decode(image.data)
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
