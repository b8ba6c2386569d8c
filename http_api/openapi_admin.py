"""The routes for operators as the OpenAPI document describes them, and the schemas of their answers."""

from __future__ import annotations

from typing import Any, Final

from http_api.admin import egress, keys
from http_api.openapi_schemas import MAYBE_TEXT, NAMES, NUMBER, REF, TEXT, Operation, object_of

OPERATOR: Final = "For operators"
_ASKS: Final = (400, 401, 403, 409)
_FLAG: Final = {"type": "boolean"}
_FIGURE: Final = {"type": "number"}
_DAY: Final = {"type": "string", "format": "date"}
_MAYBE_FIGURE: Final = {"type": ["number", "null"]}


def _many(schema: Any) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def _named(name: str) -> dict[str, Any]:
    return {"$ref": REF.format(name=name)}


ADMIN_OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("GET", "/admin/overview"): Operation(
        OPERATOR, "What this process is, and how much it has to do", {200: "Overview"}, None, (401, 403, 409)
    ),
    ("GET", "/admin/pools"): Operation(
        OPERATOR,
        "Pools of cells: how many wait, at least, at most",
        {200: object_of(["pools"], pools=_many(_named("Pool")))},
        None,
        (401, 403, 409),
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
    ("GET", "/admin/sessions"): Operation(
        OPERATOR,
        "Sessions of all owners, the newest first",
        {200: object_of(["sessions", "next"], sessions=_many(_named("SessionRecord")), next=MAYBE_TEXT)},
        None,
        _ASKS,
        ("tenant", "user", "limit", "after"),
    ),
    ("GET", "/admin/sessions/{session}"): Operation(
        OPERATOR, "One session, with its files", {200: "SessionRecord"}, None, (401, 403, 404, 409)
    ),
    ("DELETE", "/admin/sessions/{session}"): Operation(
        OPERATOR,
        "Forget a session with its files; what runs in it is killed",
        {200: object_of(["deleted"], deleted=_FLAG)},
        None,
        (401, 403, 404, 409),
    ),
    ("GET", "/admin/keys"): Operation(
        OPERATOR,
        "API keys, without what they are",
        {200: object_of(["keys"], keys=_many(_named("KeyRecord")))},
        None,
        (401, 403, 409),
    ),
    ("POST", "/admin/keys"): Operation(
        OPERATOR, "Make a key; it is shown this once", {201: "NewKey"}, keys.KeyBody, (*_ASKS, 413, 507)
    ),
    ("DELETE", "/admin/keys/{key}"): Operation(
        OPERATOR,
        "Revoke a key: the next request with it is refused",
        {200: object_of(["revoked"], revoked=_FLAG)},
        None,
        (401, 403, 404, 409),
    ),
    ("GET", "/admin/workers"): Operation(
        OPERATOR,
        "Workers of the fleet; a daemon alone is its own",
        {200: object_of(["workers"], workers=_many({"type": "object"}))},
        None,
        (401, 403, 409, 503),
    ),
    ("POST", "/admin/workers/{worker}/drain"): Operation(
        OPERATOR,
        "Have a worker finish what it does, and leave",
        {202: object_of(["draining"], draining=_FLAG)},
        None,
        (401, 403, 404, 409, 503),
    ),
    ("GET", "/admin/egress/log"): Operation(
        OPERATOR,
        "What the egress proxy decided, the latest first",
        {200: object_of(["records"], records=_many(_named("EgressRecord")))},
        None,
        _ASKS,
        ("verdict", "limit"),
    ),
    ("POST", "/admin/egress/allow"): Operation(
        OPERATOR,
        "Add one rule to a set; it holds at once",
        {200: "EgressRuleSet"},
        egress.RuleBody,
        (400, 401, 403, 404, 409, 413, 507),
    ),
    ("POST", "/admin/egress/remove"): Operation(
        OPERATOR,
        "Take the rule that is written so out of a set; what only it allowed is cut",
        {200: "EgressRuleSet"},
        egress.RuleBody,
        (400, 401, 403, 404, 409, 413, 507),
    ),
    ("GET", "/admin/audit"): Operation(
        OPERATOR,
        "What operators did, and who was refused, the latest first",
        {200: object_of(["entries"], entries=_many(_named("AuditEntry")))},
        None,
        _ASKS,
        ("kind_of_entry", "limit"),
    ),
    ("GET", "/admin/usage"): Operation(
        OPERATOR,
        "What each caller has used, day by day",
        {200: object_of(["days"], days=_many(_named("Used")))},
        None,
        _ASKS,
        ("from", "to", "tenant", "limit"),
    ),
    ("GET", "/admin/egress"): Operation(
        OPERATOR, "The rules of the network that hold now", {200: "EgressRules"}, None, (401, 403, 409)
    ),
    ("PUT", "/admin/egress"): Operation(
        OPERATOR,
        "Replace the rules of a name; what they no longer allow is cut",
        {200: "EgressRuleSet"},
        egress.EgressBody,
        (400, 401, 403, 404, 409, 413, 507),
    ),
    ("DELETE", "/admin/egress/{name}"): Operation(
        OPERATOR, "Go back to the rules of the file", {200: "EgressRuleSet"}, None, (400, 401, 403, 404, 409, 507)
    ),
    ("GET", "/metrics"): Operation(OPERATOR, "Figures, as Prometheus reads them", {200: "text"}, None, (401, 403, 409)),
}
ADMIN_QUERY: Final[dict[str, dict[str, Any]]] = {
    "state": {"schema": {"type": "string", "enum": ["running", "recent", "all"]}},
    "limit": {"schema": {"type": "integer", "minimum": 1, "maximum": 1000}, "description": "at most; usually 100"},
    "tenant": {"schema": {"type": "string", "maxLength": 256}},
    "user": {"schema": {"type": "string", "maxLength": 256}},
    "after": {"schema": {"type": "string", "maxLength": 256}, "description": "what was given as next"},
    "verdict": {"schema": {"type": "string", "enum": ["all", "allowed", "refused", "failed"]}},
    "kind_of_entry": {"name": "kind", "schema": {"type": "string", "enum": ["all", "acts", "refused"]}},
    "from": {"schema": _DAY, "description": "usually 30 days ago"},
    "to": {"schema": _DAY, "description": "usually today (UTC)"},
}
ADMIN_PATH: Final[dict[str, dict[str, Any]]] = {
    "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"},
    "execution": {"type": "string", "pattern": "^[A-Za-z0-9_-]{21}$"},
    "key": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"},
    "worker": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
}
_MAYBE_FLAG: Final = {"type": ["boolean", "null"], "description": "null: a gateway does not know"}
_KEY: Final = {
    "name": TEXT,
    "tenant": TEXT,
    "admin": _FLAG,
    "tier": {"type": "string", "enum": ["nsjail", "microvm"]},
    "created_at": _FIGURE,
    "origin": {"type": "string", "enum": ["file", "settings", "fleet"]},
    "rates": {"type": "object", "additionalProperties": TEXT, "description": "its own, instead of the settings'"},
}
ADMIN_COMPONENTS: Final[dict[str, Any]] = {
    "SessionRecord": object_of(
        ["id", "tenant", "owner", "created_at", "expires_at", "files", "size_bytes", "live", "processes"],
        id=TEXT,
        tenant=TEXT,
        owner=object_of(["kind", "id"], kind=TEXT, id=TEXT),
        language=MAYBE_TEXT,
        created_at=_FIGURE,
        expires_at=_FIGURE,
        files=NUMBER,
        size_bytes=NUMBER,
        live=_MAYBE_FLAG,
        processes={"type": ["integer", "null"]},
        file_list=_many(
            object_of(
                ["id", "name", "size_bytes", "created_at"], id=TEXT, name=TEXT, size_bytes=NUMBER, created_at=_FIGURE
            )
        ),
    ),
    "KeyRecord": object_of(["name", "tenant", "admin", "tier", "created_at", "origin"], **_KEY),
    "NewKey": object_of(["key", "name", "tenant"], key=TEXT, **_KEY),
    "EgressRecord": object_of(
        ["time", "verdict", "suggestion"],
        time=_FIGURE,
        session=TEXT,
        tenant=TEXT,
        credential=TEXT,
        user=TEXT,
        kind=TEXT,
        method=TEXT,
        host=TEXT,
        port=NUMBER,
        path=TEXT,
        verdict=TEXT,
        code=TEXT,
        reason=TEXT,
        rule=TEXT,
        suppressed=NUMBER,
        suggestion={
            **object_of(["set", "rule"], set=TEXT, rule={"type": "object"}),
            "type": ["object", "null"],
            "description": "null: no rule would allow it, or none should",
        },
    ),
    "AuditEntry": object_of(
        ["time", "id", "who", "tenant", "address", "act", "target", "outcome", "detail"],
        time=_FIGURE,
        id=TEXT,
        who=TEXT,
        tenant=TEXT,
        address=TEXT,
        act=TEXT,
        target=TEXT,
        outcome={"type": "string", "enum": ["begun", "done", "refused", "failed"]},
        detail=TEXT,
    ),
    "Used": object_of(
        ["day", "tenant", "credential", "user", "executions", "failed", "wall_seconds", "cpu_seconds"],
        day=_DAY,
        tenant=TEXT,
        credential=TEXT,
        user=TEXT,
        executions=NUMBER,
        failed=NUMBER,
        wall_seconds=_FIGURE,
        cpu_seconds=_FIGURE,
        output_bytes=NUMBER,
        files=NUMBER,
    ),
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
    "Pool": object_of(
        ["policy", "profile", "waiting", "floor", "ceiling"],
        policy=TEXT,
        profile=MAYBE_TEXT,
        waiting={"type": ["integer", "null"]},
        floor=NUMBER,
        ceiling=NUMBER,
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
        pools=_many(_named("Pool")),
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
