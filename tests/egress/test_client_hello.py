"""A ClientHello is read alike however it is cut up, and one that a laxer server could read otherwise is refused."""

from __future__ import annotations

import itertools
import ssl
from functools import cache
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.client_hello import MAX_HELLO, MAX_RECORDS, ClientHello, NotTls, parse_client_hello
from tests.egress import checks, inputs, references
from tests.egress.inputs import extension, hello_body, in_records, message_of, record, server_name, vector

SNI = extension(0, server_name(b"github.com"))
KINDS = list(
    itertools.product((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3), ("github.com", None), ((), ("h2", "http/1.1")))
)


@cache
def real_hello(version: ssl.TLSVersion, name: str | None, protocols: tuple[str, ...]) -> bytes:
    """What CPython's TLS library sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(list(protocols))
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(received, sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return sent.read()


def message(stream: bytes) -> bytes:
    """The handshake message of a hello that is one record."""
    return stream[5:]


def hello(*extensions: bytes) -> bytes:
    return record(message_of(hello_body(extensions)))


def broken_body(body: bytes) -> bytes:
    return record(message_of(body))


@pytest.mark.parametrize(("version", "name", "protocols"), KINDS)
def test_a_real_hello_is_read(version: ssl.TLSVersion, name: str | None, protocols: tuple[str, ...]) -> None:
    stream = real_hello(version, name, protocols)
    assert parse_client_hello(stream) == ClientHello(name, hidden=False, size=len(stream))
    assert checks.check("hello", stream) == "accepted"


@pytest.mark.parametrize(("version", "name", "protocols"), KINDS)
def test_more_is_waited_for_until_the_last_byte(
    version: ssl.TLSVersion, name: str | None, protocols: tuple[str, ...]
) -> None:
    stream = real_hello(version, name, protocols)
    assert {parse_client_hello(stream[:size]) for size in range(len(stream))} == {None}


@pytest.mark.parametrize(("version", "name", "protocols"), KINDS)
def test_the_message_may_be_cut_into_two_records_anywhere(
    version: ssl.TLSVersion, name: str | None, protocols: tuple[str, ...]
) -> None:
    whole = message(real_hello(version, name, protocols))
    for size in range(1, len(whole)):
        stream = in_records(whole, [size])
        assert parse_client_hello(stream) == ClientHello(name, hidden=False, size=len(stream))


@given(st.lists(st.integers(1, 200), max_size=MAX_RECORDS - 1), st.data())
def test_the_message_may_come_in_many_records_and_pieces(sizes: list[int], data: st.DataObject) -> None:
    stream = in_records(message(real_hello(*KINDS[0])), sizes)
    cut = data.draw(st.integers(0, len(stream) - 1))
    assert parse_client_hello(stream[:cut]) is None
    assert parse_client_hello(stream) == ClientHello("github.com", hidden=False, size=len(stream))


@pytest.mark.parametrize("more", [b"\x14\3\3\0\1\1", record(b"\1"), b"\0" * 9, b"\x17\3\3\0\1x"])
def test_what_follows_in_another_record_is_left_alone(more: bytes) -> None:
    stream = hello(SNI)
    assert parse_client_hello(stream + more) == ClientHello("github.com", hidden=False, size=len(stream))


def test_cutting_a_real_hello_short_and_mending_its_lengths_gives_no_name() -> None:
    """Each truncation is framed anew, so that only what is within the message can tell."""
    body = message(real_hello(*KINDS[0]))[4:]
    for size in range(len(body)):
        try:
            parsed = parse_client_hello(broken_body(body[:size]))
        except NotTls:
            continue
        assert parsed is not None
        assert parsed.server_name is None, size


@pytest.mark.parametrize("kind", [0xFE0D, 0xFE0A, 0xFE0B, 0xFE0C, 0xFFCE])
@pytest.mark.parametrize("first", [True, False])
def test_a_hidden_name_is_seen(kind: int, first: bool) -> None:
    extensions = [extension(kind, b"anything"), SNI][:: 1 if first else -1]
    parsed = parse_client_hello(hello(*extensions))
    assert parsed is not None
    assert parsed.hidden
    assert parsed.server_name == "github.com"


def test_a_hello_without_extensions_has_no_name() -> None:
    for body in (hello_body(None), hello_body([])):
        stream = record(message_of(body))
        assert parse_client_hello(stream) == ClientHello(None, hidden=False, size=len(stream))


@pytest.mark.parametrize("name", [b"GitHub.com", b"a", b"git\0hub.com", b"a b", b"*", b"xn--a", b"a" * 300])
def test_a_name_is_given_as_it_was_sent(name: bytes) -> None:
    parsed = parse_client_hello(hello(extension(0, server_name(name))))
    assert parsed is not None
    assert parsed.server_name == name.decode()


BROKEN_NAMES = {
    "no list": b"",
    "an empty list": b"\0\0",
    "an empty name": server_name(b""),
    "two names": server_name(b"github.com", b"evil.test"),
    "the same name twice": server_name(b"github.com", b"github.com"),
    "a second name of another kind": vector(2, b"\0" + vector(2, b"github.com") + b"\1" + vector(2, b"x")),
    "another kind": vector(2, b"\1" + vector(2, b"github.com")),
    "bytes behind the list": server_name(b"github.com") + b"\0",
    "a list that is too long": b"\0\x0e" + server_name(b"github.com")[2:],
    "a list that is too short": b"\0\x0c" + server_name(b"github.com")[2:],
    "a name that is too long": b"\0\x0d\0\0\x0bgithub.com",
    "a name that is too short": b"\0\x0d\0\0\x09github.com",
    "a name that is cut off": server_name(b"github.com")[:-1],
    "a name that is not ASCII": server_name("bücher.example".encode()),
    "a name of Latin 1": server_name(b"b\xfccher.example"),
}


@pytest.mark.parametrize("content", BROKEN_NAMES.values(), ids=BROKEN_NAMES)
def test_a_broken_server_name_is_refused(content: bytes) -> None:
    with pytest.raises(NotTls):
        parse_client_hello(hello(extension(0, content)))


GOOD = hello_body([SNI])
BROKEN_BODIES = {
    "nothing": b"",
    "another version": b"\2" + GOOD[1:],
    "DTLS": b"\xfe\xfd" + GOOD[2:],
    "a random that is cut off": GOOD[:33],
    "a session id of 33 bytes": hello_body([SNI], session=bytes(33)),
    "no cipher suites": hello_body([SNI], suites=b""),
    "half a cipher suite": hello_body([SNI], suites=b"\x13\1\xc0"),
    "no compression": hello_body([SNI], methods=b""),
    "bytes behind the extensions": GOOD + b"\0",
    "the extensions twice": GOOD + vector(2, SNI),
    "one byte of a length of extensions": hello_body(None) + b"\0",
    "two names in two extensions": hello_body([SNI, extension(0, server_name(b"evil.test"))]),
    "the same extension twice": hello_body([SNI, SNI]),
    "an unknown extension twice": hello_body([extension(0xABCD, b""), SNI, extension(0xABCD, b"x")]),
    "half an extension": hello_body([SNI, b"\0"]),
    "an extension without content": hello_body([SNI, b"\0\x10"]),
    "an extension that is too long": hello_body([SNI, b"\0\x10\0\1"]),
    "a name that swallows the next extension": hello_body([b"\0\0\0\xff" + server_name(b"github.com")]),
}


@pytest.mark.parametrize("body", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
def test_a_broken_message_is_refused(body: bytes) -> None:
    with pytest.raises(NotTls):
        parse_client_hello(broken_body(body))
    with pytest.raises(references.Refused):
        references.hello(broken_body(body))


WHOLE = message_of(GOOD)
BROKEN_STREAMS = {
    "HTTP": b"GET / HTTP/1.1\r\n",
    "SSH": b"SSH-2.0-x\r\n",
    "SSL 2": b"\x80\x2e\1\3\1",
    "an alert": b"\x15\3\1\0\2\2\x28",
    "application data": b"\x17\3\3\0\1x",
    "a record of another protocol": b"\x16\2\0\0\1\1",
    "an empty record": record(b"") + record(WHOLE),
    "an empty record in between": record(WHOLE[:9]) + record(b"") + record(WHOLE[9:]),
    "an alert in between": record(WHOLE[:9]) + record(b"\1\0", kind=21) + record(WHOLE[9:]),
    "a record of 16385 bytes": b"\x16\3\1\x40\1\1",
    "a ServerHello": record(message_of(GOOD, kind=2)),
    "a HelloRequest first": record(message_of(b"", kind=0)) + record(WHOLE),
    "a second message in the record": record(WHOLE + message_of(b"")),
    "one byte behind the message": record(WHOLE + b"\0"),
    "a message of 16 MB": record(b"\1\xff\xff\xff"),
    "a message that is just too large": record(b"\1" + (MAX_HELLO - 3).to_bytes(3, "big")),
    "too many records": in_records(WHOLE + bytes(99), [1] * MAX_RECORDS),
}


@pytest.mark.parametrize("stream", BROKEN_STREAMS.values(), ids=BROKEN_STREAMS)
def test_what_cannot_become_a_hello_is_refused_at_once(stream: bytes) -> None:
    with pytest.raises(NotTls):
        parse_client_hello(stream)


def test_a_hello_of_the_largest_size_is_read() -> None:
    """In three records, because one takes 16 KiB."""
    filler = MAX_HELLO - 4 - len(hello_body([SNI, extension(21, b"")]))
    stream = in_records(message_of(hello_body([SNI, extension(21, bytes(filler))])), [16384, 16000])
    assert parse_client_hello(stream) == ClientHello("github.com", hidden=False, size=len(stream))


LAXER = {
    "null compression is not offered": hello_body([SNI], methods=b"\1"),
    "pre_shared_key is not the last": hello_body([extension(41, b"x"), SNI]),
    "a dot at the end of the name": hello_body([extension(0, server_name(b"github.com."))]),
    "an address for a name": hello_body([extension(0, server_name(b"127.0.0.1"))]),
}


@pytest.mark.parametrize("body", LAXER.values(), ids=LAXER)
def test_what_the_rfcs_forbid_is_refused(body: bytes) -> None:
    with pytest.raises(NotTls):
        parse_client_hello(broken_body(body))


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: record(b"\1" + vector(3, data))))
def test_bytes_are_read_as_in_the_reference_or_not_at_all(data: bytes) -> None:
    checks.check("hello", data)


@given(st.integers())
def test_no_grown_hello_reads_otherwise_than_in_the_reference(seed: int) -> None:
    checks.check("hello", inputs.fresh("hello", Random(seed)))


@given(st.integers(0, 600), st.binary(min_size=1, max_size=4))
def test_a_real_hello_with_other_bytes_reads_as_in_the_reference(at: int, other: bytes) -> None:
    stream = real_hello(*KINDS[-1])
    checks.check("hello", stream[:at] + other + stream[at + len(other) :])
