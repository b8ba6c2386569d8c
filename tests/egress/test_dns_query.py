"""A query is read as dnspython reads it, and every reply is one for dnspython."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from random import Random

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.dns_query import AAAA, ANY, MAX_QUERY, A, BadQuery, answer, format_error, parse_query, refuse
from tests.egress import checks, inputs, references
from tests.egress.inputs import dns_name, opt, query

NAME = dns_name(b"github", b"com")
LABELS = st.binary(min_size=1, max_size=63).filter(lambda label: label.isascii() and b"." not in label)


@pytest.mark.parametrize(
    "name", ["github.com", "GiThUb.CoM", "a", "_dmarc.example.org", "xn--bcher-kva.example", "1.0.0.127"]
)
@pytest.mark.parametrize("kind", [A, AAAA, ANY, 16, 65])
@pytest.mark.parametrize("edns", [False, True])
def test_a_query_of_dnspython_is_read(name: str, kind: int, edns: bool) -> None:
    packet = dns.message.make_query(name, dns.rdatatype.RdataType.make(kind), use_edns=0 if edns else None).to_wire()
    parsed = parse_query(packet)
    assert (parsed.name, parsed.kind, parsed.extended, parsed.wants_recursion) == (name, kind, edns, True)
    assert checks.check("dns", packet) == "accepted"


@pytest.mark.parametrize("options", [b"", b"\0\x0a\0\x08" + bytes(8), b"\0\x0c\0\x10" + bytes(16), b"\xfd\xe9\0\0"])
def test_known_and_unknown_edns_options_are_passed_over(options: bytes) -> None:
    parsed = parse_query(query(NAME, counts=(1, 0, 0, 1)) + opt(options))
    assert parsed.extended
    assert parsed.name == "github.com"


BROKEN = {
    "nothing": b"",
    "half a header": query(NAME)[:11],
    "a header": query(NAME)[:12],
    "too much": query(NAME) + bytes(MAX_QUERY),
    "a response": query(NAME, flags=0x8100),
    "a status request": query(NAME, flags=0x1000),
    "an update": query(NAME, flags=0x2800),
    "a truncated one": query(NAME, flags=0x0200),
    "no question": query(NAME, counts=(0, 0, 0, 0)),
    "two questions": query(NAME, counts=(2, 0, 0, 0)) + NAME + b"\0\1\0\1",
    "an answer": query(NAME, counts=(1, 1, 0, 0)) + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4abcd",
    "an authority": query(NAME, counts=(1, 0, 1, 0)) + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4abcd",
    "two additional records": query(NAME, counts=(1, 0, 0, 2)) + opt() + opt(),
    "an additional record that is no OPT": query(NAME, counts=(1, 0, 0, 1)) + opt(kind=1),
    "a signature": query(NAME, counts=(1, 0, 0, 1)) + opt(kind=250),
    "an OPT that has a name": query(NAME, counts=(1, 0, 0, 1)) + opt(name=b"\1a\0"),
    "an OPT that is cut off": query(NAME, counts=(1, 0, 0, 1)) + opt(bytes(4))[:-1],
    "an OPT that is announced only": query(NAME, counts=(1, 0, 0, 1)),
    "an OPT that is not announced": query(NAME) + opt(),
    "something behind the question": query(NAME) + b"\0",
    "something behind the OPT": query(NAME, counts=(1, 0, 0, 1)) + opt() + b"\0",
    "class CHAOS": query(NAME, family=3),
    "class ANY": query(NAME, family=255),
    "a pointer to itself": query(b"\xc0\x0c"),
    "a pointer to the header": query(b"\xc0\x00"),
    "a pointer behind a label": query(b"\6github\xc0\x0c"),
    "a pointer to what follows": query(b"\xc0\x12"),
    "a label of an extended kind": query(b"\x41\x08" + NAME),
    "a reserved label": query(b"\x80" + NAME),
    "a label that is cut off": query(b"")[:12] + b"\x06git",
    "a name without end": query(b"")[:12] + b"\6github",
    "a question that is cut off": query(NAME)[:-1],
    "a name of 256 bytes": query(dns_name(b"a" * 63, b"a" * 63, b"a" * 63, b"a" * 62)),
    "a dot in a label": query(dns_name(b"github.com")),
    "a dot that hides a suffix": query(dns_name(b"evil.test", b"github", b"com")),
    "a label that is not ASCII": query(dns_name("bücher".encode(), b"example")),
}


@pytest.mark.parametrize("packet", BROKEN.values(), ids=BROKEN)
def test_what_is_no_plain_query_is_refused(packet: bytes) -> None:
    with pytest.raises(BadQuery):
        parse_query(packet)


@pytest.mark.parametrize("edns", [False, True])
def test_a_query_that_is_cut_off_anywhere_is_refused(edns: bool) -> None:
    packet = query(NAME, counts=(1, 0, 0, int(edns))) + (opt(b"\0\x0a\0\x08" + bytes(8)) if edns else b"")
    for size in range(len(packet)):
        with pytest.raises(BadQuery):
            parse_query(packet[:size])


def test_a_name_of_255_bytes_is_read() -> None:
    name = dns_name(b"a" * 63, b"a" * 63, b"a" * 63, b"a" * 61)
    assert len(parse_query(query(name)).name) == 253


@pytest.mark.parametrize(
    "record", [opt(version=1), opt(b"\0"), opt(b"\0\x0a\0\x08\1")], ids=["version 1", "one byte", "a long option"]
)
def test_a_broken_or_newer_opt_is_refused(record: bytes) -> None:
    with pytest.raises(BadQuery):
        parse_query(query(NAME, counts=(1, 0, 0, 1)) + record)


@given(st.lists(LABELS, max_size=6), st.integers(0, 65535), st.integers(0, 65535), st.booleans(), st.booleans())
def test_any_name_and_type_is_read_as_dnspython_reads_it(
    labels: list[bytes], number: int, kind: int, recursion: bool, edns: bool
) -> None:
    packet = query(dns_name(*labels), flags=0x0100 * recursion, counts=(1, 0, 0, int(edns)), kind=kind) + opt() * edns
    packet = struct.pack(">H", number) + packet[2:]
    if sum(map(len, labels)) + len(labels) > 254:
        with pytest.raises(BadQuery):
            parse_query(packet)
        return
    parsed, theirs = parse_query(packet), references.question(packet)
    assert parsed.name.encode() == b".".join(theirs.labels)
    assert (parsed.id, parsed.kind, parsed.wants_recursion, parsed.extended) == (number, kind, recursion, edns)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda data: query(b"")[:12] + data))
def test_bytes_are_read_as_in_the_reference_or_not_at_all(data: bytes) -> None:
    checks.check("dns", data)


@given(st.integers())
def test_no_grown_query_reads_otherwise_than_in_the_reference(seed: int) -> None:
    checks.check("dns", inputs.fresh("dns", Random(seed)))


@given(st.lists(st.ip_addresses(v=4), max_size=8), st.integers(0, 2**31 - 1), st.booleans(), st.booleans())
def test_an_answer_is_one_for_dnspython(addresses: list[IPv4Address], ttl: int, edns: bool, recursion: bool) -> None:
    asked = query(dns_name(b"GiThUb", b"cOm"), flags=0x0100 * recursion, counts=(1, 0, 0, int(edns))) + opt() * edns
    message, text = references.reply(answer(parse_query(asked), addresses, ttl=ttl))
    assert dns.message.from_wire(asked).is_response(message)
    assert message.question[0].name.labels == (b"GiThUb", b"cOm", b"")
    assert {record.address for rrset in message.answer for record in rrset} == set(map(str, addresses))
    assert [rrset.ttl for rrset in message.answer] == [ttl] * bool(addresses)
    assert message.rcode() == dns.rcode.NOERROR
    assert bool(message.flags & dns.flags.RD) == recursion
    assert (message.edns >= 0, text) == (edns, None)


@given(st.text(max_size=200))
def test_a_refusal_says_why_to_those_who_can_read_it(text: str) -> None:
    for edns in (False, True):
        asked = query(dns_name(b"GiThUb", b"cOm"), counts=(1, 0, 0, int(edns))) + opt() * edns
        if len(text.encode(errors="replace")) > 480 or "\0" in text:
            continue
        message, shown = references.reply(refuse(parse_query(asked), text))
        assert dns.message.from_wire(asked).is_response(message)
        assert message.question[0].name.labels == (b"GiThUb", b"cOm", b"")
        assert message.rcode() == dns.rcode.REFUSED
        assert (shown or "") == (text if edns else "")


def test_a_long_refusal_is_cut() -> None:
    asked = parse_query(query(NAME, counts=(1, 0, 0, 1)) + opt())
    _, shown = references.reply(refuse(asked, "x" * 1000))
    assert shown == "x" * 480


def test_a_long_refusal_is_cut_between_characters() -> None:
    asked = parse_query(query(NAME, counts=(1, 0, 0, 1)) + opt())
    _, shown = references.reply(refuse(asked, "x" + "é" * 400))
    assert shown == "x" + "é" * 239


def test_the_case_of_a_question_comes_back_unchanged() -> None:
    """Resolvers put randomness into it (0x20) and refuse answers without it."""
    for text in ("gItHuB.cOm", "GITHUB.COM", "github.com"):
        packet = dns.message.make_query(text, "A").to_wire()
        for reply in (answer(parse_query(packet), ttl=1), refuse(parse_query(packet), "no")):
            assert dns.name.from_text(text).to_wire() == reply[12 : 12 + len(text) + 2]


@given(st.binary(max_size=40))
def test_a_format_error_answers_only_what_looks_like_a_query(packet: bytes) -> None:
    reply = format_error(packet)
    if len(packet) < 12 or packet[2] & 0x80:
        assert reply is None
        return
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert (message.id, message.rcode()) == (int.from_bytes(packet[:2], "big"), dns.rcode.FORMERR)
    assert message.flags & dns.flags.QR
