"""``gaoler mcp``: MCP on standard input and output, by a running daemon if there is one, else by one of its own."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import trio
from mcp.server import Server
from mcp.shared.exceptions import MCPError

from mcp_server import stdio
from mcp_server.bridge import open_bridge
from mcp_server.server import open_server
from mcp_server.visit import Visit
from supervisor import __version__
from supervisor.callers import anonymous_credentials, rate_limiter
from supervisor.commands.running_daemon import client_context
from supervisor.core import Prepared
from supervisor.doors import mcp_door
from supervisor.errors import ConfigurationError, GaolerError
from supervisor.execution.values import Principal
from supervisor.front import own_front
from supervisor.jailer import kernel
from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.logs.opened import configure_logging
from supervisor.own_core import open_core
from supervisor.preparation.prepare import KEY_FILE, prepare
from supervisor.settings.tree import Settings, on_this_host_alone, quieter

log: Final = logging.getLogger("gaoler.mcp.stdio")

LOOK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says: ``url`` of a daemon (``None``: look for one), ``user`` to speak for."""

    url: str | None
    user: str | None
    embedded: bool


def run(settings: Settings, wish: Wish) -> None:
    """Serve until standard input ends.

    Raises:
        GaolerError: there is no daemon to be had, and none can be started here.
    """
    with stdio.claimed() as (read_fd, write_fd):
        url = None if wish.embedded else wish.url or _running_daemon(settings)
        if url is not None:
            _run_bridge(settings, wish, url, read_fd, write_fd)
        else:
            _run_embedded(settings, wish, read_fd, write_fd)


def _running_daemon(settings: Settings) -> str | None:
    """Look whether somebody answers where the settings say that a daemon listens."""
    if settings.bind.startswith("unix:"):
        return None
    if settings.tls.certificate:
        # It is in the name of a host, which is not where it listens.
        return settings.http.public_url or None
    host, _, port = settings.bind.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=LOOK_SECONDS)
    try:
        connection.request("GET", "/v1/health")
        answer = connection.getresponse()
        found = msgspec.json.decode(answer.read(65_536), type=dict[str, Any])
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    finally:
        connection.close()
    return f"http://{host}:{port}" if "languages" in found else None


def _run_bridge(settings: Settings, wish: Wish, url: str, read_fd: int, write_fd: int) -> None:
    headers = {"X-User-Id": wish.user} if wish.user else {}
    key = settings.api_key or _kept_key(settings)
    if key:
        headers["X-API-Key"] = key
    # Without a certificate to show, the client's own defaults hold.
    tls = client_context(settings) if settings.tls.client_certificate else None
    path = urlsplit(url).path
    endpoint = url if path not in ("", "/") else f"{url.rstrip('/')}/mcp"

    async def main() -> None:
        async with open_bridge(endpoint, headers, __version__, tls) as server:
            await _serve(server, read_fd, write_fd)

    failure = None
    try:
        trio.run(main)
    except* (MCPError, OSError) as group:
        failure = _reason(group)
    if failure is not None:
        raise GaolerError(f"{failure}; --url says where the daemon is, GAOLER_API_KEY its key")


def _kept_key(settings: Settings) -> str:
    """Read the key that a daemon of this host keeps, if we may."""
    try:
        return (settings.state_path / KEY_FILE).read_text().strip()
    except OSError:
        return ""


def _run_embedded(settings: Settings, wish: Wish, read_fd: int, write_fd: int) -> None:
    """A daemon of our own that listens nowhere. Its sessions end with it."""
    if os.geteuid() != 0:
        raise ConfigurationError(
            f"no daemon answers at {settings.bind}, and starting sandboxes here needs root: "
            "start the daemon, or name it with --url"
        )
    state = Path(tempfile.mkdtemp(prefix="gaoler-mcp-"))
    state.chmod(0o755)
    settings = on_this_host_alone(settings)
    settings = msgspec.structs.replace(settings, state_dir=str(state), image_dir=str(settings.image_path))
    try:
        # In a child: it becomes an ordinary user, and somebody has to clean up as root.
        pid = os.fork()
        if pid == 0:
            _child(settings, wish, read_fd, write_fd)
        os.close(read_fd)
        os.close(write_fd)
        _wait(pid)
    finally:
        remove_subtree(state)
        shutil.rmtree(state)


def _wait(pid: int) -> None:
    """Wait for the child; whoever ends us ends it."""

    def pass_on(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    os.waitpid(pid, 0)


def _child(settings: Settings, wish: Wish, read_fd: int, write_fd: int) -> None:
    """Never returns."""
    status = 1
    try:
        configure_logging("WARNING")
        prepared = prepare(quieter(settings))
        try:
            trio.run(_embedded, prepared, wish, read_fd, write_fd)
            status = 0
        finally:
            os.close(prepared.jailer.control_fd)
            os.waitpid(prepared.jailer.keeper_pid, 0)
    except (GaolerError, OSError) as error:
        log.error("%s", error)
    except BaseExceptionGroup as group:
        log.error("%s", _reason(group))
    finally:
        os._exit(status)


async def _embedded(prepared: Prepared, wish: Wish, read_fd: int, write_fd: int) -> None:
    me = Visit(Principal("default", "stdio", wish.user or "stdio"), "stdio", None)
    async with open_core(prepared) as core:
        front = own_front(prepared, core, rate_limiter(prepared.settings))
        door = mcp_door(front, anonymous_credentials(), front.rates)
        async with open_server(door, me) as (server, note_change):
            core.files.on_changed = note_change
            kernel.install_seccomp(prepared.own_filter, all_threads=True)
            await _serve(server, read_fd, write_fd)


async def _serve(server: Server[Any], read_fd: int, write_fd: int) -> None:
    """Serve until the input ends, or somebody ends us."""
    async with trio.open_nursery() as nursery:

        async def stop_at_signal() -> None:
            numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            # As of the daemon's own: embedded, it may not signal itself.
            with suppress(PermissionError), trio.open_signal_receiver(*numbers) as signals:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

        nursery.start_soon(stop_at_signal)
        await stdio.serve(server, read_fd, write_fd)
        nursery.cancel_scope.cancel()


def _reason(group: BaseExceptionGroup[BaseException]) -> str:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return str(found)
