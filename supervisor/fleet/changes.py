"""Whose files have changed, told to every gateway: what a client of one follows may be changed through another."""

from __future__ import annotations

import logging
from typing import Any, Final

import trio

from supervisor.execution.values import SessionId
from supervisor.files.service import FileService
from supervisor.fleet.outage import OUTAGE
from supervisor.fleet.streams import entries
from supervisor.redis_link.link import RedisLink

log: Final = logging.getLogger("gaoler.fleet")

_KEPT: Final = 2000
_AT_ONCE: Final = 200
_BLOCK_MILLISECONDS: Final = 5000
_PAUSE_SECONDS: Final = 1.0


class Changes:
    """Tells others of changes here, and us of theirs. A client that missed one sees it when it looks."""

    def __init__(self, link: RedisLink, name: str) -> None:
        self._link = link
        self._name = name
        self._key = link.key("changes")
        self._send, self._receive = trio.open_memory_channel[SessionId](1000)

    def note(self, session_id: SessionId) -> None:
        """Tell others, soon. Never waits."""
        try:
            self._send.send_nowait(session_id)
        except trio.WouldBlock:
            log.warning("too many changes at once: one is not told to other gateways")

    async def tell(self) -> None:
        """Pass on what was noted, until cancelled; several changes in a moment are one call."""
        async for first in self._receive:
            sessions = {first}
            while len(sessions) < _AT_ONCE:
                try:
                    sessions.add(self._receive.receive_nowait())
                except trio.WouldBlock:
                    break
            fields: dict[Any, Any] = {"from": self._name, "sessions": ",".join(sessions)}
            try:
                await self._link.call(
                    lambda client, fields=fields: client.xadd(self._key, fields, maxlen=_KEPT)  # type: ignore[misc]
                )
            except OUTAGE:
                log.warning("other gateways do not hear of %d changes", len(sessions))

    async def hear(self, files: FileService) -> None:
        """Pass on what others tell, until cancelled, to whom ``files.on_changed_elsewhere`` is then."""
        last = "$"
        async with self._link.open_line() as line:
            while True:
                words = ("XREAD", "COUNT", _AT_ONCE, "BLOCK", _BLOCK_MILLISECONDS)
                try:
                    answer = await line.ask(*words, "STREAMS", self._key, last)
                except OUTAGE:
                    await trio.sleep(_PAUSE_SECONDS)
                    continue
                for _, entry, fields in entries(answer):
                    last = entry
                    told = fields or {}
                    if told.get(b"from") != self._name.encode():
                        for session_id in told.get(b"sessions", b"").decode("ascii", "replace").split(",", _AT_ONCE):
                            files.on_changed_elsewhere(SessionId(session_id))
