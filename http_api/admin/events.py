"""``GET /admin/executions/events``: what happens, as it happens, as server-sent events.

=============  ===================================================================================================
``snapshot``   ``{"overview": ..., "running": [...]}``: at once, and again when some events were missed
``execution``  ``{"kind": "began" | "runs" | "ended", "execution": ..., "missed": n}``
``overview``   every two seconds, as ``GET /admin/overview``
=============  ===================================================================================================

Whoever reads slower than things happen misses some, and is told how many: nobody waits for a reader. The stream ends
when the server stops, and when the credential that opened it no longer holds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

import msgspec
import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody

from http_api.admin.asked import MOST
from http_api.admin.services import Administration
from http_api.services import Door
from supervisor.activity.activity import Event
from supervisor.errors import Busy, GaolerError
from supervisor.identity.credentials import Caller
from supervisor.serving.addresses import address_of

OVERVIEW_SECONDS: Final = 2.0
QUIET_SECONDS: Final = 15.0
"""Proxies close a connection on which nothing comes; and so often the credential is looked at again."""


async def events(door: Door, _caller: Caller) -> Response:
    """Answer with the stream.

    Raises:
        Busy: as many follow as may.
    """
    administration = door.administration
    if administration.followers.full:
        most = administration.followers.most
        raise Busy(f"at most {most} follow executions at once (admin.followers)", retry_after_seconds=5)
    shown, address = _Shown(dict(request.headers)), address_of(request.scope)

    def holds() -> bool:
        try:
            door.operators.authenticate(shown, address)
        except GaolerError:
            return False
        return True

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = EventStream(administration, holds)
    return Response(stream, content_type="text/event-stream; charset=utf-8", headers=headers)


class _Shown:
    """Header fields as they were shown, whatever their case: a request is gone before its answer has ended."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()}

    def get(self, name: str, /) -> str | None:
        """Give a field."""
        return self._headers.get(name.lower())


class EventStream(ResponseBody):
    """The body of the answer. ``holds``: the credential that was shown still does."""

    def __init__(self, administration: Administration, holds: Callable[[], bool]) -> None:
        self._administration = administration
        self._pieces = _pieces(administration, holds)
        self._counted = False

    async def __aenter__(self) -> EventStream:
        # Between the look and this others may have come: then it ends at once.
        self._counted = self._administration.followers.enter()
        if not self._counted:
            await self._pieces.aclose()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._counted:
            self._administration.followers.leave()
        await self._pieces.aclose()

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self._pieces


async def _pieces(administration: Administration, holds: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    """Give the stream, piece by piece: how fast it is read decides how much is missed."""
    overview_at = trio.current_time() + OVERVIEW_SECONDS
    look_at = trio.current_time() + QUIET_SECONDS
    with administration.activity.follow() as told:
        yield await _snapshot(administration)
        while not administration.stopping.is_set():
            event = await _next(told, administration.stopping, min(overview_at, look_at))
            if event is not None:
                yield _event("execution", event)
                if event.missed:
                    yield await _snapshot(administration)
            now = trio.current_time()
            if now >= look_at:
                if not holds():
                    return
                look_at = now + QUIET_SECONDS
                yield b": still here\n\n"
            if now >= overview_at:
                overview_at = now + OVERVIEW_SECONDS
                yield _event("overview", await administration.overview())


async def _next(told: trio.MemoryReceiveChannel[Event], stopping: trio.Event, deadline: float) -> Event | None:
    """Wait for an event; ``None``: the server stops, or it is time for something else."""
    with suppress(trio.WouldBlock):
        return told.receive_nowait()
    found: Event | None = None
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = deadline

        async def watch() -> None:
            await stopping.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        found = await told.receive()
        nursery.cancel_scope.cancel()
    return found


async def _snapshot(administration: Administration) -> bytes:
    running = administration.activity.running()[:MOST]
    return _event("snapshot", {"overview": await administration.overview(), "running": running})


def _event(kind: str, data: Any) -> bytes:
    # JSON has no raw line break, so one data line is enough and nothing in it can end the event.
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
