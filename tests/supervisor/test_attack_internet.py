"""The little internet of the attack suite: what it is said to have seen is all that came, and came since."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial

import dns.message
import pytest

from supervisor.attack.case import Broken
from supervisor.attack.internet import HOST, NAME_SERVER, OTHER_WEB, SECRET_SERVICE_PORT, WEB, Internet, open_internet

pytestmark = pytest.mark.root
MANY = 300


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    with open_internet() as made:
        yield made


def knock(address: str, port: int) -> None:
    """Connect and go away, many times: the servers still have most of it before them."""
    for _ in range(MANY):
        socket.create_connection((address, port), 10).close()


def test_what_came_is_seen_and_what_is_forgotten_does_not_come_up(internet: Internet) -> None:
    for _ in range(3):
        internet.forget()
        internet.in_host(partial(knock, WEB, 443))
        internet.settle()
        assert len(internet.hits_at(WEB)) == MANY
        internet.must_have_kept_to_the_rules()
        internet.in_host(partial(knock, OTHER_WEB, 9000))
        internet.forget()
        assert internet.hits == []
        internet.settle()
        assert internet.hits == []


def test_what_breaks_the_rules_is_judged_although_it_is_not_served_yet(internet: Internet) -> None:
    def ask() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for number in range(20):
                sock.sendto(dns.message.make_query(f"{number}.secret.example.net", "A").to_wire(), (NAME_SERVER, 53))

    for address, port, why in ((OTHER_WEB, 80, OTHER_WEB), (HOST, SECRET_SERVICE_PORT, "the host"), ("", 0, "name")):
        internet.forget()
        internet.in_host(partial(knock, address, port) if port else ask)
        with pytest.raises(Broken, match=why):
            internet.must_have_kept_to_the_rules()
    internet.forget()
