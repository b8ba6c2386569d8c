"""Certificates for hosts whose TLS a rule has the proxy look into, signed by a key that only such sandboxes trust."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from collections import OrderedDict
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LEAF_DAYS: Final = 30
KEPT: Final = 256
"""Hosts whose certificate is kept; the longest unused goes."""


class Authority:
    """Signs for any name. ``certificate`` and ``key`` are PEM."""

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate = x509.load_pem_x509_certificate(certificate.encode())
        loaded = serialization.load_pem_private_key(key.encode(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded
        # One key for all leaves: they live in this process and nowhere else.
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    def context(self, name: str) -> ssl.SSLContext:
        """Give what serves TLS under a canonical name, in HTTP/1.1 only."""
        found = self._contexts.pop(name, None) or self._make(name)
        self._contexts[name] = found
        while len(self._contexts) > KEPT:
            self._contexts.popitem(last=False)
        return found

    def _make(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        leaf = self._sign(name).public_bytes(serialization.Encoding.PEM)
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # The library reads certificates from files only; this one never has a name.
        fd = os.memfd_create("leaf", os.MFD_CLOEXEC)
        try:
            os.write(fd, key + leaf)
            context.load_cert_chain(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        return context

    def _sign(self, name: str) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        end = min(now + dt.timedelta(days=LEAF_DAYS), self._certificate.not_valid_after_utc)
        # A common name has at most 64 characters; who checks looks at the alternative name.
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(self._leaf_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def client_context(trusted: str) -> ssl.SSLContext:
    """Give what checks the servers behind intercepted connections, by these authorities (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if trusted:
        context.load_verify_locations(cadata=trusted)
    return context
