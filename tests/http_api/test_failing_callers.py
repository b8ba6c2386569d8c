"""Callers who fail, at every door of a real daemon: by address, behind a proxy, and those who call too often."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import KEY, Daemon, daemon_with, eventually
from tests.wire import exchange, status_of

pytestmark = pytest.mark.root
PROXY, SERVICE = "127.0.0.9", "service-token-0123456789-0123456789"
SOME_ID = "A" * 21
LISTING, MCP, INTERNAL = f"/v1/files/{SOME_ID}", "/mcp", "/internal/v1/status"
CLIENT = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
HELLO = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": CLIENT}


@pytest.fixture(scope="module")
def guarded(image_dir: Path) -> Iterator[Daemon]:
    """A daemon that loses patience with those who fail, behind a proxy at one address."""
    settings = {
        "GAOLER_HTTP_FAILED_AUTHENTICATIONS": "4/3600",
        "GAOLER_HTTP_TRUSTED_PROXIES": f"{PROXY}/32",
        "GAOLER_HTTP_ROOT_PATH": "/code",
        "GAOLER_FLEET_SERVICE_TOKEN": SERVICE,
        "GAOLER_RATES_LISTING": "5/3600",
        "GAOLER_RATES_SHARED_FACTOR": "3",
    }
    with daemon_with(image_dir, settings) as running:
        yield running


def send(
    daemon: Daemon, path: str, source: str, headers: str = "", key: str | None = None, body: object = None
) -> bytes:
    """Send a request from an address of our choice; give the whole answer."""
    content = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    shown = "" if key is None else f"X-API-Key: {key}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{shown}{headers}"
    if body is not None:
        head += "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
        head += f"Content-Length: {len(content)}\r\n"
    return exchange(daemon, f"{head}\r\n".encode() + content, source=source)


def ask(daemon: Daemon, door: str, source: str, secret: str | None, headers: str = "") -> int:
    """Show a secret at a door; give the status."""
    if secret is not None:
        headers += f"Authorization: Bearer {secret}\r\n"
    return status_of(send(daemon, door, source, headers, body=HELLO if door == MCP else None))


def header_of(answer: bytes, name: str) -> str:
    head = answer.partition(b"\r\n\r\n")[0].decode().lower()
    return next((line.partition(": ")[2] for line in head.split("\r\n") if line.startswith(f"{name}: ")), "")


def events(daemon: Daemon, address: str) -> list[str]:
    return [line for line in daemon.lines() if "gaoler.security" in line and f"address={address} " in line]


@pytest.mark.parametrize(
    ("door", "good", "source"),
    [(LISTING, KEY, "127.0.1.1"), (MCP, KEY, "127.0.1.2"), (INTERNAL, SERVICE, "127.0.1.3")],
    ids=["http", "mcp", "internal"],
)
def test_who_fails_at_a_door_is_shut_out_of_all_of_them(guarded: Daemon, door: str, good: str, source: str) -> None:
    assert [ask(guarded, door, source, f"wrong-{number}") for number in range(6)] == [401] * 4 + [429] * 2
    assert ask(guarded, door, source, good) == 429, "a right guess learns nothing"
    assert [ask(guarded, each, source, "x") for each in (LISTING, MCP, INTERNAL)] == [429] * 3
    assert ask(guarded, LISTING, source, None) == 401, "who shows nothing is told what to show"
    assert status_of(send(guarded, "/health", source)) == 200
    assert ask(guarded, door, "127.0.1.99", good) == 200
    eventually(lambda: len(events(guarded, source)) >= 6)
    told = events(guarded, source)
    assert [line.partition("event=")[2].split()[0] for line in told] == (
        ["authentication_failed"] * 4 + ["address_shut_out", "authentication_refused"]
    )
    assert not [line for line in guarded.lines() if "wrong-" in line or good in line]


@pytest.mark.parametrize(("door", "source"), [(LISTING, "127.0.1.5"), (MCP, "127.0.1.6")])
def test_a_refusal_says_when_to_come_again(guarded: Daemon, door: str, source: str) -> None:
    for number in range(4):
        ask(guarded, door, source, f"{number}")
    answer = send(guarded, door, source, key="x", body=HELLO if door == MCP else None)
    assert status_of(answer) == 429
    assert 1 <= int(header_of(answer, "retry-after")) <= 30


def test_who_has_held_goes_on_to_be_served_beside_one_who_guesses(guarded: Daemon) -> None:
    source = "127.0.1.7"
    assert ask(guarded, LISTING, source, KEY, "X-User-Id: held\r\n") == 200
    assert [ask(guarded, LISTING, source, f"{number}") for number in range(5)] == [401] * 4 + [429]
    assert ask(guarded, LISTING, source, KEY, "X-User-Id: held\r\n") == 200
    assert ask(guarded, MCP, source, KEY) == 200


def test_behind_a_proxy_the_client_is_shut_out_and_not_the_proxy(guarded: Daemon) -> None:
    def forwarded(chain: str) -> str:
        return f"X-Forwarded-For: {chain}\r\n"

    guesses = [
        # What the client says of itself stands further left, and changes nothing.
        ask(guarded, LISTING, PROXY, f"{number}", forwarded(f"10.9.9.{number}, 192.0.2.7"))
        for number in range(5)
    ]
    assert guesses == [401] * 4 + [429]
    assert ask(guarded, MCP, PROXY, "x", forwarded("192.0.2.7")) == 429
    assert ask(guarded, MCP, PROXY, KEY, forwarded("192.0.2.8")) == 200
    assert ask(guarded, LISTING, "127.0.1.8", "x", forwarded("192.0.2.7")) == 401, "who is no proxy is not believed"
    eventually(lambda: bool(events(guarded, "192.0.2.7")))


def test_a_proxy_may_leave_its_prefix_on_and_say_its_name(guarded: Daemon) -> None:
    assert status_of(send(guarded, "/code/health", PROXY)) == 200
    assert status_of(send(guarded, "/code/code/health", PROXY)) == 404
    said = "X-Forwarded-Host: evil.example\r\n"
    assert status_of(send(guarded, "/code/mcp", PROXY, key=KEY, body=HELLO)) == 200
    # The name under which the proxy was asked for is the one that is checked.
    assert status_of(send(guarded, "/code/mcp", PROXY, said, key=KEY, body=HELLO)) == 421
    assert status_of(send(guarded, "/code/mcp", "127.0.1.8", said, key=KEY, body=HELLO)) == 200


def test_who_calls_too_often_is_counted_at_both_doors_together_and_told_of(guarded: Daemon) -> None:
    source, user = "127.0.1.10", "X-User-Id: often\r\n"
    session = f"Mcp-Session-Id: {header_of(send(guarded, MCP, source, user, KEY, HELLO), 'mcp-session-id')}\r\n"
    send(guarded, MCP, source, user + session, KEY, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    resources = {"jsonrpc": "2.0", "id": 1, "method": "resources/list", "params": {}}

    def over_mcp() -> bytes:
        return send(guarded, MCP, source, user + session, KEY, resources)

    def over_http(user: str) -> int:
        return status_of(send(guarded, LISTING, source, user, KEY))

    assert [over_http(user) for _ in range(2)] == [200, 200]
    assert b'"result"' in over_mcp()
    assert b'"result"' in over_mcp()
    assert [over_http(user) for _ in range(3)] == [200, 429, 429]
    assert b"at most 5 calls of listing" in over_mcp()
    # Other users of the same key have calls of their own, all together not more than three times as many.
    more = [over_http(f"X-User-Id: other-{number}\r\n") for number in range(12)]
    assert more.count(200) <= 10
    assert more[-1] == 429
    told = [line for line in guarded.lines() if "event=rate_limited" in line]
    assert len([line for line in told if "user=often count=1" in line]) == 1
    assert KEY not in "\n".join(told)
