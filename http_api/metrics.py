"""Figures for a monitoring system."""

from __future__ import annotations

from quart import Response

from http_api.services import Door
from supervisor.identity.credentials import Caller


async def metrics(door: Door, _caller: Caller) -> Response:
    """Answer ``GET /metrics``, in the text format of Prometheus."""
    return Response(await door.operation.metrics(), content_type="text/plain; version=0.0.4; charset=utf-8")
