"""The credential of a request, in every form that LibreChat's clients and MCP clients send it.

``X-API-Key: KEY``, ``Authorization: Bearer KEY or JWT``, and Basic with the key as user or password, with or without
the colon: the SDK sends base64("KEY"), axios base64("KEY:").
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from supervisor.errors import Forbidden, InvalidRequest, Unauthenticated
from supervisor.execution.values import Principal, Tier
from supervisor.identity.attempts import AttemptRules, Attempts
from supervisor.identity.keys import MASTER, ApiKey, KeyRing
from supervisor.identity.oauth import OAuthKey, OAuthVerifier
from supervisor.identity.tokens import PublicKey, TokenVerifier

USER_HEADERS: Final = ("X-User-Id", "User-Id")
MAX_CREDENTIAL_CHARACTERS: Final = 8192
_USER: Final = re.compile(r"[A-Za-z0-9_.:@+-]{1,128}")
TOKEN: Final = "token"  # noqa: S105 - a name
OAUTH: Final = "oauth"
PROVEN: Final = frozenset({TOKEN, OAUTH})
"""Credentials whose users are signed for; the users of a key are its owner's word."""
_BASE64_PREFIX: Final = "b64:"
_NO_KEY: Final = "\0"
"""Matches no key: something was sent, and it does not hold."""


class HeaderLookup(Protocol):
    """Header fields by name, whatever their case."""

    def get(self, name: str, /) -> str | None:
        """Give the first field of this name."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What a credential says: its name, for logs and limits, the tenant, and the user if it stands for one."""

    credential: str
    tenant: str
    user: str | None = None
    admin: bool = False
    """It may also change what the server allows."""
    tier: Tier = "nsjail"
    """Its executions have this one at least."""


ANONYMOUS: Final = Caller("anonymous", "default")


class Credentials:
    """Finds out who calls. Without a key ring nobody is asked; the settings allow that only on a private bind."""

    def __init__(
        self,
        keys: KeyRing | None,
        tokens: TokenVerifier | None,
        oauth: OAuthVerifier | None = None,
        attempts: Attempts | None = None,
        *,
        for_operators: bool = False,
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._oauth = oauth
        self._attempts = attempts or Attempts(AttemptRules())
        self._for_operators = for_operators
        self.on_refused: Callable[[], None] = lambda: None
        """Called for each request whose credential does not hold."""

    def renew(self, default: ApiKey | None, tokens: Mapping[str, PublicKey], oauth: Mapping[str, OAuthKey]) -> None:
        """Have other keys from now on, of the kinds that are asked for; requests that are under way go on."""
        if self._keys is not None and default is not None:
            self._keys.renew(default)
        if self._tokens is not None:
            self._tokens.renew(tokens)
        if self._oauth is not None:
            self._oauth.renew(oauth)

    def authenticate(self, headers: HeaderLookup, address: str) -> Caller:
        """Give the caller. When several credentials are sent each has to hold, and all have to say the same.

        ``address``: from where the request is; failures are counted by it.

        Raises:
            Unauthenticated: none was sent, or one does not hold.
            Busy: the address is shut out, because of too many that did not hold.
            Forbidden: a header names another user than the token; the master key was sent to who is no operator's.
        """
        try:
            return self._authenticate(headers, address)
        except Unauthenticated:
            self.on_refused()
            raise

    def _authenticate(self, headers: HeaderLookup, address: str) -> Caller:
        if self._keys is None:
            return ANONYMOUS
        api_key, authorization = headers.get("X-API-Key") or None, headers.get("Authorization")
        if api_key is None and authorization is None:
            raise Unauthenticated(
                "send the API key as X-API-Key, as a Bearer token or in the URL, or LibreChat's token"
            )
        signed = api_key is None and self._is_signed(_bearer(authorization or ""))
        with self._attempts.attempt(address, f"{api_key}\n{authorization}", signed=signed):
            caller = self._find(api_key, authorization)
        if caller.user is not None:
            _refuse_other_user(headers, caller.user)
        return caller

    def _find(self, api_key: str | None, authorization: str | None) -> Caller:
        found: set[Caller] = set()
        if api_key is not None:
            found.add(self._of_key(api_key))
        if authorization is not None:
            found.add(self._of_authorization(authorization))
        if len(found) != 1:
            raise Unauthenticated("the credentials of this request contradict each other")
        return found.pop()

    def _is_signed(self, value: str) -> bool:
        """Say whether it will be checked as a token, not as a key."""
        if value.count(".") != 2:
            return False
        return self._tokens is not None or (self._oauth is not None and self._oauth.is_for_us(value))

    def _of_key(self, secret: str) -> Caller:
        assert self._keys is not None
        key = self._keys.find(secret) if len(secret) <= MAX_CREDENTIAL_CHARACTERS else None
        if key is None:
            raise Unauthenticated("this API key does not hold here")
        if key.name == MASTER and not self._for_operators:
            raise Forbidden(
                "the master key is for /admin, /metrics and the dashboard: running code needs an API key",
                field="X-API-Key",
            )
        name = f"key {key.name}" if key.name in PROVEN else key.name
        return Caller(name, key.tenant, admin=key.admin, tier=key.tier)

    def _of_authorization(self, header: str) -> Caller:
        scheme, _, value = header.strip().partition(" ")
        value = value.strip()
        if scheme.lower() == "basic":
            return self._of_key(_basic(value))
        if scheme.lower() != "bearer":
            raise Unauthenticated("the Authorization header is neither Bearer nor Basic")
        if value.count(".") == 2 and self._oauth is not None and self._oauth.is_for_us(value):
            return Caller(OAUTH, self._oauth.rules.tenant, self._oauth.verify(value))
        if value.count(".") == 2 and self._tokens is not None:
            identity = self._tokens.verify(value)
            return Caller(TOKEN, identity.tenant, identity.user)
        return self._of_key(value or _NO_KEY)


def _bearer(header: str) -> str:
    scheme, _, value = header.strip().partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _refuse_other_user(headers: HeaderLookup, user: str) -> None:
    for name in USER_HEADERS:
        value = headers.get(name)
        if value and plain(value) != user:
            raise Forbidden("this header names another user than the token", field=name)


def _basic(value: str) -> str:
    """Take the password; without one, the user."""
    if len(value) > MAX_CREDENTIAL_CHARACTERS:
        return _NO_KEY
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return _NO_KEY
    user, _, password = text.partition(":")
    return password or user or _NO_KEY


def named_user(headers: HeaderLookup, fallbacks: tuple[tuple[str, str | None], ...] = ()) -> str | None:
    """Give the user whom the caller names: a header first, then the given (field, value) pairs in order.

    Raises:
        InvalidRequest: a user id of forbidden form, with the header or field that has it.
    """
    for field, value in [*((name, headers.get(name)) for name in USER_HEADERS), *fallbacks]:
        if value:
            return _checked(plain(value), field)
    return None


def plain(value: str) -> str:
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


def principal_of(
    caller: Caller, headers: HeaderLookup, fallbacks: tuple[tuple[str, str | None], ...] = ()
) -> Principal:
    """Decide for whom the request is: a token's own user, else the one whom the caller names, else nobody.

    What the fallbacks say beside a token is ignored: clients fill these fields with what they have.

    Raises:
        InvalidRequest: as :func:`named_user`.
    """
    user = caller.user if caller.user is not None else named_user(headers, fallbacks)
    return Principal(tenant=caller.tenant, credential=caller.credential, user=user, tier=caller.tier)
