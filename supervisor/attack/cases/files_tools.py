"""What the cases about files share: the tools of the MCP door, an answer that is read slowly, and sessions."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import h11
import msgspec
import trio

from supervisor.attack import wire
from supervisor.attack.case import Broken, Untried
from supervisor.attack.target import REQUEST_SECONDS, Caller, Target
from supervisor.attack.wire import Answer

_PROTOCOL: Final = "2025-11-25"
_DOWNLOADS: Final = 5
"""So often may a file be away when it is asked for, and back when the listing is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool gave back. ``refusal``: why it did not do it, ``None`` if it did."""

    refusal: str | None
    data: dict[str, Any]
    answer: Answer


class Tools:
    """The tools of one conversation. Use :func:`open_tools`."""

    def __init__(self, target: Target, caller: Caller | None, user: str | None, connection: str) -> None:
        self._target = target
        self._caller = caller
        self._user = user
        self._conversation = secrets.token_hex(8)
        self._connection = connection
        self._calls = 0

    async def try_call(self, tool: str, **arguments: Any) -> Outcome:
        """Call a tool, whatever comes of it. A session that is named in the result is deleted with the case's."""
        self._calls += 1
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": self._calls, "method": "tools/call", "params": params}
        answer = await _send(self._target, message, self.headers, self._caller, self._user)
        result, refusal = _result(answer)
        data = result.get("structuredContent") or {}
        session = data.get("session")
        if session and refusal is None:
            user = self._target.user if self._user is None else self._user
            self._target.sessions.setdefault(session, (self._caller or self._target.me, user))
        return Outcome(refusal, data, answer)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that has to do what is asked.

        Raises:
            Broken: it does not.
        """
        outcome = await self.try_call(tool, **arguments)
        if outcome.refusal is not None:
            raise Broken(f"an ordinary call of {tool} is refused: {outcome.refusal[:200]}")
        return outcome.data

    @property
    def headers(self) -> dict[str, str]:
        """Of each request."""
        return {"Mcp-Session-Id": self._connection, "X-Conversation-Id": self._conversation}


@asynccontextmanager
async def open_tools(target: Target, *, caller: Caller | None = None, user: str | None = None) -> AsyncIterator[Tools]:
    """Have the tools of the MCP door for the block, in a conversation of its own.

    Raises:
        Untried: the door is closed.
        Broken: it does not open as it has to.
    """
    params = {
        "protocolVersion": _PROTOCOL,
        "capabilities": {},
        "clientInfo": {"name": "gaoler attack", "version": "1"},
    }
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answer = await _send(target, hello, {}, caller, user)
    if answer.status == 404:
        raise Untried("the MCP door is closed (mcp.enabled = false)")
    connection = answer.headers.get("mcp-session-id")
    if answer.status != 200 or connection is None:
        raise Broken(f"the MCP door answers a greeting with {answer.status}: {answer.body[:200]!r}")
    tools = Tools(target, caller, user, connection)
    await _send(target, {"jsonrpc": "2.0", "method": "notifications/initialized"}, tools.headers, caller, user)
    try:
        yield tools
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(REQUEST_SECONDS):
            await target.request("DELETE", "/mcp", headers=tools.headers, caller=caller, user=user)


async def _send(target: Target, message: Any, more: dict[str, str], caller: Caller | None, user: str | None) -> Answer:
    headers = {"Accept": "application/json, text/event-stream", **more}
    return await target.post("/mcp", message, headers=headers, caller=caller, user=user)


def _result(answer: Answer) -> tuple[dict[str, Any], str | None]:
    """Read the result of a call out of JSON or an event stream; the second value says why it is none."""
    if answer.status != 200:
        return {}, f"status {answer.status}: {answer.body[:200]!r}"
    for line in answer.body.splitlines():
        text = line.removeprefix(b"data:").strip()
        if not text.startswith(b"{"):
            continue
        message = msgspec.json.decode(text)
        if "error" in message:
            return {}, str(message["error"].get("message"))
        if "result" in message:
            result = message["result"]
            said = " ".join(str(block.get("text", "")) for block in result.get("content", []))
            return result, said if result.get("isError") else None
    return {}, "there is no result"


class SlowAnswer:
    """An answer of which only the beginning was read. Use :func:`open_slowly`."""

    def __init__(self, stream: trio.SocketStream, machine: h11.Connection) -> None:
        self._stream = stream
        self._machine = machine

    async def begin(self) -> None:
        """Read a first piece: from now on the daemon is in the middle of it."""
        self._machine.receive_data(bytes(await self._stream.receive_some(1)))

    async def rest(self) -> Answer:
        """Read on to the end.

        Raises:
            Broken: the end comes too early, or not at all.
        """
        with trio.move_on_after(REQUEST_SECONDS):
            return await wire.read_answer(self._stream, self._machine)
        raise Broken("an answer that was begun does not end")


@asynccontextmanager
async def open_slowly(target: Target, path: str) -> AsyncIterator[SlowAnswer]:
    """Ask for something and read it when it suits us; the connection is closed at the end of the block."""
    headers = {"Connection": "close", "X-API-Key": target.me.key, "X-User-Id": target.user}
    async with await wire.connect(target.address) as stream:
        machine = await wire.send_request(stream, "GET", path, headers, b"")
        slow = SlowAnswer(stream, machine)
        await slow.begin()
        yield slow


async def new_session(target: Target, *files: tuple[str, bytes]) -> str:
    """Make a session with these files.

    Raises:
        Broken: they are refused.
    """
    answer = await target.upload(*files)
    if answer.status != 200:
        raise Broken(f"an ordinary upload is answered with {answer.status}: {answer.body[:200]!r}")
    return str(answer.json["session_id"])


async def listed(target: Target, session: str) -> dict[str, dict[str, Any]]:
    """Give the files of a session by name, as the full listing describes them."""
    answer = await target.request("GET", f"/v1/files/{session}?detail=full")
    if answer.status != 200:
        raise Broken(f"a listing is answered with {answer.status}: {answer.body[:200]!r}")
    return {row["metadata"]["original-filename"]: row for row in answer.json}


async def content(target: Target, session: str, file: str) -> bytes:
    """Download a file that has to be there.

    Raises:
        Broken: it is not.
    """
    answer = await target.request("GET", f"/v1/download/{session}/{file}")
    if answer.status != 200:
        raise Broken(f"a download is answered with {answer.status}: {answer.body[:200]!r}")
    return answer.body


async def content_unless_gone(target: Target, session: str, file: str) -> bytes | None:
    """Download a file that the sandbox may be removing or replacing; ``None``: it is not listed any more either.

    Raises:
        Broken: it is listed, and cannot be had.
    """
    tries = 0
    while True:
        try:
            return await content(target, session, file)
        except Broken:
            tries += 1
            if file not in {row["id"] for row in (await listed(target, session)).values()}:
                return None
            if tries == _DOWNLOADS:  # it is not one that was gone for a moment
                raise
