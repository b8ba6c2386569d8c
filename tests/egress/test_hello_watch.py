"""Every ClientHello of a connection is held to the granted name, also the one after a HelloRetryRequest."""

from __future__ import annotations

import ssl

import pytest
import trustme

from egress.allowlist import Ask
from egress.client_hello import parse_client_hello
from egress.grants import Refused
from egress.hello_watch import HelloWatch
from egress.names import Host

NAME = "www.example.org"
AUTHORITY = trustme.CA()


class Peers:
    """A real client and a real server; what they say goes through a watch."""

    def __init__(self, *, retry: bool, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert(NAME, "evi.example.net").configure_cert(server)
        if retry:
            # Not what the client guesses: it is asked to try again.
            server.set_ecdh_curve("secp384r1")
        client = ssl._create_unverified_context()
        client.maximum_version = version
        self.to_client, self.to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.from_client, self.from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.to_client, self.from_client, server_hostname=NAME)
        self.server = server.wrap_bio(self.to_server, self.from_server, server_side=True)

    def step(self) -> tuple[bytes, bytes]:
        for machine in (self.client, self.server):
            try:
                machine.do_handshake()
            except ssl.SSLWantReadError:
                pass
        return self.from_client.read(), self.from_server.read()


def watched() -> HelloWatch:
    return HelloWatch(Host(NAME), Ask(Host(NAME), 443, "https"))


@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_an_honest_handshake_goes_through_however_it_is_cut(retry: bool, version: ssl.TLSVersion, step: int) -> None:
    peers, watch = Peers(retry=retry, version=version), watched()
    first = True
    for _ in range(6):
        upwards, downwards = peers.step()
        if first:
            # The first hello has been looked at by whoever opened the connection.
            hello = parse_client_hello(upwards)
            assert hello is not None
            peers.to_server.write(upwards[: hello.size])
            upwards, first = upwards[hello.size :], False
        for at in range(0, len(upwards), step):
            if passed := watch.from_client(upwards[at : at + step]):
                peers.to_server.write(passed)
        for at in range(0, len(downwards), step):
            watch.from_server(downwards[at : at + step])
        if downwards:
            peers.to_client.write(downwards)
    assert peers.client.version() is not None
    assert watch.done


def retried() -> tuple[HelloWatch, bytes]:
    """A watch that has seen a HelloRetryRequest, and the honest second flight."""
    peers, watch = Peers(retry=True), watched()
    first, _ = peers.step()
    peers.to_server.write(first)
    _, again = peers.step()
    watch.from_server(again)
    assert not watch.over
    peers.to_client.write(again)
    second, _ = peers.step()
    return watch, second


def test_a_second_hello_for_another_name_is_refused() -> None:
    watch, second = retried()
    with pytest.raises(Refused, match="names another server"):
        watch.from_client(second.replace(NAME.encode(), b"evi.example.net"))


def test_it_is_refused_also_when_it_is_sent_ahead() -> None:
    _, second = retried()
    watch = watched()
    with pytest.raises(Refused, match="names another server"):
        watch.from_client(b"\x14\x03\x03\0\1\1" + second.replace(NAME.encode(), b"evi.example.net"))


def test_it_is_refused_also_behind_early_data() -> None:
    watch, second = retried()
    early = b"\x17\x03\x03\0\4abcd"
    assert watch.from_client(early[:3]) + watch.from_client(early[3:] + early) == early + early
    with pytest.raises(Refused):
        watch.from_client(early + second.replace(NAME.encode(), b"evi.example.net"))


def test_a_hello_that_is_not_whole_is_held_back() -> None:
    watch, second = retried()
    at = second.index(NAME.encode())
    passed = watch.from_client(second[:at])
    assert NAME.encode() not in passed
    assert parse_client_hello(second[len(passed) :] if passed else second) is not None
    with pytest.raises(Refused):
        watch.from_client(b"evi.example.net" + second[at + len(NAME) :])


def test_another_handshake_message_before_the_servers_hello_is_refused() -> None:
    with pytest.raises(Refused, match="broken"):
        watched().from_client(b"\x16\x03\x03\0\4\x10\0\0\0")


def test_after_the_servers_hello_nothing_is_looked_at() -> None:
    peers, watch = Peers(retry=False), watched()
    first, _ = peers.step()
    peers.to_server.write(first)
    _, answer = peers.step()
    watch.from_server(answer)
    assert watch.done
    assert watch.from_client(b"\x16\x03\x03\0\4\x10\0\0\0") == b"\x16\x03\x03\0\4\x10\0\0\0"
