"""HTTPS: the server's certificate, which is read as root, seen by the daemon, and read again when its files change.

The directories in which the files lie are bound, read-only, into the daemon's view, so a renewed certificate is seen
there. At start the files are read by root; later by the daemon's uid, which has to be allowed to: a private key that
only root can read serves until the next start, and the log says so. Nothing of root's is kept to read it again.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio
from cryptography import x509

from supervisor.errors import ConfigurationError
from supervisor.settings.tree import Settings

log: Final = logging.getLogger("gaoler.tls")

LOOK_SECONDS: Final = 2.0
"""How often the files are looked at. What has changed is read when it has been the same for that long."""
MAX_FILE_BYTES: Final = 4 << 20
MAX_LINKS: Final = 40
_SHALLOWEST: Final = 3
"""Parts of a path: ``/``, a directory, one in it. All of ``/etc`` is no directory to show."""

Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What the settings name. ``client_authorities``: clients need a certificate of one of these, if it is set."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None
    protocols: tuple[str, ...] = ("http/1.1",)

    @property
    def paths(self) -> tuple[tuple[str, Path], ...]:
        """Give each file with the setting that names it."""
        named: list[tuple[str, Path | None]] = [
            ("tls.certificate", self.certificate),
            ("tls.key", self.key),
            ("tls.client_ca", self.client_authorities),
        ]
        return tuple((name, path) for name, path in named if path is not None)

    def read(self) -> ssl.SSLContext:
        """Make a context of what is in the files now.

        Raises:
            ConfigurationError: one is missing or holds something else, or key and certificate do not fit.
        """
        for name, path in self.paths:
            _check_file(name, path)
        # TLS 1.2 is the least, and the ciphers are those that Python keeps: with forward secrecy and authenticated.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(list(self.protocols))
        try:
            # A key with a password would have OpenSSL ask for it at the terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigurationError(
                f"tls.certificate and tls.key: {_reason(error)}: a chain and its private key in PEM, without password",
                field="tls.certificate",
            ) from None
        if self.client_authorities is not None:
            try:
                context.load_verify_locations(self.client_authorities)
            except (ssl.SSLError, OSError) as error:
                raise ConfigurationError(f"tls.client_ca: {_reason(error)}", field="tls.client_ca") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def stamp(self) -> Stamp:
        """Give what changes with the files."""
        return tuple(_stamp(path) for _, path in self.paths)

    def ends(self) -> str:
        """Say until when the certificate holds."""
        try:
            return x509.load_pem_x509_certificate(self.certificate.read_bytes()).not_valid_after_utc.isoformat()
        except (OSError, ValueError):
            return "unknown"


@dataclass(slots=True)
class Certificate:
    """The certificate in force. New connections take :attr:`context`; others keep what they began with."""

    files: TlsFiles
    context: ssl.SSLContext
    _read: Stamp
    """Of the files when they were last read, well or not."""
    _seen: Stamp
    _now: trio.Event = field(default_factory=trio.Event)

    @classmethod
    def open(cls, files: TlsFiles) -> Certificate:
        """Read the files for the first time.

        Raises:
            ConfigurationError: as :meth:`TlsFiles.read`.
        """
        stamp = files.stamp()
        return cls(files, files.read(), stamp, stamp)

    def read_again(self) -> None:
        """Have the files read at once, changed or not; :meth:`watch` does it."""
        self._now.set()

    async def watch(self) -> None:
        """Read the files when they change, until cancelled. Broken ones are told of, and the old go on."""
        log.info("certificate in force ends=%s", self.files.ends())
        while True:
            with trio.move_on_after(LOOK_SECONDS):
                await self._now.wait()
            forced, self._now = self._now.is_set(), trio.Event()
            stamp = await trio.to_thread.run_sync(self.files.stamp)
            # A certificate is replaced before its key or after it: between the two they do not fit.
            settled, self._seen = stamp == self._seen, stamp
            if forced or (settled and stamp != self._read):
                await self._take(stamp)

    async def _take(self, stamp: Stamp) -> None:
        self._read = stamp
        try:
            self.context = await trio.to_thread.run_sync(self.files.read)
        except ConfigurationError as error:
            log.error("the certificate was not read again, the old one goes on: %s", error.message)
        else:
            log.info("certificate read again ends=%s", self.files.ends())


def tls_files(settings: Settings) -> TlsFiles | None:
    """Give what the settings name; ``None``: plain HTTP is spoken."""
    tls = settings.tls
    if not tls.certificate:
        return None
    authorities = Path(tls.client_ca) if tls.client_ca else None
    protocols = ("h2", "http/1.1") if settings.http.http2 else ("http/1.1",)
    return TlsFiles(Path(tls.certificate), Path(tls.key), authorities, protocols)


def open_certificate(settings: Settings) -> Certificate | None:
    """Read the certificate at start, as root; ``None``: the settings name none.

    Raises:
        ConfigurationError: as :meth:`TlsFiles.read`.
    """
    files = tls_files(settings)
    return None if files is None else Certificate.open(files)


def shown_directories(settings: Settings) -> list[Path]:
    """Give the directories that the daemon has to see for reading the files again, those behind links too.

    Raises:
        ConfigurationError: one of them is too much to show.
    """
    files, found = tls_files(settings), set[Path]()
    for name, path in files.paths if files is not None else ():
        for each in hops(path):
            if len(each.parent.parts) < _SHALLOWEST:
                raise ConfigurationError(
                    f"{name}: {each} lies in {each.parent}, of which the daemon would see all: "
                    "put it into a directory of its own",
                    field=name,
                )
            found.add(each.parent)
    return sorted(each for each in found if each.is_dir())


def hops(path: Path) -> list[Path]:
    """Follow the links of a file one by one; Let's Encrypt's lead into another directory."""
    found = [Path(os.path.normpath(path))]
    while found[-1].is_symlink() and len(found) < MAX_LINKS:
        found.append(Path(os.path.normpath(found[-1].parent / found[-1].readlink())))
    return [*found, path.resolve()]


def _check_file(name: str, path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigurationError(f"{name}: {error}", field=name) from None
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
        raise ConfigurationError(f"{name}: {path} is no ordinary file of at most {MAX_FILE_BYTES} bytes", field=name)
    if not os.access(path, os.R_OK):
        raise ConfigurationError(
            f"{name}: {path} cannot be read by uid {os.getuid()}; let it read the file, or start Gaoler again",
            field=name,
        )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
