"""What ``redis.url``, or ``redis.host`` with its companions, says: pure, and of use to whoever dials for us too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from supervisor.errors import ConfigurationError
from supervisor.settings.fleet import RedisSettings


class Place(NamedTuple):
    """Where a server listens; port 0: the host is the path of a unix socket."""

    host: str
    port: int


Kind = Literal["one", "socket", "sentinel", "cluster"]

_KINDS: Final[dict[str, tuple[Kind, bool]]] = {
    "redis": ("one", False),
    "rediss": ("one", True),
    "unix": ("socket", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_PORTS: Final[dict[Kind, int]] = {"one": 6379, "socket": 0, "sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class RedisPlan:
    """Where Redis is and as whom we come. ``places``: the server, its sentinels, or some of a cluster's nodes."""

    kind: Kind
    places: tuple[Place, ...]
    tls: bool = False
    name: str = ""
    """Of the primary, for sentinels."""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)


def read_plan(settings: RedisSettings) -> RedisPlan:
    """Read the settings.

    Raises:
        ConfigurationError: the url is wrong; the message does not repeat it, for it may hold a password.
    """
    if not settings.url:
        if not settings.host:
            raise ConfigurationError("neither a url nor a host", field="redis.url")
        place = Place(settings.host.strip("[]"), settings.port)
        return RedisPlan("one", (place,), False, "", settings.db, settings.username, settings.password)
    try:
        parts = urlsplit(settings.url)
    except ValueError:
        raise _wrong("it is no url") from None
    kind, tls = _KINDS.get(parts.scheme, (None, False))
    if kind is None:
        raise _wrong(f"it begins with one of {', '.join(f'{each}://' for each in _KINDS)}")
    if parts.fragment:
        raise _wrong("there is nothing after a #; in a password it is written %23")
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    places = (Place(unquote(parts.path), 0),) if kind == "socket" else _places(hosts, _PORTS[kind])
    if kind == "one" and len(places) > 1:
        raise _wrong("several hosts are for redis+sentinel:// and redis+cluster://")
    if kind == "socket" and (not parts.path.startswith("/") or hosts):
        raise _wrong("of a unix socket it is unix:///path")
    name, db = _name_and_db(kind, parts, settings.db)
    return RedisPlan(
        kind, places, tls, name, db, unquote(username) or settings.username, unquote(password) or settings.password
    )


def _places(hosts: str, otherwise: int) -> tuple[Place, ...]:
    places = []
    for text in hosts.split(","):
        try:
            one = urlsplit(f"//{text}")
            host, port = one.hostname, one.port
        except ValueError:
            raise _wrong("a port is a number from 1 to 65535") from None
        if not host or one.username is not None:
            raise _wrong("a host is missing, or a character of the password has to be written as %XX")
        if port == 0:
            raise _wrong("a port is a number from 1 to 65535")
        places.append(Place(host, port or otherwise))
    return tuple(places)


def _name_and_db(kind: Kind, parts: SplitResult, otherwise: int) -> tuple[str, int]:
    queries = dict(parse_qsl(parts.query, keep_blank_values=True))
    said = queries.pop("db", None)
    if queries:
        raise _wrong("after a question mark there is only db=NUMBER")
    words = [] if kind == "socket" else [unquote(each) for each in parts.path.split("/") if each]
    name = ""
    if kind == "sentinel":
        if not words:
            raise _wrong("of sentinels it ends with the name of the primary: redis+sentinel://HOST:PORT/NAME")
        name = words.pop(0)
    if words:
        said = words.pop(0)
    if words or (said is not None and not said.isdecimal()):
        raise _wrong("after the hosts there is at most the number of the database")
    db = otherwise if said is None else int(said)
    if kind == "cluster" and db:
        raise ConfigurationError("a cluster has only the database 0", field="redis.db" if said is None else "redis.url")
    return name, db


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError(message, field="redis.url")
