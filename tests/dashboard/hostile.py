"""What a hostile caller, program or host would have an operator see."""

from __future__ import annotations

from typing import Any

NAME = "<img src=x onerror=\"document.title='taken'\">\u202egro.live\u202c\u200b\x1b[31m"
SHOWN = "<img src=x onerror=\"document.title='taken'\">U+202Egro.liveU+202CU+200BU+001B[31m"
THEN = 1.8e9


def record(number: int, **changes: Any) -> dict[str, Any]:
    """An execution that has ended well."""
    return {
        "id": f"execution-{number:08}",
        "door": "http",
        "kind": "code",
        "state": "ended",
        "tenant": "default",
        "credential": "librechat",
        "user": f"user{number}",
        "language": "py",
        "session": None,
        "tier": "nsjail",
        "began_at": THEN + number,
        "ended_at": THEN + number,
        "seconds": 0.5,
        "outcome": "exited",
        "detail": "0",
        "wall_seconds": 0.5,
        "cpu_seconds": 0.1,
        "memory_peak_bytes": 1 << 24,
        "output_bytes": 10,
        "files": 0,
        "spent": {"code": 0.4},
        **changes,
    }


def named(*fields: str) -> dict[str, str]:
    return dict.fromkeys(fields, NAME)


def hostile_events(overview: dict[str, Any]) -> list[tuple[str, Any]]:
    words = named("user", "language", "tenant", "session", "door", "tier")
    runs = record(1, **words, state="running", outcome="", ended_at=None)
    ends = record(2, **words, **named("outcome", "detail", "request_id", "traceparent"), spent={NAME: 1.0})
    snapshot = {"overview": {**overview, **named("name", "role", "version", "policy")}, "running": [runs]}
    return [("snapshot", snapshot), ("execution", {"kind": "ended", "execution": ends, "missed": 0})]


def hostile_answers() -> dict[str, Any]:
    """By path: answers in which every text is a hostile one."""
    numbers = {"executions": 1, "failed": 1, "wall_seconds": 1, "cpu_seconds": 1, "output_bytes": 1, "files": 1}
    refused = {
        **named("session", "tenant", "user", "kind", "host", "path", "verdict", "code", "reason"),
        "time": THEN,
        "port": 443,
        "suggestion": {"set": NAME, "rule": {"hosts": [NAME], "ports": [443], "reason": NAME}},
    }
    rule = {**named("name", "credential"), "hosts": [f"a{NAME}"], "methods": [NAME], "schemes": [NAME]}
    session = {
        **named("id", "tenant"),
        "owner": named("kind", "id"),
        "created_at": THEN,
        "expires_at": THEN,
        "files": 1,
        "size_bytes": 1,
        "live": True,
        "processes": 1,
    }
    file = {**named("id", "name"), "size_bytes": 1, "created_at": THEN}
    return {
        "executions?*": {"running": [], "recent": []},
        "sessions?*": {"sessions": [session], "next": None},
        "sessions/**": {"file_list": [file]},
        "egress": {
            "enabled": True,
            "connected": True,
            "sets": [{**named("name", "origin"), "rules": [rule], "written": []}],
        },
        "egress/log?*": {"records": [refused]},
        "keys": {"keys": [{**named("name", "tenant", "tier", "origin"), "rates": {NAME: NAME}, "created_at": THEN}]},
        "usage?*": {"days": [{**named("day", "tenant", "credential", "user"), **numbers}]},
        "workers": {"workers": [{"name": NAME, NAME: [NAME]}]},
        "audit?*": {"entries": [{**named("who", "address", "act", "target", "outcome", "detail"), "time": THEN}]},
        "health": {"status": NAME, "checks": [{**named("name", "detail", "fix"), "ok": False}]},
    }
