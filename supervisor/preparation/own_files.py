"""Secrets in files of our own: made at the first start, or given by the settings where a fleet shares them."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import Final

from supervisor.errors import ConfigurationError
from supervisor.settings.tree import Settings

SECRET_BYTES: Final = 32


def fleet_secret(settings: Settings) -> bytes | None:
    """Give the secret from which ids and links come, where daemons share it; ``None``: each has its own."""
    shared = settings.fleet.secret
    return hmac.digest(shared.encode(), b"gaoler ids", hashlib.sha256) if shared else None


def read_or_make_secret(path: Path) -> bytes:
    """Give :data:`SECRET_BYTES` random bytes that are kept in a file of the daemon's own.

    The file appears whole or not at all: ids derived from half a secret, or from none, could be guessed.

    Raises:
        ConfigurationError: the file holds something else.
    """
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        secret = os.urandom(SECRET_BYTES)
        _write_whole(path, secret)
    if len(secret) != SECRET_BYTES:
        raise ConfigurationError(f"{path} does not hold {SECRET_BYTES} bytes: remove it", field="state_dir")
    return secret


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    temporary.rename(path)


ADMIN_KEY_FILE: Final = "admin_key"
"""Of the state directory: the master key, if the settings have none."""


def read_or_make_admin_key(settings: Settings) -> str:
    """Give the master key: the one that is set, else the one kept in the state directory, made if there is none.

    Raises:
        ConfigurationError: the file holds no key.
    """
    if settings.admin_key:
        return settings.admin_key
    path = settings.state_path / ADMIN_KEY_FILE
    key, _made = _kept_or_made(path, "gak-")
    if len(key) < 16:
        raise ConfigurationError(f"{path} does not hold a key: remove it", field="admin_key")
    return key


def read_or_make_key(settings: Settings, path: Path) -> tuple[str, bool]:
    """Give the API key and whether it was made now: the one that is set, else the one kept in the state directory."""
    if settings.api_key:
        return settings.api_key, False
    return _kept_or_made(path, "gk-")


def _kept_or_made(path: Path, prefix: str) -> tuple[str, bool]:
    try:
        return path.read_text().strip(), False
    except FileNotFoundError:
        pass
    key = prefix + os.urandom(24).hex()
    _write_whole(path, f"{key}\n".encode())
    return key, True
