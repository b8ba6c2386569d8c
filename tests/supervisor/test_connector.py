"""The connector against real sockets and servers: what it dials, what it refuses, what ends it, and what it may do."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from supervisor.connector import wire
from supervisor.connector.allowlist import Allowed
from supervisor.connector.client import Connector
from supervisor.connector.process import AT_ONCE
from supervisor.connector.start import ConnectorPlan, View, start_connector
from supervisor.errors import ConfigurationError, StoreUnavailable
from supervisor.preparation.prepare import code_directories, own_filters, told_of_names
from supervisor.preparation.remote import connector_uid
from supervisor.settings.tree import Settings
from tests.daemon import ROOT, eventually, open_files, process_name, start_daemon
from tests.redis_server import RedisServer, Tls, redis_server, run_cluster, run_redis
from tests.s3_server import S3Server

__all__ = ["redis_server"]

pytestmark = pytest.mark.root
UID = connector_uid(Settings())
FILTER = own_filters(Settings())["connector"]


@dataclass
class World:
    """A connector, a server that it may dial and one that it may not, and a unix socket."""

    connector: Connector
    named: socket.socket
    other: socket.socket
    local: socket.socket

    @property
    def port(self) -> int:
        return int(self.named.getsockname()[1])

    @property
    def other_port(self) -> int:
        return int(self.other.getsockname()[1])

    @property
    def path(self) -> str:
        return str(self.local.getsockname())


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="gt-"))
    directory.chmod(0o755)
    (directory / "root").mkdir()
    yield directory
    shutil.rmtree(directory)


def started(place: Path, allowed: Allowed, *, readable: tuple[Path, ...] = ()) -> Connector:
    view = View(UID, place / "root", [*code_directories(), *readable], told_of_names())
    return start_connector(ConnectorPlan(allowed, FILTER, (sys.executable, "-I"), "WARNING", view))


@pytest.fixture(scope="module")
def world(place: Path) -> Iterator[World]:
    named, other = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(place / "server"))
    (place / "server").chmod(0o777)
    local.listen()
    port = named.getsockname()[1]
    places = {("localhost", port), ("127.0.0.1", port), (f"unix:{place}/server", 0), ("nowhere.invalid", 1)}
    connector = started(place, Allowed(frozenset(places), frozenset({("127.0.0.8/29", port)})), readable=(place,))
    with named, other, local:
        yield World(connector, named, other, local)
    connector.close()


def greeted(server: socket.socket, client: socket.socket) -> bytes:
    """What the client reads when the server says a word."""
    accepted, _ = server.accept()
    with accepted, client:
        accepted.sendall(b"hello")
        return client.recv(16)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST."])
def test_it_dials_what_is_named_and_the_socket_is_connected(world: World, host: str) -> None:
    assert greeted(world.named, world.connector.dial(host, world.port, 30)) == b"hello"


def test_a_socket_is_blocking_kept_alive_not_inherited_and_sends_at_once(world: World) -> None:
    with world.connector.dial("127.0.0.1", world.port, 30) as connected:
        world.named.accept()[0].close()
        assert connected.gettimeout() is None
        assert os.get_blocking(connected.fileno())
        assert not connected.get_inheritable()
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 0


def test_a_unix_socket_that_is_named_is_dialled_though_we_do_not_see_it(world: World) -> None:
    connected = world.connector.dial(f"unix:{world.path}", 0, 30)
    assert os.get_blocking(connected.fileno())
    assert greeted(world.local, connected) == b"hello"


def test_what_is_not_named_is_refused_with_the_setting_that_would_allow_it(world: World) -> None:
    for host, port in (
        ("127.0.0.1", world.other_port),
        ("127.0.0.2", world.port),
        ("localhost.example", world.port),
        ("unix:/run/other.sock", 0),
    ):
        with pytest.raises(PermissionError, match=r"redis\.nodes"):
            world.connector.dial(host, port, 30)
    assert not select.select([world.other], [], [], 0)[0]


def test_an_address_of_a_network_that_is_named_is_dialled(world: World) -> None:
    # Allowed, and nobody listens there: the answer is the server's host's.
    with pytest.raises(ConnectionRefusedError):
        world.connector.dial("127.0.0.9", world.port, 30)


def test_a_name_that_nobody_knows_is_an_error_of_its_own(world: World) -> None:
    with pytest.raises(OSError, match=r"nowhere\.invalid:1") as caught:
        world.connector.dial("nowhere.invalid", 1, 30)
    assert caught.value.errno == errno.EHOSTUNREACH


@pytest.mark.parametrize("host", ["\ud800", "x" * 2000])
def test_what_is_no_host_is_not_even_asked_for(world: World, host: str) -> None:
    with pytest.raises(OSError, match="host"):
        world.connector.dial(host, 1, 30)


def test_many_threads_dial_at_once_and_each_gets_its_own(world: World) -> None:
    seen: list[int] = []

    def dial() -> None:
        with world.connector.dial("localhost", world.port, 30) as connected:
            seen.append(connected.getsockname()[1])

    threads = [threading.Thread(target=dial) for _ in range(3 * AT_ONCE)]
    for each in threads:
        each.start()
    accepted = [world.named.accept()[0] for _ in threads]
    for each in threads:
        each.join()
    assert sorted(seen) == sorted(each.getpeername()[1] for each in accepted)
    for one in accepted:
        one.close()


def test_who_waits_for_a_server_that_says_nothing_is_told_that_it_took_too_long(place: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = str(deaf.getsockname()[0]), int(deaf.getsockname()[1])
        # A backlog of none holds one: the second is not answered any more.
        filling = [socket.socket() for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex(address)
        connector = started(place, Allowed(frozenset({address})))
        before = open_files()
        with pytest.raises(TimeoutError):
            connector.dial(address[0], address[1], 0.2)
        assert open_files() - before == set()
        for each in filling:
            each.close()
        connector.close()


def test_nonsense_is_dropped_and_what_follows_is_answered(world: World) -> None:
    for data in (b"\xc1", b"x" * 4000, wire.encoder.encode(wire.Question("127.0.0.1", world.port, 1.0))):
        world.connector.channel.send(data)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            socket.send_fds(world.connector.channel, [b"no question"], [theirs.fileno()])
        assert ours.recv(16) == b""
    assert greeted(world.named, world.connector.dial("localhost", world.port, 30)) == b"hello"


def test_it_has_no_right_no_way_to_files_and_a_user_of_its_own(world: World) -> None:
    lines = Path(f"/proc/{world.connector.pid}/status").read_text().splitlines()
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    assert set(status["Uid"].split()) == {str(UID)}
    assert set(status["Gid"].split()) == {str(UID)}
    assert status["Groups"] == ""
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert process_name(world.connector.pid) == "gaoler-connect"
    seen = set(os.listdir(f"/proc/{world.connector.pid}/root"))
    # What the code, the name servers' file and the unix socket need, and no more; the code of tests may lie anywhere.
    code = {path.resolve().parts[1] for path in (*code_directories(), ROOT, *told_of_names())}
    assert not (seen & {"home", "root", "var", "srv", "boot", "media", "opt"}) - code
    assert Path(f"/proc/{world.connector.pid}/environ").read_bytes() == b""


def test_closing_it_leaves_no_process_and_no_descriptor(place: Path) -> None:
    before = open_files()
    connector = started(place, Allowed(frozenset({("localhost", 1)})))
    connector.close()
    assert not Path(f"/proc/{connector.pid}").exists()
    assert open_files() - before == set()


async def test_its_end_is_noticed_and_dialling_says_so(place: Path) -> None:
    connector = started(place, Allowed(frozenset({("localhost", 1)})))
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            with pytest.raises(StoreUnavailable, match="connector"):
                await connector.await_end()

        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        os.kill(connector.pid, signal.SIGKILL)
    with pytest.raises(ConnectionError, match="connector is gone"):
        connector.dial("localhost", 1, 30)
    connector.close()


def test_who_waits_for_an_answer_when_it_ends_is_told(place: Path) -> None:
    connector = started(place, Allowed(frozenset({("localhost", 1)})))
    os.kill(connector.pid, signal.SIGSTOP)
    told: list[BaseException] = []

    def dial() -> None:
        try:
            connector.dial("localhost", 1, 60)
        except OSError as error:
            told.append(error)

    thread = threading.Thread(target=dial)
    thread.start()
    os.kill(connector.pid, signal.SIGKILL)
    thread.join()
    assert isinstance(told[0], ConnectionError)
    connector.close()


_PARENT = """
import signal, sys
from pathlib import Path
from supervisor.connector.allowlist import Allowed
from supervisor.connector.start import ConnectorPlan, start_connector
program = sys.stdin.buffer.read()
plan = ConnectorPlan(Allowed(frozenset({("localhost", 1)})), program, (sys.executable, "-I"), "INFO", None)
print(start_connector(plan).pid, flush=True)
signal.pause()
"""


def test_it_ends_with_a_daemon_that_is_killed_and_not_by_the_signals_that_stop_one() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(FILTER)
        parent.stdin.close()
        pid = int(parent.stdout.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
        assert process_name(pid) == "gaoler-connect"
        parent.kill()
        parent.wait()
    eventually(lambda: process_name(pid) == "")


def test_a_filter_that_cannot_be_installed_refuses_to_start(place: Path) -> None:
    view = View(UID, place / "root", code_directories(), told_of_names())
    with pytest.raises(ConfigurationError, match="connector"):
        start_connector(ConnectorPlan(Allowed(), b"\0" * 8, (sys.executable, "-I"), "INFO", view))


def confined(state: Path, settings: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.supervisor.confined_stores"],
        input=json.dumps({"state_dir": str(state), **settings}),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


CONFINED = {"new socket": "OSError", "files of root": "", "elsewhere": "PermissionError"}
WORKS = {"same": True, "sum": 140, "pong": True}


def test_the_clients_of_redis_and_s3_work_in_the_view_and_under_the_filter_of_a_daemon(
    place: Path, redis_server: RedisServer, s3_server: S3Server
) -> None:
    given = {
        "redis.url": redis_server.url,
        "redis.prefix": "confined",
        "s3.url": s3_server.url,
        "s3.bucket": s3_server.new_bucket(),
        "s3.access_key": "an-access-key",
        "s3.secret_key": "a-secret-key",
    }
    assert confined(place, given) == CONFINED | {"redis": WORKS, "s3": {"written": 20 << 20, "read": 20 << 20}}


def test_tls_works_there_with_files_that_only_root_can_read(place: Path) -> None:
    secret = place / "secret"
    secret.mkdir(mode=0o700)
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    ca, own, key = (secret / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(ca))
    certificate.cert_chain_pems[0].write_to_path(str(own))
    certificate.private_key_pem.write_to_path(str(key))
    with run_redis(secret / "server", tls=Tls(own, key, ca, ask_clients=True)) as server:
        files = {"redis.ca": str(ca), "redis.certificate": str(own), "redis.certificate_key": str(key)}
        told = confined(place, {"redis.url": server.url, **files})
    assert told == CONFINED | {"files of root": "FileNotFoundError", "redis": WORKS}


def test_a_unix_socket_and_a_cluster_are_reached_from_there_too(place: Path) -> None:
    with run_redis(place / "local", options={"unixsocketperm": "777"}) as server:
        told = confined(place, {"redis.url": f"unix://{server.socket_path}"})
    assert told == CONFINED | {"redis": WORKS}
    with run_cluster(place / "cluster") as cluster:
        told = confined(place, {"redis.url": cluster.url})
    assert told == CONFINED | {"redis": WORKS}


def test_a_daemon_with_a_redis_has_a_connector_and_goes_down_without_it(
    image_dir: Path, state_dir: Path, redis_server: RedisServer
) -> None:
    running = start_daemon(state_dir, image_dir, settings={"GAOLER_REDIS_URL": redis_server.url})
    assert running.execute("print(6 * 7)")["stdout"] == "42\n"
    connector = running.named("gaoler-connect")
    ours = os.readlink("/proc/self/ns/net")
    assert os.readlink(f"/proc/{connector}/ns/net") == ours
    assert os.readlink(f"/proc/{running.process.pid}/ns/net") != ours
    os.kill(connector, signal.SIGKILL)
    assert running.process.wait(timeout=60) == 1
    assert running.lines()[-1] == "gaoler: the connector, by which Redis and S3 are reached, is gone"


def test_a_daemon_that_is_told_to_stop_takes_its_connector_along(
    image_dir: Path, state_dir: Path, redis_server: RedisServer
) -> None:
    running = start_daemon(state_dir, image_dir, settings={"GAOLER_REDIS_URL": redis_server.url})
    family = running.family()
    assert running.named("gaoler-connect") in family
    running.stop()
    eventually(lambda: not any(map(process_name, family)))
