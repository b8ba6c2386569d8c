"""Which servers the settings name: ``redis``, ``s3`` and ``tracing.url`` to the connector's allowlist. Pure.

Addresses only: user names, passwords and keys stay where they are, so that the connector never has them.
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import unquote, urlsplit

from supervisor.connector.allowlist import UNIX, Allowed, plain_host
from supervisor.errors import ConfigurationError
from supervisor.settings.fleet import RedisSettings, S3Settings

_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_SCHEMES: Final = {
    f"{scheme}{kind}": _SENTINEL_PORT if kind == "+sentinel" else _REDIS_PORT
    for scheme in ("redis", "rediss")
    for kind in ("", "+sentinel", "+cluster")
}
_HTTP_PORTS: Final = {"http": 80, "https": 443}
_PLACE: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(:(?P<port>[0-9]+))?")
_NODE: Final = re.compile(r"(?P<where>.+):(?P<port>[0-9]+)")


def named_places(redis: RedisSettings, s3: S3Settings, tracing_url: str = "") -> Allowed:
    """Give all that these settings let be dialled: nothing, if neither is switched on.

    Raises:
        ConfigurationError: a value names no place; ``field`` is the key. No value is repeated: urls hold passwords.
    """
    places: set[tuple[str, int]] = set()
    networks: set[tuple[str, int]] = set()
    if redis.url:
        places |= _of_redis_url(redis.url)
    elif redis.host:
        places.add((_host(redis.host, "redis.host"), redis.port))
    if redis.url or redis.host:
        for node in filter(None, (part.strip() for part in redis.nodes.split(","))):
            where, port = _node(node)
            (networks if "/" in where else places).add((where, port))
    if s3.url:
        places |= _of_s3(s3)
    if tracing_url:
        places.add(_of_url(tracing_url, "tracing.url"))
    return Allowed(frozenset(places), frozenset(networks))


def _of_redis_url(url: str) -> set[tuple[str, int]]:
    scheme, separator, rest = url.partition("://")
    if not separator or (scheme not in _SCHEMES and scheme != "unix"):
        raise ConfigurationError(
            f"redis.url begins with none of {', '.join(f'{each}://' for each in (*_SCHEMES, 'unix'))}",
            field="redis.url",
        )
    if scheme == "unix":
        path = unquote(urlsplit(url).path)
        if path.count("/") < 2 or "\0" in path or "/../" in f"{path}/":
            raise ConfigurationError("redis.url: unix:// goes with the whole path of a socket", field="redis.url")
        return {(UNIX + path, 0)}
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if "," in authority and "+" not in scheme:
        raise ConfigurationError("redis.url: several hosts go with +sentinel or +cluster", field="redis.url")
    return {_place(each, _SCHEMES[scheme], "redis.url") for each in authority.split(",")}


def _of_s3(s3: S3Settings) -> set[tuple[str, int]]:
    host, port = _of_url(s3.url, "s3.url")
    places = {(host, port)}
    if not s3.path_style and not _is_address(host):
        places.add((_host(f"{s3.bucket}.{host}", "s3.bucket"), port))
    return places


def _of_url(url: str, field: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port or _HTTP_PORTS[parts.scheme]
    except ValueError:
        raise ConfigurationError(f"{field}: the port is 1 to 65535", field=field) from None
    return _host(parts.hostname or "", field), port


def _place(text: str, default_port: int, field: str) -> tuple[str, int]:
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"{field}: a host is HOST, HOST:PORT or [IPV6]:PORT", field=field)
    port = default_port if found["port"] is None else int(found["port"])
    if not 1 <= port <= 65_535:
        raise ConfigurationError(f"{field}: a port is 1 to 65535", field=field)
    return _host(found["host"], field), port


def _node(text: str) -> tuple[str, int]:
    field = "redis.nodes"
    found = _NODE.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65_535:
        raise ConfigurationError(f"{field}: {text!r} is neither NETWORK/BITS:PORT nor HOST:PORT", field=field)
    where, port = found["where"], int(found["port"])
    if "/" not in where:
        return _host(where, field), port
    try:
        return str(ip_network(where.replace("[", "").replace("]", ""))), port
    except ValueError as error:
        raise ConfigurationError(f"{field}: {error}", field=field) from None


def _host(text: str, field: str) -> str:
    host = plain_host(text)
    if host is None or host.startswith(UNIX):
        raise ConfigurationError(f"{field}: that is no name of a host, and no address", field=field)
    return host


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
