"""Certificates for daemons of tests, in a directory as an operator would have it."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tests.daemon import Daemon
from tests.wire import connect

DAEMON_UID = 199_999


@dataclass
class Certificates:
    """A directory with a certificate, its key, and the authority of both server and clients."""

    directory: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    @property
    def certificate(self) -> Path:
        return self.directory / "server.pem"

    @property
    def key(self) -> Path:
        return self.directory / "server.key"

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    def settings(self, **more: str) -> dict[str, str]:
        found = {"CERTIFICATE": str(self.certificate), "KEY": str(self.key), **more}
        return {f"GAOLER_TLS_{name}": value for name, value in found.items()}

    def issue(self, owner: int = DAEMON_UID) -> int:
        """Put a new certificate in place; give its serial number. The key is readable to ``owner`` alone."""
        made = self.authority.issue_cert("localhost", "127.0.0.1")
        chain = b"".join(each.bytes() for each in made.cert_chain_pems)
        self._replace(self.key, made.private_key_pem.bytes(), 0o400, owner)
        self._replace(self.certificate, chain, 0o444, 0)
        self._replace(self.ca, self.authority.cert_pem.bytes(), 0o444, 0)
        return serial_of(ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode()))

    def _replace(self, path: Path, content: bytes, mode: int, owner: int) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.chmod(mode)
        os.chown(new, owner, owner)
        new.rename(path)

    def client(self, *, certificate: bool = False) -> ssl.SSLContext:
        """Give what a client has that trusts the authority; with a certificate of its own from there too."""
        context = ssl.create_default_context(cafile=self.ca)
        if certificate:
            self.authority.issue_cert("client@example.org").configure_cert(context)
        return context


def serial_of(der: bytes | None) -> int:
    from cryptography import x509

    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


@contextmanager
def certificates() -> Iterator[Certificates]:
    """A directory for the block; short paths, and readable to a daemon."""
    directory = Path(tempfile.mkdtemp(prefix="gt-tls-"))
    directory.chmod(0o755)
    try:
        made = Certificates(directory)
        made.issue()
        yield made
    finally:
        shutil.rmtree(directory)


def secure(daemon: Daemon, context: ssl.SSLContext, source: str = "127.0.0.1") -> ssl.SSLSocket:
    """Open a connection over TLS."""
    link: socket.socket = connect(daemon, source)
    try:
        return context.wrap_socket(link, server_hostname="localhost")
    except BaseException:
        link.close()
        raise
