"""Nobody reaches an address that is not public, however it is dressed."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from egress.addresses import fault, plain
from egress.names import canonical_host
from tests.egress import references

PRIVATE_V4 = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1"),
    *("169.254.169.254", "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.0.1"),
    *("198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    "255.255.255.255",
]  # fmt: skip
PRIVATE_V6 = [
    *("::", "::1", "fd00:ec2::254", "fc00::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1", "100::1"),
    *("2001:db8::1", "3fff::1", "5f00::1", "4000::1", "1::1", "2001::1", "2001:20::1", "64:ff9b:1::1"),
]  # fmt: skip
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
    *("169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255"),
    *("198.20.0.0", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2003::1"),
]  # fmt: skip
STRICTER = [
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.175.48.1",
    "2620:4f:8000::1",
    "2001:1::1",
    "64:ff9b::808:808",
]
"""Public for Python or for IANA, and of no use but to reach something else or nothing."""


def disguises(address: IPv4Address) -> dict[str, IPv6Address]:
    """Each way in which an IPv6 address means an IPv4 one."""
    number = int(address)
    return {
        "compatible": IPv6Address(number),
        "mapped": IPv6Address(0xFFFF << 32 | number),
        "translated": IPv6Address(0xFFFF << 48 | number),
        "NAT64": IPv6Address(0x64FF9B << 96 | number),
        "local NAT64": IPv6Address(0x64FF9B0001 << 80 | number),
        "6to4": IPv6Address(0x2002 << 112 | number << 80),
        "Teredo server": IPv6Address(0x20010000 << 96 | number << 64),
        "Teredo client": IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | number ^ 0xFFFFFFFF),
    }


@pytest.mark.parametrize("text", PRIVATE_V4 + PRIVATE_V6 + STRICTER)
def test_what_is_not_public_is_not_reached(text: str) -> None:
    assert fault(ip_address(text)) is not None


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_reached(text: str) -> None:
    assert fault(ip_address(text)) is None


@pytest.mark.parametrize("text", PRIVATE_V4)
def test_no_disguise_of_a_private_address_is_reached(text: str) -> None:
    assert {name for name, address in disguises(IPv4Address(text)).items() if fault(address) is None} == set()


@given(st.ip_addresses(v=4))
def test_of_all_disguises_only_the_mapped_form_is_ever_reached_and_as_what_it_is(address: IPv4Address) -> None:
    open_ways = {name for name, dressed in disguises(address).items() if fault(dressed) is None}
    assert open_ways == (set() if fault(address) else {"mapped"})
    assert plain(disguises(address)["mapped"]) == address


@given(st.ip_addresses() | st.sampled_from(PRIVATE_V4 + PRIVATE_V6).map(ip_address))
@example(ip_address("2002:7f00:1::"))
@example(ip_address("fec0::1"))
def test_nothing_is_let_through_that_python_takes_for_private(address: IPv4Address | IPv6Address) -> None:
    if fault(address) is None:
        assert plain(address).is_global
        assert references.publicly_reachable(plain(address))


def test_the_edges_of_every_range_that_python_knows_are_drawn_alike() -> None:
    """Around each private network; where we are stricter, the names are those of ``STRICTER``."""
    for text in PRIVATE_V4 + PRIVATE_V6:
        for distance in (-1, 1):
            number = int(ip_address(text)) + distance
            neighbour = type(ip_address(text))(number % 2 ** ip_address(text).max_prefixlen)
            assert fault(neighbour) is not None or references.publicly_reachable(neighbour), neighbour


@given(st.sampled_from(PRIVATE_V4 + PRIVATE_V6))
def test_a_rule_opens_its_range_and_never_what_means_something_else(text: str) -> None:
    address = ip_address(text)
    opened = [ip_network(address)]
    meaningless = address.is_multicast or address.is_unspecified or text == "255.255.255.255" or text.startswith("0.")
    assert (fault(address, opened) is None) == (not meaningless)
    assert (fault(address, [ip_network("0.0.0.0/0"), ip_network("::/0")]) is None) == (not meaningless)


@pytest.mark.parametrize("opened", ["10.0.0.0/8", "::ffff:0:0/96", "fc00::/7"])
def test_a_rule_opens_nothing_beyond_its_range(opened: str) -> None:
    reached = [text for text in PRIVATE_V4 + PRIVATE_V6 if fault(ip_address(text), [ip_network(opened)]) is None]
    assert all(ip_address(text) in ip_network(opened) for text in reached)


@pytest.mark.parametrize(
    "text",
    [
        "127.1",
        "0x7f.1",
        "2852039166",
        "0251.0376.0251.0376",
        "[::ffff:a9fe:a9fe]",
        "169。254。169。254",
        "0",
        "[::]",
        "127.0.0.1.",
    ],
)
def test_no_spelling_of_a_private_address_gets_past_names_and_addresses(text: str) -> None:
    address = canonical_host(text).address
    assert address is not None
    assert fault(address) is not None
