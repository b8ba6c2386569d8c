"""Where things are kept: SQLite and a directory, or Redis and S3, as the settings say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.connector.dialling import Dial
from supervisor.metrics.troubles import Troubles
from supervisor.settings.tree import Settings
from supervisor.store import BlobStore, SessionStore
from supervisor.store.disk import open_blobs
from supervisor.store.sqlite import open_sqlite
from supervisor.store.usage import UsageStore

if TYPE_CHECKING:
    from supervisor.redis_link.link import RedisLink
    from supervisor.store.state_tiers import StateTiers


@dataclass(frozen=True, slots=True)
class Stores:
    """What is open. ``link``: the way to Redis, if sessions are there."""

    sessions: SessionStore
    blobs: BlobStore
    usage: UsageStore
    link: RedisLink | None = None
    states: StateTiers | None = None
    """Of saved interpreters, if not with the other bytes."""
    s3: Troubles | None = None
    """What S3 has cost, if bytes are there."""
    removed_uploads: int = 0
    """Half-written ones of a crash that were found at the start."""


@asynccontextmanager
async def open_stores(settings: Settings, dial: Dial | None, data: Path) -> AsyncIterator[Stores]:
    """Open everything for the block. ``dial``: how Redis and S3 are reached; ``data``: our own directory.

    Raises:
        ConfigurationError: something in the settings cannot be.
        StoreUnavailable: Redis or S3 does not answer.
    """
    if settings.uses_redis or settings.s3.url:
        # Their libraries take half a second to import, and nobody who has no use for them should wait.
        from supervisor.shared_stores import open_shared_stores

        assert dial is not None
        async with open_shared_stores(settings, dial, data) as stores:
            yield stores
        return
    async with (
        open_sqlite(data / "gaoler.sqlite") as sessions,
        open_blobs(data / "blobs", reserve_bytes=settings.files.reserve_bytes) as blobs,
    ):
        yield Stores(sessions, blobs, sessions.usage, removed_uploads=blobs.removed_uploads)
