"""A fleet on one machine: real Redis, a real S3 server, gateways and workers as processes, as an operator runs them."""

from __future__ import annotations

import errno
import http.client
import itertools
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.fleet.manifest import new_key
from supervisor.jailer.cgroup_subtree import remove_subtree
from tests.daemon import Daemon, end_daemons, eventually, image_path, process_name, spawn_daemon, wait_listening
from tests.redis_server import RedisServer, run_redis
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, run_s3_server

SERVICE_TOKEN = "service-token-of-the-tests-0123456789"
SECRET = "secret-of-the-tests-0123456789abcdef"
GATEWAY_UID = "199998"
"""Gateways and workers are apart, as on hosts of their own."""

_numbers = itertools.count()


class Front(Daemon):
    """All gateways together: each connection goes to the next one, as through a balancer that keeps nobody's."""

    def __init__(self, gateways: Sequence[Daemon], workers: Sequence[Daemon]) -> None:
        first = gateways[0]
        super().__init__(first.process, first.state_dir, first.address)
        self._turn = itertools.cycle(gateways)
        self._all = [*gateways, *workers]

    def family(self) -> list[int]:
        return [pid for each in self._all for pid in each.family()]

    def names(self) -> list[str]:
        return [name for name in map(process_name, self.family()) if name]

    def connection(self) -> http.client.HTTPConnection:
        return next(self._turn).connection()


@dataclass
class Member:
    """A gateway or a worker."""

    role: str
    name: str
    daemon: Daemon
    home: Path

    def internal(self, path: str, method: str = "GET", token: str | None = SERVICE_TOKEN) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.daemon.request(method, f"/internal/v1/{path}", headers=headers, key=None)

    def kill(self) -> None:
        """SIGKILL it, and nothing of it is told to anybody."""
        self.daemon.process.kill()
        self.daemon.process.wait()

    def pause(self) -> None:
        self.daemon.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.daemon.process.send_signal(signal.SIGCONT)


@dataclass
class Fleet:
    """Everything of one fleet. Use :func:`run_fleet`."""

    home: Path
    redis: RedisServer
    s3: S3Server
    bucket: str
    redis_url: str
    s3_url: str
    image: Path = field(default_factory=image_path)
    members: dict[str, Member] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    prefix: str = field(default_factory=lambda: f"fleet{next(_numbers)}")

    def settings(self, role: str, name: str) -> dict[str, str]:
        keys = self.home / "keys"
        role_settings = (
            {
                "GAOLER_FLEET_SIGNING_KEY": str(keys / "test.pem"),
                "GAOLER_JAILER_DAEMON_UID": GATEWAY_UID,
            }
            if role == "gateway"
            else {
                "GAOLER_FLEET_TRUSTED_KEYS": str(keys / "public"),
                "GAOLER_CELLS_FLOOR": "2",
                "GAOLER_CELLS_BARE_FLOOR": "1",
            }
        )
        return {
            "GAOLER_FLEET_ROLE": role,
            "GAOLER_FLEET_NAME": name,
            "GAOLER_FLEET_SECRET": SECRET,
            "GAOLER_FLEET_SERVICE_TOKEN": SERVICE_TOKEN,
            "GAOLER_FLEET_HEARTBEAT_SECONDS": "0.5",
            # A worker that stands still for a moment, on a full machine, is not lost.
            "GAOLER_FLEET_LOST_SECONDS": "6",
            "GAOLER_FLEET_LEASE_SECONDS": "9",
            "GAOLER_FLEET_DRAIN_SECONDS": "20",
            "GAOLER_STATE_SNAPSHOT_SECONDS": "0.2",
            "GAOLER_REDIS_URL": self.redis_url,
            "GAOLER_REDIS_PREFIX": self.prefix,
            "GAOLER_S3_URL": self.s3_url,
            "GAOLER_S3_BUCKET": self.bucket,
            "GAOLER_S3_REGION": "us-east-1",
            "GAOLER_S3_ACCESS_KEY": ACCESS_KEY,
            "GAOLER_S3_SECRET_KEY": SECRET_KEY,
            **role_settings,
            **self.given,
        }

    def spawn(self, role: str, name: str, settings: Mapping[str, str] | None = None) -> Member:
        """Start one; it may not listen yet. A name can be started again when it has ended."""
        home = self.home / name
        home.mkdir(mode=0o755, exist_ok=True)
        process = spawn_daemon(home, self.image, settings={**self.settings(role, name), **(settings or {})})
        member = self.members[name] = Member(role, name, Daemon(process, home, ""), home)
        return member

    def start(self, role: str, *names: str, settings: Mapping[str, str] | None = None) -> list[Member]:
        """Start some at once, and wait until all listen."""
        members = [self.spawn(role, name, settings) for name in names]
        for member in members:
            member.daemon.address = wait_listening(member.daemon.process, member.home)
        return members

    def wait_workers(self, gateway: Member, count: int) -> None:
        """Wait until a gateway sees so many workers that take work."""

        def there() -> bool:
            workers = gateway.internal("workers").json["workers"]
            return [each["state"] for each in workers].count("ready") == count

        eventually(there)

    @property
    def gateways(self) -> list[Member]:
        return [each for each in self.members.values() if each.role == "gateway"]

    def front(self, gateways: Sequence[Member] | None = None) -> Front:
        """All gateways in turn, or these; with all processes of the fleet behind them."""
        workers = [each.daemon for each in self.members.values() if each.role == "worker"]
        return Front([each.daemon for each in gateways or self.gateways], workers)

    def ledger(self) -> dict[str, dict[str, str]]:
        """Every job that is known, by id."""
        with self.redis.client() as client:
            jobs = {}
            for name in client.scan_iter(match=f"{{{self.prefix}}}:job:*", count=1000):
                fields = client.hgetall(name)
                jobs[name.decode().rpartition(":")[2]] = {
                    key.decode(): value.decode("utf-8", "replace") for key, value in fields.items()
                }
            return jobs

    def end(self) -> None:
        for member in self.members.values():
            if member.daemon.process.poll() is None:
                member.resume()
                member.daemon.process.send_signal(signal.SIGTERM)
        for member in self.members.values():
            try:
                member.daemon.process.wait(20)
            except Exception:  # noqa: BLE001 - it is killed then, and what a test has asserted stays what it was
                pass
            end_daemons(member.home)
            remove_cgroups(member.home)


def remove_cgroups(home: Path) -> None:
    """Remove those of a member that is gone; what the kernel still takes down keeps its cgroup for a moment."""

    def gone() -> bool:
        try:
            remove_subtree(home)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    eventually(gone)


@contextmanager
def run_fleet(
    *,
    redis_url: str | None = None,
    s3_url: str | None = None,
    redis: RedisServer | None = None,
    s3: S3Server | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Fleet]:
    """Have Redis, S3 and keys for the block, and no member yet. URLs are those that members are given."""
    home = Path(tempfile.mkdtemp(prefix="gt-"))
    home.chmod(0o755)
    try:
        _write_keys(home / "keys")
        with _redis(home, redis) as redis_server, _s3(s3) as s3_server:
            fleet = Fleet(
                home,
                redis_server,
                s3_server,
                s3_server.new_bucket(),
                redis_url or redis_server.url,
                s3_url or s3_server.url,
                given=dict(settings or {}),
            )
            try:
                yield fleet
            finally:
                fleet.end()
    finally:
        shutil.rmtree(home)


@contextmanager
def _redis(home: Path, given: RedisServer | None) -> Iterator[RedisServer]:
    if given is not None:
        yield given
        return
    directory = home / "redis"
    directory.mkdir()
    with run_redis(directory) as server:
        yield server


@contextmanager
def _s3(given: S3Server | None) -> Iterator[S3Server]:
    if given is not None:
        yield given
        return
    with run_s3_server() as server:
        yield server


def _write_keys(keys: Path) -> None:
    private, public = new_key()
    (keys / "public").mkdir(parents=True)
    (keys / "test.pem").write_bytes(private)
    (keys / "public" / "test.pem").write_bytes(public)
