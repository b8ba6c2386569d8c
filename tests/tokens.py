"""Tokens as LibreChat's server mints them."""

from __future__ import annotations

import uuid
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from supervisor.identity.tokens import auth_context_hash

KID = "lc-codeapi-2026-05"


def claims_of(user: str, now: float, **changes: Any) -> dict[str, Any]:
    """Claims of today's LibreChat; ``None`` takes one away."""
    claims: dict[str, Any] = {
        "iss": "librechat",
        "aud": "codeapi",
        "sub": user,
        "iat": now,
        "nbf": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
        "tenant_id": "legacy",
        "role": "USER",
        "principal_source": "librechat_jwt",
    }
    claims |= {name: value for name, value in changes.items() if name != "auth_context_hash"}
    claims["auth_context_hash"] = changes.get("auth_context_hash", auth_context_hash(claims))
    return {name: value for name, value in claims.items() if value is not None}


def mint(key: Any, claims: dict[str, Any], *, algorithm: str = "EdDSA", header: dict[str, Any] | None = None) -> str:
    """Sign a token."""
    headers = {"kid": KID, **(header or {})}
    return jwt.encode(claims, key, algorithm, {name: value for name, value in headers.items() if value is not None})


def public_pem(key: Any) -> bytes:
    """The public half as LibreChat's operator would hand it over."""
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found
