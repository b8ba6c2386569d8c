"""Where a running daemon is, and with which key a command of this host asks it.

A key that this host keeps is said only to who may have it: over a unix socket or a TCP port of this host, to a process
of root, of the daemon's user, or of whoever asks. Else any user could listen where the daemon does not run, and wait
for an operator to ask.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import trio

from supervisor.commands.api_client import Api, NoCertificate, NotRunning, Place
from supervisor.errors import ConfigurationError, GaolerError
from supervisor.preparation.own_files import ADMIN_KEY_FILE
from supervisor.settings.tree import Settings

API_KEY_FILE: Final = "api_key"
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING: Final = "0A"
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}

Whose = Literal["operator", "caller"]


class NoKey(GaolerError):
    """There is no key that this command could show; the message says how to get one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks. ``url``: of a daemon (``None``: where the settings say); ``uid``: of this process."""

    url: str | None
    uid: int


def operators_api(settings: Settings, asked: Asked) -> Api:
    """Give a client that asks as the operator.

    Raises:
        NoKey: there is no key to be had.
        ConfigurationError: the place is none.
    """
    return _api(settings, asked, "operator", {})


def callers_api(settings: Settings, asked: Asked, user: str | None = None) -> Api:
    """Give a client that asks as a caller, for a user.

    Raises:
        NoKey, ConfigurationError: as :func:`operators_api`.
    """
    return _api(settings, asked, "caller", {} if user is None else {"X-User-Id": user})


def _api(settings: Settings, asked: Asked, whose: Whose, headers: dict[str, str]) -> Api:
    place = place_of(settings, asked.url)
    key = _key(settings, whose, elsewhere=asked.url is not None)
    trusted = {0, asked.uid, settings.jailer.daemon_uid}

    def look(stream: trio.abc.Stream) -> None:
        # HTTPS has shown that it has the private key of the settings; what --url names is its own affair.
        if asked.url is None and place.tls is None:
            check_listeners(place, trusted, stream)

    return Api(place, {**headers, "X-API-Key": key}, look)


def place_of(settings: Settings, url: str | None) -> Place:
    """Give where to ask: at ``url``, else where the settings have the daemon listen.

    Raises:
        ConfigurationError: it is no URL of a server; a certificate cannot be read, or is asked for and there is none.
    """
    if url is not None:
        return _place_at(settings, url)
    if settings.bind.startswith("unix:"):
        return Place(settings.bind, path=settings.bind.removeprefix("unix:"))
    host, _, port = settings.bind.rpartition(":")
    host = _EVERYWHERE.get(host, host).strip("[]")
    tls = _own_certificate(settings) if settings.tls.certificate else None
    return Place(settings.bind, host=host, port=int(port), tls=tls)


def _place_at(settings: Settings, url: str) -> Place:
    if url.startswith("unix:/"):
        return Place(url, path=url.removeprefix("unix:"))
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        parts, port = urlsplit(""), 0
    if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
        raise ConfigurationError(
            f"--url {url!r} is not allowed: http://HOST:PORT, https://HOST, unix:/PATH", field="url"
        )
    tls = client_context(settings) if parts.scheme == "https" else None
    return Place(url, host=parts.hostname, port=port, tls=tls, prefix=parts.path.rstrip("/").removesuffix("/v1"))


def client_context(settings: Settings) -> ssl.SSLContext:
    """Trust whom this host trusts, and show the certificate of the settings if they name one.

    Raises:
        ConfigurationError: it cannot be read.
    """
    context = ssl.create_default_context()
    _show_certificate(settings, context)
    return context


def _show_certificate(settings: Settings, context: ssl.SSLContext) -> None:
    tls = settings.tls
    if not tls.client_certificate:
        return
    for name, path in (("client_certificate", tls.client_certificate), ("client_key", tls.client_key)):
        try:
            # OpenSSL does not say which of the two it is.
            Path(path or tls.client_certificate).open("rb").close()
        except OSError as error:
            raise ConfigurationError(f"tls.{name}: {path}: {error.strerror}", field=f"tls.{name}") from None
    try:
        # A key with a password would have OpenSSL ask for it at the terminal.
        context.load_cert_chain(tls.client_certificate, tls.client_key or None, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
        raise ConfigurationError(
            f"tls.client_certificate and tls.client_key: {reason}: a chain and its private key in PEM, "
            "without password",
            field="tls.client_certificate",
        ) from None


def _own_certificate(settings: Settings) -> ssl.SSLContext:
    """Trust the certificate of the settings and no other: it is in the name of a host, which is not where we ask."""
    if settings.tls.client_ca and not settings.tls.client_certificate:
        raise NoCertificate(
            "the daemon asks its clients for certificates (tls.client_ca)", field="tls.client_certificate"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(settings.tls.certificate)
    except OSError as error:
        raise ConfigurationError(f"tls.certificate cannot be read: {error}; run it with sudo", field="tls") from None
    _show_certificate(settings, context)
    return context


def _key(settings: Settings, whose: Whose, *, elsewhere: bool) -> str:
    """Give the key of the settings, else the one of the state directory. That one is for this host only."""
    given, name, file = {
        "operator": (settings.admin_key, "GAOLER_ADMIN_KEY", ADMIN_KEY_FILE),
        "caller": (settings.api_key, "GAOLER_API_KEY", API_KEY_FILE),
    }[whose]
    if given:
        return given
    if elsewhere:
        raise NoKey(f"--url names a daemon whose key is not kept here: set {name}")
    path = settings.state_path / file
    try:
        key = path.read_text().strip()
    except PermissionError:
        raise NoKey(f"{path} belongs to the daemon: run it with sudo, or set {name}") from None
    except FileNotFoundError:
        raise NoKey(
            f"there is no {path}: the daemon has not been started yet, or keeps its key elsewhere: "
            f"give its --state-dir or --config, or set {name}"
        ) from None
    except OSError as error:
        raise NoKey(f"{path}: {error.strerror}; set {name}") from None
    return key


def check_listeners(place: Place, trusted: Iterable[int], stream: trio.abc.Stream) -> None:
    """Refuse to say a key to a process of somebody else. ``stream``: the connection on which it would be said.

    Raises:
        NotRunning: somebody else listens there.
    """
    strangers = set(_listeners(place, stream)) - set(trusted)
    if strangers:
        raise NotRunning(
            f"who listens at {place.shown} is neither the daemon nor root but uid {min(strangers)}, "
            "and is not told the key; --url with GAOLER_ADMIN_KEY or GAOLER_API_KEY asks all the same"
        )


def _listeners(place: Place, stream: trio.abc.Stream) -> Iterable[int]:
    """Give the uids of all who listen there. Source: unix(7), SO_PEERCRED; the kernel's proc_net_tcp.txt."""
    if place.path and isinstance(stream, trio.SocketStream):
        credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        yield struct.unpack("3i", credentials)[1]
        return
    for table in _TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue
        yield from listening_uids(lines, place.port)


def listening_uids(lines: Iterable[str], port: int) -> Iterable[int]:
    """Give the users of the sockets that listen on a port, at whatever address. Pure."""
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
            yield int(fields[7])
