"""Root's side of a reload: read and check everything, see what cannot change, tell the daemon."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import signal
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.errors import ConfigurationError
from supervisor.identity.keys import digest_of
from supervisor.identity.oauth import load_oauth_keys
from supervisor.policy import PACKAGED_POLICIES
from supervisor.preparation.own_files import read_or_make_key
from supervisor.preparation.prepare import KEY_FILE, read_token_keys
from supervisor.service.reload import Told, as_text, leave_file, told_file
from supervisor.settings.loading import Loaded
from supervisor.settings.tree import Settings

RENEWED: Final = frozenset({"api_key"})
POLICIES: Final = "policies"
"""Among the settings' names: the files of policies, but for the rules of the network, which are followed."""


class Started(Struct, frozen=True, forbid_unknown_fields=True):
    """With what a process has started. Values are hashed with a key: the file is root's, and no list of secrets."""

    salt: str
    values: dict[str, str]
    given: list[str]
    """Settings that came by a flag or a credential: who asks for a reload may not see these, and then says nothing."""


def _file(settings: Settings) -> Path:
    return settings.state_path / f"started-{settings.fleet.role}.json"


def _digests(loaded: Loaded, salt: str) -> dict[str, str]:
    given = _given(loaded)
    values = {key: repr(value).encode() for key, value in loaded.values.items() if key not in given}
    values[POLICIES] = _of_policies(loaded.settings)
    return {key: hmac.digest(salt.encode(), value, hashlib.sha256).hex() for key, value in values.items()}


def _given(loaded: Loaded) -> list[str]:
    return sorted(key for key, origin in loaded.origins.items() if origin in ("flag", "credential"))


def _of_policies(settings: Settings) -> bytes:
    base = Path(settings.jailer.policy_dir) if settings.jailer.policy_dir else PACKAGED_POLICIES
    found = hashlib.sha256()
    for path in sorted(base.rglob("*")):
        if path.is_file() and path.relative_to(base).parts[0] not in ("egress", "__pycache__"):
            found.update(f"{path.relative_to(base)}\0".encode() + path.read_bytes())
    return found.digest()


def note_start(loaded: Loaded) -> None:
    """Write down with what this process starts, for root alone; who is not root has nothing to compare later.

    Raises:
        ConfigurationError: the state directory cannot be written.
    """
    if os.geteuid() != 0:
        return
    salt = secrets.token_hex(16)
    path = _file(loaded.settings)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(Started(salt, _digests(loaded, salt), _given(loaded))))
    except OSError as error:
        raise ConfigurationError(f"state_dir: {error}", field="state_dir") from None


def _started(loaded: Loaded) -> Started:
    """Read with what the process has started.

    Raises:
        ConfigurationError: no process was started with this state directory.
    """
    try:
        return msgspec.json.decode(_file(loaded.settings).read_bytes(), type=Started)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(
            f"no daemon of role {loaded.settings.fleet.role} was started with {loaded.settings.state_dir}: {error}",
            field="state_dir",
        ) from None


def changed_since_start(loaded: Loaded, started: Started) -> list[str]:
    """Name what is other than at the start and needs a restart; flags and credentials are not compared."""
    now = _digests(loaded, started.salt)
    return sorted(key for key, value in started.values.items() if key not in RENEWED and now.get(key, value) != value)


def _key_digest(loaded: Loaded, started: Started) -> str:
    """Give the hash of the API key; nothing where it was given at the start and is not seen now: then it stays."""
    if "api_key" in started.given and loaded.origins["api_key"] not in ("flag", "credential"):
        return ""
    return digest_of(read_or_make_key(loaded.settings, loaded.settings.state_path / KEY_FILE)[0])


def request_reload(loaded: Loaded, pid: int) -> list[str]:
    """Read everything as root, leave it for the daemon and signal it; give what holds only after a restart.

    Raises:
        ConfigurationError: something is wrong; the daemon was told nothing, and nothing has changed.
    """
    settings = loaded.settings
    started = _started(loaded)
    restart = changed_since_start(loaded, started)
    oauth = load_oauth_keys(Path(settings.mcp.oauth_jwks)) if settings.mcp.authorization_server else {}
    told = Told(_key_digest(loaded, started), as_text(read_token_keys(settings)), as_text(oauth), restart)
    path = told_file(settings.state_path / "data", settings.fleet.role)
    leave_file(path, msgspec.json.encode(told), settings.jailer.daemon_uid)
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise ConfigurationError(f"process {pid} cannot be told: {error.strerror}", field="pid") from None
    return restart
