"""The routes for operators as the OpenAPI document describes them, and the schemas of their answers."""

from __future__ import annotations

from typing import Any, Final

from http_api.admin import egress
from http_api.openapi_schemas import MAYBE_TEXT, NAMES, NUMBER, REF, TEXT, Operation, object_of

OPERATOR: Final = "For operators"
_ASKS: Final = (400, 401, 403, 409)
_FLAG: Final = {"type": "boolean"}
_FIGURE: Final = {"type": "number"}
_MAYBE_FIGURE: Final = {"type": ["number", "null"]}


def _many(schema: Any) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def _named(name: str) -> dict[str, Any]:
    return {"$ref": REF.format(name=name)}


ADMIN_OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("GET", "/admin/overview"): Operation(
        OPERATOR, "What this process is, and how much it has to do", {200: "Overview"}, None, (401, 403, 409)
    ),
    ("GET", "/admin/health"): Operation(
        OPERATOR, "What is wrong, and what to do about it", {200: "Findings"}, None, (401, 403, 409)
    ),
    ("GET", "/admin/executions"): Operation(
        OPERATOR,
        "Executions that run, and the latest that have ended",
        {
            200: object_of(
                ["running", "recent"], running=_many(_named("ExecutionRecord")), recent=_many(_named("ExecutionRecord"))
            )
        },
        None,
        _ASKS,
        ("state", "limit"),
    ),
    ("GET", "/admin/executions/events"): Operation(
        OPERATOR, "Executions as they happen, as server-sent events", {200: "events"}, None, (401, 403, 409, 429)
    ),
    ("POST", "/admin/executions/{execution}/cancel"): Operation(
        OPERATOR,
        "End an execution: its processes are killed, its caller is told",
        {202: object_of(["cancelled"], cancelled=_FLAG)},
        None,
        (401, 403, 404, 409),
    ),
    ("GET", "/admin/egress"): Operation(
        OPERATOR, "The rules of the network that hold now", {200: "EgressRules"}, None, (401, 403, 409)
    ),
    ("PUT", "/admin/egress"): Operation(
        OPERATOR,
        "Replace the rules of a name; what they no longer allow is cut",
        {200: "EgressRuleSet"},
        egress.EgressBody,
        (400, 401, 403, 404, 409, 413),
    ),
    ("DELETE", "/admin/egress/{name}"): Operation(
        OPERATOR, "Go back to the rules of the file", {200: "EgressRuleSet"}, None, (400, 401, 403, 404, 409)
    ),
    ("GET", "/metrics"): Operation(OPERATOR, "Figures, as Prometheus reads them", {200: "text"}, None, (401, 403, 409)),
}
ADMIN_QUERY: Final[dict[str, dict[str, Any]]] = {
    "state": {"schema": {"type": "string", "enum": ["running", "recent", "all"]}},
    "limit": {"schema": {"type": "integer", "minimum": 1, "maximum": 1000}, "description": "at most; usually 100"},
}
ADMIN_PATH: Final[dict[str, dict[str, Any]]] = {
    "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"},
    "execution": {"type": "string", "pattern": "^[A-Za-z0-9_-]{21}$"},
}
ADMIN_COMPONENTS: Final[dict[str, Any]] = {
    "ExecutionRecord": object_of(
        ["id", "door", "kind", "state", "tenant", "credential", "user", "language", "began_at", "seconds", "outcome"],
        id=TEXT,
        door={"type": "string", "enum": ["http", "mcp", "worker"]},
        kind={"type": "string", "enum": ["code", "program"]},
        state={"type": "string", "enum": ["waiting", "running", "ended"]},
        tenant=TEXT,
        credential=TEXT,
        user=MAYBE_TEXT,
        language=TEXT,
        session=MAYBE_TEXT,
        tier=MAYBE_TEXT,
        request_id=TEXT,
        traceparent=TEXT,
        began_at=_FIGURE,
        ended_at=_MAYBE_FIGURE,
        seconds=_FIGURE,
        outcome=TEXT,
        detail=TEXT,
        wall_seconds=_FIGURE,
        cpu_seconds=_FIGURE,
        memory_peak_bytes=NUMBER,
        output_bytes=NUMBER,
        files=NUMBER,
        spent={"type": "object", "additionalProperties": _FIGURE, "description": "seconds by step"},
    ),
    "Overview": object_of(
        ["role", "name", "version", "started_at", "now", "policy", "image", "load", "pools", "totals", "latencies"],
        role=TEXT,
        name=TEXT,
        version=TEXT,
        started_at=_FIGURE,
        now=_FIGURE,
        policy=TEXT,
        image=TEXT,
        load=object_of(
            ["running", "waiting", "places", "cpu_percent", "shedding"],
            running=NUMBER,
            waiting=NUMBER,
            places=NUMBER,
            live_sessions=NUMBER,
            programs_waiting=NUMBER,
            cpu_percent=_MAYBE_FIGURE,
            memory_free_bytes=NUMBER,
            disk_free_bytes=NUMBER,
            shedding=NAMES,
        ),
        pools=_many(
            object_of(
                ["policy", "profile", "waiting", "floor", "ceiling"],
                policy=TEXT,
                profile=MAYBE_TEXT,
                waiting={"type": ["integer", "null"]},
                floor=NUMBER,
                ceiling=NUMBER,
            )
        ),
        totals=object_of(
            ["outcomes", "executions", "cpu_seconds", "output_bytes", "files"],
            outcomes={"type": "object", "additionalProperties": NUMBER},
            executions=NUMBER,
            cpu_seconds=_FIGURE,
            output_bytes=NUMBER,
            files=NUMBER,
        ),
        latencies={
            "type": "object",
            "additionalProperties": object_of(
                ["count", "p50", "p95", "p99"], count=NUMBER, p50=_FIGURE, p95=_FIGURE, p99=_FIGURE
            ),
        },
        per_minute={**_many(NUMBER), "description": "executions that ended, the oldest minute first"},
    ),
    "Findings": object_of(
        ["status", "checks"],
        status={"type": "string", "enum": ["ok", "degraded", "unavailable"]},
        checks=_many(object_of(["name", "ok", "detail", "fix"], name=TEXT, ok=_FLAG, detail=TEXT, fix=TEXT)),
    ),
    "EgressRuleSet": object_of(
        ["name", "origin", "rules"],
        name=TEXT,
        origin=TEXT,
        rules={"type": "array", "items": {"type": "object"}},
        applied={"type": "boolean"},
    ),
    "EgressRules": object_of(
        ["enabled", "connected", "sets"],
        enabled={"type": "boolean"},
        connected={"type": "boolean"},
        sets={"type": "array", "items": {"$ref": REF.format(name="EgressRuleSet")}},
    ),
}
