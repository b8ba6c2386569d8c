"""What ``gaoler serve`` does in each role: preparing as root, and what is served then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from supervisor.preparation.memory import give_big_blocks_back
from supervisor.service.given import Service
from supervisor.settings.tree import Settings


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything that needs rights has been done. ``serve`` is to be run by Trio."""

    api_key: str
    serve: Callable[[], Awaitable[None]]
    admin_key: str = ""
    """The master key; empty: there is none."""


def prepare_role(settings: Settings, service: Service) -> Ready:
    """Do what needs rights, and give them up. ``service``: what was given to us; its sockets instead of the bind.

    Raises:
        ConfigurationError: something is wrong or missing; nothing is left running.
        GaolerError: somebody else listens on the bind.
    """
    give_big_blocks_back()
    settings, binds = service.settings(settings), not service.sockets
    # Each role imports what it needs: a worker's imports take half a second that nobody else should wait.
    if settings.fleet.role == "gateway":
        from supervisor.fleet.gateway_role import serve_gateway
        from supervisor.preparation.gateway import prepare_gateway

        gateway = prepare_gateway(settings, listening=binds)
        return Ready(gateway.api_key, partial(serve_gateway, gateway, service), gateway.admin_key)
    from supervisor.preparation.prepare import prepare

    if settings.fleet.role == "worker":
        from supervisor.fleet.worker_role import serve_worker

        prepared = prepare(settings, listening=binds)
        return Ready(prepared.api_key, partial(serve_worker, prepared, service), prepared.admin_key)
    from supervisor import daemon

    if settings.uses_redis:
        # Before the view closes and the filter is on.
        import supervisor.fleet.membership
        import supervisor.shared_stores  # noqa: F401

    prepared = prepare(settings, listening=binds)
    return Ready(prepared.api_key, partial(daemon.serve, prepared, service), prepared.admin_key)
