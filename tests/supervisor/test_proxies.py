"""Behind proxies: whom to believe about a request's client, scheme and host, and that nobody else is."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.errors import ConfigurationError
from supervisor.serving.addresses import PREFIX_KEY
from supervisor.serving.proxies import BehindProxies, TrustedProxies
from supervisor.settings.loading import load

TRUSTED = "10.0.0.0/8,2001:db8::/32,unix"


async def seen(
    *headers: tuple[str, str], peer: str = "10.0.0.1", form: str = "x-forwarded", path: str = "/x", root_path: str = ""
) -> dict[str, Any]:
    """Give the scope that the application sees."""
    found: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.update(scope)

    raw = [(b"host", b"inside:8000"), *((name.lower().encode(), value.encode()) for name, value in headers)]
    scope = {
        "type": "http",
        "client": (peer, 1),
        "scheme": "http",
        "headers": raw,
        "path": path,
        "raw_path": path.encode(),
    }
    await BehindProxies(app, TrustedProxies.of(TRUSTED, form), root_path)(scope, None, None)
    return found


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (["1.1.1.1"], "1.1.1.1"),
        (["9.9.9.9, 1.1.1.1"], "1.1.1.1"),
        (["9.9.9.9", "1.1.1.1"], "1.1.1.1"),
        (["9.9.9.9, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        (["9.9.9.9, 1.1.1.1,10.0.0.2 , 10.0.0.3"], "1.1.1.1"),
        (["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
        (["1.1.1.1:4711"], "1.1.1.1"),
        (["[2001:4860::1]:443"], "2001:4860::1"),
        (["2001:4860::1"], "2001:4860::1"),
        (["1.1.1.1, 2001:db8::7"], "1.1.1.1"),
        (["::ffff:1.1.1.1"], "1.1.1.1"),
        # What cannot be read ends the search: it counts as that of who passed it on.
        (["1.1.1.1, nonsense"], "10.0.0.1"),
        (["1.1.1.1, , 10.0.0.2"], "10.0.0.2"),
        (["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2"),
        (["1.1.1.1:x:y"], "10.0.0.1"),
        (["[1.1.1.1"], "10.0.0.1"),
        (["[::1]x"], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["1.1.1.1", "x" * 9000], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
async def test_the_rightmost_address_that_is_no_proxys_is_the_clients(chain: list[str], client: str) -> None:
    scope = await seen(*(("X-Forwarded-For", line) for line in chain))
    assert scope["client"][0] == client


@pytest.mark.parametrize(
    ("line", "client", "scheme", "host"),
    [
        ("for=1.1.1.1;proto=https;host=code.example.org", "1.1.1.1", "https", "code.example.org"),
        ('for="[2001:4860::1]:80";Proto=HTTPS', "2001:4860::1", "https", "inside:8000"),
        ("for=9.9.9.9;host=evil, for=1.1.1.1;host=good", "1.1.1.1", "http", "good"),
        ("for=9.9.9.9, for=1.1.1.1, for=10.0.0.2", "1.1.1.1", "http", "inside:8000"),
        ("for=_hidden", "10.0.0.1", "http", "inside:8000"),
        ('for="1.1.1.1', "10.0.0.1", "http", "inside:8000"),
        ('for="unterminated, for=1.1.1.1;host=good', "10.0.0.1", "http", "inside:8000"),
        ("for=1.1.1.1 for=2.2.2.2", "10.0.0.1", "http", "inside:8000"),
        ("proto=https", "10.0.0.1", "https", "inside:8000"),
        ("", "10.0.0.1", "http", "inside:8000"),
    ],
)
async def test_the_standard_header_is_read_as_its_rfc_has_it(line: str, client: str, scheme: str, host: str) -> None:
    scope = await seen(("Forwarded", line), form="forwarded")
    assert (scope["client"][0], scope["scheme"]) == (client, scheme)
    assert [value.decode() for name, value in scope["headers"] if name == b"host"] == [host]


@pytest.mark.parametrize("peer", ["1.2.3.4", "11.0.0.1", "2001:db9::1", "127.0.0.1"])
@pytest.mark.parametrize("form", ["x-forwarded", "forwarded"])
async def test_nobody_else_is_believed(peer: str, form: str) -> None:
    said = (
        ("X-Forwarded-For", "1.1.1.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil"),
        ("Forwarded", "for=1.1.1.1;proto=https;host=evil"),
    )
    scope = await seen(*said, peer=peer, form=form)
    assert (scope["client"], scope["scheme"]) == ((peer, 1), "http")
    assert (b"host", b"inside:8000") in scope["headers"]


@pytest.mark.parametrize("form", ["x-forwarded", "forwarded"])
async def test_the_form_that_the_proxy_does_not_write_is_not_read(form: str) -> None:
    other = ("Forwarded", "for=1.1.1.1;host=evil") if form == "x-forwarded" else ("X-Forwarded-For", "1.1.1.1")
    scope = await seen(other, ("X-Forwarded-Host", "evil") if form == "forwarded" else other, form=form)
    assert scope["client"] == ("10.0.0.1", 1)
    assert (b"host", b"inside:8000") in scope["headers"]


@pytest.mark.parametrize("host", ["a b", "evil/x", "x" * 300, "user@evil", "a:b", "", "[::1", "a\\b"])
async def test_a_host_that_is_none_is_not_taken(host: str) -> None:
    assert (b"host", b"inside:8000") in (await seen(("X-Forwarded-Host", host)))["headers"]


async def test_host_and_scheme_are_those_of_the_nearest_proxy() -> None:
    scope = await seen(("X-Forwarded-Host", "evil, code.example.org:8443"), ("X-Forwarded-Proto", "http, https"))
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"code.example.org:8443"]
    assert scope["scheme"] == "https"


async def test_a_proxy_at_a_unix_socket_is_trusted_by_that_word() -> None:
    assert (await seen(("X-Forwarded-For", "1.1.1.1"), peer="uid 33"))["client"][0] == "1.1.1.1"


async def test_a_prefix_is_taken_off_and_only_a_whole_one() -> None:
    scope = await seen(path="/code/v1/exec", root_path="/code")
    assert (scope["path"], scope["raw_path"], scope[PREFIX_KEY]) == ("/v1/exec", b"/v1/exec", "/code")
    for path in ("/codes/v1/exec", "/v1/exec", "/code"):
        scope = await seen(path=path, root_path="/code")
        assert (scope["path"], PREFIX_KEY in scope) == (path, False)


async def test_a_proxy_of_which_the_settings_do_not_know_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    behind = BehindProxies(app, TrustedProxies())
    scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": [(b"x-forwarded-for", b"1.1.1.1")]}
    for _ in range(3):
        await behind({**scope, "path": "/", "raw_path": b"/"}, None, None)
    await behind({**scope, "client": ("8.8.8.8", 1), "path": "/", "raw_path": b"/"}, None, None)
    assert len(caplog.records) == 1
    assert "http.trusted_proxies" in caplog.records[0].getMessage()


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "300.0.0.1", "10.0.0.0/33", "nobody", "10.0.0.0/8,", "::1/129"])
def test_networks_that_are_none_refuse_to_start(networks: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file=None, environment={}, flags={"http.trusted_proxies": networks})
    assert caught.value.field == "http.trusted_proxies"
