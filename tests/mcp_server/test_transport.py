"""Who may come in over HTTP, what belongs to whom, and what becomes of streams and sessions that are lost."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import ADMIN_KEY, KEY, Daemon, daemon_with, eventually
from tests.mcp import events, initialize, post

pytestmark = pytest.mark.root

LIST = {"jsonrpc": "2.0", "id": 5, "method": "tools/list"}
BEGIN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


def call(tool: str, number: int = 9, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def of_call(body: bytes) -> Any:
    """The result in the events of an answer."""
    return next(message["result"] for _, message in events(body) if "result" in message)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8000"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://localhost.evil.example"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "[::1]:1234"}, 200),
        ({"Host": "192.0.2.7:8000"}, 200),
    ],
)
def test_host_and_origin_are_checked(daemon: Daemon, headers: dict[str, str], status: int) -> None:
    answer = post(daemon, BEGIN, headers=headers)
    assert answer.status == status, answer.body


def test_a_stranger_is_told_nothing(daemon: Daemon) -> None:
    for key in (None, "wrong-key-0123456789"):
        answer = post(daemon, LIST, key=key)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "result" not in answer.json
    assert daemon.request("GET", "/.well-known/oauth-protected-resource/mcp", key=None).status == 404


def test_a_session_belongs_to_who_opened_it(daemon: Daemon) -> None:
    session = initialize(daemon, headers={"X-User-Id": "ann"})
    assert post(daemon, LIST, session=session, headers={"X-User-Id": "ann"}).status == 200
    for headers in ({"X-User-Id": "ben"}, {}):
        assert post(daemon, LIST, session=session, headers=headers).status == 404
    assert post(daemon, LIST, session="0" * 32).status == 404
    assert daemon.request("DELETE", "/mcp", headers={"Mcp-Session-Id": session}).status == 404
    gone = daemon.request("DELETE", "/mcp", headers={"Mcp-Session-Id": session, "X-User-Id": "ann"})
    assert gone.status == 200
    assert post(daemon, LIST, session=session, headers={"X-User-Id": "ann"}).status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}', 400),
        (b'{"jsonrpc": "2.0", "id": 1}', 400),
        (b"\xff\xfe{}", 400),
        (b"[" * 100_000, 400),
        (json.dumps([LIST, LIST]).encode(), 400),
    ],
)
def test_what_is_no_message_is_refused(daemon: Daemon, body: bytes, status: int) -> None:
    session = initialize(daemon)
    answer = post(daemon, body, session=session)
    assert answer.status == status, answer.body
    assert "error" in answer.json
    assert post(daemon, LIST, session=session).status == 200


def test_a_body_that_is_too_large_is_refused_and_a_large_one_is_not(daemon: Daemon) -> None:
    session = initialize(daemon)
    text = "x" * (10 << 20)
    large = post(daemon, call("write_file", path="large.txt", text=text), session=session)
    assert of_call(large.body)["structuredContent"]["file"]["size"] == 10 << 20
    assert post(daemon, b"x" * (17 << 20), session=session).status == 413
    assert post(daemon, LIST, session=session).status == 200


def test_a_thousand_forgotten_sessions_cost_only_the_one_who_forgot(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_MCP_SESSIONS": "40", "GAOLER_MCP_SESSIONS_PER_USER": "20"}) as daemon:
        mine = initialize(daemon, headers={"X-User-Id": "careful"})
        opened = [initialize(daemon, headers={"X-User-Id": "careless"}) for _ in range(1000)]
        assert post(daemon, LIST, session=mine, headers={"X-User-Id": "careful"}).status == 200
        last, first = opened[-1], opened[0]
        assert post(daemon, LIST, session=last, headers={"X-User-Id": "careless"}).status == 200
        assert post(daemon, LIST, session=first, headers={"X-User-Id": "careless"}).status == 404
        fds = len(list((Path("/proc") / str(daemon.process.pid) / "fd").iterdir()))
        assert fds < 100


def test_an_idle_session_is_forgotten(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_MCP_IDLE_MINUTES": "0.002"}) as daemon:
        # Nothing more is sent in it: whatever came between could come too late already.
        answer = post(daemon, BEGIN)
        assert answer.status == 200, answer.body
        session = str(answer.headers["mcp-session-id"])

        def forgotten() -> bool:
            # Who asks keeps it: so nobody asks for longer than it is kept.
            threading.Event().wait(0.5)
            return post(daemon, LIST, session=session).status == 404

        eventually(forgotten)


@contextmanager
def opened(daemon: Daemon, message: object, session: str, **more: str) -> Iterator[http.client.HTTPResponse]:
    """Send a message and read its stream by hand; leaving hangs up."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "X-API-Key": KEY,
        "Mcp-Session-Id": session,
        "MCP-Protocol-Version": "2025-11-25",
        **more,
    }
    connection = http.client.HTTPConnection(daemon.address, timeout=30)
    body = None if message is None else json.dumps(message)
    connection.request("GET" if message is None else "POST", "/mcp", body, headers)
    try:
        response = connection.getresponse()
        assert response.status == 200
        yield response
    finally:
        connection.close()


def next_event(response: http.client.HTTPResponse) -> tuple[str, Any]:
    """Read up to the next event that says something; its id and its JSON (``None`` for one that only has an id)."""
    fields: dict[str, str] = {}
    while True:
        line = response.readline().decode().rstrip("\r\n")
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "id" in fields or "data" in fields:
            return fields.get("id", ""), json.loads(fields["data"]) if fields.get("data") else None


COUNTING = "with open('/tmp/go') as go:\n    for i in range(8):\n        print(i, flush=True)\n        go.readline()"
"""What it says next it says when it is told to: so each number is news of its own, however slow anybody is."""


def test_a_lost_stream_is_taken_up_again_without_loss_or_repetition(daemon: Daemon) -> None:
    session = initialize(daemon)
    post(daemon, call("execute_code", code="import os; os.mkfifo('/tmp/go')"), session=session)
    post(daemon, call("start_process", command="cat > /tmp/go"), session=session)
    message = call("execute_code", number=10, code=COUNTING)
    message["params"]["_meta"] = {"progressToken": "t"}
    said: list[tuple[str, Any]] = []

    def hear(stream: http.client.HTTPResponse) -> None:
        said.append(next_event(stream))
        if said[-1][1] is not None and "params" in said[-1][1]:
            told_on = post(daemon, call("write_stdin", process="p1", text="\n"), session=session)
            assert of_call(told_on.body)["structuredContent"]["complete"]

    with opened(daemon, message, session) as stream:
        while sum(event is not None for _, event in said) < 2:
            hear(stream)
    for _ in range(3):
        with opened(daemon, None, session, **{"Last-Event-ID": said[-1][0]}) as stream:
            hear(stream)
    with opened(daemon, None, session, **{"Last-Event-ID": said[-1][0]}) as stream:
        while said[-1][1] is None or "result" not in said[-1][1]:
            hear(stream)
    ids = [event_id for event_id, _ in said]
    assert len(set(ids)) == len(ids)
    told = "".join(event["params"]["message"] for _, event in said if event is not None and "params" in event)
    assert told == "".join(f"{i}\n" for i in range(8))
    assert said[-1][1]["result"]["structuredContent"]["stdout"] == "".join(f"{i}\n" for i in range(8))
    # Afterwards the answer can be had again by who lost it.
    with opened(daemon, None, session, **{"Last-Event-ID": ids[0]}) as stream:
        again = [next_event(stream)]
        while again[-1][1] is None or "result" not in again[-1][1]:
            again.append(next_event(stream))
    assert again == [pair for pair in said[1:] if pair[1] is not None]


def test_nobody_takes_up_the_stream_of_another_session(daemon: Daemon) -> None:
    one, two = initialize(daemon), initialize(daemon)
    message = call("execute_code", number=3, code="print('secret')")
    with opened(daemon, message, one) as stream:
        first, _ = next_event(stream)
    headers = {"Mcp-Session-Id": two, "Last-Event-ID": first, "Accept": "text/event-stream"}
    answer = daemon.request("GET", "/mcp", headers=headers)
    assert b"secret" not in answer.body


def test_who_hangs_up_for_good_ends_what_runs(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_MCP_RESUME_SECONDS": "0.3"}) as daemon:
        session = initialize(daemon)
        post(daemon, call("execute_code", code="x = 1"), session=session)
        message = call("execute_code", code="import time\ntime.sleep(50)\nopen('late', 'w')")
        with opened(daemon, message, session):
            pass
        # The next execution of the session waits for the one that was given up.
        look = call("execute_code", number=10, code="import os\nprint(x, os.listdir())")
        after = of_call(post(daemon, look, session=session).body)
        assert after["structuredContent"]["stdout"] == "1 []\n"


def test_a_cancelled_request_is_answered_and_ended(daemon: Daemon) -> None:
    session = initialize(daemon)
    message = call("execute_code", number=77, code="import time\nprint('up', flush=True)\ntime.sleep(50)")
    message["params"]["_meta"] = {"progressToken": 1}
    with opened(daemon, message, session) as stream:
        while (event := next_event(stream)[1]) is None or event.get("method") != "notifications/progress":
            pass
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}}
        assert post(daemon, cancelled, session=session).status == 202
        while (event := next_event(stream)[1]) is None or "id" not in event:
            pass
        assert event["id"] == 77
        assert event["error"]["code"] == -32800
    assert (
        of_call(post(daemon, call("execute_code", code="print(2)"), session=session).body)["structuredContent"][
            "stdout"
        ]
        == "2\n"
    )


def test_the_newer_era_ends_what_runs_when_its_stream_is_closed(daemon: Daemon) -> None:
    conversation = {"X-Conversation-Id": secrets.token_hex(8)}
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": 1,
    }
    message = call("execute_code", code="import time\nprint('up', flush=True)\ntime.sleep(50)\nopen('late', 'w')")
    message["params"]["_meta"] = meta
    newer = {
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "execute_code",
        **conversation,
    }
    with opened(daemon, message, "", **newer) as stream:
        while (event := next_event(stream)[1]) is None or event.get("method") != "notifications/progress":
            pass
    look = call("execute_code", code="import os\nprint(os.listdir())")
    session = initialize(daemon, headers=conversation)
    assert (
        of_call(post(daemon, look, session=session, headers=conversation).body)["structuredContent"]["stdout"] == "[]\n"
    )


def test_the_newer_era_asks_for_log_messages_in_each_request(daemon: Daemon) -> None:
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    newer = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "list_languages"}
    for level, expected in ((None, 0), ("info", 1), ("error", 0)):
        message = call("list_languages")
        message["params"]["_meta"] = meta | ({"io.modelcontextprotocol/logLevel": level} if level else {})
        body = post(daemon, message, headers=newer).body
        assert body.count(b"notifications/message") == expected, body[:500]


@pytest.mark.parametrize("language", ["python", "\ud800"])
def test_half_a_character_breaks_no_record_and_no_list_of_operators(daemon: Daemon, language: str) -> None:
    """What is no text can be said in JSON (a lone surrogate), and can be written nowhere."""
    message = call("execute_code", code="print(1)", language=language)
    message["params"]["_meta"] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "traceparent": "\ud800",
        "tracestate": "a=\ud800",
    }
    newer = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "execute_code"}
    # What others have given up before may end later.
    user = secrets.token_hex(8)
    assert post(daemon, message, headers={**newer, "X-User-Id": user}).status in (200, 400)
    told = daemon.request("GET", "/v1/admin/executions?state=all", key=ADMIN_KEY)
    assert told.status == 200, told.body
    (of_ours,) = [each for each in told.json["recent"] if each["user"] == user]
    assert of_ours["door"] == "mcp"
    assert of_ours["language"] == language.encode("utf-8", "backslashreplace").decode()


def test_log_messages_come_at_the_level_that_was_asked_for(daemon: Daemon) -> None:
    session = initialize(daemon)
    quiet = post(daemon, call("list_languages"), session=session)
    assert all(message.get("method") != "notifications/message" for _, message in events(quiet.body))
    for level, expected in (("info", 1), ("error", 0)):
        asked = {"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": level}}
        assert post(daemon, asked, session=session).status == 200
        told = post(daemon, call("list_languages"), session=session)
        messages = [message for _, message in events(told.body) if message.get("method") == "notifications/message"]
        assert len(messages) == expected
        assert all(message["params"]["data"]["tool"] == "list_languages" for message in messages)


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ],
)
def test_the_version_is_negotiated(daemon: Daemon, offered: str, taken: str) -> None:
    params = {"protocolVersion": offered, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    answer = post(daemon, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    assert of_call(answer.body)["protocolVersion"] == taken
    session = str(answer.headers["mcp-session-id"])
    versioned = {"MCP-Protocol-Version": taken}
    post(daemon, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session=session, headers=versioned)
    ran = post(daemon, call("execute_code", code="print(7)"), session=session, headers=versioned)
    assert of_call(ran.body)["structuredContent"]["stdout"] == "7\n"
