"""Who may call and how often, as the settings have it: keys, tokens, operators, rates, and those who fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from supervisor.admission.rates import Rate, RateLimiter
from supervisor.core import Prepared
from supervisor.identity.attempts import AttemptRules, Attempts
from supervisor.identity.credentials import Credentials
from supervisor.identity.keys import KEY_FILE, MASTER, ApiKey, KeyRing, digest_of
from supervisor.identity.oauth import OAuthKey, OAuthRules, OAuthVerifier
from supervisor.identity.operators import Operators
from supervisor.identity.tokens import PublicKey, TokenRules, TokenVerifier
from supervisor.settings.tree import Settings


@dataclass(frozen=True, slots=True)
class Identities:
    """By what callers are known."""

    api_key: str
    token_keys: Mapping[str, PublicKey]
    oauth_keys: Mapping[str, OAuthKey]
    attempts: Attempts
    """Those that failed, at all doors."""
    shared_keys: Callable[[], Sequence[ApiKey]] = tuple
    """API keys of the whole fleet."""
    admin_key: str = ""
    """The master key; empty: there is none."""


@dataclass(frozen=True, slots=True)
class Access:
    """What asks who calls; all of it looks at the same keys."""

    callers: Credentials
    operators: Operators
    ring: KeyRing


def identities(prepared: Prepared, attempts: Attempts, shared_keys: Callable[[], Sequence[ApiKey]]) -> Identities:
    """Give by what callers are known to a daemon that was prepared."""
    return Identities(
        prepared.api_key,
        prepared.token_keys,
        prepared.oauth_keys,
        attempts,
        shared_keys,
        admin_key=prepared.admin_key,
    )


def access_of(settings: Settings, who: Identities) -> Access:
    """Make what asks callers, if they are asked at all, and what asks operators, who always are."""
    ring = _key_ring(settings, who)
    jwt = settings.jwt
    rules = TokenRules(jwt.issuer, jwt.audience, jwt.lifetime_seconds, jwt.leeway_seconds, jwt.reuse_seconds)
    tokens = TokenVerifier(who.token_keys, rules, clock=time.time) if who.token_keys else None
    mcp = settings.mcp
    audience = mcp.oauth_audience or f"{settings.http.public_url.rstrip('/')}/mcp"
    oauth = OAuthRules(mcp.authorization_server, audience, mcp.oauth_tenant)
    verifier = OAuthVerifier(who.oauth_keys, oauth, clock=time.time) if who.oauth_keys else None
    operators = Operators(
        Credentials(ring, tokens, verifier, who.attempts, for_operators=True), has_master=bool(who.admin_key)
    )
    asked = settings.http.authentication
    callers = Credentials(ring, tokens, verifier, who.attempts) if asked else Credentials(None, None)
    return Access(callers, operators, ring)


def _key_ring(settings: Settings, who: Identities) -> KeyRing:
    """Put all keys together, the master key too."""
    fixed = [ApiKey("default", "default", digest_of(who.api_key))] if who.api_key else []
    fixed += [
        ApiKey(f"api_keys-{number}", "default", digest_of(key)) for number, key in enumerate(settings.more_keys, 1)
    ]
    if who.admin_key:
        fixed.append(ApiKey(MASTER, "default", digest_of(who.admin_key), admin=True))
    return KeyRing(fixed, settings.state_path / "data" / KEY_FILE, who.shared_keys)


def anonymous_credentials() -> Credentials:
    """Ask nobody: for a server that only its parent process can reach."""
    return Credentials(None, None)


def attempt_counter(settings: Settings) -> Attempts:
    """Make what counts callers who fail; all doors of a process count together."""
    rate = Rate.parse(settings.http.failed_authentications)
    if rate is None:
        return Attempts(None)
    return Attempts(AttemptRules(rate.calls, rate.seconds, longest_seconds=settings.http.shut_out_seconds))


def rate_rules(settings: Settings) -> Mapping[str, Rate | None]:
    """Give how often one may call, by kind of call."""
    return {kind: Rate.parse(getattr(settings.rates, kind)) for kind in ("exec", "upload", "download", "listing")}


def rate_limiter(settings: Settings) -> RateLimiter:
    """Make what counts calls; both doors count together."""
    return RateLimiter(rate_rules(settings), settings.rates.shared_factor)
