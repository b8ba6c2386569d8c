"""A credential that a server shows does not come through, however it is cut."""

from __future__ import annotations

from collections.abc import AsyncIterator

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from egress.allowlist import Ask, Rule
from egress.control import Limits, OpenGrant, Record
from egress.grants import Grant, Passage, Refused
from egress.names import Host
from egress.secrets import Secret, secret_of

BARE = b"s3cr3t-of-the-operator"
SECRET = Secret(b"Authorization", b"Bearer " + BARE, BARE)


async def forget(_record: Record) -> None:
    return


def a_passage() -> Passage:
    rule = Rule("r", ("a.org",), ("http",), (80,), credential="token", prefix="Bearer ")
    grant = Grant(OpenGrant(grant="0" * 32, rule_sets=(), where="x", labels={}), Limits(), forget)
    return Passage(grant, "http", Ask(Host("a.org"), 80, "http"), rule, trio.CancelScope(), clock=0.0)


async def cut(data: bytes, places: list[int]) -> AsyncIterator[bytes]:
    last = 0
    for place in sorted({each % (len(data) + 1) for each in places} | {len(data)}):
        yield data[last:place]
        last = place


async def passed(data: bytes, places: list[int]) -> tuple[bytes, bool]:
    came = bytearray()
    try:
        async for piece in SECRET.watched(a_passage(), cut(data, places)):
            came += piece
    except Refused:
        return bytes(came), False
    return bytes(came), True


@given(before=st.binary(max_size=200), after=st.binary(max_size=200), places=st.lists(st.integers(0, 500), max_size=30))
def test_a_body_with_the_secret_is_stopped_before_it(before: bytes, after: bytes, places: list[int]) -> None:
    came, whole = trio.run(passed, before + BARE + after, places)
    assert not whole
    assert BARE not in came
    assert (before + BARE).startswith(came)
    assert len(came) <= len(before)


@given(data=st.binary(max_size=500), places=st.lists(st.integers(0, 500), max_size=30))
def test_a_body_without_it_comes_through_as_it_is(data: bytes, places: list[int]) -> None:
    assert trio.run(passed, data, places) == (data, True)


@pytest.mark.parametrize("name", ["authorization", "Accept-Encoding", "Range", "Request-Range", "If-Range"])
def test_what_would_show_it_in_parts_is_not_asked_for(name: str) -> None:
    request = h11.Request(method="GET", target="/", headers=[("Host", "a.org"), (name, "x"), ("X-Other", "kept")])
    headers = list(SECRET.add_to(request).headers)
    assert headers.count((b"authorization", b"Bearer " + BARE)) == 1
    assert (b"x-other", b"kept") in headers
    assert [value for key, value in headers if key == b"accept-encoding"] == [b"identity"]
    assert b"x" not in [value for _, value in headers]


@pytest.mark.parametrize("headers", [[(b"X-Echo", b"<" + BARE + b">")], [(b"Content-Encoding", b"gzip")]])
def test_a_head_that_shows_or_may_hide_it_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Refused):
        SECRET.check_head(a_passage(), h11.Response(status_code=200, headers=headers))


def test_without_its_credential_a_rule_sends_nothing() -> None:
    passage = a_passage()
    assert secret_of(passage, {"token": BARE.decode()}) == SECRET
    with pytest.raises(Refused):
        secret_of(passage, {})
