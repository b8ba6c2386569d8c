"""A little internet in two network namespaces of our own: a host for the daemon, and everything else.

In "everything else" each address is local, so one server plays every host of the world and knows by the address that
was dialled which one it is. Names are answered by a name server that may be changed at any moment. Whatever arrives
is remembered, so that it can be said what must never have been sent. The namespaces live as long as this process holds
them; nothing of the machine's own network is touched.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute

from supervisor.attack.case import Broken
from supervisor.jailer import kernel
from supervisor.network.authority import read_or_make_authority

_T = TypeVar("_T")

NAME_SERVER = "45.0.0.53"
WEB = "45.0.0.10"
"""Public, and nobody's in particular."""
OTHER_WEB = "45.0.0.11"
HOST = "45.1.0.1"
"""The daemon's host's own public address."""
METADATA = "169.254.169.254"
PRIVATE = "10.1.2.3"
GATEWAY = "45.1.0.2"
SECRET_SERVICE_PORT = 8081
"""Of a service of the host, on its loopback and on all of its addresses."""


@dataclass
class Hit:
    """Something that arrived at a server of the internet."""

    address: str
    port: int
    server_name: str | None = None
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)

    @property
    def hosts(self) -> list[str]:
        """The Host fields of what was asked."""
        return [headers.get("host", "") for _, _, headers, _ in self.requests]


@dataclass
class Internet:
    """What an attack sees and turns."""

    host_fd: int
    world_fd: int
    authority: tuple[str, str]
    """Certificate and key (PEM) that the servers' certificates are signed with."""
    records: dict[str, list[str]] = field(default_factory=dict)
    """Addresses by name; a CNAME is ``["=other.name"]``."""
    answers: dict[str, Callable[[], list[str]]] = field(default_factory=dict)
    """Addresses that are made up anew with each question."""
    queries: list[str] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    host_hits: list[str] = field(default_factory=list)
    """Connections to services of the host itself: there must never be one."""
    pages: dict[str, Callable[[Hit, str, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]] = field(
        default_factory=dict
    )

    settle: Callable[[], None] = field(default=lambda: None, repr=False)
    """Wait until whatever has connected, or asked for a name, by now is in ``hits``, ``host_hits`` and ``queries``."""

    def forget(self) -> None:
        """Forget what has arrived; it does not come up later, either."""
        self.settle()
        self.hits.clear()
        self.queries.clear()
        self.host_hits.clear()

    def hits_at(self, address: str) -> list[Hit]:
        """Give what has arrived at an address."""
        return [hit for hit in self.hits if hit.address == address]

    def must_have_kept_to_the_rules(self) -> None:
        """Whatever a sandbox tried: only granted hosts were reached, under their own names, at their own addresses.

        Raises:
            Broken: something else arrived.
        """
        self.settle()
        if self.host_hits:
            raise Broken(f"a service of the host was reached at {self.host_hits}")
        for hit in self.hits:
            if hit.address != WEB:
                raise Broken(f"{hit.address} was reached, which no rule opens")
            named = hit.server_name is None or hit.server_name.endswith((".example.org", ".example.com"))
            if not named or any(host.startswith("evil") for host in hit.hosts):
                raise Broken(f"a host was reached that no rule grants: {hit.server_name} {hit.hosts}")
            if b"/smuggled" in hit.raw:
                raise Broken("a request arrived that was smuggled inside another one")
        for name in self.queries:
            granted = name.endswith((".example.org", ".example.com", "example.net"))
            if not granted or "secret" in name or "evil" in name:
                raise Broken(f"the name server was asked for {name!r}")

    def in_host(self, work: Callable[[], _T]) -> _T:
        """Do something in the namespace of the daemon's host."""
        return _inside(self.host_fd, work)

    def in_world(self, work: Callable[[], _T]) -> _T:
        """Do something in the namespace of everything else."""
        return _inside(self.world_fd, work)


def _inside(namespace_fd: int, work: Callable[[], _T]) -> _T:
    """Do something in a namespace, in a thread that ends: sockets made there stay there."""
    found: list[_T] = []
    fault: list[BaseException] = []

    def run() -> None:
        try:
            kernel.setns(namespace_fd, kernel.CLONE_NEWNET)
            found.append(work())
        except BaseException as error:  # noqa: BLE001 - raised where it was asked for
            fault.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if fault:
        raise fault[0]
    return found[0]


def _new_namespace() -> int:
    found: list[int] = []

    def make() -> None:
        kernel.unshare(kernel.CLONE_NEWNET)
        with IPRoute() as netlink:
            netlink.link("set", index=1, state="up")
        found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return found[0]


def _join(host_fd: int, world_fd: int) -> None:
    def in_host() -> None:
        with IPRoute() as netlink:
            netlink.link("add", ifname="out", kind="veth", peer={"ifname": "in", "net_ns_fd": world_fd})
            index = netlink.link_lookup(ifname="out")[0]
            netlink.addr("add", index=index, address=HOST, prefixlen=24)
            netlink.addr("add", index=index, address="2a0f:1::1", prefixlen=64, flags=2)
            netlink.link("set", index=index, state="up")
            netlink.route("add", dst="default", gateway=GATEWAY)

    def in_world() -> None:
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname="in")[0]
            netlink.addr("add", index=index, address=GATEWAY, prefixlen=24)
            netlink.addr("add", index=index, address="2a0f:1::2", prefixlen=64, flags=2)
            netlink.link("set", index=index, state="up")
            netlink.route("add", family=socket.AF_INET, dst="0.0.0.0/0", oif=1, type="local", scope=254, table=254)
            netlink.route("add", family=socket.AF_INET6, dst="::/0", oif=1, type="local", table=254)

    def route_back() -> None:
        with IPRoute() as netlink:
            netlink.route("add", family=socket.AF_INET6, dst="default", gateway="2a0f:1::2")

    _inside(host_fd, in_host)
    _inside(world_fd, in_world)
    _inside(host_fd, route_back)


def _echo(_hit: Hit, _path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    """A server that shows whoever asks what it got."""
    return 200, {}, json.dumps([headers, body.decode("latin-1")]).encode()


def _populate(internet: Internet) -> None:
    """Let the world have the names that ``egress_rules.toml`` grants, and those that attacks use."""
    granted = {name: [WEB] for name in ("www", "plain", "any", "raw", "budget", "brief", "api", "other")}
    internet.records.update({f"{name}.example.org": addresses for name, addresses in granted.items()})
    internet.records.update(
        {
            "opened.example.org": [PRIVATE],
            "deep.example.com": [WEB],
            "deep.down.example.com": [WEB],
            "private.example.com": [PRIVATE],
            "meta.example.com": [METADATA],
            "loop.example.com": ["127.0.0.1"],
            "own.example.com": [HOST],
            "zero.example.com": ["0.0.0.0"],
            "mixed.example.com": [PRIVATE, "127.0.0.1", WEB],
            "cname.example.com": ["=internal.example.net"],
            "internal.example.net": [PRIVATE],
            "mapped.example.com": ["::ffff:10.1.2.3"],
            "nat64.example.com": ["64:ff9b::a01:203"],
            "sixtofour.example.com": ["2002:a01:203::1"],
            "local6.example.com": ["fd00:ec2::254"],
            "evil.example.net": [OTHER_WEB],
            "evil.net": [OTHER_WEB],
        }
    )
    internet.pages["/echo"] = _echo
    internet.pages["/away"] = lambda *_args: (302, {"Location": "http://other.example.org/stolen"}, b"")
    turns = cycle([[WEB], ["127.0.0.1"], [HOST], [METADATA]])
    internet.answers["rebind.example.com"] = lambda: next(turns)
    for name, target in (
        ("metadata", f"http://{METADATA}/latest/meta-data"),
        ("loopback", f"http://127.0.0.1:{SECRET_SERVICE_PORT}/"),
        ("refused", "http://evil.example.net/stolen"),
    ):
        internet.pages[f"/redirect-{name}"] = lambda *_args, target=target: (302, {"Location": target}, b"")


@contextmanager
def open_internet(*, populated: bool = True) -> Iterator[Internet]:
    """Have a little internet for the block; ``populated``: with the names and pages that attacks use. Needs root."""
    from supervisor.attack.internet_servers import Servers

    host_fd, world_fd = _new_namespace(), _new_namespace()
    try:
        _join(host_fd, world_fd)
        with tempfile.TemporaryDirectory(prefix="gaoler-attack-") as directory:
            authority = read_or_make_authority(Path(directory) / "authority.pem")
        internet = Internet(host_fd, world_fd, authority)
        if populated:
            _populate(internet)
        servers = Servers(internet)
        servers.start()
        try:
            yield internet
        finally:
            servers.stop()
    finally:
        os.close(host_fd)
        os.close(world_fd)
