"""A daemon of our own, where none runs: on one unix socket, with a state directory that goes with it. Needs root."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import trio

from supervisor.commands.api_client import Api, Place
from supervisor.errors import ConfigurationError, GaolerError
from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.logs.opened import configure_logging
from supervisor.roles import prepare_role
from supervisor.service.given import Service
from supervisor.settings.doors import McpSettings, TlsSettings
from supervisor.settings.operation import RatesSettings
from supervisor.settings.tree import Settings, on_this_host_alone, quieter

DOOR: Final = "door"
_OFF: Final = RatesSettings(exec="off", upload="off", download="off", listing="off")


@contextmanager
def open_own_daemon(settings: Settings) -> Iterator[Api]:
    """Give a client of a daemon that lives for the block; everything of it is gone afterwards.

    The socket listens before the daemon does, so whoever asks early waits in its queue.

    Raises:
        ConfigurationError: we are not root.
    """
    if os.geteuid() != 0:
        raise ConfigurationError(
            f"no daemon answers at {settings.bind}, and starting sandboxes here needs root: "
            "start the daemon, or name it with --url"
        )
    state = Path(tempfile.mkdtemp(prefix="gaoler-shell-"))
    state.chmod(0o755)
    pid = 0
    try:
        door = state / DOOR
        key = f"gk-{secrets.token_hex(24)}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(door))
            door.chmod(0o600)
            listener.listen()
            read_end, write_end = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(write_end)
                _child(_adapted(settings, state, key), listener, read_end)
        os.close(read_end)
        try:
            yield Api(Place("the daemon of this shell, which has ended", path=str(door)), {"X-API-Key": key})
        finally:
            os.close(write_end)
    finally:
        if pid:
            os.waitpid(pid, 0)
        remove_subtree(state)
        shutil.rmtree(state)


def _adapted(settings: Settings, state: Path, key: str) -> Settings:
    """Give the settings of a daemon that is there for one person and keeps nothing."""
    return msgspec.structs.replace(
        on_this_host_alone(quieter(settings)),
        image_dir=str(settings.image_path),
        state_dir=str(state),
        bind=f"unix:{state / DOOR}",
        api_key=key,
        api_keys="",
        tls=TlsSettings(),
        mcp=McpSettings(enabled=False),
        rates=_OFF,
    )


def _child(settings: Settings, listener: socket.socket, parent_fd: int) -> NoReturn:
    """Serve until the parent goes, however it goes."""
    try:
        # Ctrl-C at the terminal is for what runs in the session, not for the daemon.
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        configure_logging("WARNING")
        ready = prepare_role(settings, Service(sockets=(listener,)))

        async def main() -> None:
            async with trio.open_nursery() as nursery:

                async def watch_parent() -> None:
                    await trio.lowlevel.wait_readable(parent_fd)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch_parent)
                await ready.serve()
                nursery.cancel_scope.cancel()

        trio.run(main)
    except (GaolerError, OSError, BaseExceptionGroup) as error:
        found: BaseException = error
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        sys.stderr.write(f"gaoler: {found}\n")
    finally:
        sys.stderr.flush()
        os._exit(0)
