"""Access tokens of an authorization server, and where a client learns of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.daemon import Daemon, daemon_with
from tests.mcp import connected, post
from tests.mcp_server.test_transport import LIST
from tests.tokens import claims_of, mint, public_pem

pytestmark = pytest.mark.root

ISSUER = "https://login.example.org/"
AUDIENCE = "https://code.example.org/mcp"
KEY = generate_private_key(SECP256R1())
OTHER = generate_private_key(SECP256R1())
FAR = 4_000_000_000


def token(key: Any = KEY, kid: str = "k1", **changes: Any) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "auth0|ann", "exp": FAR, **changes}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, "ES256", {"kid": kid})


@pytest.fixture(scope="module")
def guarded(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    jwks = tmp_path_factory.mktemp("oauth") / "keys.json"
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))
    jwks.write_text(json.dumps({"keys": [{**public, "kid": "k1", "alg": "ES256", "use": "sig"}]}))
    settings = {
        "GAOLER_MCP_AUTHORIZATION_SERVER": ISSUER,
        "GAOLER_MCP_OAUTH_JWKS": str(jwks),
        "GAOLER_HTTP_PUBLIC_URL": "https://code.example.org",
    }
    with daemon_with(image_dir, settings) as running:
        yield running


def test_a_stranger_is_told_where_to_get_a_token(guarded: Daemon) -> None:
    answer = post(guarded, LIST, key=None)
    assert answer.status == 401
    where = "https://code.example.org/.well-known/oauth-protected-resource/mcp"
    assert answer.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{where}"'
    for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
        metadata = guarded.request("GET", path, key=None)
        assert metadata.status == 200
        assert metadata.json["resource"] == AUDIENCE
        assert metadata.json["authorization_servers"] == [ISSUER]


async def test_a_token_is_its_user(guarded: Daemon) -> None:
    async with connected(guarded, user=None, key=token(), conversation="c") as agent:
        session = (await agent.call("write_file", path="a", text="x")).data["session"]
    async with connected(guarded, user=None, key=token(sub="auth0|ben"), conversation="c") as agent:
        assert "no such session" in (await agent.call("read_file", session=session, path="a")).refusal
    async with connected(guarded, user="auth0|ann", key=token(), conversation="c") as agent:
        assert (await agent.call("read_file", path="a")).data["content"] == "x"
        link = (await agent.call("stat_file", path="a")).data["file"]["url"]
        assert link.startswith("https://code.example.org/v1/shared/")


@pytest.mark.parametrize(
    "bad",
    [
        token(aud="https://other.example.org/mcp"),
        token(iss="https://evil.example.org/"),
        token(exp=1_000_000_000),
        token(nbf=FAR),
        token(sub=None),
        token(exp=None),
        token(sub="a b"),
        token(OTHER),
        token(kid="k2"),
        jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": FAR}, "", "none", {"kid": "k1"}),
        jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": FAR}, "k" * 32, "HS256", {"kid": "k1"}),
        token() + "x",
    ],
)
def test_a_token_that_does_not_hold_is_refused(guarded: Daemon, bad: str) -> None:
    answer = post(guarded, LIST, key=None, headers={"Authorization": f"Bearer {bad}"})
    assert answer.status == 401, answer.body


def test_a_token_speaks_for_nobody_else(guarded: Daemon) -> None:
    answer = post(guarded, LIST, key=None, headers={"Authorization": f"Bearer {token()}", "X-User-Id": "ben"})
    assert answer.status == 403


async def test_librechats_own_tokens_are_let_in_too(image_dir: Path, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = tmp_path / "public.pem"
    pem.write_bytes(public_pem(key))
    with daemon_with(image_dir, {"GAOLER_JWT_PUBLIC_KEY": str(pem)}) as running:
        async with connected(running, user=None, key=mint(key, claims_of("ann", time.time())), mode="legacy") as agent:
            assert (await agent.call("execute_code", code="print(1)")).data["stdout"] == "1\n"
        answer = post(
            running,
            LIST,
            key=None,
            headers={"Authorization": f"Bearer {mint(Ed25519PrivateKey.generate(), claims_of('ann', time.time()))}"},
        )
        assert answer.status == 401
