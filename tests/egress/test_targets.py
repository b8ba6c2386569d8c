"""A request is addressed in one way only, and a path lies where every server says that it lies."""

# ruff: noqa: RUF001 - characters that look like others are the point
from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.targets import (
    MAX_TARGET,
    BadTarget,
    checked_method,
    checked_path,
    parse_absolute,
    parse_authority,
    path_matches,
)
from tests.egress import checks, inputs, references
from tests.egress.references import Refused

AUTHORITIES = [
    ("github.com:443", "github.com", 443),
    ("GitHub.com.:65535", "github.com", 65535),
    ("127.1:1", "127.0.0.1", 1),
    ("[::1]:443", "::1", 443),
    ("[::ffff:a9fe:a9fe]:80", "169.254.169.254", 80),
]


@pytest.mark.parametrize(("text", "host", "port"), AUTHORITIES)
def test_an_authority_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    parsed, parsed_port = parse_authority(text, None)
    assert (parsed.text, parsed_port) == (host, port)


@pytest.mark.parametrize("text", ["github.com", "[::1]", "127.1"])
def test_the_default_port_stands_in_only_where_there_is_one(text: str) -> None:
    assert parse_authority(text, 80)[1] == 80
    with pytest.raises(BadTarget):
        parse_authority(text, None)


PORTS = ["0", "65536", "99999", "100000", "+443", "-1", "0443", "00", " 443", "443 ", "443\n", "4_4", "0x1bb", "1e3", "４４３", "٤٤٣", "", "443:443"]  # fmt: skip


@pytest.mark.parametrize("port", PORTS)
def test_a_port_is_a_plain_decimal_number_in_range(port: str) -> None:
    with pytest.raises(BadTarget):
        parse_authority(f"github.com:{port}", 80)


BROKEN = [
    *("", ":", ":443", "::1:443", "::1", "[::1", "[::1]443", "[::1]]:443", "[[::1]]:443", "[]:443", "[fe80::1%eth0]:443"),
    *("[fe80::1%25eth0]:443", "[1.2.3.4]:443", "[github.com]:443", "a[::1]:443", "[::1]a:443"),
    *("user@github.com:443", "user:pw@github.com:443", "github.com@evil.test:443", "github.com#@evil.test:443"),
    *("github.com\0:443", "github.com\0.evil.test:443", "github.com\r\nHost: evil.test:443", "github.com\n:443", "git hub.com:443"),
    *("github.com\\:443", "github.com/:443", "github.com?:443", "github.com%2e:443", "127%2e0.0.1:443", "*:443", "*.github.com:443"),
    *("github.com:443/", "github.com:443#", "github.com:443?x", "github.com,evil.test:443", "https://github.com:443"),
    "a." * 9000 + "com:443",
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_plain_authority_is_refused(text: str) -> None:
    with pytest.raises(BadTarget):
        parse_authority(text, 80)


@pytest.mark.parametrize("text", ["bücher.example:443", "ｇithub.com:443", "github。com:443"])
def test_an_authority_is_ascii(text: str) -> None:
    with pytest.raises(BadTarget):
        parse_authority(text, None)


URLS = [
    ("http://github.com", "github.com", 80, "/"),
    ("HTTP://GITHUB.com:8080/a?b=c", "github.com", 8080, "/a?b=c"),
    ("http://github.com?x=http://evil.test/", "github.com", 80, "/?x=http://evil.test/"),
    ("http://[::1]:81/%2e%2e", "::1", 81, "/%2e%2e"),
    ("http://github.com/@evil.test", "github.com", 80, "/@evil.test"),
    ("http://github.com//evil.test/", "github.com", 80, "//evil.test/"),
    ("http://github.com/:81", "github.com", 80, "/:81"),
]


@pytest.mark.parametrize(("text", "host", "port", "path"), URLS)
def test_an_absolute_url_is_split_where_the_rfc_splits_it(text: str, host: str, port: int, path: str) -> None:
    target = parse_absolute(text)
    assert (target.host.text, target.port, target.path) == (host, port, path)


BROKEN_URLS = [
    *("", "/", "*", "http:", "http:/", "http:///", "http://", "http://:80/", "http:/github.com", "http:github.com", "//github.com/"),
    *("https://github.com/", "ftp://github.com/", "gopher://github.com/", "ws://github.com/", " http://github.com/", "http ://a/"),
    *("http://github.com/#x", "http://github.com#x", "http://user@github.com/", "http://github.com\\@evil.test/"),
    *("http://evil.test\\.github.com/", "http://github.com%00/", "http://github.com /", "http://github.com/\r\nX: y", "http://a/\0"),
    *("http://github.com/\x7f", "http://github.com/é", "http://ｇithub.com/", "http://github.com:0/", "http://github.com:/"),
    *("http://github.com:65536/", "http://github.com:+80/", "http://github.com:080/", "http://[::1/", "http://::1/", "http://[::1%1]/"),
    "http://github.com/" + "a" * MAX_TARGET,
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN_URLS)
def test_what_is_no_plain_http_url_is_refused(text: str) -> None:
    with pytest.raises(BadTarget):
        parse_absolute(text)


@pytest.mark.parametrize(
    "text", ["/", "/a?b", "//a", "/" + "a" * (MAX_TARGET - 1), "/a?http://evil.test/", "/%", "/a\\b"]
)
def test_a_path_passes_as_it_is(text: str) -> None:
    assert checked_path(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "*",
        "?a",
        "http://a/",
        "/#",
        "/ ",
        "/a b",
        "/\0",
        "/\r\n",
        "/a\n",
        "/\x7f",
        "/é",
        "/" + "a" * MAX_TARGET,
    ],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(BadTarget):
        checked_path(text)


@pytest.mark.parametrize("text", ["GET", "POST", "PROPFIND", "A" * 32])
def test_a_method_of_capitals_passes(text: str) -> None:
    assert checked_method(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "get",
        "Get",
        "TRACE",
        "TRACK",
        "G ET",
        "GET ",
        "GET\n",
        "GET\0",
        "A" * 33,
        "ＧＥＴ",
        "M-SEARCH",
        "GET\r\nX: y",
    ],
)
def test_another_method_is_refused(text: str) -> None:
    with pytest.raises(BadTarget):
        checked_method(text)


INSIDE = [
    "/api",
    "/api/",
    "/api/x",
    "/api?x=../..",
    "/api/x?../../..",
    "/api/...",
    "/api/.x",
    "/api/x..",
    "/api/%7ex",
    "/api/;a",
]
OUTSIDE = [
    *("/", "/apix", "/API", "/Api/x", "/x/api", "/ap", "/apI/", "/api%20", "/apis/x", "*", "?", ""),
    *("/api/..", "/api/../x", "/api/./x", "/api/.", "/x/../api/", "/api/../api/x", "/api/..;/x", "/api/..;a=b/x", "/api/.;/x"),
    *("/api/%2e%2e/x", "/api/%2E%2e/x", "/api/.%2e/x", "/api/%2e/x", "/api/%252e%252e/x", "/api/x%2f..%2f..", "/api%2fx"),
    *("/api/..\\x", "/api\\..\\x", "/api/%5c..%5cx", "/api/..%5cx", "//api/x", "/api//x", "//evil.test/api/", "/api/x//../.."),
    *("/api/%00", "/api/%", "/api/%2", "/api/%zz", "/api/%u002e%u002e/x", "/api/%25%32%65"),
]  # fmt: skip


@pytest.mark.parametrize("path", INSIDE)
def test_a_path_below_a_prefix_matches(path: str) -> None:
    assert path_matches(path, ("/other", "/api"))
    references.lies_under(path, ("/api",))


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("prefix", ["/api", "/api/"])
def test_a_path_that_leads_out_for_any_server_matches_nothing(path: str, prefix: str) -> None:
    assert not path_matches(path, (prefix,))


def test_no_prefix_means_no_path() -> None:
    assert not path_matches("/api", ())


@pytest.mark.parametrize("path", ["/api/..%3b/x", "/api/..%3Ba=b/x", "/api/%c0%ae%c0%ae/x", "/api/%C0%AE./x", "/api/..%c0%afx", "/api/..%20/x"])  # fmt: skip
def test_a_dot_segment_behind_lax_decoding_matches_nothing(path: str) -> None:
    assert not path_matches(path, ("/api",))


_SEGMENTS = st.lists(
    st.sampled_from(
        ["a", ".", "..", "api", "%2e", "%2f", "%5c", "\\", ";", "..;x", "%", "%25", "%00", "", "~", "%3f", "..."]
    ),
    max_size=6,
).map(lambda parts: "/api/" + "/".join(parts))


@given(_SEGMENTS, st.sampled_from([("/api",), ("/api/",), ("/api/a", "/x"), ("/",)]))
def test_a_matching_path_lies_there_in_every_reading(path: str, prefixes: tuple[str, ...]) -> None:
    if path_matches(path, prefixes):
        references.lies_under(path, prefixes)


@given(st.text("aA1.-:[]@#%/?\\ \r\n\0", max_size=24), st.sampled_from([None, 80]))
def test_an_accepted_authority_is_one_for_the_reference_too(text: str, default: int | None) -> None:
    try:
        host, port = parse_authority(text, default)
    except BadTarget:
        return
    assert references.authority(text, default) == ((host.text, host.address), port)
    assert parse_authority(f"{host.authority}:{port}", None) == (host, port)


@given(st.text(max_size=60).map("http://{}".format) | st.text("ath:/.@#%[]1", max_size=30).map("http://a{}".format))
def test_an_accepted_url_is_one_for_h11_and_the_rfc_too(text: str) -> None:
    try:
        target = parse_absolute(text)
    except BadTarget:
        return
    assert references.url("GET", text) == references.Url(
        (target.host.text, target.host.address), target.port, target.path
    )


@given(st.text(max_size=20))
def test_an_accepted_method_and_path_are_read_alike_by_h11(text: str) -> None:
    for read, method, path in ((checked_method, text, "/"), (checked_path, "GET", text)):
        try:
            read(text)
        except BadTarget:
            continue
        references.request_line(method, path)


def test_the_reference_sees_an_injected_line() -> None:
    with pytest.raises(Refused):
        references.request_line("GET", "/ HTTP/1.1\r\nHost: evil.test\r\n\r\nGET /")


@given(st.sampled_from(["connect", "http"]), st.integers())
def test_no_grown_request_reads_otherwise_than_in_the_reference(target: str, seed: int) -> None:
    checks.check(target, inputs.fresh(target, Random(seed)))
