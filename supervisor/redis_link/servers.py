"""Where Redis is: what the settings say of it, who is the primary now, and connections to that one.

redis-py has clients of its own for sentinels and clusters. They make their own sockets, retry by clocks of their own
and, for a cluster, keep a pool for each node. All our keys lie in one slot, so in a cluster too there is one server at
a time that has them: it is looked up, as the primary of a sentinel is, and the client is the plain one in every case.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.crc import key_slot
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from supervisor.connector.dialling import Dial
from supervisor.errors import ConfigurationError
from supervisor.redis_link.dialling import Cut, ServerRefused, connect_socket
from supervisor.redis_link.plan import Place, RedisPlan, read_plan
from supervisor.settings.fleet import RedisSettings


class Servers:
    """Gives the server that has our keys, and connections to it. For threads.

    A place that was found holds until :meth:`forget`: connections to what was found before are made anew when they are
    used next.
    """

    def __init__(self, settings: RedisSettings, dial: Dial) -> None:
        """Read the settings.

        Raises:
            ConfigurationError: they are wrong.
        """
        self.plan: Final[RedisPlan] = read_plan(settings)
        self._settings = settings
        self._dial = dial
        self._tls = _tls(settings, self.plan)
        self._slot = key_slot(f"{{{settings.prefix}}}".encode())
        self._looking = threading.Lock()
        self._lock = threading.Lock()
        self._found: Place | None = None
        self._last: Place | None = None
        self._asked = list(self.plan.places)
        self.generation = 0
        """Counts how often the server became another one, or may have."""

    def client(self, connections: int, *, answer_seconds: float) -> redis.Redis:
        """Make a client with a pool of its own."""
        pool = redis.ConnectionPool(
            connection_class=ServerConnection,
            max_connections=connections,
            servers=self,
            db=self.plan.db,
            **self._plainly(answer_seconds, self.plan.username, self.plan.password),
        )
        return redis.Redis(connection_pool=pool)

    def connection(self, answer_seconds: float | None, cut: Cut | None = None) -> ServerConnection:
        """Make a connection that is nobody's pool's; it connects when it is first used."""
        plainly = self._plainly(answer_seconds, self.plan.username, self.plan.password)
        plainly.pop("maint_notifications_config")
        return ServerConnection(self, cut, db=self.plan.db, **plainly)

    def _plainly(self, answer_seconds: float | None, username: str, password: str) -> dict[str, Any]:
        """Have redis-py do nothing of its own accord: no retries, no time limits, nothing told of the library."""
        return {
            "socket_timeout": answer_seconds,
            "socket_connect_timeout": self._settings.connect_seconds,
            "retry": Retry(NoBackoff(), 0),
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "driver_info": None,
            "username": username or None,
            "password": password or None,
        }

    def place(self) -> tuple[Place, int]:
        """Give the server that has our keys, as far as is known, and the generation; looks it up if it is not known.

        Raises:
            redis.ConnectionError: nobody says, or whoever says so cannot be reached.
        """
        seconds = self._settings.connect_seconds + self._settings.socket_seconds
        # One at a time: look-ups are connections too.
        if not self._looking.acquire(timeout=seconds):
            raise redis.TimeoutError("others look for the primary")
        try:
            with self._lock:
                found, generation = self._found, self.generation
            if found is not None:
                return found, generation
            found = self._look_up()
            with self._lock:
                if self._last not in (None, found):
                    self.generation += 1
                self._found = self._last = found
                return found, self.generation
        finally:
            self._looking.release()

    def lost(self) -> None:
        """Look the server up again at the next connection: it could not be reached."""
        with self._lock:
            self._found = None

    def forget(self) -> None:
        """The same, and have no older connection used again: it is not what it was."""
        with self._lock:
            self._found = None
            self.generation += 1

    @property
    def asks_role(self) -> bool:
        """A server may no longer be what it was said to be. In a cluster it says so itself (MOVED)."""
        return self.plan.kind == "sentinel"

    def connect(self, place: Place, cut: Cut) -> socket.socket:
        """Give a connected socket, with TLS where the settings say so; its time limit is that of connecting."""
        seconds = self._settings.connect_seconds
        field = "redis.nodes" if self.plan.kind in ("sentinel", "cluster") else "redis.url"
        return connect_socket(place, self._dial, seconds, tls=self._tls, cut=cut, field=field)

    def _look_up(self) -> Place:
        match self.plan.kind:
            case "sentinel":
                return self._ask(self._ask_sentinel)
            case "cluster":
                return self._ask(self._ask_node)
            case _:
                return self.plan.places[0]

    def _ask(self, question: Callable[[Place], Place]) -> Place:
        """Ask one after the other; who answered is asked first the next time."""
        fault: redis.RedisError | None = None
        for place in list(self._asked):
            try:
                answer = question(place)
            except redis.RedisError as error:
                # A refusal is a fault in the settings: it is what the operator has to hear.
                fault = fault if isinstance(fault, ServerRefused) else error
                continue
            self._asked.remove(place)
            self._asked.insert(0, place)
            return answer
        raise fault or redis.ConnectionError("nobody to ask")

    def _ask_sentinel(self, place: Place) -> Place:
        with self._talk(place, "", self._settings.sentinel_password) as ask:
            try:
                answer = ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.plan.name)
            except redis.AuthenticationError:
                raise ServerRefused("the sentinels want another password", "redis.sentinel_password") from None
        if answer is None:
            raise ServerRefused("the sentinels know no primary of this name", "redis.url")
        return Place(answer[0].decode(), int(answer[1]))

    def _ask_node(self, place: Place) -> Place:
        with self._talk(place, self.plan.username, self.plan.password) as ask:
            ranges = ask("CLUSTER", "SLOTS")
        nodes = {_node(node, place) for _first, _last, *members in ranges for node in members}
        self._asked = [*(each for each in self._asked if each in nodes or each in self.plan.places)]
        self._asked += sorted(nodes - set(self._asked))
        for first, last, primary, *_replicas in ranges:
            if first <= self._slot <= last:
                return _node(primary, place)
        raise redis.exceptions.ClusterDownError("nobody has our slot")

    @contextmanager
    def _talk(self, place: Place, username: str, password: str) -> Iterator[Callable[..., Any]]:
        plainly = self._plainly(self._settings.socket_seconds, username, password)
        plainly.pop("maint_notifications_config")
        connection = ServerConnection(self, fixed=place, **plainly)

        def ask(*words: str) -> Any:
            connection.send_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no types there
            return connection.read_response()

        try:
            try:
                connection.connect()
            except redis.AuthenticationError:
                field = "redis.sentinel_password" if self.plan.kind == "sentinel" else "redis.password"
                raise ServerRefused("the server wants another password", field) from None
            yield ask
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]  # as above


class ServerConnection(Connection):
    """redis-py's connection, on a socket that was dialled for us. ``fixed``: to this place, whoever has our keys."""

    def __init__(self, servers: Servers, cut: Cut | None = None, fixed: Place | None = None, **rest: Any) -> None:
        super().__init__(host="", port=0, **rest)  # type: ignore[no-untyped-call]  # as above
        self._servers = servers
        self._cut = cut or Cut()
        self._fixed = fixed
        self._generation = -1
        self._connected: socket.socket | None = None

    @property
    def descriptor(self) -> int:
        """Of the socket, to be waited for."""
        assert self._connected is not None
        return self._connected.fileno()

    @property
    def usable(self) -> bool:
        """It is connected to the server that counts."""
        return bool(self.is_connected) and self._generation == self._servers.generation

    @property
    def silent(self) -> bool:
        """The server has said nothing that nobody asked for, and has not closed it."""
        try:
            return not self.can_read(timeout=0)
        except (redis.RedisError, OSError):
            return False

    def connect(self) -> None:
        """Connect, if it is not connected to the server that counts."""
        if self.is_connected and self._fixed is None and self._generation != self._servers.generation:
            self.disconnect()  # type: ignore[no-untyped-call]  # as above
        super().connect()  # type: ignore[no-untyped-call]  # as above

    def _connect(self) -> socket.socket:
        place, self._generation = (self._fixed, 0) if self._fixed else self._servers.place()
        self.host, self.port = place.host, place.port
        try:
            self._connected = self._servers.connect(place, self._cut)
        except (OSError, redis.ConnectionError):
            if self._fixed is None:
                self._servers.lost()
            raise
        return self._connected

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        """Greet the server; only from then on an answer may take as long as it may take."""
        super().on_connect_check_health(check_health=check_health)
        if self._fixed is None and self._servers.asks_role:
            self._check_role()
        if self._connected is not None:
            self._connected.settimeout(self.socket_timeout)

    def _check_role(self) -> None:
        self.send_command("ROLE", check_health=False)  # type: ignore[no-untyped-call]  # as above
        try:
            role = self.read_response()[0]
        except redis.exceptions.NoPermissionError:
            return
        if role != b"master":
            self._servers.forget()
            raise redis.ReadOnlyError("it is a replica", status_code="READONLY")


def _node(said: list[Any], asked: Place) -> Place:
    """Read a node of CLUSTER SLOTS; one without an address is the one that was asked.

    https://redis.io/docs/latest/commands/cluster-slots/
    """
    host = (said[0] or b"").decode()
    return Place(host if host not in ("", "?") else asked.host, int(said[1]))


def _tls(settings: RedisSettings, plan: RedisPlan) -> ssl.SSLContext | None:
    """Say how servers are verified: always, and by the name under which they are dialled."""
    if not plan.tls:
        for field in ("ca", "certificate", "certificate_key"):
            if getattr(settings, field):
                raise ConfigurationError("without rediss:// there is no TLS", field=f"redis.{field}")
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"the authorities cannot be read: {error}", field="redis.ca") from None
    if settings.certificate:
        try:
            context.load_cert_chain(settings.certificate, settings.certificate_key or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"the certificate cannot be read: {error}", field="redis.certificate") from None
    elif settings.certificate_key:
        raise ConfigurationError("it has no certificate", field="redis.certificate_key")
    return context
