"""Group S: what is told: the log and the answers, after everything that could make them say too much."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

import trio

from supervisor.attack import wire
from supervisor.attack.case import Broken, Collection
from supervisor.attack.cases.files_tools import listed, new_session
from supervisor.attack.cases.secrets import REVOKE, found_in, planted
from supervisor.attack.target import PATIENCE_SECONDS, Target, eventually

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case

_JWT: Final = "eyJhbGciOiJFZERTQSIsImtpZCI6ImF0dGFjayJ9.eyJzdWIiOiJhdHRhY2sifQ."
_FORGED: Final = "2026-01-01 00:00:00,000 ERROR gaoler.http forged by an attacker"
_HOSTILE: Final = f"\x1b[31m\x1b]0;owned\x07\r\n{_FORGED}\n\x00\x7f\u0085\u2028\u202e\x9b31m"


def _hostile_bodies(marker: str) -> list[tuple[str, bytes, str]]:
    """Bodies in which every field has escapes, line breaks and a credential."""
    evil = f"{marker}{_HOSTILE}"
    fields: list[tuple[str, Any]] = [
        ("/v1/exec", {"lang": evil, "code": "1"}),
        ("/v1/exec", {"lang": "py", "code": f"raise SystemExit({evil!r})"}),
        ("/v1/exec", {"lang": "py", "code": "import os; os.write(2, " + repr(evil.encode("utf-8", "replace")) + ")"}),
        ("/v1/exec", {"lang": "py", "code": "1", "args": [evil.replace("\0", "")], "stdin": evil}),
        ("/v1/exec", {"lang": "py", "code": "1", "session_id": evil}),
        ("/v1/exec", {"lang": "py", "code": "1", "user_id": evil}),
        ("/v1/exec", {"lang": "py", "code": "1", "runtime_session_hint": evil}),
        ("/v1/exec", {"lang": "py", "code": "1", "egress": [evil]}),
        ("/v1/exec", {"lang": "py", "code": "1", "files": [{"id": evil, "name": evil, "storage_session_id": evil}]}),
        ("/v1/exec", {"lang": "py", "code": f"open({evil.replace(chr(0), '')!r}.replace('/', ''), 'w').close()"}),
        ("/v1/exec/programmatic", {"code": "1", "tools": [{"name": evil, "description": evil}]}),
        ("/v1/exec/programmatic", {"continuation_token": evil, "tool_results": []}),
        ("/v1/exec/programmatic/cancel", {"request_id": evil}),
        ("/v1/sessions", {"language": evil}),
        (f"/v1/sessions/{'A' * 21}/execute", {"code": evil, "language": evil}),
        ("/mcp", {"jsonrpc": "2.0", "id": evil, "method": evil, "params": {"name": evil, "uri": evil}}),
        ("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": evil, "arguments": {evil: 1}}}),
    ]
    bodies = [(path, json.dumps(body).encode(), "application/json") for path, body in fields]
    bodies += [(path, evil.encode("utf-8", "replace"), "application/json") for path in ("/v1/exec", "/mcp")]
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{evil}"\r\n\r\nx\r\n--x--\r\n'
    bodies.append(("/v1/upload", head.encode(), "multipart/form-data; boundary=x"))
    disposition = f"form-data; name=file; filename*=UTF-8''{_percent(evil)}"
    star = f"--x\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n--x--\r\n"
    bodies.append(("/v1/upload", star.encode(), "multipart/form-data; boundary=x"))
    return bodies


def _percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "replace"))


def _hostile_paths(marker: str) -> list[str]:
    evil = _percent(f"{marker}{_HOSTILE}")
    places = ["/{}", "/v1/files/{}", "/v1/download/{}/{}", "/v1/sessions/{}", "/v1/files/x?detail={}"]
    places += ["/v1/files/x?kind=user&id={}", "/v1/shared/{}/{}", "/v1/admin/egress/{}", "/mcp/{}"]
    places += ["/v1/file/{}/{}/content", "/v1/exec?stream={}"]
    return [place.replace("{}", evil) for place in places]


def _credentials(target: Target, marker: str) -> list[dict[str, str]]:
    """Credentials in every form, good ones and bad ones."""
    key = target.me.key
    basic = base64.b64encode(f"user:{marker}".encode()).decode()
    return [
        {"X-API-Key": key},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": "Basic " + base64.b64encode(key.encode()).decode()},
        {"X-API-Key": key, "Authorization": f"Bearer {marker}"},
        {"X-API-Key": marker},
        {"X-API-Key": f"{key}{marker}"},
        {"Authorization": f"Bearer {_JWT}{marker}"},
        {"Authorization": f"Basic {basic}"},
        {"Authorization": f"{marker} {key}"},
        {"X-API-Key": key, "X-User-Id": marker + "\x1b".encode("unicode_escape").decode()},
        {"X-API-Key": key, "X-Conversation-Id": "b64:" + base64.b64encode(_HOSTILE.encode()).decode()},
        {"X-API-Key": key, "Cookie": marker, "Referer": marker, "User-Agent": marker, "Origin": marker},
    ]


_TIME: Final = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
_PLAIN: Final = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+"
RECORD: Final = re.compile(rf"({_TIME} )?(DEBUG|INFO|WARNING|ERROR|CRITICAL) gaoler[a-z_.]* {_PLAIN}")


@_case(
    "S3",
    "the log",
    promise="The log has no credential, no control character and one line for a record, whatever is sent.",
    meaning="Who reads the log is given keys, or believes what an attacker has written into it.",
    mend=REVOKE + " Do not look at the log in a terminal until it is mended.",
    place="twin",
)
async def hostile_log(target: Target) -> str:
    """Send credentials and escapes in every field over every route; read what the twin has logged since."""
    marker = f"attack-marker-{secrets.token_hex(8)}"
    before = len(target.log())  # an earlier case may have had it refuse to start, which is told to a person
    answers = await _send_everything(target, marker)
    # The last request is logged, so the others are.
    await target.request("GET", "/v1/openapi.json")
    await eventually("the last request is in the log", lambda: "openapi" in target.log().splitlines()[-1])
    lines = target.log()[before:].removesuffix("\n").split("\n")
    forbidden = {**planted(target), "what was sent": marker.encode(), "a token": _JWT.encode()}
    forbidden["the forged line"] = _FORGED.encode()
    for line in lines:
        for what in found_in([line.encode()], forbidden):
            raise Broken(f"the log has {what}: {line[:60]!a}")
        if not RECORD.fullmatch(line):
            raise Broken(f"the log has a line that is no record, or has control characters: {line[:200]!a}")
    return f"{answers} requests, {len(lines)} lines"


async def _send_everything(target: Target, marker: str) -> int:
    """Send it; no answer may have a key, a path of the host, or be a fault of ours."""
    sent = 0

    async def send(method: str, path: str, body: bytes, headers: Mapping[str, str], **more: Any) -> None:
        nonlocal sent
        answer = await target.request(method, path, body, headers, **more)
        sent += 1
        if answer.status == 200 and path.startswith(("/v1/exec", "/v1/upload")):
            session = json.loads(answer.body).get("session_id") if answer.body.startswith(b"{") else None
            if session:
                target.sessions[session] = (target.me, target.user)
        must_tell_nothing(target, f"{method} {path[:60]}", answer)

    for path, body, kind in _hostile_bodies(marker):
        more = {"Accept": "application/json, text/event-stream"} if path == "/mcp" else {}
        await send("POST", path, body, {"Content-Type": kind, **more})
    for path in _hostile_paths(marker):
        for method in ("GET", "DELETE", "POST"):
            await send(method, path, b"", {})
    for credential in _credentials(target, marker):
        for path in ("/v1/files/x", "/v1/nothing", f"/{marker}", "/mcp", "/v1/metrics"):
            await send("GET", path, b"", credential, anonymous=True)
    await _send_raw(target, marker)
    return sent


async def _send_raw(target: Target, marker: str) -> None:
    """Send what a client of HTTP would refuse to send: escapes in the head, no HTTP at all, an end in the middle."""
    key = target.me.key
    heads = (
        f"GET /{marker}{_HOSTILE} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"{_HOSTILE}{marker} / HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /v1/files/x HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\x1b[31m\r\n\r\n",
        f"GET /v1/files/x HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n {marker}\r\n\r\n",
        f"GET /v1/files/x HTTP/1.1\r\nHost: {marker}\x9b\r\nX-API-Key: {key}\r\n\r\n",
        f"POST /v1/exec HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: 99\r\n\r\n{marker}",
        f"{marker}\x00\x1b\x9b\r\n\r\n",
    )
    for head in heads:
        with trio.move_on_after(PATIENCE_SECONDS):
            async with await wire.connect(target.address) as stream:
                try:
                    await stream.send_all(head.encode("utf-8", "surrogateescape"))
                    await stream.send_eof()
                    while await stream.receive_some(wire.READ_BYTES):
                        pass
                except trio.BrokenResourceError:
                    continue  # it was shown the door


def must_tell_nothing(target: Target, what: str, answer: wire.Answer) -> None:
    """An answer has no key, no path of the host, no traceback.

    Raises:
        Broken: it has.
    """
    whole = answer.body + b"\n" + "\n".join(answer.headers.values()).encode()
    forbidden = {
        **planted(target),
        "the path of the state directory": str(target.state_directory).encode(),
        "a traceback": b"Traceback (most recent",
    }
    for found in found_in([whole], forbidden):
        raise Broken(f"the answer to {what} has {found}")
    if answer.status == 500:
        raise Broken(f"{what} is answered with a fault: {answer.body[:100]!r}")


@_case(
    "S1",
    "errors and answers",
    promise="No answer, refusal or error has a key in it, a path of the host, or a traceback of ours.",
    meaning="Whoever makes a mistake on purpose is told what he is not to know.",
    mend=REVOKE,
)
async def told_in_errors(target: Target) -> str:
    """Ask for everything that may be asked, rightly and wrongly, with the key in the places where a slip puts it."""
    session = await new_session(target, ("own.txt", b"own"))
    file = (await listed(target, session))["own.txt"]["id"]
    routes = ("health", "openapi.json", "docs", "metrics", "admin/egress", f"files/{session}", f"sessions/{session}")
    asked = 0
    for path in (*routes, f"download/{session}/{file}", f"sessions/{session}/objects/{file}", "exec", "nothing", "mcp"):
        for method in ("GET", "OPTIONS", "PUT", "TRACE"):
            must_tell_nothing(target, f"{method} /v1/{path}", await target.request(method, f"/v1/{path}"))
            asked += 1
    bodies = (b"", b"{", b"[1e999]", b'{"lang":"py"}', b'{"lang":"py","code":1}', b"\xff\xfe", b"null", b"[" * 5000)
    for body in bodies:
        for path in ("/v1/exec", "/v1/sessions", "/v1/upload", "/v1/exec/programmatic", "/mcp"):
            headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
            answer = await target.request("POST", path, body, headers)
            must_tell_nothing(target, f"POST {path}", answer)
            if answer.status == 201:
                target.sessions[answer.json["session_id"]] = (target.me, target.user)
            asked += 1
    failing = "import sys; sys.stderr.write('x'); raise OSError('mine')"
    for fields in ({}, {"stateful": True}, {"timeout": 1}):
        answer = await target.try_execute(failing, **fields)
        told = answer.body.replace(b"Traceback (most recent", b"")  # the program's own
        must_tell_nothing(target, "a program that fails", wire.Answer(answer.status, answer.headers, told))
        asked += 1
    return f"{asked} answers"
