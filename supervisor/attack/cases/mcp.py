"""Group M: sessions of others, streams taken up again, cancellations, arguments, and what a model is told."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.attack import wire
from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.cases.http import head_of
from supervisor.attack.target import Target, eventually, together
from supervisor.attack.wire import Answer

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case
_OURS: Final = "Report it with the JSON of this run: this is a fault of Gaoler's own."
_ACCEPT: Final = "application/json, text/event-stream"
_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
_VERSION_LINE: Final = f"MCP-Protocol-Version: {_VERSIONS[-1]}\r\n"
LIST: Final = {"jsonrpc": "2.0", "id": 5, "method": "tools/list"}
_MANY_MESSAGES: Final = 300
_MOST_SESSIONS: Final = 512
_PARALLEL: Final = 6
_STREAM_SECONDS: Final = 4.0


async def post(target: Target, message: object, session: str | None = None, **who: Any) -> Answer:
    """Send one message; ``who`` as of :meth:`Target.request`."""
    headers = {"Content-Type": "application/json", "Accept": _ACCEPT, **who.pop("headers", {})}
    if session is not None:
        headers["Mcp-Session-Id"] = session
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return await target.request("POST", "/mcp", body, headers, **who)


async def initialize(target: Target, version: str = _VERSIONS[-1], **who: Any) -> tuple[str, str]:
    """Open an MCP session; give its id and the version that was agreed on.

    Raises:
        Untried: the MCP server is off.
        Broken: it cannot be opened.
    """
    if not target.settings.mcp.enabled:
        raise Untried("the MCP server is off (mcp.enabled = false)")
    about = {"name": "attack", "version": "1"}
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": about}
    answer = await post(target, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, **who)
    if answer.status != 200 or "mcp-session-id" not in answer.headers:
        raise Broken(f"a session is refused: {answer.status} {answer.body[:200]!r}")
    session = answer.headers["mcp-session-id"]
    await post(target, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session, **who)
    return session, str(of_answer(answer)["protocolVersion"])


@asynccontextmanager
async def opened(target: Target) -> AsyncIterator[str]:
    """Have an MCP session for the block; what it made in sandboxes goes with it."""
    session, _ = await initialize(target)
    try:
        yield session
    finally:
        with trio.move_on_after(10, shield=True):
            await post(target, call("close_session", delete_files=True), session)
            await target.request("DELETE", "/mcp", headers={"Mcp-Session-Id": session})


def messages_of(body: bytes) -> list[Any]:
    """Give the messages of an answer, events or plain JSON."""
    if body.lstrip().startswith(b"{"):
        return [json.loads(body)]
    lines = body.decode("utf-8", "replace").splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip()]


def of_answer(answer: Answer) -> Any:
    """Give the result in an answer.

    Raises:
        Broken: there is none.
    """
    for message in messages_of(answer.body):
        if "result" in message:
            return message["result"]
    raise Broken(f"no result: {answer.status} {answer.body[:300]!r}")


def call(tool: str, number: int = 9, **arguments: Any) -> dict[str, Any]:
    """Write a call of a tool."""
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


async def run(target: Target, session: str, code: str) -> dict[str, Any]:
    """Run Python code that has to be taken, and give the whole result."""
    result: dict[str, Any] = of_answer(await post(target, call("execute_code", code=code), session))
    if result.get("isError"):
        raise Broken(f"an ordinary call is refused: {str(result)[:200]}")
    return result


def _lives(target: Target, mark: str) -> bool:
    target.need_host_view()
    for pid in target.family():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in line:
            return True
    return False


_OTHERS: Final = "A caller works in another's MCP session: files, variables, output."


@_case(
    "M1",
    "sessions that are not there",
    promise="An MCP session that is unknown or has been closed is 404, so that the client opens a new one.",
    meaning="A client hangs on to a session that is lost, or gets somebody else's.",
    mend=_OURS,
)
async def unknown(target: Target) -> None:
    """Name sessions that never were, and one that is closed."""
    session, _ = await initialize(target)
    await target.request("DELETE", "/mcp", headers={"Mcp-Session-Id": session})
    for name in (session, "0" * 32, "x" * 2000, "../" * 9, "%00"):
        answer = await post(target, LIST, name)
        if answer.status not in (400, 404):
            raise Broken(f"session {name[:40]!r} is answered with {answer.status}")


@_case("M2", "sessions of others", promise="An MCP session is 404 for everybody else.", meaning=_OTHERS, mend=_OURS)
async def others(target: Target) -> None:
    """Use one as another user, another key, another tenant, and nobody."""
    async with opened(target) as session:
        strangers: dict[str, tuple[dict[str, Any], int]] = {
            "another user": ({"user": f"{target.user}-other"}, 404),
            "no user": ({"user": ""}, 404),
            "another key": ({"caller": target.colleague}, 404),
            "another tenant": ({"caller": target.stranger}, 404),
            "nobody": ({"anonymous": True}, 401),
        }
        for name, (who, status) in strangers.items():
            answer = await post(target, LIST, session, **who)
            gone = await target.request("DELETE", "/mcp", headers={"Mcp-Session-Id": session}, **who)
            if (answer.status, gone.status) != (status, status):
                raise Broken(f"{name} is answered with {answer.status} and {gone.status}")
        of_answer(await post(target, LIST, session))


async def _first_event(target: Target, message: object, session: str) -> str:
    """Send a message, read its stream up to the first id, and hang up."""
    body = json.dumps(message).encode()
    more = f"Content-Type: application/json\r\nAccept: {_ACCEPT}\r\nMcp-Session-Id: {session}\r\n{_VERSION_LINE}"
    head = head_of(target, path="/mcp", more=f"{more}Content-Length: {len(body)}\r\n\r\n")
    async with await wire.connect(target.address) as stream:
        await stream.send_all(head + body)
        taken = b""
        while piece := await stream.receive_some(4096):
            taken += piece
            for line in taken.split(b"\n")[:-1]:
                if line.startswith(b"id:"):
                    return line[3:].strip().decode()
    raise Broken(f"a stream without an id: {taken[:200]!r}")


async def _take_up(target: Target, session: str, event: str, until: bytes, **who: Any) -> bytes:
    """Take a stream up after an event, and read until something comes or it ends."""
    caller, user = who.get("caller", target.me), who.get("user", target.user)
    head = (
        f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {caller.key}\r\nX-User-Id: {user}\r\n"
        f"Accept: text/event-stream\r\nMcp-Session-Id: {session}\r\nLast-Event-ID: {event}\r\n{_VERSION_LINE}\r\n"
    )
    taken = b""
    async with await wire.connect(target.address) as stream:
        await stream.send_all(head.encode())
        with trio.move_on_after(_STREAM_SECONDS):
            while until not in taken and b"0\r\n\r\n" not in taken and (piece := await stream.receive_some(65_536)):
                taken += piece
                if not taken.startswith(b"HTTP/1.1 200"):
                    break
    return taken


@_case(
    "M3",
    "streams that are lost",
    promise="A lost stream is taken up again by its owner with everything, once; by nobody else, and by no forged id.",
    meaning="Output is lost or doubled, or read by another caller.",
    mend=_OURS,
)
async def streams(target: Target) -> str:
    """Drop one, take it up as its owner, as others, and with ids that were never given."""
    async with opened(target) as session:
        message = call("execute_code", 3, code="import time; time.sleep(0.5); print('the' + 'mark')")
        first = await _first_event(target, message, session)
        again = await _take_up(target, session, first, b'"result"')
        results = again.count(b'"result"')
        if b"themark" not in again or results != 1:
            raise Broken(f"its owner gets {results} results: {again[-300:]!r}")
        other, _ = await initialize(target, caller=target.colleague)
        tries = (
            await _take_up(target, session, first, b"themark", caller=target.colleague),
            await _take_up(target, other, first, b"themark", caller=target.colleague),
            *[await _take_up(target, session, forged, b"themark") for forged in ("x" * 2000, "../0", "-1", "9" * 30)],
        )
        await target.request("DELETE", "/mcp", headers={"Mcp-Session-Id": other}, caller=target.colleague)
        if any(b"themark" in each for each in tries):
            raise Broken("a stream is taken up by somebody else, or by an id that was never given")
    return "taken up by its owner, with one result"


@_case(
    "M4",
    "cancellations",
    promise="A call that is cancelled ends what it runs; a storm of cancellations ends nothing else.",
    meaning="Programs go on that nobody waits for.",
    mend=_OURS,
)
async def cancelled(target: Target) -> None:
    """Start a sleeper, cancel it among hundreds of cancellations of nothing."""
    mark = str(random.SystemRandom().randrange(10**9, 10**10))
    async with opened(target) as session, trio.open_nursery() as nursery:
        nursery.start_soon(partial(post, target, call("run_command", 77, command=f"exec sleep {mark}"), session))
        await eventually("the sleeper runs", lambda: _lives(target, mark))
        for number in range(_MANY_MESSAGES):
            params = {"requestId": number + 1000 if number != _MANY_MESSAGES - 1 else 77}
            message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
            answer = await post(target, message, session)
            if answer.status != 202:
                raise Broken(f"a cancellation is answered with {answer.status}")
        await eventually("the sleeper is dead", lambda: not _lives(target, mark))
        await run(target, session, "print(1)")
        nursery.cancel_scope.cancel()


@_case(
    "M8",
    "sessions that are forgotten",
    promise="A user who opens sessions without end loses the oldest ones; others lose none.",
    meaning="One user takes the memory, or every session.",
    mend="Lower mcp.sessions_per_user; report it.",
)
async def forgotten(target: Target) -> str:
    """Open more than one user may have."""
    allowed = target.settings.mcp.sessions_per_user
    if allowed > _MOST_SESSIONS:
        raise Untried(f"one user may have {allowed} sessions: too many to be tried on a daemon in use")
    careful, _ = await initialize(target, caller=target.colleague)
    sessions = [(await initialize(target))[0] for _ in range(allowed + 8)]
    try:
        statuses = [(await post(target, LIST, each)).status for each in (sessions[0], sessions[-1])]
        kept = (await post(target, LIST, careful, caller=target.colleague)).status
    finally:
        for session in sessions:
            await target.request("DELETE", "/mcp", headers={"Mcp-Session-Id": session})
        await target.request("DELETE", "/mcp", headers={"Mcp-Session-Id": careful}, caller=target.colleague)
    if statuses != [404, 200] or kept != 200:
        raise Broken(f"the first is answered with {statuses[0]}, the last with {statuses[1]}, another's with {kept}")
    return f"of {allowed + 8} sessions the oldest were given up"


@_case(
    "M9",
    "calls at the same time",
    promise="Calls that come at the same time for one sandbox take turns; none is lost or doubled.",
    meaning="Results are mixed up, or work is lost.",
    mend=_OURS,
)
async def parallel(target: Target) -> None:
    """Count in one session from several connections."""
    async with opened(target) as session:
        await run(target, session, "n = 0")
        code = "import time\nm = n\ntime.sleep(0.05)\nn = m + 1"
        works = [
            partial(post, target, call("execute_code", 100 + number, code=code), session) for number in range(_PARALLEL)
        ]
        answers = await together(*works)
        ran = sum(not of_answer(answer).get("isError") for answer in answers)
        seen = (await run(target, session, "print(n)"))["structuredContent"]["stdout"]
        if seen != f"{ran}\n":
            raise Broken(f"{ran} calls counted up to {seen!r}")


@_case(
    "M10",
    "versions of the protocol",
    promise="Every version that clients use is spoken; an unknown one is answered with one that is known.",
    meaning="Clients cannot connect, or get around what newer versions check.",
    mend=_OURS,
)
async def versions(target: Target) -> str:
    """Ask for each."""
    for offered in (*_VERSIONS, "1999-01-01", "x" * 5000):
        session, taken = await initialize(target, offered)
        await target.request("DELETE", "/mcp", headers={"Mcp-Session-Id": session})
        if taken != (offered if offered in _VERSIONS else _VERSIONS[-1]):
            raise Broken(f"version {offered[:20]} is answered with {taken}")
    return f"{len(_VERSIONS)} versions, and two that are none"
