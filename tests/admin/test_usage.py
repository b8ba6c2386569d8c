"""What callers use is added up by day, in either store; counts are bounded, and kept at the end."""

from __future__ import annotations

import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.activity.records import ExecutionRecord
from supervisor.administration.usage import MOST_CALLERS, OTHERS, UsageBook
from supervisor.connector.dialling import dial_directly
from supervisor.errors import StorageFull
from supervisor.execution.values import new_id
from supervisor.redis_link.link import open_redis
from supervisor.settings.fleet import RedisSettings
from supervisor.store.redis_usage import RedisUsage
from supervisor.store.sqlite import open_sqlite
from supervisor.store.usage import UsageStore, Used
from tests.redis_server import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

DAY = 86_400.0
NOON = 1_790_000_000.0


@asynccontextmanager
async def open_store(kind: str, directory: Path, redis_url: str) -> AsyncIterator[UsageStore]:
    if kind == "sqlite":
        async with open_sqlite(directory / f"{new_id()}.sqlite") as sessions:
            yield sessions.usage
    else:
        async with open_redis(RedisSettings(url=redis_url, prefix=new_id()), dial_directly) as link:
            yield RedisUsage(link, retry_seconds=1.0)


@pytest.fixture(params=["sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> AsyncIterator[UsageStore]:
    async with open_store(request.param, tmp_path, redis_url) as opened:
        yield opened


def used(day: str, user: str = "ann", tenant: str = "t", **counts: float) -> Used:
    return msgspec.convert({"day": day, "tenant": tenant, "credential": "key", "user": user, **counts}, Used)


def record(user: str | None = "ann", outcome: str = "exited", **fields: object) -> ExecutionRecord:
    usual = ExecutionRecord(
        id=new_id(),
        door="http",
        kind="code",
        state="ended",
        tenant="t",
        credential="key",
        user=user,
        language="py",
        began_at=0.0,
        outcome=outcome,
        wall_seconds=0.5,
        cpu_seconds=0.25,
        output_bytes=10,
        files=1,
    )
    return msgspec.structs.replace(usual, **fields)


async def test_what_is_added_twice_is_added_up(store: UsageStore) -> None:
    await store.add([used("2026-01-01", executions=1, wall_seconds=0.1, output_bytes=1 << 40)])
    await store.add([used("2026-01-01", executions=2, failed=1, wall_seconds=0.2, output_bytes=1, files=3)])
    (found,) = await store.between("2026-01-01", "2026-01-01", None, 10)
    assert (found.executions, found.failed, found.output_bytes, found.files) == (3, 1, (1 << 40) + 1, 3)
    assert found.wall_seconds == pytest.approx(0.3)


async def test_days_come_the_latest_first_and_callers_in_order(store: UsageStore) -> None:
    days = ["2026-01-02", "2026-02-01", "2025-12-31"]
    await store.add([used(day, user, executions=1) for day in days for user in ("bob", "", 'a"n:n')])
    found = await store.between("2026-01-01", "2026-12-31", None, 10)
    assert [each.who[::3] for each in found] == [
        (day, user) for day in ("2026-02-01", "2026-01-02") for user in ("", 'a"n:n', "bob")
    ]
    assert await store.between("2026-01-01", "2026-12-31", None, 4) == found[:4]


async def test_only_a_tenants_are_given(store: UsageStore) -> None:
    await store.add([used("2026-01-01", tenant="a", executions=1), used("2026-01-01", tenant="b", executions=2)])
    assert [each.executions for each in await store.between("2026-01-01", "2026-01-01", "b", 10)] == [2]


async def test_old_days_are_forgotten(store: UsageStore) -> None:
    await store.add([used(day, executions=1) for day in ("2025-12-31", "2026-01-01", "2026-01-02")])
    await store.forget("2026-01-01")
    assert [each.day for each in await store.between("0000-01-01", "9999-12-31", None, 10)] == [
        "2026-01-02",
        "2026-01-01",
    ]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.text(string.ascii_letters + '"\\:[],é☃', max_size=8),
            st.integers(0, 1 << 40),
            st.floats(0, 1e6, allow_nan=False),
        ),
        max_size=20,
    )
)
def test_any_callers_are_added_up_as_one_would_by_hand(
    kind: str, tmp_path: Path, redis_url: str, rows: list[tuple[str, int, float]]
) -> None:
    wanted = dict[str, tuple[int, float]]()

    async def add_up() -> list[Used]:
        async with open_store(kind, tmp_path, redis_url) as store:
            for user, count, seconds in rows:
                await store.add([used("2026-03-03", user, output_bytes=count, cpu_seconds=seconds)])
                before = wanted.get(user, (0, 0.0))
                wanted[user] = (before[0] + count, before[1] + seconds)
            return await store.between("2026-03-03", "2026-03-03", None, 1000)

    found = trio.run(add_up)
    assert {each.user: each.output_bytes for each in found} == {user: count for user, (count, _) in wanted.items()}
    assert {each.user: each.cpu_seconds for each in found} == pytest.approx(
        {user: s for user, (_, s) in wanted.items()}
    )


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


async def test_a_book_counts_executions_and_not_what_was_refused_or_waits_or_is_a_gateways(store: UsageStore) -> None:
    clock = Clock()
    book = UsageBook(store, days=7, clock=clock)
    for outcome in ("exited", "timed_out", "failed", "stopped", "refused", "waits_for_tools"):
        book.note(record(outcome=outcome))
    book.note(record(None))
    book.note(record(door="worker"))
    found = await book.between(book.today(), book.today(), None, 10)
    assert [(each.user, each.executions, each.failed, each.files) for each in found] == [
        ("", 1, 0, 1),
        ("ann", 4, 1, 4),
    ]
    clock.now += DAY
    book.note(record())
    assert [each.executions for each in await book.between(book.today(1), book.today(), None, 10)] == [1, 1, 4]


async def test_ever_new_users_are_counted_together_beyond_a_limit(store: UsageStore) -> None:
    book = UsageBook(store, days=7, clock=Clock())
    for number in range(MOST_CALLERS + 50):
        book.note(record(f"u{number}"))
    await book.flush()
    found = await store.between(book.today(), book.today(), None, 1)
    assert [(each.user, each.executions) for each in found] == [(OTHERS, 50)]


class FullStore:
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        self.full = True
        self.kept: list[Used] = []

    async def add(self, used: list[Used]) -> None:
        if self.full:
            raise StorageFull("full")
        self.kept += used

    async def between(self, _first: str, _last: str, _tenant: str | None, _limit: int) -> list[Used]:
        return self.kept

    async def forget(self, before: str) -> None:
        pass


async def test_what_a_full_disk_did_not_take_is_kept_later(autojump_clock: trio.testing.MockClock) -> None:
    store = FullStore()
    book = UsageBook(store, days=7, clock=Clock())  # type: ignore[arg-type]  # a list is a sequence
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book.run)
        book.note(record())
        await trio.sleep(20)
        assert store.kept == []
        book.note(record())
        store.full = False
        await trio.sleep(10)
        assert [each.executions for each in store.kept] == [2]
        book.note(record())
        nursery.cancel_scope.cancel()
    assert [each.executions for each in store.kept] == [2, 1]
