"""Access tokens of an OAuth authorization server: JWTs (RFC 9068) that were issued for this server.

Only checked here, never fetched for: the keys are a file, read once, at start. The audience has to be ours (RFC 8707),
so that a token that was given to another server is worth nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError, Unauthenticated

MAX_TOKEN_CHARACTERS: Final = 8192
MIN_RSA_BITS: Final = 2048
LEEWAY_SECONDS: Final = 30.0

OAuthKey = Ed25519PublicKey | RSAPublicKey | EllipticCurvePublicKey


class _Claims(Struct, frozen=True):
    sub: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:@+|-]{1,128}$")]
    exp: float
    nbf: float = 0.0


@dataclass(frozen=True, slots=True)
class OAuthRules:
    """Whose tokens, for whom, and to which tenant their users belong."""

    issuer: str
    audience: str
    tenant: str


class OAuthVerifier:
    """Checks access tokens. ``clock``: seconds since the epoch."""

    def __init__(self, keys: Mapping[str, OAuthKey], rules: OAuthRules, *, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock
        self.rules = rules

    def renew(self, keys: Mapping[str, OAuthKey]) -> None:
        """Check against other keys from now on."""
        self._keys = keys

    def is_for_us(self, token: str) -> bool:
        """Say whether a token claims to be of our issuer; nothing of it is believed for that."""
        try:
            claims = (
                jwt.decode(token, options={"verify_signature": False}) if len(token) <= MAX_TOKEN_CHARACTERS else {}
            )
        except jwt.PyJWTError:
            return False
        return claims.get("iss") == self.rules.issuer

    def verify(self, token: str) -> str:
        """Check a token; give its user.

        Raises:
            Unauthenticated: it does not hold; the message says why, and nothing of the token.
        """
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid", ""))
            if key is None:
                raise _refused("its kid is unknown here")
            payload: dict[str, Any] = jwt.decode(
                token,
                key=key,
                algorithms=[_algorithm(key)],
                audience=self.rules.audience,
                issuer=self.rules.issuer,
                # Times are checked below, against the clock that was given.
                options={
                    "require": ["iss", "aud", "sub", "exp"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            claims = msgspec.convert(payload, _Claims)
        except jwt.InvalidAudienceError:
            raise _refused("it is for another audience") from None
        except (jwt.PyJWTError, TypeError):
            raise _refused("it cannot be read, or its signature is wrong") from None
        except msgspec.ValidationError as error:
            raise _refused(str(error).replace("Object", "the token")) from None
        now = self._clock()
        # Written so that a NaN is refused by each.
        if not now - LEEWAY_SECONDS < claims.exp:
            raise _refused("it has expired")
        if not claims.nbf <= now + LEEWAY_SECONDS:
            raise _refused("it is not valid yet")
        return claims.sub


def _algorithm(key: OAuthKey) -> str:
    """Each kind of key has one algorithm: what a token says of it is never believed."""
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA"
    return "RS256" if isinstance(key, RSAPublicKey) else "ES256"


def _refused(reason: str) -> Unauthenticated:
    return Unauthenticated(f"the token does not hold: {reason}")


def load_oauth_keys(path: Path) -> dict[str, OAuthKey]:
    """Read a JSON Web Key Set.

    Raises:
        ConfigurationError: it is missing, is none, or a key in it cannot be used.
    """
    try:
        keys = jwt.PyJWKSet.from_json(path.read_text(encoding="utf-8")).keys
    except (OSError, ValueError, AttributeError, jwt.PyJWTError) as error:
        raise ConfigurationError(f"{path}: not a key set: {error}", field="mcp.oauth_jwks") from None
    found: dict[str, OAuthKey] = {}
    for each in keys:
        key = each.key
        usable = (
            isinstance(key, Ed25519PublicKey)
            or (isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS)
            or (isinstance(key, EllipticCurvePublicKey) and key.curve.name == "secp256r1")
        )
        if each.key_id is None or not usable:
            raise ConfigurationError(
                f"{path}: each key needs a kid and is Ed25519, P-256, or RSA of {MIN_RSA_BITS} bits or more",
                field="mcp.oauth_jwks",
            )
        found[str(each.key_id)] = key
    return found
