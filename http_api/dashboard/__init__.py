"""The dashboard: one page and what it loads, served to anybody. It holds nothing; what it shows needs the master key.

The files are read once, when the application is made: the daemon's view has them then, and an edit needs a restart.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from quart import Response, request
from quart_trio import QuartTrio

INDEX: Final = "index.html"
CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What the page consists of; another kind of file is a fault of ours."""
_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    # Nothing may make markup or code out of a string, not even we: names of users, hosts and files are hostile.
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
PAGE_POLICY: Final = "; ".join(_POLICY)
HEADERS: Final = {
    "Content-Security-Policy": PAGE_POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Asked for each time, answered in a few bytes: after an upgrade no browser runs the old page against the new API.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    content: bytes
    content_type: str
    tag: str


def read_assets() -> dict[str, Asset]:
    """Read the files of the page by name.

    Raises:
        KeyError: one is of a kind that the page does not consist of.
    """
    found: dict[str, Asset] = {}
    for file in resources.files(__name__).joinpath("page").iterdir():
        content = file.read_bytes()
        kind = CONTENT_TYPES["." + file.name.rpartition(".")[2]]
        found[file.name] = Asset(content, kind, hashlib.sha256(content).hexdigest()[:32])
    return found


def add_dashboard(app: QuartTrio) -> None:
    """Serve the page at ``/dashboard``, its files below. Addresses in it are relative: a proxy may put it anywhere."""
    assets = read_assets()

    async def page() -> Response:
        return _answer(assets[INDEX])

    async def with_slash() -> Response:
        # Its relative addresses would lead elsewhere.
        return Response(b"", status=308, headers={"Location": "../dashboard"})

    def serve(name: str) -> None:
        async def file() -> Response:
            return _answer(assets[name])

        app.add_url_rule(f"/dashboard/{name}", f"dashboard/{name}".replace(".", "_"), file, methods=["GET"])

    app.add_url_rule("/dashboard", "dashboard", page, methods=["GET"])
    app.add_url_rule("/dashboard/", "dashboard/", with_slash, methods=["GET"])
    # One route each, by its exact name: nothing of a request is ever made into a path.
    for name in sorted(assets.keys() - {INDEX}):
        serve(name)


def _answer(asset: Asset) -> Response:
    if asset.tag in request.if_none_match:
        response = Response(b"", status=304, headers=HEADERS)
    else:
        response = Response(asset.content, content_type=asset.content_type, headers=HEADERS)
    response.set_etag(asset.tag)
    return response
