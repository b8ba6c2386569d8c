"""Who uses a blob again and who removes it, kept apart within one daemon: for S3 beside SQLite.

What is marked is lost with the daemon, and so are the requests that the marks were for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

REMOVAL_SECONDS: Final = 120.0
"""A removal whose end nobody has told is over by then: much longer than it may take."""


@dataclass(frozen=True, slots=True)
class _Removal:
    until: float
    over: trio.Event


class LocalMarks:
    """A :class:`supervisor.store.BlobMarks` for a daemon that shares its blobs with no other.

    ``unreferenced`` is :meth:`supervisor.store.SessionStore.unreferenced`; ``grace_seconds`` how long a mark holds.
    """

    def __init__(self, unreferenced: Callable[[Sequence[str]], Awaitable[list[str]]], grace_seconds: float) -> None:
        self._unreferenced = unreferenced
        self._grace_seconds = grace_seconds
        self._used: dict[str, float] = {}
        """When each was marked, the oldest first."""
        self._removals: dict[str, _Removal] = {}

    async def use(self, digest: str) -> None:
        """See :class:`supervisor.store.BlobMarks`."""
        while (removal := self._removal(digest)) is not None:
            with trio.move_on_at(removal.until):
                await removal.over.wait()
        self._forget_old()
        self._used.pop(digest, None)
        self._used[digest] = trio.current_time()

    async def begin_removal(self, digest: str) -> bool:
        """See :class:`supervisor.store.BlobMarks`."""
        self._forget_old()
        if digest in self._used or self._removal(digest) is not None:
            return False
        # First this, then the question: who wants it from now on waits, who wanted it before is known by then.
        self._removals[digest] = _Removal(trio.current_time() + REMOVAL_SECONDS, trio.Event())
        agreed = False
        try:
            agreed = digest in await self._unreferenced([digest])
        finally:
            if not agreed:
                self._end(digest)
        return agreed

    async def end_removal(self, digest: str) -> None:
        """See :class:`supervisor.store.BlobMarks`."""
        self._end(digest)

    def _removal(self, digest: str) -> _Removal | None:
        """Give the removal that has begun, unless its time is over."""
        removal = self._removals.get(digest)
        if removal is not None and removal.until <= trio.current_time():
            self._end(digest)
            return None
        return removal

    def _end(self, digest: str) -> None:
        removal = self._removals.pop(digest, None)
        if removal is not None:
            removal.over.set()

    def _forget_old(self) -> None:
        now = trio.current_time()
        while self._used:
            digest, marked = next(iter(self._used.items()))
            if marked + self._grace_seconds > now:
                return
            del self._used[digest]
