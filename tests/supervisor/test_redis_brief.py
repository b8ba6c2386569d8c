"""Brief scripts, which need no thread, hold what all scripts hold, with real servers and one that stops halfway."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import trio
import trio.testing

from supervisor.connector.dialling import dial_directly
from supervisor.errors import StoreSpoilt, StoreUnavailable
from supervisor.execution.values import new_id
from supervisor.redis_link.brief import SENT_BYTES
from supervisor.redis_link.link import RedisLink, Script, open_redis
from supervisor.redis_link.servers import ServerConnection
from supervisor.settings.fleet import RedisSettings
from tests.redis_server import RedisServer, redis_server, redis_url, run_redis, wait_until

__all__ = ["redis_server", "redis_url"]

SET = Script("redis.call('SET', KEYS[1], ARGV[1]) return {'set', #ARGV[1]}", brief=True)
PUSH = Script("return redis.call('RPUSH', KEYS[1], ARGV[1])", brief=True)


def settings(url: str, **more: Any) -> RedisSettings:
    return RedisSettings(url=url, prefix=new_id(), **more)


def be_patient(link: RedisLink, seconds: float) -> None:
    """Set for how long it tries: also a server that is well may stand still for longer than one that is given up."""
    link._settings = msgspec.structs.replace(link._settings, retry_seconds=seconds)


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with open_redis(settings(redis_url), dial_directly) as opened:
        yield opened


async def test_a_brief_script_is_run_by_the_task_itself(link: RedisLink, monkeypatch: pytest.MonkeyPatch) -> None:
    await link.run(SET, [link.key("a")], ["x"])
    hops: list[str] = []
    run_sync = trio.to_thread.run_sync

    async def counted(*arguments: Any, **named: Any) -> Any:
        hops.append("hop")
        return await run_sync(*arguments, **named)

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    assert await link.run(SET, [link.key("a")], ["xy"]) == [b"set", 2]
    assert hops == []
    # What the socket might not take at once goes by a thread.
    assert await link.run(SET, [link.key("a")], [b"x" * (SENT_BYTES + 1)]) == [b"set", SENT_BYTES + 1]
    assert hops == ["hop"]


async def test_many_at_once_have_a_connection_each_and_each_its_own_answer(link: RedisLink) -> None:
    answers: dict[int, Any] = {}

    async def ask(size: int) -> None:
        answers[size] = await link.run(SET, [link.key(str(size))], [b"x" * size])

    async with trio.open_nursery() as nursery:
        for size in range(200):
            nursery.start_soon(ask, size)
    assert answers == {size: [b"set", size] for size in range(200)}


async def test_a_server_that_has_forgotten_the_script_is_told_it_again(link: RedisLink) -> None:
    await link.run(SET, [link.key("a")], ["x"])
    await link.call(lambda client: client.script_flush())
    assert await link.run(SET, [link.key("a")], ["x"]) == [b"set", 1]


async def test_a_key_of_another_type_is_told_and_the_connection_is_used_again(link: RedisLink) -> None:
    key = link.key("a")
    await link.call(lambda client: client.set(key, "text"))
    for _ in range(3):
        with pytest.raises(StoreSpoilt):
            await link.run(PUSH, [key], ["x"])
    assert await link.run(SET, [key], ["x"]) == [b"set", 1]


async def test_a_restart_is_waited_for_and_silence_is_not(state_dir: Path) -> None:
    with run_redis(state_dir) as server:
        given = settings(server.url, retry_seconds=60.0, socket_seconds=0.3)
        async with open_redis(given, dial_directly) as link:
            await link.run(SET, [link.key("a")], ["x"])
            server.kill()
            starting = threading.Thread(target=server.start)
            starting.start()
            assert await link.run(SET, [link.key("a")], ["y"]) == [b"set", 1]
            starting.join()
        async with open_redis(settings(server.url, retry_seconds=60.0, socket_seconds=0.2), dial_directly) as link:
            await link.run(SET, [link.key("a")], ["x"])
            server.pause()
            be_patient(link, 0.2)
            with pytest.raises(StoreUnavailable):
                await link.run(SET, [link.key("a")], ["y"])
            server.resume()
            be_patient(link, 60.0)
            assert await link.run(SET, [link.key("a")], ["z"]) == [b"set", 1]
            assert await link.call(lambda client: client.get(link.key("a"))) == b"z"


async def test_a_cancelled_one_happened_whole_and_leaves_no_answer_for_the_next(link: RedisLink) -> None:
    key = link.key("list")
    with trio.CancelScope() as scope:
        scope.cancel()
        await link.run(PUSH, [key], ["never"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, PUSH, [key], ["once"])
        await trio.testing.wait_all_tasks_blocked(0.0)
        nursery.cancel_scope.cancel()
    assert await link.run(SET, [link.key("a")], ["x"]) == [b"set", 1]
    pushed = await link.call(lambda client: client.lrange(key, 0, -1))
    assert pushed in ([], [b"once"])


class Halving:
    """Passes everything on; when it is told to, half of the next answer, and then nothing more of that connection."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.halve = False
        self.halved = 0

    async def serve(self, client: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self.server.port) as upstream, client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, client, upstream, nursery.cancel_scope)
                try:
                    async for data in upstream:
                        if self.halve:
                            self.halve = False
                            self.halved += 1
                            await client.send_all(data[: len(data) // 2])
                            await trio.sleep_forever()
                        await client.send_all(data)
                except trio.BrokenResourceError:
                    pass
                nursery.cancel_scope.cancel()

    async def _pass(self, client: trio.SocketStream, upstream: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in client:
                await upstream.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()


@asynccontextmanager
async def halving(server: RedisServer) -> AsyncIterator[tuple[Halving, int]]:
    proxy = Halving(server)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, proxy.serve, 0)
        yield proxy, listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_half_an_answer_costs_a_moment_and_the_connection_and_holds_up_nobody(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    halved: list[ServerConnection] = []
    read_response = ServerConnection.read_response

    def held(connection: ServerConnection, *arguments: Any, **named: Any) -> Any:
        try:
            return read_response(connection, *arguments, **named)
        except redis.TimeoutError:
            if "timeout" in named:
                halved.append(connection)
            elif connection in halved:
                # The thread's wait is over only when all else has gone on, however long that takes.
                go_on.wait(60)
            raise

    monkeypatch.setattr(ServerConnection, "read_response", held)
    given = {"socket_seconds": 0.3, "retry_seconds": 60.0}
    async with (
        halving(redis_server) as (proxy, port),
        open_redis(settings(f"redis://127.0.0.1:{port}", **given), dial_directly) as link,
    ):
        await link.run(SET, [link.key("a")], ["x"])
        proxy.halve = True
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await link.run(SET, [link.key("a")], ["yz"]))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                while not proxy.halved:
                    await trio.testing.wait_all_tasks_blocked()
                # It is waited for by a thread; all else goes on.
                assert await link.run(SET, [link.key("b")], ["x"]) == [b"set", 1]
                assert answers == []
                go_on.set()
        assert answers == [[b"set", 2]]
        assert (proxy.halved, len(halved)) == (1, 1)


async def test_a_line_waits_for_the_rest_of_an_answer_and_can_be_cancelled_there(redis_server: RedisServer) -> None:
    async with (
        halving(redis_server) as (proxy, port),
        open_redis(settings(f"redis://127.0.0.1:{port}"), dial_directly) as link,
        link.open_line() as line,
    ):
        large = b"x" * (20 << 20)
        await link.call(lambda client: client.set(link.key("large"), large))
        with trio.fail_after(60):
            assert await line.ask("GET", link.key("large")) == large
            proxy.halve = True
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(line.ask, "GET", link.key("large"))
                    while not proxy.halved:
                        await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            assert await line.ask("GET", link.key("large")) == large
        await link.call(lambda client: client.delete(link.key("large")))


async def test_no_connection_is_left_when_the_link_closes(redis_server: RedisServer) -> None:
    def connections(client: redis.Redis) -> int:
        return len([each for each in client.client_list() if each["name"] == ""])

    with redis_server.client() as client:
        before = connections(client)
        async with open_redis(settings(redis_server.url, connections=6), dial_directly) as link:
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(link.run, SET, [link.key(str(number))], ["x"])
            # As many as may be at once, and those that were kept from before.
            assert connections(client) <= before + 6 + 3
        wait_until(lambda: connections(client) <= before, "connections are left")
