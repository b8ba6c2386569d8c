"""API keys: named, each of a tenant, kept as hashes in one small file that ``gaoler keys`` changes.

A key is 192 random bits, so a plain SHA-256 of it cannot be turned back and needs no salt. The daemon looks at the
file's stamp with every request: a key that is revoked does not hold for the next one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError
from supervisor.execution.values import Tier

KEY_PREFIX: Final = "gk-"
KEY_FILE: Final = "keys.json"
MASTER: Final = "admin_key"
"""Name of the master key, that of the setting."""
RESERVED: Final = (MASTER, "default", "anonymous", "token", "oauth")
"""Names by which other credentials are known."""
MAX_KEYS: Final = 10_000
MAX_FILE_BYTES: Final = 8 << 20
LOCK_ATTEMPTS: Final = 200
LOCK_SECONDS: Final = 0.05
KeyName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
TenantName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


RateRule = Annotated[str, Meta(pattern=r"^(off|[1-9][0-9]{0,6}/[1-9][0-9]{0,5})\Z")]


class KeyRates(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often a key may be used, by kind of call, as ``CALLS/SECONDS`` or ``off``; ``None``: as the settings say."""

    exec: RateRule | None = None
    upload: RateRule | None = None
    download: RateRule | None = None
    listing: RateRule | None = None


class ApiKey(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key as it is kept. ``created_at`` in seconds since the epoch."""

    name: KeyName
    tenant: TenantName
    sha256: Digest
    created_at: float = 0.0
    admin: bool = False
    """It may also change what the server allows."""
    tier: Tier = "nsjail"
    """Its executions have this one at least."""
    rates: KeyRates | None = None
    """Instead of those of the settings: for all who use it together, whomever they name."""


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    keys: Annotated[list[ApiKey], Meta(max_length=MAX_KEYS)]


def digest_of(secret: str) -> str:
    """Hash a key as it is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """All keys that hold now.

    ``fixed`` ones come from the settings, others from ``path``, which may be absent, and those of a fleet from
    ``shared``, which is asked each time.
    """

    def __init__(
        self, fixed: Iterable[ApiKey], path: Path | None, shared: Callable[[], Sequence[ApiKey]] = tuple
    ) -> None:
        self._shared = shared
        self._fixed = tuple(fixed)
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[ApiKey, ...] = self._fixed

    def renew(self, key: ApiKey) -> None:
        """Have another key of the settings from now on, instead of that of the same name."""
        self._fixed, self._stamp = (key, *(each for each in self._fixed if each.name != key.name)), None
        self._keys = self._fixed

    def find(self, secret: str) -> ApiKey | None:
        """Give the key that ``secret`` is. Every key is compared, in constant time.

        Raises:
            ConfigurationError: the file is broken; no key holds then.
        """
        self._refresh()
        digest = digest_of(secret)
        found = None
        for key in (*self._keys, *self._shared()):
            if hmac.compare_digest(digest, key.sha256):
                found = key
        return found

    def all(self) -> list[tuple[str, ApiKey]]:
        """Give all keys that hold, and where each comes from: ``settings``, ``file`` or ``fleet``.

        Raises:
            ConfigurationError: as :meth:`find`.
        """
        self._refresh()
        fixed = len(self._fixed)
        kept = [("settings" if number < fixed else "file", key) for number, key in enumerate(self._keys)]
        return [*kept, *(("fleet", key) for key in self._shared())]

    def rates_of(self, name: str) -> KeyRates | None:
        """Give the rates that a key has of its own; asked of a caller who has just shown it."""
        for key in (*self._keys, *self._shared()):
            if key.name == name:
                return key.rates
        return None

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._keys = None, self._fixed
            return
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            self._keys = (*self._fixed, *read_keys(self._path))
            self._stamp = stamp


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read the kept keys; without a file there are none.

    Raises:
        ConfigurationError: the file cannot be read, or is not what :func:`write_keys` writes.
    """
    try:
        return tuple(msgspec.json.decode(_read(path), type=_File).keys)
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path}: {error}", field="keys") from None


def _read(path: Path) -> bytes:
    """Read the file, perhaps as root: in the daemon's directory, where a captured one might have put anything.

    Raises:
        OSError: it is not there, or no file of our own size.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no ordinary file")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MAX_FILE_BYTES} bytes")
    return content


def write_keys(path: Path, keys: Sequence[ApiKey], owner: int) -> None:
    """Replace the kept keys, all at once; the file belongs to uid ``owner``, the daemon's, if we may give it away.

    Raises:
        ConfigurationError: it cannot be written.
    """
    temporary = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_File(list(keys)))) + b"\n")
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner, owner)
            file.flush()
            # A key that was revoked must not be there again after the power has failed.
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as error:
        raise ConfigurationError(f"the keys cannot be written: {error}", field="keys") from None


def with_new_key(
    keys: Sequence[ApiKey],
    name: str,
    tenant: str,
    *,
    admin: bool = False,
    tier: Tier = "nsjail",
    rates: KeyRates | None = None,
) -> tuple[list[ApiKey], str]:
    """Make a key; give all keys then, and the new one itself, which is shown once and kept as a hash.

    Raises:
        ConfigurationError: the name is taken, or name or tenant has a forbidden form.
    """
    if any(key.name == name for key in keys):
        raise ConfigurationError(f"there is a key named {name!r} already: revoke it first, or choose another name")
    if len(keys) >= MAX_KEYS:
        raise ConfigurationError(f"there are {MAX_KEYS} keys: revoke one first", field="keys")
    if name in RESERVED:
        raise ConfigurationError(f"{name!r} names another credential: choose another name", field="name")
    secret = KEY_PREFIX + secrets.token_hex(24)
    try:
        key = msgspec.convert(
            {
                "name": name,
                "tenant": tenant,
                "sha256": digest_of(secret),
                "created_at": time.time(),
                "admin": admin,
                "tier": tier,
                "rates": rates,
            },
            ApiKey,
        )
    except msgspec.ValidationError:
        raise ConfigurationError(
            "name and tenant are 1 to 64 characters of A-Z, a-z, 0-9 and _ . - and begin with a letter or digit"
        ) from None
    return [*keys, key], secret


def without_key(keys: Sequence[ApiKey], name: str) -> list[ApiKey]:
    """Give all keys but one.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if all(key.name != name for key in keys):
        known = ", ".join(key.name for key in keys) or "none"
        raise ConfigurationError(f"there is no key named {name!r}; there are: {known}")
    return [key for key in keys if key.name != name]


def change_key_file(path: Path, owner: int, work: Callable[[Sequence[ApiKey]], tuple[list[ApiKey], str]]) -> str:
    """Replace the kept keys by what ``work`` makes of them, and give its other result. One at a time does so.

    Raises:
        ConfigurationError: as :func:`read_keys` and :func:`write_keys`, or others change them all the time.
    """
    with _alone(path, owner):
        keys, result = work(read_keys(path))
        write_keys(path, keys, owner)
        return result


@contextmanager
def _alone(path: Path, owner: int) -> Iterator[None]:
    """Have nobody else change the file for the block. Not waited for for ever: a captured daemon may hold the lock."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(path.with_suffix(".lock"), flags, 0o600)
    except OSError as error:
        raise ConfigurationError(f"the keys cannot be written: {error}", field="keys") from None
    try:
        if os.geteuid() == 0 and os.fstat(fd).st_uid != owner:
            os.fchown(fd, owner, owner)
        for _ in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(LOCK_SECONDS)
        else:
            raise ConfigurationError("others change the keys: try again", field="keys")
        yield
    finally:
        os.close(fd)


def add_key(path: Path, name: str, tenant: str, owner: int, *, admin: bool = False, tier: Tier = "nsjail") -> str:
    """Make a key and keep it in the file, as :func:`with_new_key`."""
    return change_key_file(path, owner, lambda keys: with_new_key(keys, name, tenant, admin=admin, tier=tier))


def revoke_key(path: Path, name: str, owner: int) -> None:
    """Forget a key: the next request with it is refused. As :func:`without_key`."""
    change_key_file(path, owner, lambda keys: (without_key(keys, name), ""))


def encode_keys(keys: Sequence[ApiKey]) -> bytes:
    """Write keys down, as they are in the file."""
    return msgspec.json.encode(_File(list(keys)))


def decode_keys(written: bytes) -> tuple[ApiKey, ...]:
    """Read them.

    Raises:
        ConfigurationError: these are none.
    """
    try:
        return tuple(msgspec.json.decode(written, type=_File).keys)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"what is kept as keys is none: {error}", field="keys") from None
