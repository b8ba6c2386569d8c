"""Redis and S3, or one of them beside what the embedded default has for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from supervisor.connector.dialling import Dial
from supervisor.files.service import GRACE_SECONDS
from supervisor.redis_link.link import RedisLink, open_redis
from supervisor.settings.tree import Settings
from supervisor.store import BlobMarks, BlobStore, SessionStore
from supervisor.store.disk import open_blobs
from supervisor.store.marks import LocalMarks
from supervisor.store.redis_marks import RedisMarks
from supervisor.store.redis_sessions import RedisSessions
from supervisor.store.redis_usage import RedisUsage
from supervisor.store.s3 import open_s3
from supervisor.store.sqlite import open_sqlite
from supervisor.store.state_tiers import StateTiers
from supervisor.store.usage import UsageStore
from supervisor.stores_in_use import Stores


@asynccontextmanager
async def open_shared_stores(settings: Settings, dial: Dial, data: Path) -> AsyncIterator[Stores]:
    """Open them for the block, as :func:`supervisor.stores_in_use.open_stores`."""
    async with AsyncExitStack() as stack:
        link: RedisLink | None = None
        sessions: SessionStore
        blobs: BlobStore
        troubles, removed = None, 0
        marks: BlobMarks
        usage: UsageStore
        if settings.uses_redis:
            link = await stack.enter_async_context(open_redis(settings.redis, dial))
            sessions, marks = RedisSessions(link, settings.redis.retry_seconds), RedisMarks(link)
            usage = RedisUsage(link, settings.redis.retry_seconds)
        else:
            sessions = database = await stack.enter_async_context(open_sqlite(data / "gaoler.sqlite"))
            marks, usage = LocalMarks(sessions.unreferenced, GRACE_SECONDS), database.usage
        if settings.s3.url:
            remote = await stack.enter_async_context(open_s3(settings.s3, dial, marks))
            blobs, troubles = remote, remote.s3.troubles
        else:
            reserve = settings.files.reserve_bytes
            local = await stack.enter_async_context(open_blobs(data / "blobs", reserve_bytes=reserve))
            blobs, removed = local, local.removed_uploads
        states = None
        if link is not None:
            keep_seconds = settings.live.archive_hours * 3600
            states = StateTiers(link, blobs, marks, settings.state, keep_seconds=keep_seconds)
        yield Stores(sessions, blobs, usage, link, states, troubles, removed)
