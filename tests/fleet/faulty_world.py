"""A fleet whose members each have a wire of their own to Redis, one to S3, and files that were acknowledged.

All times are two fifths of their defaults: a worker that stands still for a moment, on a full machine, is not lost.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.daemon import Daemon, eventually, wait_listening
from tests.fleet.faults import Faults, S3Faults, Told, Wire, marked, open_faults, stream
from tests.fleet_world import Fleet, Member, run_fleet
from tests.redis_server import LASTING, RedisServer, run_redis
from tests.s3_server import run_s3_server

QUICK: Final = {
    "GAOLER_FLEET_HEARTBEAT_SECONDS": "0.4",
    "GAOLER_FLEET_LOST_SECONDS": "4",
    "GAOLER_FLEET_LEASE_SECONDS": "6",
    "GAOLER_REDIS_SOCKET_SECONDS": "2",
    "GAOLER_REDIS_CONNECT_SECONDS": "2",
    "GAOLER_REDIS_RETRY_SECONDS": "4",
    "GAOLER_S3_CONNECT_SECONDS": "2",
    # Longer than a test holds an answer back, which it lets go on when it has seen enough.
    "GAOLER_S3_READ_SECONDS": "20",
    "GAOLER_S3_ATTEMPTS": "2",
    "GAOLER_EXECUTION_QUEUE_SECONDS": "10",
}
PATIENCE_SECONDS: Final = 50.0
"""No caller waits longer for anything: a retry of Redis and of S3, the queue, and what a loaded machine takes."""


@dataclass(frozen=True)
class Asked:
    """What a caller waits for in the background."""

    told: Future[Told]
    heard: list[str]

    @property
    def has_begun(self) -> bool:
        """Its program has said something. On a busy machine it may have ended too, before others have begun."""
        return bool(self.heard) or self.told.done()

    def result(self) -> Told:
        return self.told.result()


def all_begun(asked: Sequence[Asked]) -> None:
    """Wait until each has begun."""
    eventually(lambda: all(each.has_begun for each in asked))


@dataclass
class World:
    """A fleet whose members each have a wire of their own to Redis, and files that were acknowledged."""

    fleet: Fleet
    faults: Faults
    s3: S3Faults
    callers: ThreadPoolExecutor
    wires: dict[str, Wire] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    """Address of a file to its content."""

    def start(self, role: str, *names: str, settings: Mapping[str, str] | None = None) -> None:
        for name in names:
            own = dict(settings or {})
            if self.fleet.redis_url == self.fleet.redis.url:
                wire = self.wires.get(name) or self.faults.wire(self.fleet.redis.port)
                self.wires[name] = wire
                own["GAOLER_REDIS_URL"] = f"redis://127.0.0.1:{wire.port}/0"
            self.fleet.spawn(role, name, own)
        for name in names:
            member = self.fleet.members[name]
            member.daemon.address = wait_listening(member.daemon.process, member.home)
            member.daemon.patience = PATIENCE_SECONDS

    def member(self, name: str) -> Member:
        return self.fleet.members[name]

    def gateway(self, name: str = "g1") -> Daemon:
        return self.member(name).daemon

    def background(self, work: Callable[..., Any], *arguments: Any, **fields: Any) -> Future[Any]:
        return self.callers.submit(work, *arguments, **fields)

    def keep(self, gateway: str = "g1") -> None:
        """Upload a file; once it is acknowledged it has to stay."""
        content = secrets.token_bytes(20_000)
        answer = self.gateway(gateway).upload(("a.bin", content))
        assert answer.status == 200, answer.body
        self.kept[address_of(answer.json["session_id"], answer.json["files"][0]["fileId"])] = content

    def running(self) -> int:
        return [job["state"] for job in self.fleet.ledger().values()].count("running")

    def ask(self, gateway: str, code: str, **fields: Any) -> Asked:
        """Have code run in the background that says something as it begins."""
        heard: list[str] = []
        told = self.background(stream, self.gateway(gateway), code, on_text=heard.append, **fields)
        return Asked(told, heard)

    def holder(self, session_id: str) -> str:
        found: bytes = self.fleet.redis.command("HGET", f"{{{self.fleet.prefix}}}:lease:{session_id}", "holder") or b""
        return found.decode()

    def workers(self) -> set[str]:
        return {each["name"] for each in self.member("g1").internal("workers").json["workers"]}

    def check(self) -> None:
        """Everything is there, everything works, and every job has come to an end."""
        gateways = [each.daemon for each in self.fleet.gateways]
        for gateway in gateways:
            eventually(lambda gateway=gateway: gateway.request("GET", "/ready").status == 200)  # type: ignore[misc]
            for address, content in self.kept.items():
                assert gateway.request("GET", address).body == content
            told = stream(gateway, marked("0", "open('/mnt/data/out.txt', 'w').write('whole')"))
            assert told.what == "done", told
            assert len(told.nonces) == 1
            [made] = told.body["files"]
            assert gateway.request("GET", address_of(told.body["session_id"], made["id"])).body == b"whole"
        eventually(lambda: not self.unended())
        for each in self.fleet.members.values():
            assert each.daemon.process.poll() is None, each.daemon.log_path.read_text()[-3000:]

    def heal(self) -> None:
        """Let nothing be amiss any more that a test may have left so."""
        for wire in self.wires.values():
            wire.flow()
            if wire.is_cut:
                wire.mend()
        self.s3.proxy.fail = 0
        self.s3.flow()
        if self.s3.is_away:
            self.s3.come_back()
        for name, member in self.fleet.members.items():
            if member.daemon.process.poll() is not None:
                self.start(member.role, name)

    def unended(self) -> list[str]:
        return [job for job, line in self.fleet.ledger().items() if line["state"] in ("queued", "running")]


def address_of(session_id: str, file_id: str) -> str:
    """Where a file is downloaded."""
    return f"/v1/download/{session_id}/{file_id}"


@contextmanager
def open_world(
    settings: Mapping[str, str] = QUICK, redis: RedisServer | None = None, redis_url: str | None = None
) -> Iterator[World]:
    """Two gateways and two workers."""
    with (
        tempfile.TemporaryDirectory(prefix="gt-redis-") as directory,
        # What Redis has acknowledged, it still has after a SIGKILL.
        nullcontext(redis) if redis else run_redis(Path(directory), options=LASTING) as used,
        run_s3_server() as server,
        open_faults() as faults,
        ThreadPoolExecutor(24) as callers,
    ):
        s3 = faults.s3(server.port)
        with run_fleet(redis=used, redis_url=redis_url, s3=server, s3_url=s3.url, settings=settings) as fleet:
            world = World(fleet, faults, s3, callers)
            world.start("gateway", "g1", "g2")
            # Before there is a worker nobody knows what is installed: nobody says that it is not.
            assert stream(world.gateway(), marked("1")).what == "rate_limited"
            world.start("worker", "w1", "w2")
            fleet.wait_workers(world.member("g1"), 2)
            fleet.wait_workers(world.member("g2"), 2)
            yield world
