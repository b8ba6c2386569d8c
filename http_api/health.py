"""``/health`` and ``/ready``, for anybody and in every role: is the process alive, and has it what its work needs."""

from __future__ import annotations

import msgspec
from quart import Response
from quart_trio import QuartTrio

from http_api.services import Health

PREFIXES = ("", "/v1")


class _Check(msgspec.Struct, omit_defaults=True):
    name: str
    ok: bool
    reason: str = ""


class _Readiness(msgspec.Struct):
    ready: bool
    status: str
    role: str
    version: str
    checks: list[_Check]


def add_routes(app: QuartTrio, health: Health) -> None:
    """Serve both, with and without ``/v1``."""

    async def alive() -> Response:
        """Answer ``GET /health``: 200 as long as there is an answer; ``status`` says whether code can be run."""
        body = {"status": health.status, "version": health.version, "languages": list(health.languages)}
        return _json(body)

    async def ready() -> Response:
        """Answer ``GET /ready``: 503 if anything is missing, and of each thing whether it is there."""
        checks = [_Check(each.name, each.ok, each.reason) for each in await health.checks()]
        whole = all(each.ok for each in checks)
        body = _Readiness(whole, health.status, health.role, health.version, checks)
        return _json(body, 200 if whole else 503)

    for prefix in PREFIXES:
        app.add_url_rule(f"{prefix}/health", f"{prefix}health", alive, methods=["GET"])
        app.add_url_rule(f"{prefix}/ready", f"{prefix}ready", ready, methods=["GET"])


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status=status, content_type="application/json")
