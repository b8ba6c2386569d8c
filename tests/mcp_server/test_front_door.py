"""The MCP door under attack, in bytes: idle sessions, floods, streams that nobody reads or that are not one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import KEY, Daemon, daemon_with, eventually
from tests.mcp import initialize, post
from tests.wire import connect, exchange, is_served, many, memory, read_to_end, status_of

pytestmark = pytest.mark.root
MEBIBYTE = 1 << 20
LIST = {"jsonrpc": "2.0", "id": 5, "method": "tools/list"}


def call(tool: str, number: int = 9, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def bare(message: object, session: str | None = None, more: str = "", method: str = "POST") -> bytes:
    """Write a request on a connection that is kept."""
    body = b"" if message is None else message if isinstance(message, bytes) else json.dumps(message).encode()
    named = f"Mcp-Session-Id: {session}\r\n" if session else ""
    head = (
        f"{method} /mcp HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n{named}{more}"
    )
    return head.encode() + (b"Content-Length: %d\r\n\r\n" % len(body)) + body


@pytest.fixture
def flat(daemon: Daemon) -> Iterator[None]:
    before = memory(daemon)
    yield
    assert is_served(daemon, "127.0.0.2")
    assert memory(daemon) - before < 64 * MEBIBYTE


def test_a_thousand_sessions_that_nobody_uses_are_given_up(image_dir: Path) -> None:
    settings = {"GAOLER_MCP_SESSIONS": "200", "GAOLER_MCP_SESSIONS_PER_USER": "50"}
    with daemon_with(image_dir, settings) as daemon:
        mine = initialize(daemon, headers={"X-User-Id": "careful"})
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        first = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        before = 0
        for number in range(1200):
            user = {"X-User-Id": f"careless-{number % 3}"}
            assert post(daemon, first, headers=user).status == 200
            if number == 400:
                before = memory(daemon)
        assert memory(daemon) - before < 24 * MEBIBYTE
        assert post(daemon, LIST, session=mine, headers={"X-User-Id": "careful"}).status == 200


BATCHES: dict[str, tuple[bytes, set[int]]] = {
    "a batch of a hundred thousand": (json.dumps([LIST] * 100_000).encode(), {400}),
    "batches in batches": (b"[" * 50_000 + b"]" * 50_000, {400}),
    "an empty batch": (b"[]", {400}),
    "deep parameters": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b'{"a":' * 90_000 + b"1" + b"}" * 90_001,
        {400},
    ),
    "deep arguments": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"execute_code","arguments":{"code":'
        + b"[" * 900
        + b"]" * 900
        + b"}}}",
        {200, 400},
    ),
    "a method of ten megabytes": (json.dumps({**LIST, "method": "x" * (10 << 20)}).encode(), {400}),
    "a name of ten megabytes": (json.dumps(call("x" * (10 << 20))).encode(), {200, 400}),
    "an id that is a list": (json.dumps({**LIST, "id": [1]}).encode(), {202, 400}),
    "an id that is null": (json.dumps({**LIST, "id": None}).encode(), {202, 400}),
    "an id beyond all numbers": (b'{"jsonrpc":"2.0","id":' + b"9" * 400 + b',"method":"ping"}', {200, 400}),
    "the same key twice": (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping","method":"ping"}', {200, 400}),
}


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("name", BATCHES)
def test_a_message_that_is_a_bomb_is_refused_and_its_session_goes_on(daemon: Daemon, name: str) -> None:
    body, statuses = BATCHES[name]
    session, before = initialize(daemon), len(daemon.lines())
    answer = post(daemon, body, session=session)
    assert answer.status in statuses, answer.body[:300]
    assert len(answer.body) < MEBIBYTE
    assert post(daemon, LIST, session=session).status == 200
    assert not [line for line in daemon.lines()[before:] if "Traceback" in line]


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 12345}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "x", "progress": 1}},
        {"jsonrpc": "2.0", "method": "notifications/unknown", "params": {"x": "y" * 1000}},
        {"jsonrpc": "2.0", "id": 99, "result": {}},
        {"jsonrpc": "2.0", "id": 99, "error": {"code": 1, "message": "x"}},
    ],
    ids=lambda message: message.get("method", "an answer that nobody asked for"),
)
def test_a_flood_of_notifications_costs_nothing(daemon: Daemon, message: dict[str, Any]) -> None:
    session = initialize(daemon)
    with connect(daemon) as link:
        for _ in range(10):
            link.sendall(bare(message, session) * 50)
            taken = b""
            while taken.count(b"HTTP/1.1 ") < 50:
                piece = link.recv(1 << 16)
                assert piece, taken[-300:]
                taken += piece
    assert post(daemon, LIST, session=session).status == 200


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("event", ["", "0", "-1", "9" * 400, "x" * 8000, "../../x", "%00", "a" * 32 + "_1", "1_" * 500])
def test_an_event_that_never_was_is_no_way_into_a_stream(daemon: Daemon, event: str) -> None:
    session = initialize(daemon)
    post(daemon, call("execute_code", code="print('sec' + 'ret')"), session=session)
    with connect(daemon) as link:
        link.sendall(bare(None, session, f"Last-Event-ID: {event}\r\n", "GET"))
        taken = b""
        while b"\r\n\r\n" not in taken and (piece := link.recv(1 << 16)):
            taken += piece
        link.settimeout(0.5)
        try:
            while piece := link.recv(1 << 16):
                taken += piece
        except TimeoutError:
            pass
    assert b"secret" not in taken
    assert status_of(taken) in (200, 400, 404, 409)


def test_a_stream_that_nobody_reads_is_cut(image_dir: Path) -> None:
    settings = {"GAOLER_HTTP_SEND_SECONDS": "1", "GAOLER_MCP_RESUME_SECONDS": "1"}
    with daemon_with(image_dir, settings) as daemon:
        session = initialize(daemon)
        before = memory(daemon)
        message = call("read_file", path="big.txt")
        post(daemon, call("write_file", path="big.txt", text="x" * (8 << 20)), session=session)
        with connect(daemon, receive_buffer=4096) as link:
            for number in range(40):
                message["id"] = number
                link.settimeout(0.2)
                try:
                    link.sendall(bare(message, session))
                except (TimeoutError, ConnectionResetError, BrokenPipeError):
                    break
            assert is_served(daemon)
        assert memory(daemon) - before < 128 * MEBIBYTE
        assert post(daemon, LIST, session=session).status == 200


def test_a_storm_of_calls_that_are_given_up_ends_them_all(daemon: Daemon) -> None:
    session = initialize(daemon)
    with many(daemon, 30) as links:
        for number, link in enumerate(links):
            link.sendall(bare(call("run_command", 1000 + number, command="sleep 77"), session))
        # A call that has not come yet cannot be given up: of each the answer has begun.
        assert [link.recv(12) for link in links] == [b"HTTP/1.1 200"] * 30
        eventually(lambda: "sleep" in daemon.names())
        for number in range(30):
            params = {"requestId": 1000 + number}
            cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
            assert post(daemon, cancelled, session=session).status == 202
        eventually(lambda: "sleep" not in daemon.names())
    assert post(daemon, LIST, session=session).status == 200


def test_a_session_that_ends_under_a_notification_leaves_no_trace_in_the_log(daemon: Daemon) -> None:
    before = len(daemon.lines())
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    for _ in range(30):
        session = initialize(daemon)
        with connect(daemon) as one, connect(daemon) as two:
            one.sendall(bare(note, session, "Connection: close\r\n"))
            two.sendall(bare(None, session, "Connection: close\r\n", "DELETE"))
            assert status_of(read_to_end(one)) in (202, 404)
            assert status_of(read_to_end(two)) in (200, 404)
    assert not [line for line in daemon.lines()[before:] if "Traceback" in line or "ASGI" in line]


def test_who_has_no_credential_makes_no_session(daemon: Daemon) -> None:
    before = memory(daemon)
    body = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"x":"' + b"y" * 500_000 + b'"}}'
    for _ in range(50):
        flood = bare(body).replace(KEY.encode(), b"wrong" + KEY[5:].encode())
        assert status_of(exchange(daemon, flood)) == 401
    assert memory(daemon) - before < 16 * MEBIBYTE


def test_a_request_that_asks_for_the_wrong_kind_of_answer_is_refused(daemon: Daemon) -> None:
    for method in ("GET", "POST", "DELETE", "PUT", "PATCH", "TRACE", "OPTIONS"):
        with connect(daemon) as link:
            link.sendall(
                f"{method} /mcp HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nConnection: close\r\n\r\n".encode()
            )
            answer = read_to_end(link)
        assert status_of(answer) in (400, 404, 405, 406), answer[:200]
