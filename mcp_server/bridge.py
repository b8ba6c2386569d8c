"""A server on stdio that passes everything on to a running daemon: the same tools, sessions and files as over HTTP."""

from __future__ import annotations

import logging
import secrets
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import httpx2
import trio
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    LoggingMessageNotificationParams,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    ResourceUpdatedNotification,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)

from mcp_server.transport import CONVERSATION_HEADER

log: Final = logging.getLogger("gaoler.mcp.bridge")

_T = TypeVar("_T")
_Context = ServerRequestContext[Any, Any]
TIMEOUT: Final = httpx2.Timeout(30.0, read=None)
"""A tool may be silent for as long as it works; the daemon has a deadline for each."""


class Remote:
    """The connection to the daemon, made anew when it has been lost. :meth:`run` is its task."""

    def __init__(self, url: str, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
        self._url = url
        self._tls = tls
        # One conversation for this process, also over a restart of the daemon.
        self._headers = {**headers, CONVERSATION_HEADER: headers.get(CONVERSATION_HEADER) or secrets.token_urlsafe(12)}
        self._client: Client | None = None
        self._changed = trio.Event()
        self._lost = trio.Event()
        self._failure: Exception | None = None
        self.listener: ServerSession | None = None
        """Who is told of what the daemon says by itself."""
        self.instructions = ""

    async def run(self) -> None:
        """Keep a connection while the block around lasts."""
        while True:
            self._lost = trio.Event()
            try:
                trust = True if self._tls is None else self._tls
                async with httpx2.AsyncClient(headers=self._headers, timeout=TIMEOUT, verify=trust) as http:
                    transport = streamable_http_client(self._url, http_client=http)
                    async with Client(
                        transport, mode="legacy", logging_callback=self._log, message_handler=self._notify, cache=None
                    ) as self._client:
                        self.instructions = self._client.instructions or ""
                        self._tell(None)
                        await self._lost.wait()
            except* (httpx2.HTTPError, MCPError, OSError) as group:
                found: BaseException = group
                while isinstance(found, BaseExceptionGroup):
                    found = found.exceptions[0]
                self._client = None
                self._tell(found if isinstance(found, Exception) else None)
                await trio.sleep(0.5)
            self._client = None

    def _tell(self, failure: Exception | None) -> None:
        self._failure = failure
        self._changed.set()
        self._changed = trio.Event()

    async def client(self) -> Client:
        """Give a connection.

        Raises:
            MCPError: there is none to be had.
        """
        with trio.move_on_after(10):
            while self._client is None:
                await self._changed.wait()
                if self._failure is not None:
                    break
        if self._client is None:
            raise MCPError(-32000, f"the daemon at {self._url} cannot be reached: {self._failure}")
        return self._client

    async def ask(self, question: Callable[[Client], Awaitable[_T]]) -> _T:
        """Ask; if the daemon has forgotten this connection (it was restarted), with a new one, once.

        What may have been done is never asked again.

        Raises:
            MCPError: what the daemon answers; it cannot be reached.
        """
        client = await self.client()
        try:
            return await question(client)
        except MCPError as error:
            if error.error.code != INVALID_REQUEST or not _forgotten(error):
                raise
        except (httpx2.HTTPError, trio.ClosedResourceError, trio.BrokenResourceError) as error:
            self._renew(client)
            raise MCPError(
                INTERNAL_ERROR, "the connection to the daemon was lost; what was asked may have been done"
            ) from error
        self._renew(client)
        return await question(await self.client())

    def _renew(self, client: Client) -> None:
        """Connect anew, unless somebody has already."""
        if self._client is client:
            self._client = None
            self._lost.set()

    async def _log(self, params: LoggingMessageNotificationParams) -> None:
        if self.listener is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MCPDeprecationWarning)
                await self.listener.send_log_message(params.level, params.data, params.logger)

    async def _notify(self, message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification) and self.listener is not None:
            await self.listener.send_resource_updated(message.params.uri)


def _forgotten(error: MCPError) -> bool:
    """Say whether the transport was told that its MCP session is not there (any more)."""
    return str(error) in ("Session terminated", "Session not found")


class Bridge:
    """Handlers that pass on."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def list_tools(self, context: _Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        """Pass on."""
        self._remote.listener = context.session
        return await self._remote.ask(lambda client: client.list_tools(cursor=params.cursor if params else None))

    async def call_tool(self, context: _Context, params: CallToolRequestParams) -> CallToolResult:
        """Pass on, with progress; cancelling cancels there."""
        self._remote.listener = context.session

        async def told(progress: float, total: float | None, message: str | None) -> None:
            await context.session.report_progress(progress, total, message)

        asked = "progress_token" in (context.meta or {})
        return await self._remote.ask(
            lambda client: client.call_tool(
                params.name, params.arguments or {}, progress_callback=told if asked else None
            )
        )

    async def list_resources(self, _context: _Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        """Pass on."""
        return await self._remote.ask(lambda client: client.list_resources(cursor=params.cursor if params else None))

    async def list_templates(
        self, _context: _Context, params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """Pass on."""
        return await self._remote.ask(
            lambda client: client.list_resource_templates(cursor=params.cursor if params else None)
        )

    async def read_resource(self, _context: _Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """Pass on."""
        return await self._remote.ask(lambda client: client.read_resource(str(params.uri)))

    async def subscribe(self, context: _Context, params: SubscribeRequestParams) -> EmptyResult:
        """Pass on."""
        self._remote.listener = context.session
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            return await self._remote.ask(lambda client: client.subscribe_resource(str(params.uri)))

    async def unsubscribe(self, _context: _Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Pass on."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            return await self._remote.ask(lambda client: client.unsubscribe_resource(str(params.uri)))

    async def set_level(self, context: _Context, params: SetLevelRequestParams) -> EmptyResult:
        """Pass on."""
        self._remote.listener = context.session
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            return await self._remote.ask(lambda client: client.set_logging_level(params.level))


@asynccontextmanager
async def open_bridge(
    url: str, headers: Mapping[str, str], version: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server[Any]]:
    """Have a server for the block that passes everything on to the daemon at ``url``.

    ``tls``: whom to trust, and the certificate to show; ``None``: what the client does by itself.

    Raises:
        MCPError: it cannot be reached, or does not let us in.
    """
    remote = Remote(url, headers, tls)
    bridge = Bridge(remote)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(remote.run)
        await remote.client()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            server = Server(
                "gaoler",
                version=version,
                title="Gaoler",
                instructions=remote.instructions,
                on_list_tools=bridge.list_tools,
                on_call_tool=bridge.call_tool,
                on_list_resources=bridge.list_resources,
                on_list_resource_templates=bridge.list_templates,
                on_read_resource=bridge.read_resource,
                on_subscribe_resource=bridge.subscribe,
                on_unsubscribe_resource=bridge.unsubscribe,
                on_set_logging_level=bridge.set_level,
            )
        yield server
        nursery.cancel_scope.cancel()
