"""The way to Redis holds its promises against real servers: that die, hang, move, and are not who they say."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import trio
import trustme
from redis.crc import key_slot

from supervisor.connector.dialling import dial_directly
from supervisor.errors import ConfigurationError, StorageFull, StoreUnavailable
from supervisor.execution.values import new_id
from supervisor.redis_link import link as link_module
from supervisor.redis_link.facts import RedisFacts, check_server
from supervisor.redis_link.faults import Fault, fault_of
from supervisor.redis_link.link import RedisLink, Script, open_redis
from supervisor.redis_link.plan import Place, read_plan
from supervisor.settings.fleet import RedisSettings
from tests.redis_server import (
    LASTING,
    Cluster,
    RedisServer,
    Tls,
    redis_server,
    redis_url,
    run_cluster,
    run_redis,
    run_sentinel,
    wait_until,
)

__all__ = ["redis_server", "redis_url"]

SET = Script("return redis.call('SET', KEYS[1], ARGV[1])")


def settings_for(url: str, **more: Any) -> RedisSettings:
    return RedisSettings(url=url, prefix=new_id(), **more)


def linked(url: str, **more: Any) -> AbstractAsyncContextManager[RedisLink]:
    return open_redis(settings_for(url, **more), dial_directly)


@pytest.fixture
def directory(state_dir: Path) -> Path:
    """A short one: unix sockets go into it."""
    return state_dir


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[RedisLink]:
    async with linked(redis_url) as link:
        yield link


@pytest.mark.parametrize(
    ("url", "kind", "places", "rest"),
    [
        ("redis://h", "one", [("h", 6379)], {}),
        ("redis://u:p%40@h:1/3", "one", [("h", 1)], {"username": "u", "password": "p@", "db": 3}),
        ("rediss://:p@[::1]:1", "one", [("::1", 1)], {"tls": True, "password": "p"}),
        ("redis://h?db=2", "one", [("h", 6379)], {"db": 2}),
        ("unix:///run/r.sock?db=1", "socket", [("/run/r.sock", 0)], {"db": 1}),
        ("redis+sentinel://a,b:1/main/2", "sentinel", [("a", 26379), ("b", 1)], {"name": "main", "db": 2}),
        ("rediss+sentinel://a/main", "sentinel", [("a", 26379)], {"name": "main", "tls": True}),
        ("redis+cluster://:p@a:1,b:2", "cluster", [("a", 1), ("b", 2)], {"password": "p"}),
        ("rediss+cluster://a", "cluster", [("a", 6379)], {"tls": True}),
    ],
)
def test_a_url_says_where_redis_is(url: str, kind: str, places: list[tuple[str, int]], rest: dict[str, Any]) -> None:
    plan = read_plan(RedisSettings(url=url))
    assert (plan.kind, [tuple(each) for each in plan.places]) == (kind, places)
    plain = {"tls": False, "name": "", "db": 0, "username": "", "password": ""}
    assert {name: getattr(plan, name) for name in plain} == plain | rest
    assert "p@" not in repr(plan)


def test_host_and_its_companions_say_the_same_and_a_url_goes_before_them() -> None:
    apart = RedisSettings(host="h", port=1, db=2, username="u", password="p")
    plan = read_plan(apart)
    assert (plan.places, plan.db, plan.username, plan.password) == ((Place("h", 1),), 2, "u", "p")
    both = read_plan(msgspec.structs.replace(apart, url="redis://:q@g"))
    assert (both.places, both.db, both.username, both.password) == ((Place("g", 6379),), 2, "u", "q")


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "h:6379",
        "redis://",
        "redis://a,b",
        "redis://h:0",
        "redis://h:99999",
        "redis://h/x",
        "redis://h/1/2",
        "redis://h?ssl_cert_reqs=none",
        "redis://:se#cret@h",
        "redis://:se/cret@h",
        "redis+sentinel://h",
        "redis+cluster://h/1",
        "unix://host/path",
        "unix:path",
    ],
)
def test_a_wrong_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_plan(RedisSettings(url=url))
    assert caught.value.field == "redis.url"
    assert "cret" not in caught.value.message


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (redis.exceptions.ReadOnlyError("You can't write"), Fault.OURS),
        (redis.exceptions.ReadOnlyError("You can't write", status_code="READONLY"), Fault.ELSEWHERE),
        (
            redis.ResponseError("Error running script (call to f_ab): @user_script:1: -READONLY You can't"),
            Fault.ELSEWHERE,
        ),
        (redis.ResponseError("Error running script (call to f_ab): @user_script: 1: -OOM command not"), Fault.FULL),
        (redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'."), Fault.FULL),
        (redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), Fault.FULL),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), Fault.LOST),
        (
            redis.ResponseError("user_script:1: Script attempted to access nonexistent global variable 'OOM '"),
            Fault.OURS,
        ),
        (redis.BusyLoadingError("Redis is loading", status_code="LOADING"), Fault.LOST),
        (redis.AuthenticationError("invalid"), Fault.REFUSED),
        (redis.TimeoutError("reading"), Fault.LOST),
        (ConnectionResetError(), Fault.LOST),
        (redis.ResponseError("wrong number of arguments"), Fault.OURS),
        (redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), Fault.SPOILT),
        (
            redis.ResponseError("user_script:9: attempt to compare nil with number script: ab, on @user_script:9."),
            Fault.SPOILT,
        ),
        (redis.ResponseError("ERR hash value is not an integer"), Fault.SPOILT),
        (redis.ResponseError("ERR The stream has exhausted the last possible ID, unable to add"), Fault.SPOILT),
        (redis.ResponseError("user_script:9: OOM command not allowed when used memory > 'maxmemory'."), Fault.FULL),
    ],
)
def test_an_error_says_what_to_do(error: Exception, fault: Fault) -> None:
    assert fault_of(error) is fault


async def test_calls_and_scripts_are_answered_even_when_the_server_forgets_scripts(
    link: RedisLink, redis_server: RedisServer
) -> None:
    key = link.key("a", "b")
    assert key[0] == "{"
    assert key.endswith("}:a:b")
    for value in (b"1", b"\xff"):
        redis_server.command("SCRIPT", "FLUSH")
        assert await link.run(SET, [key], [value]) == b"OK"
        assert await link.call(lambda client: client.get(key)) == value
    assert abs(await link.time() - redis_server.command("TIME")[0]) < 60


async def test_an_error_of_our_own_is_not_tried_again(link: RedisLink) -> None:
    tries: list[int] = []

    def wrong(client: redis.Redis) -> None:
        tries.append(1)
        client.execute_command("NO-SUCH")  # type: ignore[no-untyped-call]  # redis-py has no types there

    with pytest.raises(redis.ResponseError):
        await link.call(wrong)
    assert len(tries) == 1


async def test_never_more_connections_than_the_settings_say(redis_url: str, directory: Path) -> None:
    with run_redis(directory / "r") as server:
        async with linked(server.url, connections=3) as link:

            async def many() -> None:
                for _ in range(20):
                    await link.call(lambda client: client.incr(link.key("n")))

            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(many)
            assert await link.call(lambda client: client.get(link.key("n"))) == b"600"
            with server.client() as client:
                assert len([each for each in client.client_list() if each["addr"].startswith("127.0.0.1")]) <= 3
                assert client.info("stats")["total_connections_received"] < 12
        wait_until(lambda: not tcp_clients(server), "connections are left")


def tcp_clients(server: RedisServer) -> list[dict[str, Any]]:
    with server.client() as client:
        return [each for each in client.client_list() if each["addr"].startswith("127.0.0.1")]


async def test_what_was_acknowledged_survives_a_killed_server_and_calls_go_on(directory: Path) -> None:
    with run_redis(directory / "r", options=LASTING) as server:
        async with linked(server.url, retry_seconds=60) as link:
            kept: list[int] = []

            async def write(scope: trio.CancelScope) -> None:
                for number in itertools.count():
                    await link.run(SET, [link.key(str(number))], [number])
                    kept.append(number)
                    if scope.cancel_called and number > 20:
                        return

            with trio.CancelScope() as done:
                async with trio.open_nursery() as nursery:
                    with trio.CancelScope() as scope:
                        nursery.start_soon(write, scope)
                        while len(kept) < 20:
                            await trio.lowlevel.checkpoint()
                        await trio.to_thread.run_sync(server.kill)
                        await trio.to_thread.run_sync(server.start)
                        before = len(kept)
                        while len(kept) <= before:
                            await trio.lowlevel.checkpoint()
                        scope.cancel()
                done.cancel()
            values = await link.call(lambda client: client.mget([link.key(str(number)) for number in kept]))
            assert values == [str(number).encode() for number in kept]


async def test_a_server_that_hangs_is_given_up_and_is_well_afterwards(directory: Path) -> None:
    with run_redis(directory / "r") as server:
        async with linked(
            server.url, retry_seconds=60.0, socket_seconds=0.1, connect_seconds=0.1, connections=2
        ) as link:
            patient = link._settings
            refused: list[StoreUnavailable] = []

            async def refuse() -> None:
                with pytest.raises(StoreUnavailable) as caught:
                    await link.call(lambda client: client.get("x"))
                refused.append(caught.value)

            server.pause()
            link._settings = msgspec.structs.replace(patient, retry_seconds=0.3)
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(refuse)
            assert len(refused) == 20
            assert refused[0].retry_after_seconds > 0
            server.resume()
            # A server that is well may stand still for longer than one that is given up.
            link._settings = patient
            assert await link.run(SET, [link.key("x")], ["1"]) == b"OK"


async def test_without_a_server_there_is_no_start(directory: Path) -> None:
    with run_redis(directory / "r") as server:
        server.kill()
        with pytest.raises(StoreUnavailable):
            async with linked(server.url, retry_seconds=0.05):
                pass


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:{}", "redis://:wrong@127.0.0.1:{}", "redis://ann:pass@127.0.0.1:{}"]
)
async def test_a_wrong_password_is_an_error_of_the_settings(directory: Path, url: str) -> None:
    with run_redis(directory / "r", password="pass") as server:
        with pytest.raises(ConfigurationError) as caught:
            async with linked(url.format(server.port)):
                pass
        assert caught.value.field == "redis.password"
        async with linked(server.url) as link:
            assert await link.run(SET, [link.key("x")], ["1"]) == b"OK"


@pytest.mark.parametrize(
    ("rights", "field"),
    [
        ("~{*}:* &* +@all -config", None),
        ("~{*}:* &* +@all -info", "redis.password"),
        ("~{*}:* &* +@all -@scripting", "redis.password"),
        ("~other:* &* +@all", "redis.password"),
        ("~{*}:* &* +@all -set", "redis.password"),
    ],
)
async def test_a_user_who_may_not_do_what_we_have_to_is_refused_at_start(
    directory: Path, rights: str, field: str | None
) -> None:
    with run_redis(directory / "r") as server:
        server.command("ACL", "SETUSER", "ann", "on", ">secret", *rights.split())
        url = f"redis://ann:secret@127.0.0.1:{server.port}"
        if field is None:
            async with linked(url) as link:
                assert (await link.facts()).flushed is None
        else:
            with pytest.raises(ConfigurationError) as caught:
                async with linked(url):
                    pass
            assert caught.value.field == field
            assert "secret" not in caught.value.message


async def test_a_unix_socket_is_spoken_to_and_databases_are_apart(redis_server: RedisServer) -> None:
    async with linked(f"unix://{redis_server.socket_path}?db=3") as link:
        await link.run(SET, [link.key("x")], ["1"])
        key = link.key("x")
    async with linked(redis_server.url) as other:
        assert await other.call(lambda client: client.get(key)) is None
    with pytest.raises(ConfigurationError) as caught:
        async with linked(f"unix://{redis_server.socket_path}?db=999"):
            pass
    assert caught.value.field == "redis.db"


# -- TLS --


@dataclasses.dataclass
class Authority:
    ca: trustme.CA
    file: Path

    def files(self, directory: Path, name: str, *, ask_clients: bool = False) -> Tls:
        leaf = self.ca.issue_cert(name)
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        for number, each in enumerate(leaf.cert_chain_pems):
            each.write_to_path(certificate, append=number > 0)
        leaf.private_key_pem.write_to_path(key)
        return Tls(certificate, key, self.file, ask_clients)


@pytest.fixture
def authority(directory: Path) -> Authority:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(directory / "ca.pem")
    return Authority(ca, directory / "ca.pem")


async def test_tls_holds_only_for_the_right_authority_and_name(directory: Path, authority: Authority) -> None:
    trustme.CA().cert_pem.write_to_path(directory / "other.pem")
    with run_redis(directory / "r", tls=authority.files(directory, "localhost")) as server:
        url = f"rediss://localhost:{server.port}"
        async with linked(url, ca=str(authority.file)) as link:
            assert await link.run(SET, [link.key("x")], ["1"]) == b"OK"
            async with link.open_line() as line:
                with trio.move_on_after(0.05) as scope:
                    await line.ask("BLPOP", link.key("none"), 0)
                assert scope.cancelled_caught
                assert await line.ask("PING")
        for wrong, ca in ((url, "other.pem"), (url, ""), (f"rediss://127.0.0.1:{server.port}", "ca.pem")):
            with pytest.raises(ConfigurationError, match="does not hold") as caught:
                async with linked(wrong, ca=str(directory / ca) if ca else ""):
                    pass
            assert caught.value.field == "redis.ca"
        with pytest.raises(StoreUnavailable):
            async with linked(f"redis://localhost:{server.port}", retry_seconds=0.05):
                pass


async def test_a_server_that_asks_for_a_certificate_gets_ours(directory: Path, authority: Authority) -> None:
    ours = authority.files(directory, "client")
    with run_redis(directory / "r", tls=authority.files(directory, "localhost", ask_clients=True)) as server:
        url, ca = f"rediss://localhost:{server.port}", str(authority.file)
        async with linked(url, ca=ca, certificate=str(ours.certificate), certificate_key=str(ours.key)) as link:
            assert await link.run(SET, [link.key("x")], ["1"]) == b"OK"
        with pytest.raises(StoreUnavailable):
            async with linked(url, ca=ca, retry_seconds=0.05):
                pass


@pytest.mark.parametrize("field", ["ca", "certificate", "certificate_key"])
async def test_a_file_that_is_missing_is_named(field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with linked("rediss://localhost:1", **{field: "/nowhere/x.pem"}):
            pass
    assert caught.value.field == f"redis.{field}"


@pytest.mark.parametrize("field", ["ca", "certificate", "certificate_key"])
async def test_what_is_for_tls_is_refused_where_there_is_none(field: str, authority: Authority) -> None:
    with pytest.raises(ConfigurationError, match="rediss") as caught:
        async with linked("redis://localhost:1", **{field: str(authority.file)}):
            pass
    assert caught.value.field == f"redis.{field}"


# -- other servers --


async def test_when_the_primary_dies_the_sentinels_new_one_is_written_to(directory: Path) -> None:
    with (
        run_redis(directory / "a", password="pass") as primary,
        run_redis(directory / "b", password="pass", replica_of=primary) as replica,
        run_sentinel(directory / "s", primary) as sentinel,
    ):
        url = sentinel.url.replace("://", "://:pass@")
        async with linked(url, retry_seconds=60, replicas=1, replica_seconds=30, socket_seconds=40) as link:
            assert await link.run(SET, [link.key("x")], ["1"], lasting=True) == b"OK"
            assert (await link.facts()).replicas == 1
            primary.kill()
            assert await link.call(lambda client: client.get(link.key("x"))) == b"1"
            assert await link.run(SET, [link.key("x")], ["2"]) == b"OK"
            assert replica.command("GET", link.key("x")) == b"2"
            # The old one comes back and is taken back; nobody reads from it as if it were still the primary.
            primary.start()
            assert await link.call(lambda client: client.get(link.key("x"))) == b"2"


async def test_a_sentinel_that_knows_no_such_primary_is_an_error_of_the_settings(directory: Path) -> None:
    with run_redis(directory / "a") as primary, run_sentinel(directory / "s", primary, replicas=0) as sentinel:
        with pytest.raises(ConfigurationError) as caught:
            async with linked(sentinel.url.replace("main", "other")):
                pass
        assert caught.value.field == "redis.url"


async def test_a_primary_that_became_a_replica_is_left(directory: Path) -> None:
    with (
        run_redis(directory / "a") as primary,
        run_redis(directory / "b", replica_of=primary) as replica,
        run_sentinel(directory / "s", primary) as sentinel,
    ):
        # Nobody is to take its place, also if it stands still for a moment.
        sentinel.server.command("SENTINEL", "SET", sentinel.name, "down-after-milliseconds", 60_000)
        led: list[int] = []

        def mislead(host: str, port: int, seconds: float) -> Any:
            led.append(port)
            misled = port == primary.port and led.count(port) == 1
            return dial_directly(host, replica.port if misled else port, seconds)

        async with open_redis(settings_for(sentinel.url), mislead) as link:
            await link.run(SET, [link.key("x")], ["1"])
            assert led.count(primary.port) == 2
            assert primary.command("GET", link.key("x")) == b"1"


async def test_a_write_waits_while_the_server_is_nobodys_primary(directory: Path) -> None:
    with run_redis(directory / "a") as server, run_redis(directory / "b") as other:
        async with linked(server.url) as link:
            tries: list[int] = []

            def write(client: redis.Redis) -> object:
                tries.append(1)
                return SET.run(client, [link.key("x")], ["1"])

            server.command("REPLICAOF", "127.0.0.1", other.port)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.call, write)
                await trio.to_thread.run_sync(wait_until, lambda: len(tries) > 1, "it is not tried again")
                server.command("REPLICAOF", "NO", "ONE")
            assert server.command("GET", link.key("x")) == b"1"


def take_for_lost_after(cluster: Cluster, milliseconds: int) -> None:
    """Set after how long a silent node is taken for lost: on a busy machine also one that is well is silent."""
    for each in (*cluster.primaries, *cluster.replicas):
        each.command("CONFIG", "SET", "cluster-node-timeout", milliseconds)


async def test_a_cluster_is_used_at_the_node_that_has_our_keys_even_when_that_dies(directory: Path) -> None:
    with run_cluster(directory / "c", replicas=1) as cluster:
        async with linked(cluster.url, retry_seconds=60, connections=4) as link:
            take_for_lost_after(cluster, 60_000)
            owner = cluster.owner_of(link.key("x"))
            assert await link.run(SET, [link.key("x")], ["1"]) == b"OK"
            assert len(tcp_clients(owner)) >= 1
            async with link.open_line() as line:
                assert await line.ask("GET", link.key("x")) == b"1"
            assert await link.call(lambda client: client.wait(1, 5000)) >= 0
            take_for_lost_after(cluster, 500)
            owner.kill()
            assert await link.run(SET, [link.key("x")], ["2"]) == b"OK"
            assert await link.call(lambda client: client.get(link.key("x"))) == b"2"


async def test_a_slot_that_moves_to_another_node_is_followed_and_calls_wait_meanwhile(directory: Path) -> None:
    with run_cluster(directory / "c") as cluster:
        async with linked(cluster.url, retry_seconds=60) as link:
            take_for_lost_after(cluster, 60_000)
            key, slot = link.key("x"), key_slot(link.key("x").encode())
            source = cluster.owner_of(key)
            target = next(each for each in cluster.primaries if each is not source)
            both = Script("redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[2])")
            await link.run(both, [key, link.key("y")])
            source_id, target_id = (each.command("CLUSTER", "MYID").decode() for each in (source, target))
            target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
            source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
            source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
            tries: list[int] = []

            def work(client: redis.Redis) -> object:
                tries.append(1)
                return both.run(client, [key, link.key("y")])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.call, work)
                await trio.to_thread.run_sync(wait_until, lambda: len(tries) > 2, "it is not tried again")
                source.command("MIGRATE", "127.0.0.1", target.port, link.key("y"), 0, 5000)
                for each in (target, source):
                    each.command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
            assert (target.command("GET", key), target.command("GET", link.key("y"))) == (b"2", b"2")


@asynccontextmanager
async def refusing(url: str, allowed: set[int]) -> AsyncIterator[RedisLink]:
    def dial(host: str, port: int, seconds: float) -> Any:
        if port not in allowed:
            raise PermissionError(f"{host}:{port}")
        return dial_directly(host, port, seconds)

    async with open_redis(settings_for(url, retry_seconds=0.05), dial) as link:
        yield link


async def test_where_the_settings_do_not_let_us_go_the_key_is_named(directory: Path) -> None:
    with run_redis(directory / "a") as primary, run_sentinel(directory / "s", primary, replicas=0) as sentinel:
        with pytest.raises(ConfigurationError, match=str(primary.port)) as caught:
            async with refusing(sentinel.url, {sentinel.server.port}):
                pass
        assert caught.value.field == "redis.nodes"


async def test_what_has_to_last_is_refused_when_replicas_are_missing(directory: Path) -> None:
    with run_redis(directory / "a") as primary, run_redis(directory / "b", replica_of=primary) as replica:
        patient = settings_for(primary.url, replicas=1, replica_seconds=30, socket_seconds=40)
        hasty = msgspec.structs.replace(patient, replica_seconds=0.1)
        async with open_redis(patient, dial_directly) as link, open_redis(hasty, dial_directly) as in_haste:
            await link.run(SET, [link.key("x")], ["1"], lasting=True)
            assert replica.command("GET", link.key("x")) == b"1"
            replica.pause()
            with pytest.raises(StoreUnavailable, match="replicas"):
                await in_haste.run(SET, [link.key("x")], ["2"], lasting=True)
            # Nothing new to write, and yet what was written before has to arrive.
            with pytest.raises(StoreUnavailable, match="replicas"):
                await in_haste.call(lambda client: client.get(link.key("x")), lasting=True)
            replica.resume()
            await link.call(lambda client: client.get(link.key("x")), lasting=True)
            assert replica.command("GET", link.key("x")) == b"2"


async def test_a_full_server_is_told_from_a_lost_one(directory: Path) -> None:
    with run_redis(directory / "r") as server:
        async with linked(server.url) as link:
            server.command("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(StorageFull):
                await link.run(SET, [link.key("x")], ["1"])
            with pytest.raises(StorageFull):
                await link.call(lambda client: client.set(link.key("x"), "1"))
        async with linked(server.url) as link:
            assert await link.call(lambda client: client.get(link.key("x"))) is None


# -- lines --


async def test_a_cancelled_wait_leaves_neither_thread_nor_connection(
    link: RedisLink, redis_server: RedisServer
) -> None:
    async with link.open_line() as line:
        assert await line.ask("PING")
        before = {each["id"] for each in tcp_clients(redis_server)}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.ask, "XREAD", "BLOCK", 0, "STREAMS", link.key("stream"), "$")
            await trio.to_thread.run_sync(
                wait_until, lambda: redis_server.command("INFO", "clients") and blocked(redis_server), "nobody waits"
            )
            nursery.cancel_scope.cancel()
        wait_until(lambda: not blocked(redis_server), "the connection is left")
        assert await line.ask("PING")
        assert {each["id"] for each in tcp_clients(redis_server)} != before
        count = len(tcp_clients(redis_server))
    wait_until(lambda: len(tcp_clients(redis_server)) == count - 1, "the line's connection is left")


def blocked(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.info("clients")["blocked_clients"])


async def test_a_line_that_is_cancelled_before_it_has_a_thread_closes_its_connection(
    link: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with link.open_line() as line:
        assert await line.ask("PING")
        used = line._connection
        assert used is not None
        with trio.CancelScope() as scope, monkeypatch.context() as patch:

            def half_an_answer(_connection: object) -> tuple[bool, None]:
                scope.cancel()
                return False, None

            patch.setattr(link_module, "answer_so_far", half_an_answer)
            await line.ask("PING")
        assert scope.cancelled_caught
        assert used.descriptor == -1
        assert await line.ask("PING")


async def test_a_line_that_is_cancelled_while_it_connects_does_not_connect_afterwards(redis_url: str) -> None:
    dialling, go_on = threading.Event(), threading.Event()
    held: list[Any] = []

    def slowly(host: str, port: int, seconds: float) -> Any:
        connected = dial_directly(host, port, seconds)
        if held:
            dialling.set()
            go_on.wait()
        held.append(connected)
        return connected

    async with open_redis(settings_for(redis_url), slowly) as link, link.open_line() as line:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.ask, "PING")
            await trio.to_thread.run_sync(dialling.wait)
            nursery.cancel_scope.cancel()
        go_on.set()
        wait_until(lambda: len(held) == 2 and held[1].fileno() == -1, "the socket is left")
        assert await line.ask("PING")


async def test_a_line_says_that_its_server_is_gone_and_connects_again(directory: Path) -> None:
    with run_redis(directory / "r") as server:
        async with linked(server.url) as link, link.open_line() as line:
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    with pytest.raises(StoreUnavailable):
                        await line.ask("BLPOP", link.key("none"), 0)

                nursery.start_soon(wait)
                await trio.to_thread.run_sync(wait_until, lambda: blocked(server), "nobody waits")
                server.kill()
            with pytest.raises(StoreUnavailable):
                await line.ask("PING")
            server.start()
            assert await line.ask("PING")


# -- what the server is --


@pytest.fixture
def facts() -> RedisFacts:
    return RedisFacts("7.0.15", "standalone", 0, append_only=True, flushed="everysec", eviction="noeviction")


def test_an_old_server_is_refused(facts: RedisFacts) -> None:
    for version in ("6.0.16", "5.0", ""):
        with pytest.raises(ConfigurationError, match="too old"):
            check_server(dataclasses.replace(facts, version=version), RedisSettings())
    for version in ("6.2.0", "7.2.4", "8.0.0", "10.1"):
        check_server(dataclasses.replace(facts, version=version), RedisSettings())


def test_replicas_are_not_waited_for_longer_than_for_an_answer(facts: RedisFacts) -> None:
    settings = RedisSettings(replicas=1, replica_seconds=5, socket_seconds=5)
    with pytest.raises(ConfigurationError) as caught:
        check_server(dataclasses.replace(facts, replicas=1), settings)
    assert caught.value.field == "redis.replica_seconds"


def test_what_may_be_lost_is_said_once_each(facts: RedisFacts, caplog: pytest.LogCaptureFixture) -> None:
    check_server(facts, RedisSettings())
    silent = dataclasses.replace(facts, append_only=None, flushed=None, eviction=None)
    check_server(silent, RedisSettings())
    assert not caplog.records
    careless = dataclasses.replace(facts, append_only=False, eviction="allkeys-lru")
    check_server(careless, RedisSettings(replicas=1))
    assert [each.levelno for each in caplog.records] == [logging.WARNING] * 3


async def test_the_facts_are_the_servers_own(link: RedisLink) -> None:
    facts = await link.facts()
    assert (facts.mode, facts.append_only, facts.flushed, facts.eviction) == (
        "standalone",
        True,
        "everysec",
        "noeviction",
    )
    assert facts.version[0].isdigit()
