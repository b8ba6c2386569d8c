"""Who calls: the credential in every form that LibreChat's clients send it, and the user that the caller names."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final, Protocol

from http_api.services import ApiKey
from supervisor.errors import InvalidRequest, Unauthenticated
from supervisor.execution import Principal

ANONYMOUS: Final = ApiKey(name="anonymous", tenant="default", secret="")
USER_HEADERS: Final = ("X-User-Id", "User-Id")
MAX_CREDENTIAL_CHARACTERS: Final = 8192
_USER: Final = re.compile(r"[A-Za-z0-9_.:@+-]{1,128}")
_BASE64_PREFIX: Final = "b64:"


class HeaderLookup(Protocol):
    """Header fields by name, whatever their case."""

    def get(self, name: str, /) -> str | None:
        """Give the first field of this name."""


def authenticate(headers: HeaderLookup, keys: Sequence[ApiKey]) -> ApiKey:
    """Give the key that the request carries; with no keys configured, the anonymous one.

    ``X-API-Key: KEY``, ``Authorization: Bearer KEY``, and Basic with the key as user, with or without the colon: the
    SDK sends base64("KEY"), axios base64("KEY:"). When several are sent each has to hold, and all be one key.

    Raises:
        Unauthenticated: none was sent, or one does not hold.
    """
    if not keys:
        return ANONYMOUS
    secrets = [secret for secret in (headers.get("X-API-Key"), _authorization(headers.get("Authorization"))) if secret]
    matches = {_match(secret, keys) for secret in secrets}
    if not matches or None in matches or len(matches) > 1:
        raise Unauthenticated("send the API key as X-API-Key, as a Bearer token, or in the URL")
    found = matches.pop()
    assert found is not None
    return found


def _match(secret: str, keys: Sequence[ApiKey]) -> ApiKey | None:
    """Compare with every key in constant time: digests have one length, and no match ends the loop early."""
    digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
    found = None
    for key in keys:
        if hmac.compare_digest(digest, hashlib.sha256(key.secret.encode()).digest()):
            found = key
    return found


def _authorization(header: str | None) -> str | None:
    if header is None:
        return None
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if len(value) > MAX_CREDENTIAL_CHARACTERS:
        return "\0"  # matches no key: a credential was sent, and it does not hold
    if scheme.lower() == "bearer":
        return value or "\0"
    if scheme.lower() == "basic":
        return _basic(value) or "\0"
    return "\0"


def _basic(value: str) -> str | None:
    """Take the user part; the password counts only when there is no user."""
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    user, _, password = text.partition(":")
    return user or password


def named_user(headers: HeaderLookup, fallbacks: Sequence[tuple[str, str | None]] = ()) -> str | None:
    """Give the user whom the caller names: a header first, then the given (field, value) pairs in order.

    Raises:
        InvalidRequest: a user id of forbidden form, with the header or field that has it.
    """
    for field, value in [*((name, headers.get(name)) for name in USER_HEADERS), *fallbacks]:
        if value:
            return _checked(_plain(value), field)
    return None


def _plain(value: str) -> str:
    """LibreChat sends header values beyond Latin-1 as ``b64:`` and base64 of UTF-8."""
    if not value.startswith(_BASE64_PREFIX):
        return value
    try:
        return base64.b64decode(value.removeprefix(_BASE64_PREFIX), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return value


def _checked(value: str, field: str) -> str:
    if not _USER.fullmatch(value):
        raise InvalidRequest("a user id has 1 to 128 characters of A-Z, a-z, 0-9 and _ . : @ + -", field=field)
    return value


def principal(key: ApiKey, user: str | None) -> Principal:
    """Put key and user together."""
    return Principal(tenant=key.tenant, credential=key.name, user=user)
