"""Credentials: what holds, what does not, and that a refusal says why without saying what was sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from supervisor.admission.rates import Rate, RateLimiter
from supervisor.errors import Busy, ConfigurationError, Forbidden, InvalidRequest, Unauthenticated
from supervisor.execution.values import Principal
from supervisor.identity.credentials import ANONYMOUS, Caller, Credentials, principal_of
from supervisor.identity.keys import ApiKey, KeyRing, add_key, digest_of, read_keys, revoke_key
from supervisor.identity.tokens import PublicKey, TokenRules, TokenVerifier, auth_context_hash, load_public_keys
from tests.tokens import KID, claims_of, mint, public_pem

NOW = 1_795_221_400.0
ADDRESS = "192.0.2.1"
ED = Ed25519PrivateKey.generate()
RSA = generate_rsa(65537, 2048)


@pytest.fixture
def verifier() -> TokenVerifier:
    keys: dict[str, PublicKey] = {KID: ED.public_key(), "rsa-1": RSA.public_key()}
    return TokenVerifier(keys, TokenRules(), clock=lambda: NOW)


def token(header: dict[str, Any] | None = None, key: Any = ED, algorithm: str = "EdDSA", **changes: Any) -> str:
    return mint(key, claims_of("u1", NOW, **changes), algorithm=algorithm, header=header)


def test_tokens_of_both_algorithms_hold(verifier: TokenVerifier) -> None:
    found = verifier.verify(token())
    assert (found.tenant, found.user) == ("legacy", "u1")
    assert verifier.verify(token({"kid": "rsa-1"}, RSA, "RS256", sub="u2")).user == "u2"


def test_the_hash_is_the_one_that_librechat_made() -> None:
    """Claims and hash as a real LibreChat sent them."""
    claims = {
        "sub": "6650f0c2a1b2c3d4e5f60718",
        "tenant_id": "legacy",
        "role": "USER",
        "principal_source": "librechat_jwt",
    }
    assert auth_context_hash(claims) == "75c24003d65747fa0037ce9cffe175f0e7b862f5445f3df754192b2e03645cd9"


def unsigned(**header: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'typ': 'JWT', **header})}.{part(claims_of('u1', NOW))}."


def confused() -> str:
    """An HMAC whose secret is the public key, which everybody may know."""
    head, body, _ = unsigned(alg="HS256", kid=KID).split(".")
    mac = hmac.digest(public_pem(ED), f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def tampered() -> str:
    head, _, signature = token().split(".")
    other = token(sub="somebody-else").split(".")[1]
    return f"{head}.{other}.{signature}"


FORGERIES: dict[str, tuple[Callable[[], str], str]] = {
    "no signature at all": (lambda: unsigned(alg="none", kid=KID), "is for EdDSA"),
    "alg none in other letters": (lambda: unsigned(alg="nOnE", kid=KID), "is for EdDSA"),
    "the public key as an HMAC secret": (confused, "is for EdDSA"),
    "RS256 under an EdDSA key": (lambda: token({"kid": KID}, RSA, "RS256"), "is for EdDSA"),
    "signed by somebody else": (lambda: token(key=Ed25519PrivateKey.generate()), "signature"),
    "claims exchanged": (tampered, "signature"),
    "an unknown key": (lambda: token({"kid": "other"}), "kid is unknown"),
    "no kid": (lambda: token({"kid": None}), "no usable alg and kid"),
    "a kid that is a path": (lambda: token({"kid": "../../etc/passwd"}), "no usable alg and kid"),
    "a key brought along by address": (lambda: token({"jku": "https://evil.example/keys"}), "jku"),
    "a key brought along by certificate": (lambda: token({"x5u": "https://evil.example/c"}), "x5u"),
    "a key brought along": (lambda: token({"jwk": {"kty": "OKP"}}), "jwk"),
    "a critical extension": (lambda: token({"crit": ["b64"], "b64": False}), "crit"),
    "too long": (lambda: token(padding="x" * 9000), "characters"),
    "not a token": (lambda: "a.b.c", "no usable alg and kid"),
    "expired": (lambda: token(iat=NOW - 400, nbf=NOW - 400, exp=NOW - 101), "expired"),
    "expired long ago, at the edge": (lambda: token(iat=NOW - 200, nbf=NOW - 200, exp=NOW - 30), "expired"),
    "of the future": (lambda: token(iat=NOW + 60, nbf=NOW + 60, exp=NOW + 120), "not valid yet"),
    "not before": (lambda: token(nbf=NOW + 60), "not valid yet"),
    "nbf of a wrong type": (lambda: token(nbf="soon"), "nbf"),
    "valid for too long": (lambda: token(exp=NOW + 301), "more than 300 s"),
    "valid for ever": (lambda: token(exp=1e300), "more than 300 s"),
    "times that are not numbers": (lambda: token(exp=float("nan")), ""),
    "another audience": (lambda: token(aud="elsewhere"), "another audience"),
    "another issuer": (lambda: token(iss="evil"), "another issuer"),
    "no user": (lambda: token(sub=None), "sub"),
    "a user that is a path": (lambda: token(sub="../root"), "sub"),
    "no tenant": (lambda: token(tenant_id=None), "tenant_id"),
    "a tenant of a wrong type": (lambda: token(tenant_id=["a"]), "tenant_id"),
    "no jti": (lambda: token(jti=None), "jti"),
    "no hash": (lambda: token(auth_context_hash=None), "auth_context_hash"),
    "a hash of something else": (lambda: token(auth_context_hash="0" * 64), "auth_context_hash"),
    "another role than was hashed": (
        lambda: token(auth_context_hash=claims_of("u1", NOW, role="ADMIN")["auth_context_hash"]),
        "auth_context_hash",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_does_not_hold_is_refused_with_the_reason(verifier: TokenVerifier, name: str) -> None:
    make, reason = FORGERIES[name]
    forged = make()
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(forged)
    assert reason in caught.value.message
    assert forged.split(".")[-1] not in caught.value.message or not forged.split(".")[-1]


def test_a_token_is_let_in_again_for_as_long_as_librechat_keeps_one_and_then_not_any_more() -> None:
    now = [NOW]
    verifier = TokenVerifier({KID: ED.public_key()}, TokenRules(), clock=lambda: now[0])
    first = token(jti="j" * 16)
    verifier.verify(first)
    now[0] += 30
    verifier.verify(first)
    with pytest.raises(Unauthenticated, match="used before"):
        verifier.verify(token(jti="j" * 16, role="ADMIN"))
    now[0] += 1
    with pytest.raises(Unauthenticated, match="used before"):
        verifier.verify(first)
    now[0] = NOW + 400
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.verify(first)


def test_strictly_once_if_so_set() -> None:
    verifier = TokenVerifier({KID: ED.public_key()}, TokenRules(reuse_seconds=-1), clock=lambda: NOW)
    once = token()
    verifier.verify(once)
    with pytest.raises(Unauthenticated, match="used before"):
        verifier.verify(once)


def test_public_keys_come_from_a_file_a_directory_and_a_set(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "one.pem").write_bytes(public_pem(ED))
    (tmp_path / "keys" / "two.pem").write_bytes(public_pem(RSA))
    raw = ED.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "three", "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
    (tmp_path / "set.json").write_text(json.dumps({"keys": [jwk]}))
    keys = load_public_keys(
        pem=tmp_path / "one.pem", kid="one", directory=tmp_path / "keys", jwks=tmp_path / "set.json"
    )
    assert set(keys) == {"one", "two", "three"}
    verifier = TokenVerifier(keys, TokenRules(), clock=lambda: NOW)
    for kid, key, algorithm in (("one", ED, "EdDSA"), ("two", RSA, "RS256"), ("three", ED, "EdDSA")):
        assert verifier.verify(token({"kid": kid}, key, algorithm)).user == "u1"


@pytest.mark.parametrize(
    "what", ["missing", "private", "short", "curve", "text", "twice", "empty directory", "no set", "a list"]
)
def test_keys_that_cannot_be_used_refuse_to_start(tmp_path: Path, what: str) -> None:
    pem = tmp_path / "k.pem"
    directory = jwks = None
    match what:
        case "private":
            pem.write_bytes(b"-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n")
        case "short":
            pem.write_bytes(public_pem(generate_rsa(65537, 1024)))
        case "curve":
            pem.write_bytes(public_pem(generate_private_key(SECP256R1())))
        case "text":
            pem.write_text("hello")
        case "twice":
            pem.write_bytes(public_pem(ED))
            directory = tmp_path
        case "empty directory":
            pem.write_bytes(public_pem(ED))
            directory = tmp_path / "nothing"
        case "no set":
            pem.write_bytes(public_pem(ED))
            jwks = pem
        case "a list":
            pem.write_bytes(public_pem(ED))
            jwks = tmp_path / "set.json"
            jwks.write_text("[]")
    with pytest.raises(ConfigurationError):
        load_public_keys(pem=pem, kid="k", directory=directory, jwks=jwks)


# -- keys --

SECRET = "gk-0123456789abcdef"


def ring() -> KeyRing:
    return KeyRing([ApiKey("first", "acme", digest_of(SECRET)), ApiKey("second", "other", digest_of("another"))], None)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": SECRET},
        {"Authorization": f"Bearer {SECRET}"},
        {"Authorization": f"bearer  {SECRET} "},
        {"Authorization": basic(SECRET)},
        {"Authorization": basic(SECRET + ":")},
        {"Authorization": basic(":" + SECRET)},
        {"Authorization": basic("anybody:" + SECRET)},
        {"X-API-Key": SECRET, "Authorization": basic(SECRET)},
    ],
    ids=["header", "bearer", "bearer, loosely", "no colon", "colon", "password", "user and password", "two alike"],
)
def test_a_key_holds_in_every_form(headers: dict[str, str]) -> None:
    assert Credentials(ring(), None).authenticate(headers, ADDRESS) == Caller("first", "acme")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": SECRET + "\udcff"},
        {"X-API-Key": SECRET, "Authorization": "Bearer wrong"},
        {"X-API-Key": SECRET, "Authorization": "Bearer another"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!!"},
        {"Authorization": basic(":")},
        {"Authorization": basic(SECRET + ":wrong")},
        {"Authorization": "Digest " + SECRET},
        {"Authorization": SECRET},
        {"Authorization": "Bearer a.b.c"},
        {"X-API-Key": "x" * 10_000},
    ],
)
def test_anything_else_does_not(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        Credentials(ring(), None).authenticate(headers, ADDRESS)
    assert SECRET not in caught.value.message


def test_a_token_speaks_for_its_user_and_no_header_for_another(verifier: TokenVerifier) -> None:
    credentials = Credentials(ring(), verifier)
    bearer = {"Authorization": f"Bearer {token()}"}
    caller = credentials.authenticate(bearer, ADDRESS)
    assert principal_of(caller, bearer, (("user_id", "another"),)) == Principal("legacy", "token", "u1")
    assert credentials.authenticate({**bearer, "User-Id": "u1"}, ADDRESS).user == "u1"
    for name in ("User-Id", "X-User-Id"):
        with pytest.raises(Forbidden) as caught:
            credentials.authenticate({**bearer, name: "u2"}, ADDRESS)
        assert caught.value.field == name
    with pytest.raises(Unauthenticated, match="contradict"):
        credentials.authenticate({**bearer, "X-API-Key": SECRET}, ADDRESS)


def test_without_authentication_everybody_is_one_caller() -> None:
    assert Credentials(None, None).authenticate({"X-API-Key": "whatever"}, ADDRESS) is ANONYMOUS


def test_a_key_speaks_for_the_user_it_names_in_this_order() -> None:
    caller = Caller("first", "acme")
    fields = (("user_id", "c"), ("entity_id", "d"))
    assert principal_of(caller, {"X-User-Id": "a", "User-Id": "b"}, fields).user == "a"
    assert principal_of(caller, {"User-Id": "b64:" + base64.b64encode(b"b").decode()}, fields).user == "b"
    assert principal_of(caller, {}, fields).user == "c"
    assert principal_of(caller, {}).user is None
    with pytest.raises(InvalidRequest):
        principal_of(caller, {"User-Id": "a/b"})


def test_keys_are_made_kept_as_hashes_and_revoked(tmp_path: Path) -> None:
    path = tmp_path / "data" / "keys.json"
    keys = KeyRing([], path)
    assert keys.find("anything") is None
    secret = add_key(path, "librechat", "acme", os.geteuid())
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    found = keys.find(secret)
    assert found is not None
    assert (found.name, found.tenant) == ("librechat", "acme")
    with pytest.raises(ConfigurationError, match="already"):
        add_key(path, "librechat", "acme", os.geteuid())
    with pytest.raises(ConfigurationError, match="characters"):
        add_key(path, "a/b", "acme", os.geteuid())
    other = add_key(path, "other", "acme", os.geteuid())
    with pytest.raises(ConfigurationError, match="librechat, other"):
        revoke_key(path, "nobody", os.geteuid())
    revoke_key(path, "librechat", os.geteuid())
    assert keys.find(secret) is None
    assert keys.find(other) is not None
    assert [key.name for key in read_keys(path)] == ["other"]


def test_a_broken_key_file_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret = add_key(path, "k", "t", os.geteuid())
    keys = KeyRing([], path)
    assert keys.find(secret)
    path.write_text('{"keys": [{"name": "k"}]}')
    with pytest.raises(ConfigurationError):
        keys.find(secret)


# -- rates --


async def test_a_window_slides_and_says_when_to_come_again() -> None:
    now = [0.0]

    async def check(who: Principal, kind: str, at: float) -> None:
        now[0] = at
        await limiter.check(who, kind)

    limiter = RateLimiter({"exec": Rate(2, 10), "upload": None}, shared_factor=3, clock=lambda: now[0])
    ann, bob, nobody = Principal("t", "k", "ann"), Principal("t", "k", "bob"), Principal("t", "k")
    await check(ann, "exec", 0)
    await check(ann, "exec", 4)
    with pytest.raises(Busy) as caught:
        await check(ann, "exec", 7)
    assert caught.value.retry_after_seconds == 3
    await check(bob, "exec", 7)
    await check(ann, "exec", 10)
    with pytest.raises(Busy):
        await check(ann, "exec", 13.9)
    for _ in range(6):
        await check(nobody, "exec", 0)
    with pytest.raises(Busy):
        await check(nobody, "exec", 0)
    for _ in range(100):
        await check(ann, "upload", 0)


def test_rates_are_written_as_calls_in_seconds() -> None:
    assert Rate.parse("20/30") == Rate(20, 30)
    assert Rate.parse("off") is None


def test_keys_are_read_from_an_ordinary_file_of_bounded_size_only(tmp_path: Path) -> None:
    # Root reads them, in a directory of the daemon's.
    path = tmp_path / "keys.json"
    other = tmp_path / "other.json"
    add_key(other, "theirs", "them", os.getuid())
    path.symlink_to(other)
    with pytest.raises(ConfigurationError, match="symbolic links"):
        read_keys(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match="no ordinary file"):
        read_keys(path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ConfigurationError, match="more than"):
        read_keys(path)
