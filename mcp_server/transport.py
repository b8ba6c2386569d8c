"""Streamable HTTP at ``/mcp``: who may come in, who it is, and which MCP session belongs to whom.

The official SDK speaks the protocol, both eras of it. Before it sees a request here are checked: the Host and Origin
headers (a page in a browser must not reach us by a name that leads to loopback), the credential, and the size.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import msgspec
import trio
from mcp.server import Server
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, AuthorizationContext
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http import EventStore, StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from mcp_server.events import EventBudget, SessionEvents
from mcp_server.sending import OneAnswer
from mcp_server.services import Door, DoorSettings
from mcp_server.visit import SCOPE_KEY, Exchange, Visit
from supervisor.errors import Busy, Forbidden, GaolerError, InvalidRequest, Unauthenticated
from supervisor.execution.request_context import begin_request, current_request, trace_headers
from supervisor.execution.values import Principal
from supervisor.identity.credentials import plain, principal_of
from supervisor.serving.addresses import PREFIX_KEY, address_of

log: Final = logging.getLogger("gaoler.mcp")

PATH: Final = "/mcp"
METADATA: Final = "/.well-known/oauth-protected-resource"
CONVERSATION_HEADER: Final = "X-Conversation-Id"
SESSION_HEADER: Final = "mcp-session-id"
MAX_CONVERSATION: Final = 256
RETRY_MILLISECONDS: Final = 500
"""After so long a client should take a lost stream up again."""
DISCARD_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 60.0
MAX_ID_BYTES: Final = 256
DISCARD_BYTES: Final = 32 << 20
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_INVALID_REQUEST: Final = -32600


class _WithId(msgspec.Struct):
    id: str = ""


class _WithMethod(msgspec.Struct):
    method: str = ""


_id_decoder: Final = msgspec.json.Decoder(_WithId)
_method_decoder: Final = msgspec.json.Decoder(_WithMethod)


class SessionManager(StreamableHTTPSessionManager):
    """The SDK's, with events for each session by itself, and so many sessions for each caller."""

    def __init__(self, server: Server[Any], settings: DoorSettings) -> None:
        self._per_caller = settings.sessions_per_user
        self._budget = EventBudget()
        super().__init__(
            server,
            max_request_body_size=settings.body_bytes,
            session_idle_timeout=settings.idle_seconds,
            retry_interval=RETRY_MILLISECONDS,
            max_sessions=settings.sessions,
        )

    @property
    def event_store(self) -> EventStore:  # the SDK reads it once for each session that it makes
        """Give a new store: one session must not see another's events."""
        return SessionEvents(self._budget)

    @event_store.setter
    def event_store(self, _value: EventStore | None) -> None:
        """There is no common one."""

    def events_of(self, session_id: str | None) -> SessionEvents | None:
        """Give the store of a session."""
        transport = self._server_instances.get(session_id or "")
        store = None if transport is None else transport._event_store  # noqa: SLF001 - the SDK has no other way
        return store if isinstance(store, SessionEvents) else None

    def _admit_session(self, requestor: AuthorizationContext | None) -> StreamableHTTPServerTransport | None:
        """A caller who has opened too many and forgotten them loses the oldest one that is idle."""
        own = [name for name, owner in self._session_owners.items() if owner == requestor]
        if len(own) >= self._per_caller:
            idle = next((name for name in own if not self._server_instances[name]._requests_in_flight), None)  # noqa: SLF001
            if idle is None:
                return None
            transport = self._server_instances[idle]
            self._let_go(transport)
            del self._server_instances[idle], self._session_owners[idle]
            tasks: Any = self._task_group
            tasks.start_soon(transport.terminate)
        return super()._admit_session(requestor)

    async def _discard_session(self, session_id: str, transport: StreamableHTTPServerTransport) -> None:
        """However it ends, nothing of it is held any longer."""
        self._let_go(transport)
        await super()._discard_session(session_id, transport)

    def _let_go(self, transport: StreamableHTTPServerTransport) -> None:
        store = transport._event_store  # noqa: SLF001 - as above
        if isinstance(store, SessionEvents):
            store.close()


class McpApp:
    """An ASGI application for the paths that :func:`serves` names. Enter :meth:`run` around its use, once."""

    def __init__(self, server: Server[Any], door: Door) -> None:
        self._door = door
        self._manager = SessionManager(server, door.settings)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve for the block; at its end every session is ended."""
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        request = begin_request(headers.get("x-request-id"), *trace_headers(headers.getlist))
        send = _named(send, request.request_id)
        if scope["path"].startswith(METADATA):
            await self._metadata(scope, send)
            return
        try:
            check_host(headers, self._door.settings)
            visit = self._visit(scope, headers)
        except (_Misdirected, Unauthenticated, Busy, Forbidden, InvalidRequest) as error:
            await _discard(receive)
            status, message, more = self._refusal(error, scope, headers)
            await _refuse(send, status, message, more)
            return
        exchange = visit.exchange
        assert exchange is not None
        exchange.events = self._manager.events_of(headers.get(SESSION_HEADER))
        principal = visit.principal
        token = AccessToken(
            token="-",  # noqa: S106 - nobody looks at it
            client_id=f"{principal.tenant}/{principal.credential}",
            scopes=[],
            subject=principal.user,
        )
        limit = self._door.settings.body_bytes
        body = await _read_body(receive, headers, limit)
        if body is None:
            await _refuse(send, 413, f"a request has at most {limit} bytes: mcp.body_bytes")
            return
        if _has_long_id(body):
            await _refuse(send, 400, f"an id or a method has at most {MAX_ID_BYTES} characters")
            return
        scope = {**scope, SCOPE_KEY: visit, "user": AuthenticatedUser(token)}
        answer = OneAnswer(send)
        try:
            await self._manager.handle_request(scope, _replaying(body, receive), answer)
        except anyio.ClosedResourceError:
            log.info("an MCP session ended under a request")
            if not answer.begun:
                await _refuse(answer, 404, "the session has ended")
        finally:
            exchange.gone.set()

    def _refusal(self, error: Exception, scope: Scope, headers: Headers) -> tuple[int, str, list[tuple[bytes, bytes]]]:
        """Say how a request is answered that does not come in: status, words, headers."""
        match error:
            case Unauthenticated():
                return 401, error.message, [(b"www-authenticate", self._challenge(scope, headers).encode())]
            case Busy():
                seconds = str(math.ceil(error.retry_after_seconds))
                return 429, error.message, [(b"retry-after", seconds.encode())]
            case GaolerError():
                return 403 if isinstance(error, Forbidden) else 400, _with_field(error), []
            case _:
                return 421, str(error), []

    def _visit(self, scope: Scope, headers: Headers) -> Visit:
        caller = self._door.credentials.authenticate(headers, address_of(scope))
        principal: Principal = principal_of(caller, headers)
        conversation = plain(headers.get(CONVERSATION_HEADER) or "")
        if len(conversation) > MAX_CONVERSATION:
            raise InvalidRequest(f"at most {MAX_CONVERSATION} characters", field=CONVERSATION_HEADER)
        session = headers.get(SESSION_HEADER)
        held = f"conversation {conversation}" if conversation else f"connection {session}" if session else None
        # The call itself is worked on by a task of its session's.
        request = current_request()
        said = (request.request_id, request.traceparent, request.tracestate) if request is not None else ()
        return Visit(principal, held, self._base_url(scope, headers), Exchange(), *said)

    def _base_url(self, scope: Scope, headers: Mapping[str, str]) -> str:
        if self._door.settings.public_url:
            return self._door.settings.public_url
        return f"{scope.get('scheme', 'http')}://{headers.get('host', 'localhost')}{scope.get(PREFIX_KEY, '')}"

    # -- OAuth: where a client gets a token --

    def _challenge(self, scope: Scope, headers: Headers) -> str:
        if not self._door.settings.authorization_server:
            return "Bearer"
        return f'Bearer resource_metadata="{self._base_url(scope, headers)}{METADATA}{PATH}"'

    async def _metadata(self, scope: Scope, send: Send) -> None:
        issuer = self._door.settings.authorization_server
        if not issuer or scope["path"] not in (METADATA, METADATA + PATH) or scope["method"] not in ("GET", "HEAD"):
            await _refuse(send, 404, "there is no OAuth metadata here")
            return
        body = {
            "resource": self._base_url(scope, Headers(scope=scope)) + PATH,
            "authorization_servers": [issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": "Gaoler",
        }
        await _answer(send, 200, body, [(b"access-control-allow-origin", b"*")])


def serves(path: str) -> bool:
    """Say whether a path is this door's."""
    return path == PATH or path.startswith((f"{PATH}/", METADATA))


def _named(send: Send, request_id: str) -> Send:
    """Put the id of the request into its answer."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
        await send(message)

    return named


class _Misdirected(Exception):
    """The Host header names somebody else."""


def check_host(headers: Mapping[str, str], settings: DoorSettings) -> None:
    """Refuse a Host that is not ours, and pages of other origins. An address cannot be rebound, so it is fine.

    Raises:
        _Misdirected: the Host is not allowed.
        Forbidden: the Origin is not.
    """
    host = headers.get("host", "")
    allowed = settings.allowed_hosts
    name = _host_name(host)
    if "*" not in allowed and not (name in _LOOPBACK or _is_address(name) or {name, host.lower()} & allowed):
        raise _Misdirected("this server does not answer to that Host; its operator can add it to mcp.allowed_hosts")
    origin = headers.get("origin")
    if origin is not None and origin not in settings.allowed_origins:
        parts = urlsplit(origin)
        own = parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
        if not own and _host_name(parts.netloc) not in _LOOPBACK:
            raise Forbidden("pages of this origin may not call; see mcp.allowed_origins", field="Origin")
        if not own and name not in _LOOPBACK:
            raise Forbidden("pages of this origin may not call; see mcp.allowed_origins", field="Origin")


def _host_name(host: str) -> str:
    text = host.lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_field(error: GaolerError) -> str:
    return f"{error.field}: {error.message}" if error.field else error.message


async def _read_body(receive: Receive, headers: Headers, limit: int) -> bytes | None:
    """Read a whole body; of one that is too large take what a client sends before it looks, and give ``None``."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        await _discard(receive)
        return None
    body = bytearray()
    while True:
        with trio.move_on_after(SILENT_SECONDS) as silence:
            message = await receive()
        if silence.cancelled_caught or message["type"] != "http.request":
            # Who sends nothing for so long has gone, or means harm; what there is will be no message.
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > limit:
            await _discard(receive)
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _has_long_id(body: bytes) -> bool:
    """Ids are held with their answers, an unknown method is said again in one; the SDK refuses what is no JSON."""
    return len(body) > MAX_ID_BYTES and (
        len(_text_in(body, _id_decoder, "id")) > MAX_ID_BYTES
        or len(_text_in(body, _method_decoder, "method")) > MAX_ID_BYTES
    )


def _text_in(body: bytes, decoder: msgspec.json.Decoder[_WithId] | msgspec.json.Decoder[_WithMethod], name: str) -> str:
    try:
        return str(getattr(decoder.decode(body), name))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Give the body as one message, then what comes after it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _discard(receive: Receive) -> None:
    """Take a body that nobody wants, within bounds: a client that still sends does not see the answer."""
    with trio.move_on_after(DISCARD_SECONDS):
        taken = 0
        while taken < DISCARD_BYTES:
            message = await receive()
            taken += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return


async def _refuse(send: Send, status: int, message: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": _INVALID_REQUEST, "message": message}}
    await _answer(send, status, error, headers or [])


async def _answer(send: Send, status: int, body: object, headers: list[tuple[bytes, bytes]]) -> None:
    content = json.dumps(body).encode()
    common = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"x-content-type-options", b"nosniff"),
        # The body may not have been read.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*common, *headers]})
    await send({"type": "http.response.body", "body": content})
