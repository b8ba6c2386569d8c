"""Each host has one spelling, and what could be read in two ways is none."""

# ruff: noqa: RUF001 - characters that look like others are the point
from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.names import BadName, canonical_host
from tests.egress import checks, inputs, references

SPELLINGS = [
    ("github.com", "github.com"),
    ("GitHub.COM", "github.com"),
    ("github.com.", "github.com"),
    ("ｇｉｔｈｕｂ.com", "github.com"),
    ("github。com", "github.com"),
    ("github．com", "github.com"),
    ("github｡com", "github.com"),
    ("git\u00adhub.com", "github.com"),
    ("\u212a.com", "k.com"),
    ("ﬁle.com", "file.com"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER.example", "xn--bcher-kva.example"),
    ("bu\u0308cher.example", "xn--bcher-kva.example"),
    ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
    ("straße.de", "xn--strae-oqa.de"),
    ("_dmarc.example.org", "_dmarc.example.org"),
    ("r3---sn-4g5e.example.com", "r3---sn-4g5e.example.com"),
    ("localhost", "localhost"),
    ("a" * 63 + ".com", "a" * 63 + ".com"),
    (".".join(["abc"] * 63), ".".join(["abc"] * 63)),
]


@pytest.mark.parametrize(("text", "canonical"), SPELLINGS)
def test_a_name_comes_out_in_one_spelling(text: str, canonical: str) -> None:
    host = canonical_host(text)
    assert (host.text, host.address, host.authority) == (canonical, None, canonical)


V4_SPELLINGS = [
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1.", "127.0.0.1"),
    ("127.1", "127.0.0.1"),
    ("127.0.1", "127.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("0x7f000001", "127.0.0.1"),
    ("0X7F.1", "127.0.0.1"),
    ("017700000001", "127.0.0.1"),
    ("0177.0.0.01", "127.0.0.1"),
    ("0", "0.0.0.0"),
    ("2852039166", "169.254.169.254"),
    ("0xa9fea9fe", "169.254.169.254"),
    ("0251.0376.0251.0376", "169.254.169.254"),
    ("0251.0xfe.43518", "169.254.169.254"),
    ("169.254.43518", "169.254.169.254"),
    ("１６９.２５４.169.254", "169.254.169.254"),
    ("169。254。169。254", "169.254.169.254"),
    ("4294967295", "255.255.255.255"),
]


@pytest.mark.parametrize(("text", "address"), V4_SPELLINGS)
def test_an_ipv4_address_comes_out_in_one_spelling(text: str, address: str) -> None:
    host = canonical_host(text)
    assert (host.text, host.address, host.authority) == (address, IPv4Address(address), address)


V6_SPELLINGS = [
    ("[::1]", "::1"),
    ("::1", "::1"),
    ("[0:0:0:0:0:0:0:1]", "::1"),
    ("[2606:4700:0::1111]", "2606:4700::1111"),
    ("[2606:4700::ABCD]", "2606:4700::abcd"),
    ("[64:ff9b::169.254.169.254]", "64:ff9b::a9fe:a9fe"),
]
MAPPED = ["[::ffff:a9fe:a9fe]", "::ffff:a9fe:a9fe", "[::ffff:169.254.169.254]", "[0:0:0:0:0:FFFF:A9FE:A9FE]"]


@pytest.mark.parametrize(("text", "address"), V6_SPELLINGS)
def test_an_ipv6_address_comes_out_in_one_spelling(text: str, address: str) -> None:
    host = canonical_host(text)
    assert (host.text, host.address, host.authority) == (address, IPv6Address(address), f"[{address}]")


@pytest.mark.parametrize("text", MAPPED)
def test_an_ipv4_mapped_address_is_the_ipv4_address(text: str) -> None:
    host = canonical_host(text)
    assert (host.text, host.authority) == ("169.254.169.254", "169.254.169.254")


BROKEN = [
    *("", ".", "..", ".com", "github..com", "github.com..", "-a.com", "a-.com", "a" * 64 + ".com", "x" * 1025),
    ".".join(["abc"] * 63) + "d.e",
    *("*", "*.github.com", "git%68ub.com", "127%2e0.0.1", "github%2ecom", "github.com%00.evil.test"),
    *("user@github.com", "user:pw@github.com", "github.com#.evil.test", "github.com\\.evil.test", "github.com/evil"),
    *("github.com?x", "github.com:443", "github.com,evil.test", "git hub.com", " github.com", "github.com ", "git\thub.com"),
    *("github.com\0.evil.test", "github.com\r\n", "github.com\n", "\x7f.com", "a\x85b.com", "a\xa0b.com", "\ud800.com"),
    *("1.2.3.4.5", "1.2.3.256", "256.1", "4294967296", "08.8.8.8", "1.2.3.09", "1..2", "foo.1", "foo.0x1", "1.2.3.4..", "0xg.1"),
    *("[::1", "::1]", "[[::1]]", "[]", "[:]", "[1.2.3.4]", "[v1.x]", "[github.com]", "[::1]x", "[::1].", "::1.", "[ ::1]"),
    *("fe80::1%eth0", "[fe80::1%25eth0]", "::1%", "::1/128", ":::", "1::2::3", "1:2:3:4:5:6:7", "::12345", "::ffff:01.2.3.4"),
    *("::ffff:1.2.3", "::ffff:１.2.3.4", "::g", "1:2:3:4:5:6:7:8:9", "::1\n"),
    *("xn--", "xn--a", "xn--github-", "xn--github-.com", "xn--GITHUB-.com", "xn--0", "xn--zzzzzzzz", "xn--bcher-kva-"),
    *("\u0301a.com", "a\u2024com", "github．．com", "１.2.3.256", "a／b.com", "a＠b.com", "a：80", "℀.com", "♥.com", "aא.com", "\u200d.com"),
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_host_or_two_is_refused(text: str) -> None:
    with pytest.raises(BadName):
        canonical_host(text)


@pytest.mark.parametrize("text", ["0x", "0x.1", "1.0x", "127.0.0.0X"])
def test_a_hexadecimal_number_without_digits_is_no_address(text: str) -> None:
    with pytest.raises(BadName):
        canonical_host(text)


@pytest.mark.parametrize(("twin", "original"), [("gіthub.com", "github.com"), ("ɡithub.com", "github.com")])
def test_a_twin_of_other_letters_is_another_name(twin: str, original: str) -> None:
    host = canonical_host(twin)
    assert host.text.startswith("xn--")
    assert host != canonical_host(original)


@given(st.text(max_size=40) | st.text("0123456789abcdefxX.:[]%-_", max_size=24))
def test_a_canonical_host_stays_what_it_is(text: str) -> None:
    try:
        host = canonical_host(text)
    except BadName:
        return
    assert canonical_host(host.text) == canonical_host(host.authority) == canonical_host(host.text.upper()) == host
    assert re.fullmatch(r"[a-z0-9_.:-]+", host.text)


_PARTS = st.integers(0, 2**32).flatmap(
    lambda number: st.sampled_from([str(number), hex(number), f"0{number:o}", f"0X{number:X}", f"00{number:o}"])
)


@given(st.lists(_PARTS | st.integers(0, 300).map(str), min_size=1, max_size=5).map(".".join))
def test_every_spelling_of_inet_aton_is_read_as_there(text: str) -> None:
    try:
        expected = IPv4Address(socket.inet_aton(text))
    except OSError:
        with pytest.raises(BadName):
            canonical_host(text)
    else:
        assert canonical_host(text).address == expected


@given(st.binary(min_size=16, max_size=16))
def test_every_ipv6_address_is_read_as_inet_pton_does(packed: bytes) -> None:
    text = socket.inet_ntop(socket.AF_INET6, packed)
    assert canonical_host(f"[{text}]") == canonical_host(text) == canonical_host(IPv6Address(packed).exploded)
    assert canonical_host(text).address == references.host(text)[1]


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_is_the_same_mapped(address: IPv4Address) -> None:
    assert canonical_host(f"[::ffff:{address}]") == canonical_host(str(address)) == canonical_host(f"{int(address):#x}")


@given(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"]))
def test_no_character_reads_otherwise_than_in_the_reference(character: str) -> None:
    for text in (character, f"a{character}b.com", f"1.2.3{character}4", f"{character}.com."):
        checks.check("name", inputs.encode(text))


@given(st.integers())
def test_no_grown_host_reads_otherwise_than_in_the_reference(seed: int) -> None:
    checks.check("name", inputs.fresh("name", Random(seed)))
