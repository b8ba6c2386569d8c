"""What the settings let be dialled, and what not: pure tables."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.connector.allowlist import Allowed, plain_host
from supervisor.connector.named_places import named_places
from supervisor.errors import ConfigurationError
from supervisor.settings.fleet import RedisSettings, S3Settings


def named(url: str = "", **more: object) -> Allowed:
    return named_places(replace(RedisSettings(url=url), **more), S3Settings())


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("redis://r", {("r", 6379)}),
        ("redis://R.Example.:7000/3", {("r.example", 7000)}),
        ("rediss://user:pass@r:6380?x=@evil:1", {("r", 6380)}),
        ("redis://us@er:p%2Fw@r", {("r", 6379)}),
        ("redis://10.0.0.1", {("10.0.0.1", 6379)}),
        ("redis://[fd00::0001]:7", {("fd00::1", 7)}),
        ("redis://:secret@[::1]", {("::1", 6379)}),
        ("redis+sentinel://a,b:7,[::1]:8/mymaster", {("a", 26379), ("b", 7), ("::1", 8)}),
        ("rediss+sentinel://:pw@a:1/m/2", {("a", 1)}),
        ("redis+cluster://a,b:7", {("a", 6379), ("b", 7)}),
        ("rediss+cluster://u:p@a", {("a", 6379)}),
        ("unix:///run/redis/r.sock?db=2", {("unix:/run/redis/r.sock", 0)}),
        ("unix://u:p@/run/redis/r.sock", {("unix:/run/redis/r.sock", 0)}),
    ],
)
def test_a_url_names_its_hosts_and_nothing_of_its_secrets(url: str, places: set[tuple[str, int]]) -> None:
    assert named(url) == Allowed(frozenset(places))


@pytest.mark.parametrize(
    "url",
    [
        "r:6379",
        "http://r",
        "redis://",
        "redis:///0",
        "redis://r:0",
        "redis://r:65536",
        "redis://r:port",
        "redis://a,b",
        "redis://fd00::1:6379",
        "redis://[fd00::1%eth0]:1",
        "redis://r r",
        "redis://-r",
        "redis+sentinel://a,,b/m",
        "redis+file://a",
        "unix://r.sock",
        "unix:///r.sock",
        "unix:///run/../etc/r.sock",
        "redis://unix:/path",
    ],
)
def test_a_url_that_names_no_place_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        named(url)
    assert caught.value.field == "redis.url"
    assert url not in caught.value.message


def test_a_host_beside_its_port_is_a_place() -> None:
    assert named("", host="r", port=7).places == {("r", 7)}
    assert named("", host="::1").places == {("::1", 6379)}
    with pytest.raises(ConfigurationError, match=r"redis\.host"):
        named("", host="r:6379")


def test_nodes_are_hosts_and_networks_each_with_a_port() -> None:
    allowed = named("redis+cluster://a", nodes="10.1.0.0/16:6379, n-1.example:7, [fd00::]/64:8,192.0.2.1:9")
    assert allowed.places == {("a", 6379), ("n-1.example", 7), ("192.0.2.1", 9)}
    assert allowed.networks == {("10.1.0.0/16", 6379), ("fd00::/64", 8)}


@pytest.mark.parametrize(
    "nodes", ["a", "10.0.0.0/8", "10.0.0.1/8:1", "10.0.0.0/33:1", "a:0", "a:65536", ":1", "a/8:1", "a b:1"]
)
def test_a_node_that_is_none_is_refused(nodes: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        named("redis://r", nodes=nodes)
    assert caught.value.field == "redis.nodes"


def test_nodes_without_a_redis_allow_nothing() -> None:
    assert named("", nodes="10.0.0.0/8:6379") == Allowed()


@pytest.mark.parametrize(
    ("url", "path_style", "places"),
    [
        ("https://s3.example", True, {("s3.example", 443)}),
        ("http://S3.example:9000", True, {("s3.example", 9000)}),
        ("https://s3.example", False, {("s3.example", 443), ("files.s3.example", 443)}),
        ("http://10.0.0.1:9000", False, {("10.0.0.1", 9000)}),
        ("http://[fd00::1]:9000", True, {("fd00::1", 9000)}),
    ],
)
def test_a_store_is_its_host_and_without_path_style_its_bucket(
    url: str, path_style: bool, places: set[tuple[str, int]]
) -> None:
    s3 = S3Settings(url=url, bucket="files", path_style=path_style)
    assert named_places(RedisSettings(), s3).places == places


def test_a_port_of_a_store_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"s3\.url"):
        named_places(RedisSettings(), S3Settings(url="http://s3:99999"))


ALLOWED = Allowed(
    frozenset({("redis.example", 6379), ("192.0.2.1", 1), ("2001:db8::1", 2), ("unix:/run/r.sock", 0)}),
    frozenset({("10.0.0.0/8", 6379), ("fd00::/16", 7)}),
)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("redis.example", 6379),
        ("REDIS.example.", 6379),
        ("192.0.2.1", 1),
        ("2001:DB8:0::1", 2),
        ("[2001:db8::1]", 2),
        ("10.255.0.1", 6379),
        ("fd00::9", 7),
        ("unix:/run/r.sock", 0),
    ],
)
def test_what_is_named_may_be_dialled(host: str, port: int) -> None:
    assert ALLOWED.permits(host, port)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("redis.example", 6380),
        ("redis.example", 0),
        ("redis.example.evil", 6379),
        ("evil.redis.example", 6379),
        ("redis.example..", 6379),
        ("redis.example\0.evil", 6379),
        ("redis.example\n", 6379),
        ("192.0.2.1", 6379),
        ("192.0.2.01", 1),
        ("0xc0000201", 1),
        ("3221225985", 1),
        ("::ffff:192.0.2.1", 1),
        ("10.0.0.1", 7),
        ("::ffff:10.0.0.1", 6379),
        ("10.1", 6379),
        ("11.0.0.1", 6379),
        ("fd00::1%eth0", 7),
        ("2001:db8::1%1", 2),
        ("unix:/run/r.sock", 1),
        ("unix:/run/../run/r.sock", 0),
        ("unix:/run/r.sock/", 0),
        ("unix:\0r.sock", 0),
        ("", 6379),
        (".", 6379),
        ("r\u00e9dis.example", 6379),
    ],
)
def test_what_is_not_named_may_not_be_dialled(host: str, port: int) -> None:
    assert not ALLOWED.permits(host, port)


def test_nothing_is_allowed_where_nothing_is_named() -> None:
    assert not Allowed().permits("127.0.0.1", 6379)
    assert plain_host("a" * 254) is None
