"""How a process listens and stops, whatever its role: the bind, its own filter, the signals."""

from __future__ import annotations

import logging
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, cast

import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from supervisor.jailer import kernel
from supervisor.service.given import Service
from supervisor.serving.handshake import Handshakes
from supervisor.serving.proxies import BehindProxies, TrustedProxies
from supervisor.serving.server import Patience
from supervisor.serving.server import serve as serve_http
from supervisor.serving.tls import Certificate
from supervisor.settings.tree import Settings

log: Final = logging.getLogger("gaoler.daemon")

STOP_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process listens, and what it may do from then on."""

    settings: Settings
    bound: socket.socket | None
    own_filter: bytes
    certificate: Certificate | None = None
    """What HTTPS is spoken with; ``None``: plain HTTP."""
    service: Service = field(default_factory=Service)


async def listen(
    app: ASGIFramework, place: Place, stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until ``stop`` is set; it is set when this ends. Started when the address is bound and the filter is on."""
    settings = place.settings
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
            config, http = _http_config(place), settings.http
            trusted = TrustedProxies.of(http.trusted_proxies, http.forwarded_header)
            seen = cast("ASGIFramework", BehindProxies(app, trusted, http.root_path))
            await serve_http(
                seen,
                config,
                _patience(settings),
                handshakes=_handshakes(place),
                shutdown_trigger=stop.wait,
                task_status=task_status,
            )
            stop.set()
            nursery.cancel_scope.cancel()

        bound = await nursery.start(serve)
        # Nothing listens or is started after this; threads that wait for work are bound by it too.
        kernel.install_seccomp(place.own_filter, all_threads=True)
        if place.certificate is not None:
            nursery.start_soon(place.certificate.watch)
        for address in bound:
            # On a line that programs can read too.
            log.info("listening on %s state_dir=%s", address, settings.state_dir)
        place.service.notifier.ready(f"listening on {', '.join(bound)}")
        task_status.started()


def _http_config(place: Place) -> Config:
    config = Config()
    given = [*place.service.sockets, *([] if place.bound is None else [place.bound])]
    config.bind = [f"fd://{each.detach()}" for each in given] or [place.settings.bind]
    config.include_server_header = False
    config.graceful_timeout = place.settings.execution.drain_seconds + STOP_SECONDS
    config.accesslog = None
    config.errorlog = logging.getLogger("gaoler.hypercorn")
    config.umask = 0o117
    return config


def _patience(settings: Settings) -> Patience:
    http = settings.http
    return Patience(
        connections=http.connections,
        connections_per_address=http.connections_per_address,
        header_seconds=http.header_seconds,
        body_seconds=http.body_seconds,
        send_seconds=http.send_seconds,
        idle_seconds=http.idle_seconds,
    )


def _handshakes(place: Place) -> Handshakes | None:
    tls = place.settings.tls
    return (
        None if place.certificate is None else Handshakes.of(place.certificate, tls.handshakes, tls.handshake_seconds)
    )


async def await_signal(stop: trio.Event, hurry: trio.Event | None = None) -> None:
    """Set ``stop`` at SIGTERM and SIGINT, until cancelled; ``hurry`` at the second one."""
    # One that comes at the very end would be sent to ourselves again, which our own filter forbids.
    with suppress(PermissionError), trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if hurry is not None and stop.is_set():
                hurry.set()
            stop.set()


async def stop_soon(scope: trio.CancelScope) -> None:
    """Have everything end, and not wait for it longer than some seconds."""
    log.info("stopping")
    scope.deadline = trio.current_time() + STOP_SECONDS
    scope.cancel()
