"""Leaving in order: requests that are under way end first, as long as there is time."""

from __future__ import annotations

import logging
from typing import Any, Final

import trio
from hypercorn.typing import ASGIFramework

from supervisor.service.given import Service

log: Final = logging.getLogger("gaoler.service")

SAVING_SECONDS: Final = 30.0
"""What comes after the requests: sessions save themselves, the jailer removes its cgroups."""


class Underway:
    """Stands before an application and counts requests. A stream on which a client only listens is none."""

    def __init__(self, app: ASGIFramework) -> None:
        self._app = app
        self.count = 0
        self._none = trio.Event()
        self._none.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request, as ASGI has it."""
        if scope["type"] != "http" or _only_listens(scope):
            await self._app(scope, receive, send)
            return
        if self.count == 0:
            self._none = trio.Event()
        self.count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.count -= 1
            if self.count == 0:
                self._none.set()

    async def ended(self) -> None:
        """Wait until there is none."""
        await self._none.wait()


def _only_listens(scope: Any) -> bool:
    return scope["method"] == "GET" and any(
        name == b"accept" and b"text/event-stream" in value for name, value in scope["headers"]
    )


async def drain(underway: Underway, seconds: float, hurry: trio.Event, service: Service) -> None:
    """Wait until no request is under way, at most ``seconds``, or until ``hurry`` is set. New ones do not come."""
    status = f"draining: {underway.count} requests under way"
    service.notifier.stopping(status, seconds + SAVING_SECONDS)
    if not underway.count:
        return
    log.info("%s, at most %g s", status, seconds)

    async def hurried() -> None:
        await hurry.wait()
        nursery.cancel_scope.cancel()

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hurried)
            await underway.ended()
            nursery.cancel_scope.cancel()
    if underway.count:
        log.warning("stopping with %d requests under way: they are lost", underway.count)
