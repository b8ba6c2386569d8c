"""The daemon's own certificate authority, for rules that look into TLS: made once, kept where only root reads.

Its certificate goes into the trust store of the sandboxes whose rules intercept, and nowhere else; its key goes to the
egress proxy, which signs for the hosts of those rules.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from supervisor.errors import ConfigurationError

AUTHORITY_FILE: Final = "egress_authority.pem"
HOST_AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_DAYS: Final = 820
_RENEW_DAYS: Final = 60
_END: Final = "-----END CERTIFICATE-----\n"


def read_or_make_authority(path: Path) -> tuple[str, str]:
    """Give certificate and key as PEM: those that are kept, or new ones if there are none, or they end soon.

    Raises:
        ConfigurationError: the file is something else, or cannot be written.
    """
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return _make(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    certificate, end, key = text.partition(_END)
    try:
        found = x509.load_pem_x509_certificate((certificate + end).encode())
        serialization.load_pem_private_key(key.encode(), None)
    except ValueError:
        raise ConfigurationError(f"{path} is no certificate with its key: remove it to have new ones") from None
    if found.not_valid_after_utc - dt.datetime.now(dt.UTC) < dt.timedelta(days=_RENEW_DAYS):
        return _make(path)
    return certificate + end, key


def _make(path: Path) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gaoler egress proxy, this host's sandboxes only")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    written = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    temporary = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(written + private)
        temporary.rename(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return written, private


def read_authorities(path: Path) -> str:
    """Give the authorities of a file, as PEM.

    Raises:
        ConfigurationError: it cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="ascii", errors="ignore")
    except OSError as error:
        raise ConfigurationError(f"the authorities cannot be read: {error}", field="egress.authorities") from None
    if _END.strip() not in text:
        raise ConfigurationError(f"{path} holds no certificate", field="egress.authorities")
    return text
