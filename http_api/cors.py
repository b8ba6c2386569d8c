"""Browsers of other origins: allowed one by one, by setting. Without the setting nothing is said about it."""

from __future__ import annotations

from typing import Final

from quart import Response, request

METHODS: Final = "GET, HEAD, POST, DELETE"
HEADERS: Final = "Authorization, Content-Type, X-API-Key, X-User-Id, User-Id, X-CodeAPI-Expected-Profile"
MAX_AGE_SECONDS: Final = 600


def mark(response: Response, origins: frozenset[str]) -> None:
    """Let a page of an allowed origin read the answer. Credentials of a browser are never allowed along."""
    if not origins:
        return
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin is None or origin not in origins:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = "Content-Disposition, Retry-After"
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Allow-Headers"] = HEADERS
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_SECONDS)
