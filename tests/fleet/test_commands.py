"""``gaoler fleet`` and ``gaoler workers`` say what an operator needs, in tables and in JSON."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from supervisor.cli import main
from supervisor.connector.dialling import dial_directly
from supervisor.fleet.manifest import Manifest, Signer, Verifier, body_digest
from supervisor.fleet.queue import Ticket
from supervisor.fleet.registry import Registry
from supervisor.redis_link.link import open_redis
from supervisor.settings.fleet import FleetSettings, RedisSettings
from tests.fleet.parts import POOL, Fleet, record, take_one
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]
Gaoler = Callable[..., Result]


@pytest.fixture
def prefix() -> str:
    return "t" + secrets.token_hex(6)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the tests themselves are no settings."""
    for name in [each for each in os.environ if each.startswith("GAOLER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def gaoler(tmp_path: Path, redis_server: RedisServer, prefix: str) -> Gaoler:
    config = tmp_path / "gaoler.toml"
    config.write_text(f'[redis]\nurl = "{redis_server.url}"\nprefix = "{prefix}"\n')

    def run(*words: str) -> Result:
        more = [] if words[:2] == ("fleet", "keygen") else ["--config", str(config)]
        return CliRunner().invoke(main, [*words, *more])

    return run


def a_fleet_was_busy(server: RedisServer, prefix: str) -> None:
    async def story() -> None:
        async with open_redis(RedisSettings(url=server.url, prefix=prefix), dial_directly) as link:
            fleet = Fleet(server, link, FleetSettings())
            async with fleet.worker("w1") as worker:
                await fleet.submit("first")
                delivery = await take_one(worker)
                await worker.begin(delivery)
                await worker.finish(delivery, b"x")
                await fleet.submit("second")
                await fleet.queue.cancel(Ticket("second", POOL))
            await fleet.registry.announce(record("w1", catalogue=b"\xff"))
            await fleet.forever("alive", "worker", "w1")

    trio.run(story)


def test_workers_are_listed(gaoler: Gaoler, redis_server: RedisServer, prefix: str) -> None:
    a_fleet_was_busy(redis_server, prefix)
    (row,) = json.loads(gaoler("workers", "--json").output)
    assert (row["name"], row["state"], row["places"], row["tiers"]) == ("w1", "ready", 4, ["nsjail"])
    assert "catalogue" not in row
    assert gaoler("fleet", "workers", "--json").output == gaoler("workers", "--json").output
    assert "w1" in gaoler("workers").output


def test_the_ledger_says_what_became_of_each_job(gaoler: Gaoler, redis_server: RedisServer, prefix: str) -> None:
    a_fleet_was_busy(redis_server, prefix)
    rows = json.loads(gaoler("fleet", "ledger", "--json").output)
    assert {row["job"]: (row["state"], row["worker"]) for row in rows} == {
        "first": ("done", "w1"),
        "second": ("cancelled", None),
    }
    (row,) = json.loads(gaoler("fleet", "ledger", "--json", "first").output)
    assert row["queued_at"] <= row["began_at"] <= row["ended_at"]
    assert "done" in gaoler("fleet", "ledger").output
    missing = gaoler("fleet", "ledger", "third")
    assert (missing.exit_code, "there is no job third" in missing.output) == (1, True)


def test_a_worker_is_asked_to_leave(gaoler: Gaoler, redis_server: RedisServer, prefix: str) -> None:
    a_fleet_was_busy(redis_server, prefix)
    assert gaoler("fleet", "drain", "w1").exit_code == 0

    async def hears() -> bool:
        async with open_redis(RedisSettings(url=redis_server.url, prefix=prefix), dial_directly) as link:
            return await Registry(link, FleetSettings()).announce(record("w1"))

    assert trio.run(hears)
    unknown = gaoler("fleet", "drain", "nobody")
    assert (unknown.exit_code, "there is no worker nobody" in unknown.output) == (1, True)


def test_without_redis_there_is_no_fleet(tmp_path: Path) -> None:
    config = tmp_path / "gaoler.toml"
    config.write_text("")
    result = CliRunner().invoke(main, ["workers", "--config", str(config)])
    assert (result.exit_code, "redis.url is not set" in result.output) == (78, True)


def test_a_key_is_made_in_two_halves_and_only_one_is_for_all_to_read(gaoler: Gaoler, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    result = gaoler("fleet", "keygen", str(keys), "--id", "k1")
    assert result.exit_code == 0
    private, public = keys / "k1.pem", keys / "public" / "k1.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert str(private) in result.output
    assert str(public.parent) in result.output
    body = b"b"
    manifest = Manifest(
        *(1, "k1", "j", "g", "execute", "t", "c", None, "p", "nsjail", None, (), None),
        issued_at=1.0,
        expires_at=2.0,
        body_sha256=body_digest(body),
    )
    signed = Signer("k1", private.read_bytes()).sign(manifest)
    assert Verifier({"k1": public.read_bytes()}).verify(signed, body, 1.5) == manifest


def test_a_key_is_never_written_over_another(gaoler: Gaoler, tmp_path: Path) -> None:
    assert gaoler("fleet", "keygen", str(tmp_path), "--id", "k1").exit_code == 0
    before = (tmp_path / "k1.pem").read_bytes()
    for odd in ("k1", "../k2", ".k", ""):
        result = gaoler("fleet", "keygen", str(tmp_path), "--id", odd)
        assert result.exit_code == (78 if odd else 0)
    assert (tmp_path / "k1.pem").read_bytes() == before
