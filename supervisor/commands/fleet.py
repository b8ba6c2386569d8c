"""``gaoler fleet``: keys of gateways, who is there, what became of each job, and how a worker is told to leave."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from supervisor.commands.options import config_option, load_settings, plain_errors
from supervisor.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from supervisor.fleet.ledger import Line
    from supervisor.fleet.registry import WorkerRecord
    from supervisor.redis_link.link import RedisLink
    from supervisor.settings.fleet import FleetSettings

_T = TypeVar("_T")
_json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def fleet() -> None:
    """Gateways and workers that share one Redis: their keys, who is there, what became of each job."""


@fleet.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--id", "kid", metavar="KID", help="Of the key (default: made of today's date).")
def keygen(directory: Path, kid: str | None) -> None:
    """Make a key with which gateways sign what workers obey: DIRECTORY/KID.pem and DIRECTORY/public/KID.pem.

    To change keys: give all workers the new public key first, then the gateways the new private one; when an hour has
    passed, take the old public key away.
    """
    from supervisor.fleet.manifest import new_key

    with plain_errors():
        kid = kid or f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", kid) or kid.startswith("."):
            raise ConfigurationError("a key's id is letters, digits, '_', '.' and '-', at most 64", field="--id")
        private, public = new_key()
        private_file, public_file = directory / f"{kid}.pem", directory / "public" / f"{kid}.pem"
        try:
            public_file.parent.mkdir(parents=True, exist_ok=True)
            if public_file.exists():
                raise FileExistsError(None, None, str(public_file))
            _write_new(private_file, private, 0o600)
            _write_new(public_file, public, 0o644)
        except FileExistsError as error:
            raise ConfigurationError(f"{error.filename} is there already", field="--id") from None
        except OSError as error:
            raise ConfigurationError(f"{error.filename}: {error.strerror}", field="directory") from None
        click.echo(f"gateways  fleet.signing_key = {private_file.absolute()}   (secret)")
        click.echo(f"workers   fleet.trusted_keys = {public_file.parent.absolute()}")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)


@click.command()
@_json_option
@config_option
def workers(as_json: bool, config: Path | None) -> None:
    """List the workers of the fleet that live: what each can, how much it has to do."""
    from supervisor.fleet.registry import Registry

    with plain_errors():
        found = _with_redis(config, lambda link, settings: Registry(link, settings).workers())
        if as_json:
            rows = [
                {name: value for name, value in msgspec.to_builtins(each).items() if name != "catalogue"}
                for each in found
            ]
            click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        else:
            _print_workers(found)


def _print_workers(found: list[WorkerRecord]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("worker", "state", "running", "sessions", "tiers", "policy", "version", "pool", "since", box=None)
    for each in found:
        running = f"{each.running}/{each.places}"
        since = datetime.fromtimestamp(each.started_at, UTC).isoformat("T", "seconds")
        words = (each.name, each.state, running, str(each.live_sessions), " ".join(each.tiers), each.policy)
        table.add_row(*words, each.version, each.pool, since)
    Console().print(table)


fleet.add_command(workers)


@fleet.command()
@click.argument("name")
@config_option
def drain(name: str, config: Path | None) -> None:
    """Have a worker leave: it finishes what it runs, hands its sessions over, and ends. It sees this in a heartbeat."""
    from supervisor.fleet.registry import Registry, drain_worker

    async def ask(link: RedisLink, settings: FleetSettings) -> None:
        await drain_worker(Registry(link, settings), name)

    with plain_errors():
        _with_redis(config, ask)


@fleet.command()
@click.argument("job", metavar="[JOB]", required=False)
@click.option("--most", default=100, show_default=True, type=click.IntRange(1, 100_000), help="The latest so many.")
@_json_option
@config_option
def ledger(job: str | None, most: int, as_json: bool, config: Path | None) -> None:
    """Say what became of the latest jobs, or of JOB. Kept for fleet.ledger_seconds after each has ended."""
    from supervisor.fleet.ledger import Ledger

    async def look(link: RedisLink, _settings: FleetSettings) -> list[Line]:
        if job is None:
            return await Ledger(link).latest(most)
        line = await Ledger(link).line(job)
        if line is None:
            raise NotFound(f"there is no job {job}; it may have ended too long ago")
        return [line]

    with plain_errors():
        found = _with_redis(config, look)
        if as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        else:
            _print_lines(found)


def _print_lines(found: list[Line]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("job", "state", "queued", "waited", "took", "worker", "gateway", "reason", box=None)
    for each in found:
        waited = "" if each.began_at is None else f"{each.began_at - each.queued_at:.3f} s"
        took = "" if each.began_at is None or each.ended_at is None else f"{each.ended_at - each.began_at:.3f} s"
        queued = datetime.fromtimestamp(each.queued_at, UTC).isoformat("T", "seconds")
        table.add_row(each.job, each.state, queued, waited, took, each.worker, each.gateway, each.reason)
    Console().print(table)


def _with_redis(config: Path | None, work: Callable[[RedisLink, FleetSettings], Awaitable[_T]]) -> _T:
    """Have something done with the Redis that the settings name, from this very process."""
    import trio

    from supervisor.connector.dialling import dial_directly
    from supervisor.redis_link.link import open_redis

    settings = load_settings(config, {}).settings
    if not (settings.redis.url or settings.redis.host):
        raise ConfigurationError("redis.url is not set: there is no fleet", field="redis.url")

    async def run() -> _T:
        async with open_redis(settings.redis, dial_directly) as link:
            return await work(link, settings.fleet)

    return trio.run(run)
