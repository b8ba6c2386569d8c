"""Real Redis servers for tests: one, one with a replica and a sentinel, a cluster; each of them can be killed.

A test of what is kept in Redis takes the fixture ``redis_url``, one server for all, and a ``redis.prefix`` of its own.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from redis.crc import key_slot

from tests.kept_port import held_port

_WAIT_SECONDS: Final = 60.0
"""A sentinel that was held up for two seconds trusts nobody's clock for half a minute (redis.io, "TILT mode")."""
SLOTS: Final = 16_384


@dataclass(frozen=True)
class Tls:
    """Files in PEM: the server's certificate, its key, and whom it trusts; ``ask_clients``: for a certificate."""

    certificate: Path
    key: Path
    ca: Path
    ask_clients: bool = False


@dataclass
class RedisServer:
    """One server on a port of the loopback. Use :func:`run_redis`."""

    directory: Path
    port: int
    options: Mapping[str, str]
    tls: Tls | None = None
    password: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"{'rediss' if self.tls else 'redis'}://{secret}127.0.0.1:{self.port}/0"

    @property
    def socket_path(self) -> Path:
        return self.directory / "redis.sock"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        """Give a client of the test's own, over the unix socket; the caller closes it."""
        return redis.Redis(unix_socket_path=str(self.socket_path), password=self.password)

    def command(self, *words: str | int) -> Any:
        """Send one command, and give the plain answer."""
        with self.client() as client:
            return client.execute_command(*words)

    def start(self) -> None:
        """Start, on the same port and data, and wait until it answers."""
        assert self._process is None
        program = server_program()
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", *self._arguments()],
                executable=program,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, f"redis-server does not answer: {self.directory / 'redis.log'}")

    def kill(self) -> None:
        """End it by SIGKILL, as a loss of the machine does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Stop it: it is there, and does not answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        wait_until(lambda: _is_stopped(self.pid), "redis-server does not stop")

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(10)
            finally:
                self._process.kill()
                self._process.wait()
                self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "redis.log").read_text()
        try:
            return bool(self.command("PING"))
        except redis.ResponseError:
            return True
        except redis.ConnectionError:
            return False

    def _arguments(self) -> list[str]:
        plain = {"port": str(self.port)}
        if self.tls is not None:
            plain = {
                "port": "0",
                "tls-port": str(self.port),
                "tls-cert-file": str(self.tls.certificate),
                "tls-key-file": str(self.tls.key),
                "tls-ca-cert-file": str(self.tls.ca),
                "tls-auth-clients": "yes" if self.tls.ask_clients else "no",
            }
        options = {
            **plain,
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket_path),
            "dir": str(self.directory),
            "appendonly": "yes",
            "save": "",
            "repl-diskless-sync-delay": "0",
            **({"requirepass": self.password, "masterauth": self.password} if self.password else {}),
            **self.options,
        }
        return [word for name, value in options.items() for word in (f"--{name}", *_words(name, value))]


def _words(name: str, value: str) -> list[str]:
    return value.split() if name == "replicaof" else [value]


def server_program() -> str:
    """Find the server, which has to be called by the name ``redis-server``.

    Debian's package redis-tools has the whole program, under another name; the package redis-server would start a service.
    """
    program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    assert program, "no redis-server: run 'make tools'"
    return program


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def free_port() -> int:
    """Give a port of the loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.005)


LASTING: Final = {"appendfsync": "always"}
"""For a server that is killed: with ``everysec`` it answers before it has written while the disk is busy with the last
flush, for up to two seconds (redis.io, "Diagnosing latency issues", on the append-only file)."""


@contextmanager
def run_redis(
    directory: Path,
    *,
    tls: Tls | None = None,
    password: str | None = None,
    replica_of: RedisServer | None = None,
    port: int | None = None,
    options: Mapping[str, str] | None = None,
) -> Iterator[RedisServer]:
    """Run a server for the block, with its data in ``directory`` (short: a unix socket goes into it)."""
    directory.mkdir(parents=True, exist_ok=True)
    more = dict(options or {})
    if replica_of is not None:
        more["replicaof"] = f"127.0.0.1 {replica_of.port}"
        count = int(replica_of.command("INFO", "replication")["connected_slaves"]) + 1
    with ExitStack() as held:
        server = RedisServer(directory, port or held.enter_context(held_port()), more, tls, password)
        try:
            server.start()
            if replica_of is not None:
                wait_until(lambda: _in_step(server), "the replica does not come into step")
                wait_until(
                    lambda: replica_of.command("WAIT", count, 100) >= count, "the primary does not take it for one"
                )
            yield server
        finally:
            with suppress(ProcessLookupError):
                server.kill()


def _in_step(replica: RedisServer) -> bool:
    return bool(replica.command("ROLE")[3] == b"connected")


@dataclass
class Sentinel:
    """A sentinel that watches one primary, alone. Use :func:`run_sentinel`."""

    server: RedisServer
    name: str

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.server.port}/{self.name}"

    def primary_port(self) -> int:
        return int(self.server.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)[1])

    def knows_replicas(self, count: int) -> bool:
        return len(self.server.command("SENTINEL", "REPLICAS", self.name)) == count


@contextmanager
def run_sentinel(
    directory: Path, primary: RedisServer, name: str = "main", *, replicas: int = 1, lost_seconds: float = 2.0
) -> Iterator[Sentinel]:
    """Run a sentinel for the block; wait until it knows the replicas. It takes a silent primary for lost soon, but not
    one that is only slow on a busy machine."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [
        f"sentinel monitor {name} 127.0.0.1 {primary.port} 1",
        f"sentinel down-after-milliseconds {name} {round(lost_seconds * 1000)}",
        f"sentinel failover-timeout {name} 3000",
        *([f"sentinel auth-pass {name} {primary.password}"] if primary.password else []),
    ]
    (directory / "sentinel.conf").write_text("\n".join(lines) + "\n")
    with held_port() as port:
        sentinel = Sentinel(_SentinelServer(directory, port, {}), name)
        try:
            sentinel.server.start()
            wait_until(lambda: sentinel.knows_replicas(replicas), "the sentinel does not find the replicas")
            yield sentinel
        finally:
            sentinel.server.kill()


class _SentinelServer(RedisServer):
    def _arguments(self) -> list[str]:
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket_path)]
        return [str(self.directory / "sentinel.conf"), "--sentinel", *own]


@dataclass
class Cluster:
    """Primaries that share the slots, and replicas of each. Use :func:`run_cluster`."""

    primaries: Sequence[RedisServer]
    replicas: Sequence[RedisServer] = ()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.primaries)

    def owner_of(self, key: str) -> RedisServer:
        """Give the primary that had the slot of a key at the beginning."""
        share = -(-SLOTS // len(self.primaries))
        return self.primaries[key_slot(key.encode()) // share]


@contextmanager
def run_cluster(directory: Path, nodes: int = 3, *, replicas: int = 0) -> Iterator[Cluster]:
    """Run a cluster of ``nodes`` primaries with so many replicas each for the block."""
    with ExitStack() as stack:

        def run(number: int) -> RedisServer:
            options = {
                "cluster-enabled": "yes",
                "cluster-port": str(stack.enter_context(held_port())),
                # Soon, but not of one that is only slow on a busy machine.
                "cluster-node-timeout": "2500",
            }
            return stack.enter_context(run_redis(directory / f"{number}", options=options))

        servers = [run(number) for number in range(nodes * (1 + replicas))]
        cluster = Cluster(servers[:nodes], servers[nodes:])
        share = -(-SLOTS // nodes)
        for number, server in enumerate(cluster.primaries):
            last = min(SLOTS, (number + 1) * share) - 1
            server.command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
            server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            bus = int(server.options["cluster-port"])
            servers[0].command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        wait_until(lambda: all(_knows(each, len(servers)) for each in servers), "the nodes do not meet")
        for number, server in enumerate(cluster.replicas):
            primary = cluster.primaries[number % nodes].command("CLUSTER", "MYID")
            server.command("CLUSTER", "REPLICATE", primary.decode())
        wait_until(lambda: all(_well(each) for each in servers), "the cluster does not come up")
        wait_until(lambda: all(_in_step(each) for each in cluster.replicas), "the replicas do not come into step")
        yield cluster


def _knows(server: RedisServer, count: int) -> bool:
    with server.client() as client:
        nodes = client.execute_command("CLUSTER NODES")
    return len([each for each in nodes.values() if "handshake" not in each["flags"]]) == count


def _well(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One plain server for all who do not harm it."""
    directory = Path(tempfile.mkdtemp(prefix="gt-redis-"))
    try:
        with run_redis(directory) as server:
            yield server
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """The URL of that one. Use a prefix of your own."""
    return redis_server.url
