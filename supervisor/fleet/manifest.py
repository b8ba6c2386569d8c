"""What a gateway asks of a worker, signed: who asks, for whom, under which limits, for which body, until when.

A worker believes nothing else that it finds in the queue: whoever can write to Redis cannot make it run anything.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from supervisor.errors import ConfigurationError, GaolerError

VERSION: Final = 1
LARGEST_BYTES: Final = 1 << 18
LONGEST_SECONDS: Final = 3600.0
FUTURE_SECONDS: Final = 30.0
_PURPOSE: Final = b"gaoler manifest 1\n"
"""Stands before what is signed, so that a signature made for anything else is none here."""


class Untrusted(GaolerError):
    """A job that no gateway of ours asked for in this form, or not now; ``message`` says what is wrong with it."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Times are seconds since the epoch by Redis' clock."""

    version: int
    kid: str
    job: str
    gateway: str
    kind: str
    tenant: str
    credential: str
    user: str | None
    policy: str
    tier: str
    session: str | None
    inputs: tuple[str, ...]
    """Ids of the files that it may read."""
    wall_seconds: float | None
    issued_at: float
    expires_at: float
    body_sha256: str


class Signer:
    """A gateway's private key, and the id under which workers know the public one.

    Raises:
        ConfigurationError: it is not an Ed25519 private key in PEM.
    """

    def __init__(self, kid: str, private_pem: bytes) -> None:
        try:
            key = serialization.load_pem_private_key(private_pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigurationError("fleet.signing_key is not a key in PEM", field="fleet.signing_key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError("fleet.signing_key is not an Ed25519 key", field="fleet.signing_key")
        self.kid = kid
        self._key = key

    def sign(self, manifest: Manifest) -> bytes:
        """Give the manifest with our signature. Its ``kid`` has to be ours."""
        if manifest.kid != self.kid:
            raise ValueError(f"signed with {self.kid}, but it says {manifest.kid}")
        payload = msgspec.msgpack.encode(manifest)
        return msgspec.msgpack.encode((payload, self._key.sign(_PURPOSE + payload)))


class Verifier:
    """The public keys of the gateways that are obeyed: id to PEM.

    Raises:
        ConfigurationError: one of them is not an Ed25519 public key in PEM.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = {kid: _public_key(kid, pem) for kid, pem in keys.items()}

    def verify(self, signed: bytes, body: bytes, now: float) -> Manifest:
        """Give the manifest if a gateway of ours signed it for this body and this time, ``now`` by Redis' clock.

        That it is used once is the ledger's doing: see :meth:`supervisor.fleet.delivery.Deliveries.begin`.

        Raises:
            Untrusted: anything is wrong with it.
        """
        if len(signed) > LARGEST_BYTES:
            raise Untrusted("the manifest is too large")
        manifest, payload, signature = _decode(signed)
        key = self._keys.get(manifest.kid)
        if key is None:
            raise Untrusted("the manifest is signed with an unknown key")
        try:
            key.verify(signature, _PURPOSE + payload)
        except InvalidSignature:
            raise Untrusted("the manifest's signature does not hold") from None
        if manifest.version != VERSION:
            raise Untrusted("the manifest has another version")
        if not hmac.compare_digest(manifest.body_sha256, hashlib.sha256(body).hexdigest()):
            raise Untrusted("the body is not the one that was signed")
        if manifest.issued_at > now + FUTURE_SECONDS:
            raise Untrusted("the manifest comes from the future")
        # Written so that a time that is no number fails.
        if not 0 < manifest.expires_at - manifest.issued_at <= LONGEST_SECONDS:
            raise Untrusted("the manifest would hold for too long")
        if not now < manifest.expires_at:
            raise Untrusted("the manifest has expired")
        return manifest


def body_digest(body: bytes) -> str:
    """Give what ``body_sha256`` has to be."""
    return hashlib.sha256(body).hexdigest()


def new_key() -> tuple[bytes, bytes]:
    """Make a key: the private half and the public half, in PEM."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


def _decode(signed: bytes) -> tuple[Manifest, bytes, bytes]:
    try:
        payload, signature = msgspec.msgpack.decode(signed, type=tuple[bytes, bytes])
        manifest = msgspec.msgpack.decode(payload, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Untrusted("the manifest cannot be read") from None
    # One form only: what is the same manifest is the same bytes, and nothing rides along with it.
    if msgspec.msgpack.encode(manifest) != payload or msgspec.msgpack.encode((payload, signature)) != signed:
        raise Untrusted("the manifest is not in its one form")
    if not manifest.body_sha256.isascii():
        raise Untrusted("the manifest cannot be read")
    return manifest, payload, signature


def _public_key(kid: str, pem: bytes) -> Ed25519PublicKey:
    field = "fleet.trusted_keys"
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{field}: {kid}.pem is not a public key in PEM", field=field) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"{field}: {kid}.pem is not an Ed25519 key", field=field)
    return key
