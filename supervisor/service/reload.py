"""Reading anew what may change while requests run: the rules of the network, and by what callers are known.

The daemon cannot read what only root may. So ``gaoler reload`` does, as root (the unit's ``ExecReload=``): it checks
everything, leaves what is not secret in the daemon's own directory, and sends SIGHUP. A file that is left is read once.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

import msgspec
import trio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from msgspec import Struct

from supervisor.errors import ConfigurationError, GaolerError
from supervisor.identity.credentials import Credentials
from supervisor.identity.keys import ApiKey
from supervisor.identity.oauth import OAuthKey
from supervisor.identity.tokens import PublicKey
from supervisor.service.given import Service

log: Final = logging.getLogger("gaoler.service")

MAX_FILE_BYTES: Final = 8 << 20


class Told(Struct, frozen=True, forbid_unknown_fields=True):
    """What root has read for the daemon. Keys are public ones, PEM by id; of the API key there is only the hash."""

    api_key_sha256: str
    """Empty: it stays as it is."""
    token_keys: dict[str, str]
    oauth_keys: dict[str, str]
    restart: list[str]
    """Settings that are other than at the start, and hold only after a restart."""


def told_file(data: Path, role: str) -> Path:
    """Give the file for the process of a role: a gateway and a worker may share a state directory."""
    return data / f"reload-{role}.json"


def as_text(keys: Mapping[str, PublicKey] | Mapping[str, OAuthKey]) -> dict[str, str]:
    """Write public keys down."""
    form = PublicFormat.SubjectPublicKeyInfo
    return {name: key.public_bytes(Encoding.PEM, form).decode("ascii") for name, key in keys.items()}


def _keys(told: Mapping[str, str]) -> dict[str, object]:
    return {name: load_pem_public_key(text.encode("ascii")) for name, text in told.items()}


def take_told(path: Path) -> Told | None:
    """Read what root has left, once; ``None``: nothing.

    Raises:
        ConfigurationError: it is not what :mod:`supervisor.service.reload_request` writes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES)
        path.unlink()
        return msgspec.json.decode(content, type=Told)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path}: {error}", field="reload") from None


def renew(credentials: Credentials | None, told: Told) -> None:
    """Know callers by what root has read, if there are doors; say what cannot change now."""
    for changed in told.restart:
        log.warning("changed, and holds only after a restart: %s", changed)
    if credentials is None:
        return
    # Root has checked what kinds of keys they are.
    tokens = cast("dict[str, PublicKey]", _keys(told.token_keys))
    oauth = cast("dict[str, OAuthKey]", _keys(told.oauth_keys))
    default = ApiKey("default", "default", told.api_key_sha256) if told.api_key_sha256 else None
    credentials.renew(default, tokens, oauth)


def forget(path: Path) -> None:
    """Remove what was left for an earlier process: it may be older than what was read at this start."""
    with suppress(OSError):
        path.unlink()


async def follow(service: Service, work: Callable[[], Awaitable[None]]) -> None:
    """Do ``work`` at every SIGHUP, until cancelled. One that fails changes nothing, and says so in the log."""
    # As in supervisor.serving.listening: a late one would be sent to ourselves again, which our own filter forbids.
    with suppress(PermissionError), trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            service.notifier.reloading()
            try:
                await work()
            except GaolerError as error:
                log.error("reload failed, what held before holds: %s", error)
                service.notifier.ready("the last reload failed; see the log")
            else:
                log.info("reloaded")
                service.notifier.ready("reloaded")


def leave_file(path: Path, content: bytes, owner: int) -> None:
    """Leave a file for the daemon, in its own directory, where a captured one might have put anything.

    Raises:
        ConfigurationError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner, owner)
        temporary.rename(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error}", field="reload") from None
