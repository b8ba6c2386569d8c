"""Runs in a test's virtual machine: asks the daemon over both doors, with nothing but the standard library.

``in_guest.py http BODY [SOCKET]`` posts to ``/v1/exec``, ``in_guest.py mcp CODE [SESSION]`` speaks MCP's handshake era.
"""

import http.client
import json
import socket
import sys

KEY = "key-of-a-credential-0001"


def post(
    path: str, body: object, headers: dict[str, str] | None = None, unix: str | None = None
) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=240)
    if unix:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(unix)
    sent = {"X-API-Key": KEY, "Content-Type": "application/json", "X-User-Id": "someone", **(headers or {})}
    connection.request("POST", path, json.dumps(body), sent)
    answer = connection.getresponse()
    return answer, answer.read().decode()


def call(
    method: str, params: object, session: str | None = None, number: int | None = None
) -> tuple[http.client.HTTPResponse, str]:
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    if session:
        headers["Mcp-Session-Id"] = session
    message: dict[str, object] = {"jsonrpc": "2.0", "method": method, "params": params}
    if number:
        message["id"] = number
    answer, text = post("/mcp", message, headers)
    assert answer.status < 300, (answer.status, text)
    lines = [line[5:] for line in text.splitlines() if line.startswith("data:") and line[5:].strip()] or [text]
    return answer, lines[-1]


if sys.argv[1] == "http":
    answer, text = post("/v1/exec", json.loads(sys.argv[2]), unix=sys.argv[3] if len(sys.argv) > 3 else None)
    print(text)
    sys.exit(answer.status != 200)
who = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
opened = call("initialize", who, number=1)[0]
session = opened.getheader("Mcp-Session-Id")
call("notifications/initialized", {}, session)
arguments = {"language": "python", "code": sys.argv[2], **({"session": sys.argv[3]} if len(sys.argv) > 3 else {})}
text = call("tools/call", {"name": "execute_code", "arguments": arguments}, session, 2)[1]
print(json.dumps(json.loads(text)["result"]))
