"""What Redis, S3 and a fleet need at start: certificates and keys, read while their files can be; and the connector."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from msgspec.structs import replace

from supervisor.connector.client import Connector
from supervisor.connector.named_places import named_places
from supervisor.connector.start import ConnectorPlan, View, start_connector
from supervisor.errors import ConfigurationError
from supervisor.network.authority import HOST_AUTHORITIES
from supervisor.settings.tree import Settings

log: Final = logging.getLogger("gaoler.prepare")

OF_VIEW: Final = Path("/tmp")
"""Of the daemon's own view, in memory."""
_MAX_FILE_BYTES: Final = 4 << 20
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FILES: Final = {
    "redis": ("ca", "certificate", "certificate_key"),
    "s3": ("ca",),
    "tracing": ("ca",),
}


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    """What stood in files that the daemon cannot see once it serves."""

    signing_key: tuple[str, bytes] | None = None
    trusted_keys: Mapping[str, bytes] = field(default_factory=dict)
    given: Mapping[tuple[str, str], bytes] = field(default_factory=dict)
    """Certificates, authorities and their keys, by table and name of the setting that named the file."""

    def shown(self, settings: Settings, directory: Path = OF_VIEW) -> Settings:
        """Write them into a directory that the daemon can read, as the daemon; give the settings that name these."""
        changed: dict[str, Any] = {}
        for table, names in _FILES.items():
            paths = {name: self._write(directory, table, name) for name in names if (table, name) in self.given}
            changed[table] = replace(getattr(settings, table), **paths)
        return replace(settings, **changed)

    def _write(self, directory: Path, table: str, name: str) -> str:
        path = directory / f"gaoler-{table}-{name}.pem"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(self.given[table, name])
        return str(path)


def read_remote_files(settings: Settings) -> RemoteFiles:
    """Read them all, perhaps as root: they may be readable to nobody else.

    Raises:
        ConfigurationError: one is missing or holds something else; ``field`` is the key that named it.
    """
    given: dict[tuple[str, str], bytes] = {}
    for table, names in _FILES.items():
        for name in names:
            path = getattr(getattr(settings, table), name)
            if path:
                given[table, name] = _read(Path(path), f"{table}.{name}")
    for table, encrypted in (
        ("redis", settings.redis.url.startswith("rediss")),
        ("s3", settings.s3.url.startswith("https:")),
        ("tracing", settings.tracing.url.startswith("https:")),
    ):
        if encrypted and (table, "ca") not in given and HOST_AUTHORITIES.exists():
            given[table, "ca"] = _read(HOST_AUTHORITIES, f"{table}.ca")
    return RemoteFiles(_signing_key(settings), _trusted_keys(settings), given)


def start_way_out(
    settings: Settings, program: bytes, readable: Sequence[Path], hosts: Sequence[Path], *, as_root: bool
) -> Connector | None:
    """Start the connector, if the settings name a Redis, an S3 or a receiver of spans. ``program``: its seccomp filter.

    ``readable``: where its code is; ``hosts``: directories in which the host says how names are found. Started by root
    it becomes the last uid of the subordinate range, which no sandbox has.

    Raises:
        ConfigurationError: a setting names no place, or it does not start.
    """
    allowed = named_places(settings.redis, settings.s3, settings.tracing.url)
    if not allowed.places:
        return None
    view = None
    if as_root:
        place = settings.state_path / "root"
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        sockets = {Path(path).parent for path in allowed.unix_paths}
        view = View(connector_uid(settings), place, [*readable, *sockets], hosts)
    return start_connector(ConnectorPlan(allowed, program, (sys.executable, "-I"), settings.log.level, view))


def connector_uid(settings: Settings) -> int:
    """Give the last uid of the subordinate range: the jailer's user namespace ends below it."""
    first, count = settings.subordinate_range
    return first + count - 1


def _signing_key(settings: Settings) -> tuple[str, bytes] | None:
    key = "fleet.signing_key"
    if not settings.fleet.signing_key:
        return None
    path = Path(settings.fleet.signing_key)
    content = _read(path, key)
    try:
        good = isinstance(load_pem_private_key(content, None), Ed25519PrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        good = False
    if not good:
        raise ConfigurationError(f"{path} holds no Ed25519 private key (PEM, without a password)", field=key)
    return _key_id(path, key), content


def _trusted_keys(settings: Settings) -> Mapping[str, bytes]:
    key = "fleet.trusted_keys"
    if not settings.fleet.trusted_keys:
        return {}
    directory = Path(settings.fleet.trusted_keys)
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".pem")
    except OSError as error:
        raise ConfigurationError(f"{key}: {error}", field=key) from None
    found: dict[str, bytes] = {}
    for path in paths:
        content = _read(path, key)
        try:
            good = isinstance(load_pem_public_key(content), Ed25519PublicKey)
        except (ValueError, UnsupportedAlgorithm):
            good = False
        if not good:
            raise ConfigurationError(f"{path} holds no Ed25519 public key (PEM)", field=key)
        found[_key_id(path, key)] = content
    if not found:
        raise ConfigurationError(f"{directory} holds no public key: there is no file KID.pem", field=key)
    return found


def _key_id(path: Path, key: str) -> str:
    if path.suffix != ".pem" or not _KEY_ID.fullmatch(path.stem):
        raise ConfigurationError(f"{path}: the file is called KID.pem, after the key's id", field=key)
    return path.stem


def _read(path: Path, key: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{key}: {error}", field=key) from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"{key}: {path} is too large", field=key)
    return content
