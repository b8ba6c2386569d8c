"""Real losses: a worker's process killed at each step, a connection cut just before the answer."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from supervisor.connector.dialling import dial_directly
from supervisor.errors import StoreUnavailable
from supervisor.execution.values import SessionId
from supervisor.fleet import leases as leases_module
from supervisor.fleet.languages import encode_table
from supervisor.fleet.leases import Lease, Leases
from supervisor.fleet.ledger import run_reaper
from supervisor.fleet.queue import Ticket
from supervisor.fleet.replies import Event, Lost, Reply, Result, open_replies
from supervisor.fleet.roster import Roster
from supervisor.fleet.scripts import BEGIN, CANCEL, EVENT, FINISH, HAND_BACK, SUBMIT
from supervisor.redis_link.link import open_redis
from supervisor.runtimes.language_view import LanguageTable, LanguageView, TierView
from supervisor.settings.fleet import RedisSettings
from tests.fleet.parts import POOL, QUICK, Fleet, all_replies, fleet, mortal, record, take_one
from tests.redis_server import RedisServer, redis_server, run_redis

__all__ = ["fleet", "mortal", "redis_server"]
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("taken", [Result(b"of another")]),
        ("begun", [Lost("its worker is gone", began=True)]),
        ("told", [Event(b"e"), Lost("its worker is gone", began=True)]),
        ("finished", [Event(b"e"), Result(b"of the dying")]),
    ],
)
async def test_a_worker_that_is_killed_at_a_step_loses_no_more_than_it_had_begun(
    mortal: Fleet, step: str, expected: list[Reply]
) -> None:
    fleet = mortal
    async with open_replies(fleet.link, "g", check_seconds=60) as replies, replies.expect("j") as channel:
        await fleet.submit("j")
        await killed_at(step, fleet)
        async with fleet.worker("another") as worker, trio.open_nursery() as nursery:
            nursery.start_soon(run_reaper, fleet.link, fleet.settings)
            if step == "taken":
                delivery = await take_one(worker)
                assert await worker.begin(delivery)
                await worker.finish(delivery, b"of another")
            assert await all_replies(channel) == expected
            nursery.cancel_scope.cancel()
    assert (await fleet.line("j")).state == ("lost" if isinstance(expected[-1], Lost) else "done")


async def killed_at(step: str, fleet: Fleet) -> None:
    prefix = fleet.link.key().strip("{}")
    words = [sys.executable, "-m", "tests.fleet.dying_worker", fleet.server.url, prefix, step]

    def work() -> None:
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline().decode().strip() == step
            finally:
                process.kill()

    await trio.to_thread.run_sync(work)


@dataclass
class Cut:
    """A way to Redis that is cut, when it is asked for, after the request went through and before the answer came."""

    port: int = 0
    wanted: bytes = b""
    """The next request with these bytes in it is the one."""
    cuts: int = 0

    async def serve(self, server: RedisServer, client: trio.SocketStream) -> None:
        upstream = await trio.open_unix_socket(str(server.socket_path))
        doomed = trio.Event()

        async def up() -> None:
            async for chunk in client:
                if self.wanted and self.wanted in chunk:
                    self.wanted = b""
                    doomed.set()
                await upstream.send_all(chunk)
            nursery.cancel_scope.cancel()

        async def down() -> None:
            async for chunk in upstream:
                if doomed.is_set():
                    self.cuts += 1
                    break
                await client.send_all(chunk)
            nursery.cancel_scope.cancel()

        async with client, upstream:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(up)
                    nursery.start_soon(down)
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # one of the two ends is gone


@asynccontextmanager
async def open_cut(server: RedisServer) -> AsyncIterator[tuple[Cut, Fleet]]:
    cut = Cut()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        cut.port = listener.socket.getsockname()[1]

        async def serve(stream: trio.SocketStream) -> None:
            await cut.serve(server, stream)

        nursery.start_soon(trio.serve_listeners, serve, [listener])
        given = RedisSettings(url=f"redis://127.0.0.1:{cut.port}/0", prefix="cut" + secrets.token_hex(6))
        async with open_redis(given, dial_directly) as link:
            yield cut, Fleet(server, link, QUICK)
        nursery.cancel_scope.cancel()


async def test_an_answer_that_is_lost_on_its_way_changes_nothing_at_any_step(redis_server: RedisServer) -> None:
    # Whoever looks jobs up names them too, and would be the one who is cut.
    async with open_cut(redis_server) as (cut, fleet), open_replies(fleet.link, "g", check_seconds=600) as replies:
        # Known to the server: otherwise the answer that is lost is only that it does not know them.
        for script in (SUBMIT, BEGIN, EVENT, FINISH, HAND_BACK, CANCEL, leases_module._ACQUIRE):
            redis_server.command("SCRIPT", "LOAD", script.text)
        async with fleet.worker("w") as worker, replies.expect("job-one") as channel:

            async def with_a_cut(step: Callable[[], Awaitable[object]], wanted: bytes = b"job-one") -> object:
                before, cut.wanted = cut.cuts, wanted
                found = await step()
                assert cut.cuts == before + 1
                return found

            assert await with_a_cut(lambda: fleet.submit("job-one")) == Ticket("job-one", POOL)
            delivery = await take_one(worker)
            assert await with_a_cut(lambda: worker.begin(delivery)) is True
            await with_a_cut(lambda: worker.event(delivery, b"e"))
            assert await with_a_cut(lambda: worker.finish(delivery, b"x")) is True
            assert await all_replies(channel) == [Event(b"e"), Result(b"x")]
            assert [each.state for each in await fleet.ledger.latest()] == ["done"]

            await fleet.submit("job-two")
            handed = await take_one(worker)
            assert await with_a_cut(lambda: worker.hand_back(handed, POOL), b"job-two") is True
            assert (await fleet.line("job-two")).hops == 1
            again = await take_one(worker)
            assert await with_a_cut(lambda: fleet.queue.cancel(Ticket("job-two", POOL)), b"job-two") == "cancelled"
            assert not await worker.begin(again)

            leases = Leases(fleet.link, QUICK, "w")
            lease = await with_a_cut(lambda: leases.acquire(SessionId("session-one")), b"session-one")
            assert isinstance(lease, Lease)
            assert await leases.renew() == []


async def test_a_take_whose_answer_is_lost_is_given_again(redis_server: RedisServer) -> None:
    async with open_cut(redis_server) as (cut, fleet), fleet.worker("w") as worker:
        await worker.take(1, waiting=False)
        await fleet.submit("j")
        cut.wanted = b"XREADGROUP"
        with pytest.raises(StoreUnavailable):
            await worker.take(1)
        assert cut.cuts == 1
        assert await worker.begin(await take_one(worker))


async def test_who_waits_is_told_when_redis_stays_away(tmp_path: Path) -> None:
    with run_redis(tmp_path) as server:
        given = RedisSettings(url=server.url, prefix="away", retry_seconds=0.05)
        async with open_redis(given, dial_directly) as link:
            fleet = Fleet(server, link, QUICK)
            async with (
                open_replies(link, "g", check_seconds=0.05, silent_seconds=0.3) as replies,
                replies.expect("j") as channel,
            ):
                await fleet.submit("j")
                server.kill()
                assert await all_replies(channel) == [Lost("Redis has been silent for too long")]


async def test_what_workers_can_do_stays_known_when_none_is_seen_for_a_moment(fleet: Fleet) -> None:
    def table(*, installed: bool) -> LanguageTable:
        view = LanguageView("python", "Python", ("py",), ".py", (".py",), "", {}, installed=installed)
        return LanguageTable((view,), (), {}, (TierView("nsjail", "n"),))

    roster = Roster(fleet.registry, table(installed=False))
    await fleet.registry.announce(record("w", catalogue=encode_table(table(installed=True))))
    await roster.look()
    fleet.server.command("DEL", fleet.link.key("alive", "worker", "w"))
    await roster.look()
    assert roster.workers == ()
    assert roster.languages.languages[0].installed
