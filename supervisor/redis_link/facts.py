"""What the Redis server is, and what would be lost with it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import redis

from supervisor.errors import ConfigurationError
from supervisor.settings.fleet import RedisSettings

log: Final = logging.getLogger("gaoler.redis")
OLDEST: Final = (6, 2)
"""The first with the commands that we use (XAUTOCLAIM, GETEX); Valkey says 7.2 of itself."""


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What the server says of itself; None where it does not, or where we may not ask."""

    version: str
    mode: str
    """standalone, sentinel or cluster."""
    replicas: int
    append_only: bool | None
    flushed: str | None
    """``appendfsync``: always, everysec or no."""
    eviction: str | None
    """``maxmemory-policy``."""


def read_facts(client: redis.Redis) -> RedisFacts:
    """Ask it, in a thread."""
    # By section: "everything" is a few kilobytes, and some of it slow.
    server, replication = client.info("server"), client.info("replication")
    persistence, memory = client.info("persistence"), client.info("memory")
    if replication.get("role") == "slave":
        raise redis.ReadOnlyError("it is a replica", status_code="READONLY")
    append_only = persistence.get("aof_enabled")
    eviction = memory.get("maxmemory_policy")
    try:
        flushed = client.config_get("appendfsync").get("appendfsync")
    except redis.ResponseError:
        # Forbidden at many managed services.
        flushed = None
    return RedisFacts(
        version=str(server.get("redis_version", "")),
        mode=str(server.get("redis_mode", "")),
        replicas=int(replication.get("connected_slaves", 0)),
        append_only=None if append_only is None else bool(append_only),
        flushed=None if flushed is None else str(flushed),
        eviction=None if eviction is None else str(eviction),
    )


def check_server(facts: RedisFacts, settings: RedisSettings) -> None:
    """Refuse what cannot work, and warn of what may lose something.

    Raises:
        ConfigurationError: the server is too old, or the settings contradict each other.
    """
    if settings.replicas and settings.replica_seconds >= settings.socket_seconds:
        raise ConfigurationError("it has to be less than redis.socket_seconds", field="redis.replica_seconds")
    numbers = tuple(int(each) for each in facts.version.split(".")[:2] if each.isdecimal())
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ConfigurationError(f"Redis {facts.version or '?'} is too old, {oldest} is the oldest", field="redis.url")
    if facts.eviction not in (None, "noeviction"):
        log.warning(
            "Redis may evict keys (maxmemory-policy %s): sessions would vanish when its memory is full; use noeviction",
            facts.eviction,
        )
    if facts.append_only is False:
        log.warning(
            "Redis keeps no log of writes (appendonly no): when it ends unexpectedly, sessions since its last snapshot "
            "are lost; use appendonly yes"
        )
    if facts.replicas < settings.replicas:
        log.warning(
            "Redis has %d replicas, redis.replicas asks for %d: writes are refused until there are so many",
            facts.replicas,
            settings.replicas,
        )
