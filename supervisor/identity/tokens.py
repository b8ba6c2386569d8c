"""LibreChat's tokens: JWTs of its server, one for some seconds of one user's requests.

What is checked, in this order: size, header (one algorithm for each key, a known ``kid``, nothing that points to keys
elsewhere), signature, times, issuer, audience, the claims that we use, the hash over the identity, and that the token
is not used again. Keys are read once, at start.

LibreChat keeps a minted token for up to 30 seconds and uses it for every request of that time (its
``CODEAPI_JWT_MINT_CACHE_SECONDS``), so the same token is let in again for so long after its first use; the same ``jti``
in another token never is.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError, Unauthenticated
from supervisor.identity.keys import TenantName

MAX_TOKEN_CHARACTERS: Final = 8192
MIN_RSA_BITS: Final = 2048
MAX_REMEMBERED: Final = 200_000
"""Tokens whose use is remembered; 300 seconds of 600 new ones a second."""

_HASHED: Final = ("chc_user_id", "org_id", "principal_source", "role", "service_id", "sub", "tenant_id")
_HEADER_FIELDS: Final = frozenset({"alg", "typ", "kid"})
_KeyId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]


class _Header(Struct, frozen=True):
    alg: str
    kid: _KeyId
    typ: str = "JWT"


class _Claims(Struct, frozen=True):
    """What has to be there, and its form; claims that are not named here are of no concern."""

    iss: Annotated[str, Meta(max_length=256)]
    sub: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:@+-]{1,128}$")]
    tenant_id: TenantName
    iat: float
    exp: float
    jti: Annotated[str, Meta(min_length=8, max_length=128)]
    role: Annotated[str, Meta(max_length=64)]
    principal_source: Annotated[str, Meta(max_length=64)]
    auth_context_hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    chc_user_id: Annotated[str, Meta(max_length=256)] | None = None
    org_id: Annotated[str, Meta(max_length=256)] | None = None
    service_id: Annotated[str, Meta(max_length=256)] | None = None


PublicKey = Ed25519PublicKey | RSAPublicKey


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token has to keep to. Times in seconds."""

    issuer: str = "librechat"
    audience: str = "codeapi"
    lifetime_seconds: float = 300.0
    leeway_seconds: float = 30.0
    reuse_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class TokenIdentity:
    """Whom a token stands for."""

    tenant: str
    user: str


class TokenVerifier:
    """Checks tokens against fixed keys. ``clock``: seconds since the epoch."""

    def __init__(self, keys: Mapping[str, PublicKey], rules: TokenRules, *, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._rules = rules
        self._clock = clock
        self._used = _UsedTokens()

    def renew(self, keys: Mapping[str, PublicKey]) -> None:
        """Check against other keys from now on; which tokens were used is not forgotten."""
        self._keys = keys

    def verify(self, token: str) -> TokenIdentity:
        """Check a token.

        Raises:
            Unauthenticated: it does not hold; the message says why, and nothing of the token.
        """
        key, algorithm = self._key(token)
        rules = self._rules
        now = self._clock()
        try:
            payload = jwt.decode_complete(
                token,
                key=key,
                algorithms=[algorithm],
                audience=rules.audience,
                issuer=rules.issuer,
                # Times are checked below, against the clock that was given.
                options={
                    "require": ["iss", "aud", "sub", "iat", "exp", "jti"],
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_exp": False,
                },
            )["payload"]
            claims = msgspec.convert(payload, _Claims)
        except jwt.PyJWTError as error:
            raise _refused(_reason(error)) from None
        except msgspec.ValidationError as error:
            raise _refused(str(error).replace("Object", "the token")) from None
        self._check_times(payload, claims, now)
        if not hmac.compare_digest(auth_context_hash(payload), claims.auth_context_hash):
            raise _refused("auth_context_hash is not that of the claims")
        self._used.use(claims.jti, token, claims.exp + rules.leeway_seconds, now, rules.reuse_seconds)
        return TokenIdentity(claims.tenant_id, claims.sub)

    def _key(self, token: str) -> tuple[PublicKey, str]:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise _refused(f"it has more than {MAX_TOKEN_CHARACTERS} characters")
        try:
            raw = jwt.get_unverified_header(token)
            header = msgspec.convert(raw, _Header)
        except (jwt.PyJWTError, msgspec.ValidationError):
            raise _refused("its header has no usable alg and kid") from None
        if unknown := sorted(set(raw) - _HEADER_FIELDS):
            raise _refused(f"its header has {', '.join(unknown)[:100]!a}, which is never used")
        key = self._keys.get(header.kid)
        if key is None:
            raise _refused("its kid is unknown here")
        algorithm = "EdDSA" if isinstance(key, Ed25519PublicKey) else "RS256"
        if header.alg != algorithm:
            raise _refused(f"the key of its kid is for {algorithm}")
        return key, algorithm

    def _check_times(self, payload: Mapping[str, Any], claims: _Claims, now: float) -> None:
        rules = self._rules
        not_before = payload.get("nbf", claims.iat)
        if not isinstance(not_before, int | float) or isinstance(not_before, bool):
            raise _refused("nbf is not a time")
        # Written so that a NaN is refused by each.
        if not now - rules.leeway_seconds < claims.exp:
            raise _refused("it has expired")
        if not max(claims.iat, not_before) <= now + rules.leeway_seconds:
            raise _refused("it is not valid yet")
        if not 0 < claims.exp - claims.iat <= rules.lifetime_seconds:
            raise _refused(f"it is valid for more than {rules.lifetime_seconds:g} s, or for none")


@dataclass(slots=True)
class _UsedTokens:
    """First use of every token that has not expired yet."""

    first: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    expiry: list[tuple[float, str]] = field(default_factory=list)

    def use(self, jti: str, token: str, until: float, now: float, reuse_seconds: float) -> None:
        while self.expiry and self.expiry[0][0] <= now:
            del self.first[heapq.heappop(self.expiry)[1]]
        digest = hashlib.sha256(token.encode()).digest()
        seen = self.first.get(jti)
        if seen is None:
            if len(self.first) >= MAX_REMEMBERED:
                raise _refused("too many tokens are in use")
            self.first[jti] = (now, digest)
            heapq.heappush(self.expiry, (until, jti))
        elif seen[1] != digest or now - seen[0] > reuse_seconds:
            raise _refused("it has been used before")


def auth_context_hash(claims: Mapping[str, Any]) -> str:
    """Hash the identity as LibreChat does: SHA-256 over compact JSON with sorted keys; what is absent is empty."""
    values = {name: claims.get(name) or "" for name in _HASHED}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _refused(reason: str) -> Unauthenticated:
    return Unauthenticated(f"the token does not hold: {reason}")


def _reason(error: jwt.PyJWTError) -> str:
    match error:
        case jwt.InvalidAudienceError():
            return "it is for another audience"
        case jwt.InvalidIssuerError():
            return "it is of another issuer"
        case jwt.MissingRequiredClaimError():
            return f"it has no {error.claim}"
        case jwt.InvalidSignatureError():
            return "its signature is wrong"
        case _:
            return "it cannot be read"


# -- keys --


def load_public_keys(*, pem: Path | None, kid: str, directory: Path | None, jwks: Path | None) -> dict[str, PublicKey]:
    """Read the keys of all sources that are set: one PEM file, a directory of ``KID.pem``, a JWKS file.

    Raises:
        ConfigurationError: a file is missing or holds no usable public key, or two keys have one id.
    """
    found: dict[str, PublicKey] = {}

    def add(name: str, key: PublicKey, where: Path) -> None:
        if name in found:
            raise ConfigurationError(f"{where}: there are two keys with the id {name!r}", field="jwt")
        found[name] = key

    if pem is not None:
        add(kid, _from_pem(pem), pem)
    if directory is not None:
        files = sorted(directory.glob("*.pem")) if directory.is_dir() else []
        if not files:
            raise ConfigurationError(f"{directory}: there is no file KID.pem in it", field="jwt.public_keys_dir")
        for file in files:
            add(file.stem, _from_pem(file), file)
    if jwks is not None:
        for name, key in _from_jwks(jwks):
            add(name, key, jwks)
    return found


def _from_pem(path: Path) -> PublicKey:
    try:
        return _usable(load_pem_public_key(path.read_bytes()), path)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path}: not a public key in PEM form: {error}", field="jwt.public_key") from None


def _from_jwks(path: Path) -> list[tuple[str, PublicKey]]:
    try:
        keys = jwt.PyJWKSet.from_json(path.read_text(encoding="utf-8")).keys
    except (OSError, ValueError, AttributeError, jwt.PyJWTError) as error:
        raise ConfigurationError(f"{path}: not a key set: {error}", field="jwt.jwks") from None
    if any(key.key_id is None for key in keys):
        raise ConfigurationError(f"{path}: a key has no kid", field="jwt.jwks")
    return [(str(key.key_id), _usable(key.key, path)) for key in keys]


def _usable(key: object, path: Path) -> PublicKey:
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return key
    raise ConfigurationError(
        f"{path}: a public Ed25519 key, or an RSA one of {MIN_RSA_BITS} bits or more, is needed", field="jwt"
    )
