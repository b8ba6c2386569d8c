"""A manifest holds when a gateway of ours signed just this, for just this body, for just now; nothing else does."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigurationError
from supervisor.fleet.manifest import Manifest, Signer, Untrusted, Verifier, body_digest, new_key

BODY = b"print(6 * 7)"
NOW = 1_700_000_000.0
PRIVATE, PUBLIC = new_key()
SIGNER = Signer("k1", PRIVATE)
VERIFIER = Verifier({"k1": PUBLIC})
PLAIN = Manifest(
    version=1,
    kid="k1",
    job="job_1",
    gateway="g1",
    kind="execute",
    tenant="t",
    credential="c",
    user=None,
    policy="default",
    tier="nsjail",
    session="s",
    inputs=("f1", "f2"),
    wall_seconds=10.0,
    issued_at=NOW,
    expires_at=NOW + 60,
    body_sha256=body_digest(BODY),
)


def changed(**fields: object) -> Manifest:
    return msgspec.structs.replace(PLAIN, **fields)


def refusal(signed: bytes, body: bytes = BODY, now: float = NOW, verifier: Verifier = VERIFIER) -> str:
    with pytest.raises(Untrusted) as caught:
        verifier.verify(signed, body, now)
    return caught.value.message


def forged(payload: bytes, purpose: bytes = b"gaoler manifest 1\n") -> bytes:
    """What somebody who has the key would make of any bytes."""
    key = serialization.load_pem_private_key(PRIVATE, None)
    assert isinstance(key, Ed25519PrivateKey)
    return msgspec.msgpack.encode((payload, key.sign(purpose + payload)))


def test_what_was_signed_is_what_is_read() -> None:
    assert VERIFIER.verify(SIGNER.sign(PLAIN), BODY, NOW) == PLAIN


def test_it_holds_until_just_before_it_expires() -> None:
    signed = SIGNER.sign(PLAIN)
    assert VERIFIER.verify(signed, BODY, NOW + 59.999) == PLAIN
    assert refusal(signed, now=NOW + 60) == "the manifest has expired"


def test_another_body_is_refused() -> None:
    assert refusal(SIGNER.sign(PLAIN), BODY + b" ") == "the body is not the one that was signed"


def test_an_unknown_key_is_refused() -> None:
    assert (
        refusal(SIGNER.sign(PLAIN), verifier=Verifier({"k2": PUBLIC})) == "the manifest is signed with an unknown key"
    )
    assert refusal(SIGNER.sign(PLAIN), verifier=Verifier({})) == "the manifest is signed with an unknown key"


def test_another_key_of_the_same_name_is_refused() -> None:
    verifier = Verifier({"k1": new_key()[1]})
    assert refusal(SIGNER.sign(PLAIN), verifier=verifier) == "the manifest's signature does not hold"


def test_keys_rotate_old_and_new_hold_together() -> None:
    private, public = new_key()
    both = Verifier({"k1": PUBLIC, "k2": public})
    new = changed(kid="k2")
    assert both.verify(SIGNER.sign(PLAIN), BODY, NOW) == PLAIN
    assert both.verify(Signer("k2", private).sign(new), BODY, NOW) == new


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 2}, "the manifest has another version"),
        ({"issued_at": NOW + 31, "expires_at": NOW + 60}, "the manifest comes from the future"),
        ({"expires_at": NOW + 3601}, "the manifest would hold for too long"),
        ({"expires_at": NOW}, "the manifest would hold for too long"),
        ({"expires_at": float("nan")}, "the manifest would hold for too long"),
        ({"issued_at": float("nan")}, "the manifest would hold for too long"),
        ({"expires_at": float("inf")}, "the manifest would hold for too long"),
        ({"issued_at": NOW - 100, "expires_at": NOW - 50}, "the manifest has expired"),
        ({"body_sha256": body_digest(BODY).upper()}, "the body is not the one that was signed"),
        ({"body_sha256": "ü"}, "the manifest cannot be read"),
        ({"inputs": ("f" * 1000,) * 300}, "the manifest is too large"),
    ],
)
def test_a_signature_makes_no_wrong_manifest_right(fields: dict[str, object], reason: str) -> None:
    assert refusal(SIGNER.sign(changed(**fields))) == reason


def test_a_clock_that_is_a_little_late_does_no_harm() -> None:
    early = changed(issued_at=NOW + 29, expires_at=NOW + 60)
    assert VERIFIER.verify(SIGNER.sign(early), BODY, NOW) == early


@pytest.mark.parametrize(
    "payload",
    [
        msgspec.msgpack.encode(msgspec.to_builtins(PLAIN)[:-1]),
        msgspec.msgpack.encode([*msgspec.to_builtins(PLAIN), "more"]),
        msgspec.msgpack.encode([str(each) for each in msgspec.to_builtins(PLAIN)]),
        msgspec.msgpack.encode(PLAIN) + b"\x00",
        # The same manifest with the version written in more bytes than it needs.
        b"\xdc\x00\x10" + b"\xcc\x01" + msgspec.msgpack.encode(PLAIN)[4:],
        b"",
        b"\xc1",
    ],
)
def test_only_the_one_form_is_read_even_if_it_is_signed(payload: bytes) -> None:
    assert refusal(forged(payload)) in {"the manifest cannot be read", "the manifest is not in its one form"}


def test_a_signature_made_for_another_purpose_is_none() -> None:
    assert refusal(forged(msgspec.msgpack.encode(PLAIN), b"")) == "the manifest's signature does not hold"


def test_no_byte_of_it_can_be_changed() -> None:
    signed = SIGNER.sign(PLAIN)
    for place in range(len(signed)):
        altered = bytearray(signed)
        altered[place] ^= 1
        refusal(bytes(altered))


def test_no_part_of_it_can_be_left_out_or_added() -> None:
    signed = SIGNER.sign(PLAIN)
    for length in range(len(signed)):
        refusal(signed[:length])
    refusal(signed + b"\x00")
    refusal(msgspec.msgpack.encode(msgspec.msgpack.decode(signed)[:1]))
    refusal(msgspec.msgpack.encode([msgspec.msgpack.encode(PLAIN), b""]))


@given(st.binary(max_size=400))
def test_any_other_bytes_are_refused_in_words(noise: bytes) -> None:
    refusal(noise)


def test_deep_nesting_is_refused_in_words() -> None:
    refusal(b"\x91" * 100_000)


def test_a_signer_signs_only_in_its_own_name() -> None:
    with pytest.raises(ValueError, match="signed with k1"):
        SIGNER.sign(changed(kid="k2"))


def test_keys_of_another_kind_are_refused_at_the_start() -> None:
    other = generate_private_key(SECP256R1())
    private = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = other.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for wrong in (private, PUBLIC, b"", b"no key"):
        with pytest.raises(ConfigurationError) as caught:
            Signer("k1", wrong)
        assert caught.value.field == "fleet.signing_key"
    for wrong in (public, PRIVATE, b"", b"no key"):
        with pytest.raises(ConfigurationError) as caught:
            Verifier({"k1": wrong})
        assert caught.value.field == "fleet.trusted_keys"
